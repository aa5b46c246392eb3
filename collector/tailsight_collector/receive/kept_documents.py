"""What is sent beside OTLP, and kept as it is: reports of gates, and profiles.

They are few, and no journal takes them: each is checked and stored before it is answered 200, by one thread with a
connection of its own. Whoever sent one that was not stored still has it.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tailsight_collector.errors import BadRequestError, BusyError
from tailsight_collector.receive.in_flight import Held, InFlight
from tailsight_collector.receive.packing import PLAIN
from tailsight_collector.receive.signals import JSON
from tailsight_storage import InvalidProfileError, InvalidReportError, QueryFailedError, StorageError, Store

RETRY_AFTER_S = 2
PATIENCE_S = 5.0
_CLIENT_LEFT = 499
# ClickHouse's: who writes may not
_NOT_ALLOWED = 497
Keep = Callable[[Store, bytes], tuple[str, bool]]
"""Checks what was sent and stores it: its id, and whether it is new here."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of documents: its route, what one is called, how large it may be, its tables, and what keeps one."""

    path: str
    what: str
    max_bytes: int
    tables: str
    keep: Keep


class KeptDocuments:
    """Takes documents of one kind and stores them, one at a time. `close` it before the store is closed."""

    def __init__(self, kind: Kind, store: Store) -> None:
        """`store` becomes ours: a connection that nobody else uses."""
        self._kind = kind
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"tailsight-{kind.path.rpartition('/')[2]}")
        self._storing: set[Future[tuple[str, bool]]] = set()

    def route(self, in_flight: InFlight) -> Route:
        """Make the route; `in_flight` is the port's, where others' requests count too."""
        return Route(self._kind.path, partial(self._answer, in_flight), methods=["POST"])

    def close(self) -> bool:
        """Store what is being stored, and close the connection; False where the store does not end that in time."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        if wait(self._storing, PATIENCE_S).not_done:
            return False
        self._store.close()
        return True

    async def _answer(self, in_flight: InFlight, request: Request) -> Response:
        """Keep a document; the answer is its id, and whether it is new here."""
        what = self._kind.what
        try:
            with in_flight.request(is_there=False) as held:
                sent = await self._body(request, in_flight, held)
                storing = self._thread.submit(self._kind.keep, self._store, sent)
                self._storing.add(storing)
                storing.add_done_callback(self._storing.discard)
                # to its end, also where the client has left: it will send the same again
                found_id, is_new = await asyncio.shield(asyncio.wrap_future(storing))
            return JSONResponse({"id": found_id, "new": is_new})
        except BadRequestError as error:
            return _refusal(error.status, str(error))
        except (InvalidReportError, InvalidProfileError) as error:
            return _refusal(400, str(error))
        except BusyError as error:
            return _refusal(503, f"try again later: {error}")
        except QueryFailedError as error:
            hint = self._way_out if error.code == _NOT_ALLOWED else ""
            return _refusal(500, f"this collector's store does not take the {what}: {error.detail}{hint}")
        except StorageError as error:
            return _refusal(503, f"this collector's store cannot be reached, try again later: {error}")
        except ClientDisconnect:
            return _refusal(_CLIENT_LEFT, f"the client left before its {what} was whole")

    @property
    def _way_out(self) -> str:
        other = f"where that store is another collector's, send the {self._kind.what} to that one"
        return f"; grant its user INSERT on {self._kind.tables}, or, {other}"

    async def _body(self, request: Request, in_flight: InFlight, held: Held) -> bytes:
        what, max_bytes = self._kind.what, self._kind.max_bytes
        kind = request.headers.get("content-type", "")
        # no web page may send this kind to another's address without asking first, and nobody here says yes
        if kind.partition(";")[0].strip().lower() != JSON:
            raise BadRequestError(f"Content-Type {kind!r} is no {what}'s; send {JSON}", 415)
        if request.headers.get("content-encoding", "").strip().lower() not in PLAIN:
            raise BadRequestError(f"{what}s are taken as they are, without Content-Encoding", 415)
        in_flight.check_room(max_bytes)
        body = io.BytesIO()
        async with held.arriving():
            async for part in request.stream():
                body.write(part)
                if body.tell() > max_bytes:
                    raise BadRequestError(f"the {what} is larger than {max_bytes:,} bytes", 413)
                held.add(len(part))
        held.arrive()
        return body.getvalue()


def _refusal(status: int, message: str) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
    return JSONResponse({"message": message}, status, headers)
