"""The client's process: `python -m tailsight_cli.demo.client --url … --requests N`.

It sends at the workload's times, whether the answers come or not (open loop): a slow service does not slow its callers
down. A request that begins late, because every connection is busy, says when it should have begun. Progress goes to
stdout as lines of JSON.
"""

import argparse
import http.client
import json
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from urllib.parse import urlsplit

import tailsight
from tailsight import attributes as keys
from tailsight_cli.processes.lifeline import say, when_stdin_closes

from .names import CLIENT_NAME, VERSION
from .workload import DEFAULT_RATE, DEFAULT_SEED, Call, calls

REQUEST_NAME = "ask"

DEFAULT_CONCURRENCY = 48
PROGRESS_INTERVAL_S = 0.25
_TIMEOUT_S = 30.0
_MAX_UNREACHED_IN_A_ROW = 20
_WAIT_FOR_ROOM_S = 0.5


class RefusedError(Exception):
    """The service answered with another status than 200."""


class Connection:
    """A kept-alive connection to the service, made anew when it breaks. Belongs to one thread."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(
                f"--url {url} is not an address of the service: give one like http://127.0.0.1:8000/v1/infer"
            )
        self._path = parts.path or "/"
        self._http = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=_TIMEOUT_S)

    def post(self, body: bytes, headers: dict[str, str]) -> bytes:
        """Send a body, return the answer's. Raises RefusedError, or OSError or HTTPException when the line is bad."""
        try:
            self._http.request("POST", self._path, body, {"content-type": "application/json", **headers})
            response = self._http.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            self._http.close()
            raise
        if response.status != 200:
            raise RefusedError(f"the service answered {response.status}: {answer[:200].decode(errors='replace')}")
        return answer

    def close(self) -> None:
        """Hang up."""
        self._http.close()


class Client:
    """Threads that send what they are given, and the counters of what became of it."""

    def __init__(self, url: str, *, concurrency: int) -> None:
        self.stop = threading.Event()
        self.failure: str | None = None
        self._sent = self._done = self._errors = self._unreached_in_a_row = 0
        self._begun_s = time.monotonic()
        self._ended_s: float | None = None
        self._lock = threading.Lock()
        # Bounded: with a service that does not answer, arrivals wait here, and are late.
        self._calls: queue.Queue[tuple[Call, int] | None] = queue.Queue(concurrency * 4)
        connections = [Connection(url) for _ in range(concurrency)]
        self._threads = [
            threading.Thread(target=self._work, args=(connection,), name=f"client-{number}")
            for number, connection in enumerate(connections)
        ]

    def run(self, plan: Iterable[Call], *, seconds: float | None) -> None:
        """Send what is planned, each call at its time, until the plan, the time or the patience of `stop` ends."""
        for thread in self._threads:
            thread.start()
        self._begun_s, begun_unix_ns = time.monotonic(), time.time_ns()
        report_s = 0.0
        for call in plan:
            if seconds is not None and call.at_s > seconds:
                break
            while (early_s := call.at_s - (time.monotonic() - self._begun_s)) > 0 and not self.stop.is_set():
                self.stop.wait(min(early_s, PROGRESS_INTERVAL_S))
                report_s = self._report(report_s)
            if not self._hand_over(call, begun_unix_ns + int(call.at_s * 1e9)):
                break
            report_s = self._report(report_s)
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()
        self._ended_s = time.monotonic()

    def progress(self) -> dict[str, float]:
        """Return the counters, in requests, and for how long it has been sending, in seconds."""
        elapsed_s = (self._ended_s or time.monotonic()) - self._begun_s
        with self._lock:
            return {"sent": self._sent, "done": self._done, "errors": self._errors, "elapsed_s": round(elapsed_s, 3)}

    def _report(self, last_s: float) -> float:
        now_s = time.monotonic()
        if now_s - last_s < PROGRESS_INTERVAL_S:
            return last_s
        say(**self.progress())
        return now_s

    def _hand_over(self, call: Call, intended_unix_ns: int) -> bool:
        while not self.stop.is_set():
            try:
                self._calls.put((call, intended_unix_ns), timeout=_WAIT_FOR_ROOM_S)
            except queue.Full:
                continue
            return True
        return False

    def _work(self, connection: Connection) -> None:
        while (work := self._calls.get()) is not None:
            if self.stop.is_set():
                continue
            with self._lock:
                self._sent += 1
            try:
                ask(connection, *work)
            except (RefusedError, OSError, http.client.HTTPException) as error:
                self._count_error(error)
            else:
                with self._lock:
                    self._done += 1
                    self._unreached_in_a_row = 0
        connection.close()

    def _count_error(self, error: Exception) -> None:
        with self._lock:
            self._errors += 1
            # A refusal is an answer: the service is there, and busy.
            self._unreached_in_a_row = 0 if isinstance(error, RefusedError) else self._unreached_in_a_row + 1
            if self._unreached_in_a_row >= _MAX_UNREACHED_IN_A_ROW:
                self.failure = f"{self._unreached_in_a_row} requests in a row had no answer, the last one: {error!r}"
                self.stop.set()


def ask(connection: Connection, call: Call, intended_unix_ns: int) -> str:
    """Make one call, with its stages, and return the best answer's label."""
    with tailsight.request(REQUEST_NAME) as request:
        request.set(keys.INTENDED_START_UNIX_NANO, intended_unix_ns)
        request.set("question.popular", call.popular)
        with tailsight.stage("preprocess"):
            text = call.prompt()
        with tailsight.stage("serialize") as stage:
            body = json.dumps({"text": text, "top_k": 8}).encode()
            stage.set("bytes", len(body))
        with tailsight.stage("network"):
            headers: dict[str, str] = {}
            tailsight.inject(headers)
            answer = connection.post(body, headers)
        with tailsight.stage("postprocess"):
            parsed = json.loads(answer)
            best = max(parsed["answers"], key=lambda candidate: candidate["score"])
            label: str = best["label"]
    return label


def main(arguments: Sequence[str] | None = None) -> int:
    """Send until the plan is done, or SIGTERM or SIGINT says stop; requests in progress are finished."""
    options = _parser().parse_args(arguments)
    tailsight.configure(service=CLIENT_NAME, version=VERSION, run=options.run, endpoint=options.endpoint, enabled=True)
    try:
        client = Client(options.url, concurrency=options.concurrency)
        plan = islice(calls(rate=options.rate, seed=options.seed), options.requests)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: client.stop.set())
    if options.until_stdin_closes:
        when_stdin_closes(client.stop.set)
    client.run(plan, seconds=options.seconds)
    tailsight.shutdown()
    say(**client.progress())
    if client.failure:
        sys.stderr.write(f"{client.failure}: is the service at {options.url} running?\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tailsight_cli.demo.client", description="The demo's client.")
    parser.add_argument("--url", required=True, help="the inference endpoint")
    parser.add_argument("--requests", type=int, help="how many to send; without it, and without --seconds, no end")
    parser.add_argument("--seconds", type=float, help="how long to send")
    parser.add_argument("--rate", type=float, default=DEFAULT_RATE, help="requests a second, on average")
    parser.add_argument("--concurrency", type=int, default=DEFAULT_CONCURRENCY, help="connections")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of the workload")
    parser.add_argument("--endpoint", help="the collector's OTLP/HTTP address")
    parser.add_argument("--run", help="the label tailsight.run")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the parent, however it ends")
    return parser


if __name__ == "__main__":
    sys.exit(main())
