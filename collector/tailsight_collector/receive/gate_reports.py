"""Reports of gates, sent by `tailsight gate --keep`: `POST /tailsight/gate-reports`, beside OTLP and not a part of it.

They are few and small, and no journal takes them: a report is checked and stored before it is answered 200, by one
thread with a connection of its own. Whoever sent one that was not stored still has it.
"""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tailsight_collector.errors import BadRequestError, BusyError
from tailsight_collector.receive.in_flight import Held, InFlight
from tailsight_collector.receive.packing import PLAIN
from tailsight_collector.receive.signals import JSON
from tailsight_storage import InvalidReportError, QueryFailedError, StorageError, Store
from tailsight_storage.gate_reports import MAX_REPORT_BYTES, keep_gate_report, read_gate_report

PATH = "/tailsight/gate-reports"
RETRY_AFTER_S = 2
PATIENCE_S = 5.0
_CLIENT_LEFT = 499
# ClickHouse's: who writes may not
_NOT_ALLOWED = 497
_WAY_OUT = (
    "; grant its user INSERT on gate_reports, or, where that store is another collector's, send the report to that one"
)


class GateReports:
    """Takes reports and stores them, one at a time. `close` it before the store is closed."""

    def __init__(self, store: Store) -> None:
        """`store` becomes ours: a connection that nobody else uses."""
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tailsight-gate-reports")
        self._storing: set[Future[tuple[str, bool]]] = set()

    def route(self, in_flight: InFlight) -> Route:
        """Make the route; `in_flight` is the port's, where others' requests count too."""
        return Route(PATH, partial(self._answer, in_flight), methods=["POST"])

    def close(self) -> bool:
        """Store what is being stored, and close the connection; False where the store does not end that in time."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        if wait(self._storing, PATIENCE_S).not_done:
            return False
        self._store.close()
        return True

    async def _answer(self, in_flight: InFlight, request: Request) -> Response:
        """Keep a report; the answer is its id, and whether it is new here."""
        try:
            with in_flight.request(is_there=False) as held:
                report = await _body(request, in_flight, held)
                storing = self._thread.submit(self._keep, report)
                self._storing.add(storing)
                storing.add_done_callback(self._storing.discard)
                # to its end, also where the client has left: it will send the same report again
                report_id, is_new = await asyncio.shield(asyncio.wrap_future(storing))
            return JSONResponse({"id": report_id, "new": is_new})
        except BadRequestError as error:
            return _refusal(error.status, str(error))
        except InvalidReportError as error:
            return _refusal(400, str(error))
        except BusyError as error:
            return _refusal(503, f"try again later: {error}")
        except QueryFailedError as error:
            hint = _WAY_OUT if error.code == _NOT_ALLOWED else ""
            return _refusal(500, f"this collector's store does not take the report: {error.detail}{hint}")
        except StorageError as error:
            return _refusal(503, f"this collector's store cannot be reached, try again later: {error}")
        except ClientDisconnect:
            return _refusal(_CLIENT_LEFT, "the client left before its report was whole")

    def _keep(self, report: bytes) -> tuple[str, bool]:
        row = read_gate_report(report)
        return row.id, keep_gate_report(self._store, row)


async def _body(request: Request, in_flight: InFlight, held: Held) -> bytes:
    kind = request.headers.get("content-type", "")
    # no web page may send this kind to another's address without asking first, and nobody here says yes
    if kind.partition(";")[0].strip().lower() != JSON:
        raise BadRequestError(f"Content-Type {kind!r} is no report's; send {JSON}", 415)
    if request.headers.get("content-encoding", "").strip().lower() not in PLAIN:
        raise BadRequestError("reports are taken as they are, without Content-Encoding", 415)
    in_flight.check_room(MAX_REPORT_BYTES)
    body = io.BytesIO()
    async with held.arriving():
        async for part in request.stream():
            body.write(part)
            if body.tell() > MAX_REPORT_BYTES:
                raise BadRequestError(f"the report is larger than {MAX_REPORT_BYTES:,} bytes", 413)
            held.add(len(part))
    held.arrive()
    return body.getvalue()


def _refusal(status: int, message: str) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
    return JSONResponse({"message": message}, status, headers)
