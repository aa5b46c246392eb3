"""In a process that runs tests: the body of each marked test becomes a request, and when it ran is noted.

Nothing here may break a test: what goes wrong is said once, and the test runs as if it were not marked.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import tailsight
from tailsight_cli.recording.marked_tests import BODY, TEST_NAME
from tailsight_cli.recording.run_file import as_text

MARKER = "tailsight"
FLUSH_S = 10.0
# A span's begin and our clock may differ by so much: see "durations" in docs/sdk.md.
_CLOCKS_NS = 100_000


class Bodies:
    """The hooks of a process that runs tests. `folder` is the recording's."""

    def __init__(self, folder: Path) -> None:
        self._notes = folder / "tests"
        self._has_recorded = False
        self._has_complained = False
        with suppress(OSError):  # said when something is to be noted
            self._notes.mkdir(exist_ok=True)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Record a marked test's body."""
        marker = item.get_closest_marker(MARKER)
        if marker is None:
            return (yield)
        undo: list[Callable[[], None]] = []
        test = as_text(item.nodeid)
        try:
            undo = list(_make_requests(item, test, marker))
        except Exception as error:
            self._complain(error)
        start_ns = time.time_ns()
        try:
            return (yield)
        finally:
            try:
                self._note(test, start_ns)
                for each in reversed(undo):
                    each()
            except Exception as error:
                self._complain(error)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:  # noqa: ARG002 - Session's needs it
        """Have written what was recorded: a worker of xdist may end without another word."""
        if not tailsight.flush(FLUSH_S) and self._has_recorded:
            self._complain(TimeoutError(f"not all spans could be written within {FLUSH_S:g} s"))

    def _note(self, test: str, start_ns: int) -> None:
        pid, self._has_recorded = os.getpid(), True
        said = {"test": test, "pid": pid, "start_ns": start_ns - _CLOCKS_NS, "end_ns": time.time_ns() + _CLOCKS_NS}
        with (self._notes / f"{pid}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(said) + "\n")

    def _complain(self, error: Exception) -> None:
        if self._has_complained:
            return
        self._has_complained = True
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # where warnings are errors, this one must not be
            warnings.warn(f"tailsight records not everything: {type(error).__name__}: {error}", stacklevel=2)


def _rounds(test: str, marker: pytest.Mark) -> int:
    """Read how often a body is to run; raises ValueError where the marker says something else."""
    rounds = marker.kwargs.get("rounds", 1)
    if marker.args or marker.kwargs.keys() - {"rounds"} or type(rounds) is not int or rounds < 1:
        said = ", ".join((*map(repr, marker.args), *(f"{name}={value!r}" for name, value in marker.kwargs.items())))
        raise ValueError(f"{test}: {MARKER}({said}) is not understood: rounds=N says how often, from 1")
    return rounds


def _make_requests(item: pytest.Item, test: str, marker: pytest.Mark) -> Iterator[Callable[[], None]]:
    """Wrap what a test calls; yields how to take that back."""
    benchmark = getattr(item, "funcargs", {}).get("benchmark")
    rounds = _rounds(test, marker)
    if _is_benchmark(benchmark):
        kind = type(benchmark)
        benchmark.__class__ = _recording_benchmark(kind, test)
        rounds = 1  # such a fixture can be used once, and calls more than once by itself

        def restore() -> None:
            benchmark.__class__ = kind

        yield restore
    if isinstance(item, pytest.Function):
        body = item.obj
        item.obj = _repeated(body, test, rounds)

        def put_back() -> None:
            item.obj = body

        yield put_back


def _is_benchmark(fixture: object) -> bool:
    kinds = (f"{kind.__module__}.{kind.__name__}" for kind in type(fixture).__mro__)
    return "pytest_benchmark.fixture.BenchmarkFixture" in kinds


def _recording_benchmark(kind: type[Any], test: str) -> type[Any]:
    """Make pytest-benchmark's fixture record each call of what it measures."""

    def call(self: Any, function_to_benchmark: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return kind.__call__(self, _repeated(function_to_benchmark, test), *args, **kwargs)

    def pedantic(self: Any, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return kind.pedantic(self, _repeated(target, test), *args, **kwargs)

    return type("RecordingBenchmarkFixture", (kind,), {"__call__": call, "pedantic": pedantic})


def _repeated(function: Callable[..., Any], test: str, rounds: int = 1) -> Callable[..., Any]:
    """Wrap a function so that each call is a request named after the test, `rounds` of them one after the other."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            for _ in range(rounds):
                with tailsight.request(test) as request:
                    request.set(TEST_NAME, test)
                    request.set(BODY, True)
                    result = await function(*args, **kwargs)
            return result

        return call_async

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        for _ in range(rounds):
            with tailsight.request(test) as request:
                request.set(TEST_NAME, test)
                request.set(BODY, True)
                result = function(*args, **kwargs)
        return result

    return call
