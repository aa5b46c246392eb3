"""A collector and a dashboard as child processes of this one: started together, watched, and stopped together."""

from __future__ import annotations

import os
import queue
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from json import loads
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tailsight_cli.alerting import ALERTS_ENV
from tailsight_cli.guarding import OWN_NAME, OWN_TOKEN_ENV, own_token
from tailsight_cli.processes import Child, Event, ProcessError
from tailsight_collector.guard.exposure import is_loopback
from tailsight_collector.guard.tokens import TOKENS_ENV
from tailsight_collector.settings import DEFAULT_GRPC_PORT, DEFAULT_HOST, DEFAULT_HTTP_PORT, DEFAULT_SQL_PORT
from tailsight_dashboard.launch import DEFAULT_PORT
from tailsight_storage import STORE_ENV

START_PATIENCE_S = 60.0
LOAD_PATIENCE_S = 30.0
STOP_PATIENCE_S = 30.0
"""More than the collector's own patience with a database that is slow while it shuts down."""
_BEAT_S = 0.05
# what this stack is meant to have of these, it is told by its options
_NOT_FOR_CHILDREN = (TOKENS_ENV, ALERTS_ENV)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where to listen; 0 lets the system choose (not for the dashboard)."""

    host: str = DEFAULT_HOST
    http: int = DEFAULT_HTTP_PORT
    grpc: int = DEFAULT_GRPC_PORT
    sql: int = DEFAULT_SQL_PORT
    dashboard: int = DEFAULT_PORT


class Stack:
    """The processes of `tailsight up`. Entering starts the collector; leaving stops everything."""

    def __init__(
        self,
        ports: Ports,
        *,
        data: Path | None,
        store: str | None = None,
        tokens: Path | None = None,
        insecure: bool = False,
        alerts: Path | None = None,
        sources: Path | None = None,
        on_words: Callable[[str, str], None] | None = None,
    ) -> None:
        self._ports = ports
        self._on_words = on_words
        self._arguments = ["--host", ports.host, "--http-port", str(ports.http), "--grpc-port", str(ports.grpc)]
        self._arguments += ["--sql-port", str(ports.sql)]
        if data is not None:
            self._arguments += ["--data", str(data)]
        self._written_store = store or ""
        if store is not None:
            self._arguments += ["--store", store]
        self._secret, self._own_token = own_token() if tokens is not None else ("", "")
        if tokens is not None:
            self._arguments += ["--tokens", str(tokens)]
        if insecure:
            self._arguments.append("--insecure")
        if alerts is not None:
            self._arguments += ["--alerts", str(alerts)]
        if sources is not None:
            self._arguments += ["--sources", str(sources)]
        self._dashboard_host = dashboard_host(ports.host, insecure=insecure and tokens is None)
        self._first_words: list[tuple[str, str]] = []
        self._cleanup = ExitStack()
        self._children: list[Child] = []
        self.events: queue.Queue[Event] = queue.Queue()
        self.otlp_url = ""
        self.grpc_target = ""
        self.store = ""
        self.dashboard_url = ""

    def __enter__(self) -> Self:
        with ExitStack() as cleanup:
            collector = self._child("collector", "tailsight_cli.main", ["collector", *self._arguments], "", cleanup)
            facts = self._first_facts(collector)
            # with a server behind it the collector has no SQL port: readers ask that server
            self.otlp_url, self.store = str(facts["otlp_url"]), str(facts["store"]) or self._written_store
            if self._secret and facts["store"]:
                self.store = self.store.replace("://", f"://{OWN_NAME}:{self._secret}@", 1)
            self.grpc_target = str(facts["grpc_target"])
            _await_answer(f"{self.otlp_url}/healthz", collector)
            self._cleanup = cleanup.pop_all()
        for name, line in self._first_words:  # it runs, so they are no error: a warning, say
            self._forward(name, line)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for child in self._children:  # all at once: each may take a while
            child.ask_to_stop()
        self._cleanup.close()

    def start_dashboard(self) -> None:
        """Start the dashboard over this stack's store, and return when it answers."""
        host, port = self._dashboard_host, self._ports.dashboard
        arguments = ["dashboard", "--host", host, "--port", str(port)]
        child = self._child("dashboard", "tailsight_cli.main", arguments, self.store, self._cleanup)
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        _await_answer(f"{url}/_stcore/health", child)
        self.dashboard_url = url

    def wait_until_loaded(self) -> None:
        """Return when everything that was acknowledged so far can be queried; raises ProcessError if it takes long."""
        deadline = time.monotonic() + LOAD_PATIENCE_S
        while True:
            request = urllib.request.Request(f"{self.otlp_url}/healthz")  # noqa: S310  http, and our own child
            if self._secret:
                request.add_header("Authorization", f"Bearer {self._secret}")
            with urllib.request.urlopen(request, timeout=LOAD_PATIENCE_S) as answer:  # noqa: S310
                health: dict[str, Any] = loads(answer.read())
            if not health["journal"]["bytes"]:
                return
            if time.monotonic() > deadline:
                problem = health["loading"].get("last_error") or "the database is slow"
                raise ProcessError(f"the collector has not loaded what it received in {LOAD_PATIENCE_S:g} s: {problem}")
            time.sleep(_BEAT_S)

    def wait(self) -> None:
        """Return never, but with a ProcessError when a process ends, or with KeyboardInterrupt."""
        while True:
            event = self.events.get()
            if event.facts is None:
                raise ProcessError(f"the {event.child.name} has ended: {event.child.last_words()}")

    def _child(self, name: str, module: str, arguments: list[str], store: str, cleanup: ExitStack) -> Child:
        child = Child(
            name,
            module,
            arguments,
            self.events,
            on_words=lambda line: self._forward(name, line),
            stop_patience_s=STOP_PATIENCE_S,
            environment=_environment(store, self._own_token),
        )
        cleanup.callback(child.stop)
        self._children.append(child)
        return child

    def _forward(self, name: str, line: str) -> None:
        """Pass a child's words on once it runs: what it says before that becomes our own error."""
        if not self.otlp_url:
            self._first_words.append((name, line))
        elif self._on_words is not None:
            self._on_words(name, line)

    def _first_facts(self, child: Child) -> dict[str, Any]:
        try:
            event = self.events.get(timeout=START_PATIENCE_S)
        except queue.Empty:
            raise ProcessError(f"the {child.name} is not ready after {START_PATIENCE_S:g} s") from None
        if event.facts is None:
            raise _as_told(child)
        return event.facts


def dashboard_host(host: str, *, insecure: bool) -> str:
    """Return where the dashboard listens: who reaches it reads everything, and is asked for nothing."""
    return host if insecure or is_loopback(host) else DEFAULT_HOST


def _environment(store: str, own_token: str) -> dict[str, str]:
    """Give a child this stack's store and token, if any, in place of what the variables say to others.

    Never on a command line: everybody on the machine can read that.
    """
    own = {STORE_ENV: store, OWN_TOKEN_ENV: own_token}
    others = {name: value for name, value in os.environ.items() if name not in own and name not in _NOT_FOR_CHILDREN}
    return others | {name: value for name, value in own.items() if value}


def _await_answer(url: str, child: Child) -> None:
    deadline = time.monotonic() + START_PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=START_PATIENCE_S):  # noqa: S310  http, and our own child
                return
        except (OSError, urllib.error.URLError) as error:
            if child.has_ended:
                raise _as_told(child) from None
            if time.monotonic() > deadline:
                raise ProcessError(f"the {child.name} does not answer at {url}: {error}") from None
            time.sleep(_BEAT_S)


def _as_told(child: Child) -> ProcessError:
    """Make an error of a child's own error line, without the program's name in front of it."""
    exit_code = child.outcome()
    return ProcessError(f"the {child.name} did not start: {child.last_words().removeprefix('tailsight: ')}", exit_code)
