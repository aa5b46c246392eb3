"""Signal handlers of the host run in the midst of our code. What they raise is the host's; what they call must return."""

import functools
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.context import get_current

import tailsight
from tailsight import _core, _signals, _trace, _values
from tailsight._stats import counters
from tailsight.testing import Capture


class Deadline(Exception):  # noqa: N818  it says what is the case
    pass


def raising(*_: object) -> None:
    raise Deadline


class Handlers:
    def method(self, *_: object) -> None:
        raise Deadline

    def __call__(self, *_: object) -> None:
        raise Deadline


@pytest.fixture(
    params=[raising, Handlers().method, Handlers(), functools.partial(raising)], ids=lambda h: type(h).__name__
)
def handler(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    before = signal.signal(signal.SIGUSR1, request.param)
    yield request.param
    signal.signal(signal.SIGUSR1, before)


def now(*_: Any, **__: Any) -> Any:
    """The signal arrives here."""
    signal.raise_signal(signal.SIGUSR1)


def after(function: Callable[..., Any]) -> Callable[..., Any]:
    """The signal arrives when `function` has done its work."""

    def wrapper(*args: Any) -> Any:
        result = function(*args)
        now()
        return result

    return wrapper


# Between two instructions of PureCore's. In the C one there is no such place but where it calls Python: test_native.py.
pure_only = pytest.mark.skipif(_core.NATIVE, reason="no signal handler runs in the midst of C")


@pure_only
@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("name", ["attach", "get_current", "Context", "with_span"])
def test_what_a_signal_handler_raises_on_entry_reaches_the_host_and_leaves_nothing_current(
    captured: Capture, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = dict(get_current())
    entered = False
    with tailsight.request():
        inside = dict(get_current())
        with monkeypatch.context() as patched:
            patched.setattr(_core, name, after(getattr(_core, name)))
            if name == "get_current":  # also called to clean up
                patched.setattr(_core, name, iter_once(getattr(_core, name)))
            span = tailsight.stage("compute")
            if name == "with_span":
                patched.setattr(_core, "Context", now)
            with pytest.raises(Deadline):
                entered = enter(span)
        assert dict(get_current()) == inside
    assert not entered
    assert dict(get_current()) == before
    assert counters.internal_errors == 0
    assert len(captured.spans) == 1


def enter(span: tailsight.Span) -> bool:
    with span:
        return True


def iter_once(function: Callable[..., Any]) -> Callable[..., Any]:
    calls = iter([now])

    def wrapper(*args: Any) -> Any:
        next(calls, lambda: None)()
        return function(*args)

    return wrapper


@pure_only
@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("name", ["reset", "get_ident"])
def test_what_a_signal_handler_raises_on_exit_reaches_the_host_and_leaves_nothing_current(
    captured: Capture, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert captured.spans == []
    before = dict(get_current())
    span = tailsight.stage("compute")
    with pytest.raises(Deadline), span:
        monkeypatch.setattr(_core, name, now)
    assert dict(get_current()) == before
    assert counters.internal_errors == 0


@pytest.mark.usefixtures("handler")
def test_what_a_signal_handler_raises_while_a_value_is_read_reaches_the_host(captured: Capture) -> None:
    class Slow:
        def __str__(self) -> str:
            now()
            return "slow"

    with pytest.raises(Deadline), tailsight.stage("compute") as s:
        s.set("slow", Slow())
    with pytest.raises(Deadline):
        _values.clean([Slow()], 10)
    assert captured.spans[0].status == "ERROR"
    assert counters.internal_errors == 0


def test_an_error_of_ours_is_still_caught_while_handlers_are_installed(
    captured: Capture, monkeypatch: pytest.MonkeyPatch, handler: Callable[..., None]
) -> None:
    assert handler is not None

    def broken(*_: object) -> None:
        raise Deadline

    monkeypatch.setattr(_trace.Trace, "__init__", broken)
    with tailsight.stage("compute"):
        pass
    assert counters.internal_errors == 1
    assert captured.spans == []
    assert _signals._handlers()


def test_a_signal_handler_may_flush_while_it_interrupts_a_flush() -> None:
    script = """
        import faulthandler, signal, time
        import tailsight

        faulthandler.dump_traceback_later(20, exit=True)
        tailsight.configure(endpoint="http://127.0.0.1:1", flush_timeout_s=0.1)
        calls = []

        def handler(*_):
            calls.append(1)
            with tailsight.request():
                pass
            tailsight.flush(0)

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            with tailsight.request():
                pass
            tailsight.flush(0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print("done", len(calls) > 10)
    """
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "done True\n", done.stderr
    assert time.monotonic() - began < 20
