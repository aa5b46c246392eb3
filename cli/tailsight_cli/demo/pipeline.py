"""Run the sample pipeline: start the service, then the client; report progress; leave nothing running."""

import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from tailsight_cli.processes import Child, Event, ProcessError

from .names import CLIENT_NAME, HEALTH_PATH, INFER_PATH, SERVICE_NAME
from .workload import DEFAULT_RATE, DEFAULT_SEED

DEFAULT_REQUESTS = 2000
"""Of a run without an end of its own choosing: 17 s at DEFAULT_RATE, and 20 requests beyond p99."""

START_PATIENCE_S = 30.0
SILENCE_PATIENCE_S = 60.0
"""Seconds without a word from the client, which speaks four times a second, until it counts as stuck. Its last words
may take their time: it waits for requests in progress, and flushes."""


class DemoError(ProcessError):
    """The sample pipeline could not start, or broke down. Its text is one line for the user."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. Counts are requests."""

    sent: int
    done: int
    errors: int  # refused by the service, or without an answer
    total: int | None  # None: goes on until it is stopped
    elapsed_s: float  # of sending


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """What a run came to. Counts are requests. Both processes have flushed their spans when it is there."""

    run: str
    sent: int
    done: int
    errors: int
    elapsed_s: float  # of sending, without starting and stopping the processes


def run_pipeline(
    endpoint: str,
    *,
    requests: int | None,
    run: str,
    on_progress: Callable[[Progress], None],
    stop: threading.Event | None = None,
    rate: float = DEFAULT_RATE,
    seed: int = DEFAULT_SEED,
) -> PipelineResult:
    """Drive the pipeline, whose spans go to the collector at `endpoint` under the label `run`.

    It ends after so many `requests`; with None it goes on until `stop` is set, which ends it early in any case, within
    a second plus what requests in progress take. `on_progress` is called about four times a second, in this thread;
    what it raises ends the run. `rate` is requests a second on average. Whatever happens, KeyboardInterrupt included,
    both processes are gone when this returns or raises. Raises DemoError if one of them fails.
    """
    if requests is not None and requests < 1:
        raise DemoError(f"{requests} requests cannot be sent: give a number of at least 1")
    events: queue.Queue[Event] = queue.Queue()
    to_collector = ["--endpoint", endpoint, "--run", run]
    with ExitStack() as cleanup:
        service = Child(SERVICE_NAME, "tailsight_cli.demo.service", to_collector, events)
        cleanup.callback(service.stop)
        url = f"http://127.0.0.1:{_port(service, events)}"
        _check_health(url + HEALTH_PATH)

        limit = [] if requests is None else ["--requests", str(requests)]
        pace = ["--url", url + INFER_PATH, "--rate", str(rate), "--seed", str(seed), *limit]
        client = Child(CLIENT_NAME, "tailsight_cli.demo.client", [*to_collector, *pace], events)
        # Entered last, so left first: the client stops while the service still answers what is in progress.
        cleanup.callback(client.stop)
        last = _follow(client, events, requests, on_progress, stop)
        return PipelineResult(run, last.sent, last.done, last.errors, last.elapsed_s)


def _port(service: Child, events: "queue.Queue[Event]") -> int:
    event = _next(events, START_PATIENCE_S, service)
    if event.facts is None or not isinstance(port := event.facts.get("port"), int):
        raise _failed(service)
    return port


def _check_health(url: str) -> None:
    """See that the service is up. It listens already, so one request waits until it is."""
    try:
        with urllib.request.urlopen(url, timeout=START_PATIENCE_S):  # noqa: S310  http, and our own child
            pass
    except (OSError, urllib.error.URLError) as error:
        raise DemoError(f"{SERVICE_NAME} is not well: {url} answered {error}") from error


def _follow(
    client: Child,
    events: "queue.Queue[Event]",
    total: int | None,
    on_progress: Callable[[Progress], None],
    stop: threading.Event | None,
) -> Progress:
    """Pass the client's progress on until it is through. Its lines are also the beat at which `stop` is looked at."""
    last = Progress(0, 0, 0, total, 0.0)
    told_to_stop = False
    while True:
        event = _next(events, SILENCE_PATIENCE_S, client)
        if event.facts is None:
            if event.child is client and client.outcome() == 0:
                return last
            raise _failed(event.child)
        facts = event.facts
        last = Progress(**facts, total=total)
        on_progress(last)
        if stop is not None and stop.is_set() and not told_to_stop:
            told_to_stop = True
            client.ask_to_stop()


def _next(events: "queue.Queue[Event]", patience_s: float, awaited: Child) -> Event:
    try:
        return events.get(timeout=patience_s)
    except queue.Empty:
        raise DemoError(
            f"{awaited.name} (process {awaited.pid}) said nothing for {patience_s:.0f} s and was ended: "
            f"{awaited.last_words()}"
        ) from None


def _failed(child: Child) -> DemoError:
    return DemoError(f"{child.name} ended with status {child.outcome()}: {child.last_words()}")
