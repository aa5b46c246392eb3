"""The hot path in C does what the one in Python does, leaks nothing, and lets nothing of ours out.

Run with TAILSIGHT_NATIVE=0, or without a compiler, most of this file is skipped: then the Python one is all there is.
"""

import contextlib
import contextvars
import copy
import dataclasses
import gc
import hashlib
import importlib
import importlib.util
import marshal
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry import trace as trace_api
from opentelemetry.context import Context, attach, detach, get_current, set_value
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

import tailsight
from tailsight import _accelerator, _core, _span
from tailsight._clock import Clock
from tailsight._ids import Ids
from tailsight._record import load
from tailsight._recorder import Limits, Recorder, current, discard
from tailsight._sampling import TailSampler
from tailsight._stats import counters
from tailsight.testing import Capture, FakeClock, SequentialIds, capture

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "sdk/native"

native_only = pytest.mark.skipif(not _core.NATIVE, reason=f"the hot path is the Python one: {_accelerator.why_not}")

REQUIRED = bool(os.environ.get("TAILSIGHT_TEST_REQUIRE_NATIVE"))

# Set in the environment of the run below, so that it does not start another one.
INNER = "TESTS_OF_THE_OTHER_HOT_PATH"
HOT_PATH_TESTS = (
    "stage",
    "guard",
    "signals",
    "hardening",
    "generators",
    "streams",
    "opentelemetry",
    "propagation",
    "process",
)


# --- which one is used ----------------------------------------------------------------------------------------------


def python(script: str, **environment: str) -> str:
    """Run a script with a Python of its own, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"TAILSIGHT_NATIVE": str(int(_core.NATIVE))} | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_machine_that_compiles_must_use_what_it_compiled() -> None:
    """Elsewhere most of this file is skipped."""
    if REQUIRED:
        assert _core.NATIVE, _accelerator.why_not


@native_only
def test_the_python_one_can_be_chosen() -> None:
    script = "from tailsight import _accelerator, _core; print(_core.NATIVE, _accelerator.why_not)"
    assert python(script, TAILSIGHT_NATIVE="0") == "False TAILSIGHT_NATIVE=0"
    assert python(script, TAILSIGHT_NATIVE="1") == "True"


@native_only
def test_a_module_that_was_compiled_from_another_source_is_not_used(tmp_path: Path) -> None:
    script = """
        import sys, types
        stale = types.ModuleType("tailsight._native")
        stale.BUILD = "of yesterday"
        sys.modules["tailsight._native"] = stale
        from tailsight import _accelerator, _core
        print(_core.NATIVE, _accelerator.why_not)
    """
    assert python(script) == "False it was built from another version: run pip install again"


def test_the_package_names_the_source_that_it_belongs_to() -> None:
    tag = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(SOURCES.glob("*.[ch]")))).hexdigest()[:12]
    assert tag == _accelerator.BUILD, f'write BUILD = "{tag}" in _accelerator.py, and run hatch_build.py'


@native_only
def test_a_second_copy_of_the_package_uses_the_python_one() -> None:
    script = """
        import sys
        import tailsight
        for name in [name for name in sys.modules if name.partition(".")[0] == "tailsight"]:
            if name != "tailsight._native":
                del sys.modules[name]
        import tailsight as again
        from tailsight import _core
        from tailsight.testing import capture
        assert again is not tailsight
        with capture() as captured:
            with again.request(), again.stage("compute"):
                pass
        print(_core.NATIVE, len(captured.spans))
    """
    assert python(script) == "False 2"


@native_only
@pytest.mark.skipif(INNER in os.environ, reason="this is the other one's run")
@pytest.mark.timeout(600)
def test_the_python_one_passes_the_tests_of_the_hot_path() -> None:
    files = [str(Path(__file__).with_name(f"test_{name}.py")) for name in (*HOT_PATH_TESTS, "native")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"TAILSIGHT_NATIVE": "0", "TAILSIGHT_TEST_REQUIRE_NATIVE": "", INNER: "1"},
    )
    assert done.returncode == 0, done.stdout[-10_000:]


# --- how it is built ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def build() -> ModuleType:
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@native_only
def test_it_compiles_without_a_warning(build: ModuleType, tmp_path: Path) -> None:
    options = ("-Werror", "-std=c11", "-Wshadow", "-Wstrict-prototypes", "-Wconversion", "-Wno-sign-conversion")
    for module in build.MODULES:
        assert module.compile_into(tmp_path, *options).exists()


class App:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def display_warning(self, message: str) -> None:
        self.warnings.append(message)


def hook(build: ModuleType) -> Any:
    return build.NativeHook(str(ROOT), {}, None, None, str(ROOT), "wheel", App())


def test_without_a_compiler_the_package_is_pure_and_says_so_in_one_line(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "false")
    made, data = hook(build), {"force_include": {}}
    made.initialize("standard", data)
    made.finalize("standard", data, "")
    assert data == {"force_include": {}}
    (line,) = made.app.warnings
    assert "pure Python is used instead" in line
    assert "\n" not in line
    monkeypatch.setenv("CC", "/nowhere/to/be/found")
    made = hook(build)
    made.initialize("standard", data)
    assert len(made.app.warnings) == 1


def test_where_the_native_one_is_wanted_a_failure_is_an_error(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "false")
    monkeypatch.setenv("TAILSIGHT_BUILD_NATIVE", "1")
    with pytest.raises(RuntimeError, match="could not be compiled"):
        hook(build).initialize("standard", {})
    monkeypatch.setenv("TAILSIGHT_BUILD_NATIVE", "0")
    made = hook(build)
    made.initialize("standard", {})
    assert made.app.warnings == []


# --- the same as in Python ------------------------------------------------------------------------------------------


def copy_of_tailsight(**environment: str) -> Any:
    """Import the package once more, beside the one that everybody uses."""

    def ours() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] == "tailsight"]

    before = {name: sys.modules.pop(name) for name in ours()}
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        try:
            package = importlib.import_module("tailsight")
            for name in ("testing", "_core", "_recorder", "_sampling", "_stats"):
                importlib.import_module(f"tailsight.{name}")
        finally:
            for name in ours():
                del sys.modules[name]
            sys.modules.update(before)
    return package


@pytest.fixture(scope="module")
def pure() -> Any:
    package = copy_of_tailsight(TAILSIGHT_NATIVE="0")
    assert not package._core.NATIVE
    return package


KEYS = st.sampled_from(["a", "b", "c", "d", "é", "", "a longer key", "\ud800"])
ODD_KEYS = st.sampled_from([None, 7, ("x",), b"k"])
VALUES = st.one_of(
    st.integers(),
    st.sampled_from([2**31, -(2**31) - 1, 2**63 - 1, -(2**63), 2**64, 2**200, True, False, None, 0.5, b"bytes"]),
    st.floats(allow_nan=False),
    st.text(max_size=12),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.text(max_size=12), max_size=2),
    st.builds(lambda: str),  # a class: nothing that can be recorded as it is
)
NAMES = st.sampled_from(["compute", "queue", "größer", "x" * 20])
ERRORS = st.sampled_from(
    ["ValueError", "StopIteration", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError"]
)
LEAVES = st.one_of(
    st.tuples(st.just("set"), KEYS, VALUES),
    st.tuples(st.just("set"), ODD_KEYS, VALUES),
    st.tuples(st.just("set by name"), KEYS, VALUES),
    st.tuples(st.just("set current"), KEYS, VALUES),
    st.tuples(st.just("end")),
    st.tuples(st.just("event")),
    st.tuples(st.just("handled")),
    st.tuples(st.just("status")),
    st.tuples(st.just("rename"), NAMES),
    st.tuples(st.just("ask")),
    st.tuples(st.just("raise"), ERRORS),
    st.tuples(st.just("many"), st.sampled_from([1, 3, 126, 127, 128, 129, 260])),
    st.tuples(st.just("enter here, leave there"), NAMES),
    st.tuples(st.just("leave twice"), NAMES),
    st.tuples(st.just("new recorder")),
    st.tuples(st.just("outlive"), NAMES),
)


def nested(programs: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    body = st.lists(programs, max_size=4)
    return st.one_of(
        st.tuples(st.just("stage"), NAMES, st.none() | NAMES, body),
        st.tuples(st.just("stage"), NAMES, st.none(), body),
        st.tuples(st.just("request"), st.none() | NAMES, body),
        st.tuples(st.just("request with a deadline"), body),
        st.tuples(st.just("shared"), st.integers(0, 2), body),
        st.tuples(st.just("foreign key"), KEYS, body),
        st.tuples(st.just("foreign span"), st.booleans(), body),
        st.tuples(st.just("own kind of context"), body),
        st.tuples(st.just("no context"), body),
        st.tuples(st.just("thread"), st.booleans(), body),
        st.tuples(st.just("generator"), st.integers(0, 3), body),
        st.tuples(st.just("try"), body),
    )


PROGRAMS = st.lists(st.recursive(LEAVES, nested, max_leaves=25), max_size=6)


class OwnContext(Context):
    """Somebody's kind of Context."""


class Machine:
    """Runs a program against one copy of tailsight, and writes down what can be seen from outside."""

    def __init__(self, package: Any) -> None:
        self.package = package
        self.objects = [package.stage("shared"), package.request("shared"), package.stage("shared", name="too")]
        self.seen: list[object] = []
        self.spans: list[Any] = [package.stage("never entered")]
        self.main = threading.get_ident()

    def run(self, program: list[Any], rate: float | None) -> list[object]:
        testing, stats = self.package.testing, self.package._stats.counters
        stats.reset()
        self.clock, self.ids = testing.FakeClock(tick_ns=7), testing.SequentialIds()
        limits = self.package._recorder.Limits(attributes=3, events=2, value_length=8)
        with testing.capture(clock=self.clock, ids=self.ids, limits=limits) as captured:
            self.captured = captured
            if rate is not None:
                recorder = self.package._recorder.current.recorder
                recorder.sampler = self.package._sampling.TailSampler(rate, lambda *seen: self.seen.append(seen))
            contextvars.copy_context().run(self.block, program)
        spans = [dataclasses.asdict(span) for span in captured.spans]
        for span in spans:
            span["thread_id"] = span["thread_id"] == self.main
        return [*self.seen, spans, stats.internal_errors, stats.dropped, self.clock.now()]

    def block(self, program: list[Any]) -> None:
        try:
            for operation, *arguments in program:
                self.look()
                getattr(self, operation.replace(" ", "_").replace(",", ""))(*arguments)
        except BaseException as error:
            self.seen.append((type(error).__name__, str(error)))
            if isinstance(error, AssertionError | AttributeError | NameError | TypeError):
                raise
        self.look()

    def inside(self, span: Any, program: list[Any]) -> None:
        with span as entered:
            self.spans.append(entered)
            try:
                for operation, *arguments in program:
                    self.look()
                    getattr(self, operation.replace(" ", "_").replace(",", ""))(*arguments)
            finally:
                self.spans.pop()
        self.look()

    def look(self) -> None:
        context, span = get_current(), trace_api.get_current_span()
        ours = isinstance(span, self.package.Span)
        self.seen += [
            (len(context), type(context).__name__, ours, span.is_recording(), str(span.get_span_context())),
            [shared._state for shared in self.objects],
            len(self.captured.spans),
        ]

    # one method for each operation

    def set(self, key: Any, value: Any) -> None:
        self.spans[-1].set(key, value)

    def set_by_name(self, key: Any, value: Any) -> None:
        self.spans[-1].set(value=value, key=key)

    def set_current(self, key: Any, value: Any) -> None:
        trace_api.get_current_span().set_attribute(key, value)

    def end(self) -> None:
        self.spans[-1].end()

    def event(self) -> None:
        self.spans[-1].add_event("tick", {"n": 1})

    def handled(self) -> None:
        self.spans[-1].record_exception(KeyError("k"))

    def status(self) -> None:
        self.spans[-1].set_status(trace_api.StatusCode.ERROR, "so it is")

    def rename(self, name: str) -> None:
        self.spans[-1].update_name(name)

    def ask(self) -> None:
        span = self.spans[-1]
        self.seen.append((span.trace_id, span.span_id, span.is_recording(), str(span.get_span_context())))

    def new_recorder(self) -> None:  # as configure() does: spans of before have another one
        testing, module = self.package.testing, self.package._recorder
        before = module.current.recorder
        module.current.recorder = module.Recorder(
            clock=self.clock, ids=self.ids, limits=before.limits, push=lambda packed, _: self.captured.take(packed)
        )
        assert testing

    def many(self, count: int) -> None:
        for _ in range(count):
            with self.package.stage("one of many") as s:
                s.set("n", count)

    def enter_here_leave_there(self, name: str) -> None:
        span = self.package.stage(name)
        contextvars.copy_context().run(span.__enter__)
        span.set("a", 1)
        contextvars.copy_context().run(span.__exit__, None, None, None)
        self.seen.append(span.is_recording())

    def outlive(self, name: str) -> None:
        with self.package.request():
            late = contextvars.copy_context()
        late.run(self.stage, name, None, [])

    def leave_twice(self, name: str) -> None:
        span = self.package.stage(name)
        span.__exit__(None, None, None)
        with span:
            span.__exit__(None, None, None)
        span.__exit__(None, None, None)

    def raise_(self, kind: str) -> None:
        kinds: dict[str, type[BaseException]] = {
            "ValueError": ValueError,
            "StopIteration": StopIteration,
            "SystemExit": SystemExit,
            "KeyboardInterrupt": KeyboardInterrupt,
            "GeneratorExit": GeneratorExit,
            "CancelledError": type("CancelledError", (BaseException,), {}),
        }
        raise kinds[kind](kind)

    def stage(self, name: str, own: str | None, body: list[Any]) -> None:
        self.inside(self.package.stage(name) if own is None else self.package.stage(name, name=own), body)

    def request(self, name: str | None, body: list[Any]) -> None:
        self.inside(self.package.request(name), body)

    def request_with_a_deadline(self, body: list[Any]) -> None:
        self.inside(self.package.request("r", deadline_ms=5.0), body)

    def shared(self, which: int, body: list[Any]) -> None:
        self.inside(self.objects[which], body)

    def within(self, context: Context, body: list[Any]) -> None:
        token = attach(context)
        try:
            self.block(body)
        finally:
            detach(token)

    def foreign_key(self, key: str, body: list[Any]) -> None:
        self.within(set_value(key, "theirs"), body)

    def foreign_span(self, sampled: bool, body: list[Any]) -> None:
        above = SpanContext(7, 9, True, TraceFlags(int(sampled)), TraceState([("vendor", "value")]))
        self.within(trace_api.set_span_in_context(NonRecordingSpan(above)), body)

    def own_kind_of_context(self, body: list[Any]) -> None:
        self.within(OwnContext(get_current()), body)

    def no_context(self, body: list[Any]) -> None:
        self.within(Context(), body)

    def thread(self, inherits: bool, body: list[Any]) -> None:
        context = contextvars.copy_context() if inherits else contextvars.Context()
        thread = threading.Thread(target=context.run, args=(self.block, body))
        thread.start()
        thread.join()

    def generator(self, steps: int, body: list[Any]) -> None:
        @self.package.stage("compute")  # type: ignore[untyped-decorator]
        def numbers() -> Iterator[int]:
            for number in range(3):
                self.block(body)
                yield number

        for _ in zip(range(steps), numbers(), strict=False):
            self.look()

    def try_(self, body: list[Any]) -> None:
        self.block(body)

    def __getattr__(self, name: str) -> Any:
        if name in ("raise", "try"):
            return getattr(self, f"{name}_")
        raise AttributeError(name)


@native_only
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(PROGRAMS, st.sampled_from([None, None, 0.0, 0.5]))
@example(
    [("request", None, [("many", 300), ("stage", "compute", "own", [("set", "a", 2**64), ("raise", "ValueError")])])],
    None,
)
@example(
    [
        (
            "foreign span",
            False,
            [("stage", "queue", None, [("set", "a", 1)]), ("request", None, [("stage", "queue", None, [])])],
        )
    ],
    None,
)
@example([("foreign span", False, [("request", None, [("shared", 0, []), ("shared", 0, [])])])], None)
@example([("foreign key", "a", [("request", None, [("stage", "queue", None, [("ask",)])])])], None)
@example(
    [
        (
            "request",
            None,
            [("own kind of context", [("stage", "queue", None, [("ask",)])]), ("new recorder",), ("many", 3)],
        )
    ],
    None,
)
@example(
    [("request", None, [("shared", 0, [("shared", 0, [("set", "a", 1)]), ("thread", True, [("shared", 0, [])])])])],
    None,
)
def test_any_program_leaves_the_same_spans_behind(pure: Any, program: list[Any], rate: float | None) -> None:
    assert Machine(tailsight).run(program, rate) == Machine(pure).run(program, rate)


@native_only
def test_both_ways_of_packing_are_read_alike(pure: Any) -> None:
    native = _accelerator.native
    assert native is not None
    plain: st.SearchStrategy[Any] = st.one_of(
        st.none(), st.booleans(), st.integers(), st.integers(-(2**66), 2**66), st.floats(), st.binary(max_size=300)
    )
    text = st.text(max_size=300) | st.text(st.characters(codec="ascii"), min_size=250, max_size=260) | st.just("\ud800")
    anything = st.recursive(
        plain | text,
        lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(text, inner),
        max_leaves=60,
    )

    @settings(max_examples=200, deadline=None)
    @given(anything)
    def check(value: Any) -> None:
        packed = native.dumps(value)
        read = marshal.loads(packed)
        assert repr(read) == repr(value)  # repr(): nan is not equal to itself, and 1 is equal to True
        assert read == value or "nan" in repr(value)
        twice = marshal.loads(native.dumps([value, (value, {"again": value})]))
        assert repr(twice) == repr([value, (value, {"again": value})])

    check()
    for number in [edge + off for edge in (0, 2**15, 2**30, 2**31, 2**45, 2**60, 2**63, 2**64) for off in (-1, 0, 1)]:
        assert marshal.loads(native.dumps([number, -number])) == [number, -number]


@native_only
def test_what_cannot_be_packed_is_refused_as_marshal_does() -> None:
    native = _accelerator.native
    assert native is not None

    class Text(str):
        __slots__ = ()

    deep: list[Any] = []
    for _ in range(3000):
        deep = [deep]
    for value in (object(), Text("x"), {"a": object()}, [print], deep):
        with pytest.raises(ValueError, match="unmarshallable object"):
            native.dumps(value)
    large = {f"key {n}": "x" * 1000 for n in range(100)}
    assert marshal.loads(native.dumps(large)) == large


# --- what it looks like to Python -----------------------------------------------------------------------------------


def test_a_span_looks_the_same_from_python() -> None:
    span = tailsight.stage("compute")
    assert isinstance(span, trace_api.Span)
    assert _core.Core.__slots__ == _core.PureCore.__slots__
    assert weakref.ref(span)() is span
    with pytest.raises(AttributeError):
        _ = tailsight.Span()._trace
    with pytest.raises(TypeError, match="takes no arguments"):
        tailsight.Span("compute")  # type: ignore[call-arg]
    assert copy.copy(span)._stage == "compute"
    assert tailsight.stage.__name__ == "stage"
    assert tailsight.stage.__module__ == "tailsight._api"
    assert "as a context manager, or as a decorator" in (tailsight.stage.__doc__ or "")
    assert "Set an attribute" in (tailsight.Span.set.__doc__ or "")


def test_wrong_arguments_are_the_callers_error(captured: Capture) -> None:
    with tailsight.stage("compute") as s:
        s.set(value=1, key="by name")
        s.set("half", value=2)
        for wrong in (lambda: s.set("a"), lambda: s.set("a", 1, 2), lambda: s.set("a", 1, x=2), lambda: s.set(k=1)):  # type: ignore[call-arg]
            with pytest.raises(TypeError):
                wrong()
    assert captured.spans[0].attributes == {"by name": 1, "half": 2}
    for wrong in (tailsight.stage, lambda: tailsight.stage("a", "b"), lambda: tailsight.stage("a", x=1)):  # type: ignore[call-overload]
        with pytest.raises(TypeError):
            wrong()
    assert tailsight.stage(stage="a", name="b")._name == "b"
    assert tailsight.stage("a", name=7)._name == "7"  # type: ignore[arg-type]


def test_spans_in_a_cycle_are_collected(captured: Capture) -> None:
    died: list[str] = []

    def abandon(how: str) -> None:
        span = tailsight.request()
        contextvars.Context().run(span.__enter__)
        weakref.finalize(span, died.append, how)
        if how == "attribute":
            span._attributes["myself"] = span  # type: ignore[index,assignment]
        elif how == "details":
            span._details = [span]  # type: ignore[assignment]
        elif how == "of its own":
            span.myself = span  # type: ignore[attr-defined]

    for how in ("attribute", "details", "of its own", "current in its context"):
        abandon(how)
    gc.collect()
    assert sorted(died) == ["attribute", "current in its context", "details", "of its own"]


def test_a_span_that_was_cleared_does_no_harm() -> None:
    """The collector clears what is in a cycle, and finalizers may still use it."""
    span = tailsight.stage("compute")
    with span:
        for name in ("_attributes", "_trace", "_details", "_id"):
            delattr(span, name)
        if _core.NATIVE:
            span.set("late", 1)
    span.__exit__(None, None, None)
    bare = tailsight.Span()
    bare._state = 0
    assert contextvars.copy_context().run(bare.__enter__) is bare
    counters.internal_errors = 0


# --- another OpenTelemetry, other threads ---------------------------------------------------------------------------


def test_another_runtime_context_is_used_through_its_functions() -> None:
    script = """
        from opentelemetry import context as context_api, trace
        from opentelemetry.context.context import Context, _RuntimeContext

        class Plain(_RuntimeContext):
            def __init__(self):
                self.stack = [Context()]
            def attach(self, context):
                self.stack.append(context)
                return len(self.stack)
            def get_current(self):
                return self.stack[-1]
            def detach(self, token):
                assert token == len(self.stack)
                self.stack.pop()

        context_api._RUNTIME_CONTEXT = used = Plain()
        import tailsight
        from tailsight import _core
        from tailsight._stats import counters
        from tailsight.testing import capture
        with capture() as captured, tailsight.request("rank") as r:
            for _ in range(3):
                with tailsight.stage("compute") as s:
                    assert trace.get_current_span() is s
                assert trace.get_current_span() is r
        print(len(captured.spans), len(used.stack), counters.internal_errors, _core.NATIVE)
    """
    assert python(script) == f"4 1 0 {_core.NATIVE}"


def test_another_notion_of_threads_is_respected() -> None:
    """As gevent's, which puts its own function in the place of threading's."""
    script = """
        import threading
        real, threading.get_ident = threading.get_ident, lambda: 4711
        import tailsight
        threading.get_ident = real  # the interpreter's own needs it
        from tailsight import _core
        from tailsight.testing import capture
        with capture() as captured, tailsight.request("rank"), tailsight.stage("compute"):
            pass
        print({span.thread_id for span in captured.spans}, _core.NATIVE)
    """
    assert python(script) == f"{{4711}} {_core.NATIVE}"


def test_the_monotonic_clock_is_the_one_that_python_reads() -> None:
    with capture(clock=Clock()) as captured:
        before = time.perf_counter_ns()
        with tailsight.request() as r:
            with tailsight.stage("compute") as s:
                inside = time.perf_counter_ns()
            assert before <= r._start <= s._start <= inside
        after = time.perf_counter_ns()
    assert captured.one(stage="compute").duration_ns < after - before


def test_threads_that_share_everything_lose_nothing() -> None:
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    shared = tailsight.stage("shared")
    failed: list[BaseException] = []

    def work(context: contextvars.Context) -> None:
        def many() -> None:
            for number in range(400):
                with shared as one, tailsight.stage("own") as two:
                    one.set("n", number)
                    two.set("n", number)

        try:
            context.run(many)
        except BaseException as error:
            failed.append(error)

    try:
        packed: list[bytes] = []
        recorder = Recorder(
            clock=Clock(), ids=SequentialIds(), limits=Limits(), push=lambda batch, _: packed.append(batch)
        )
        before, current.recorder = current.recorder, recorder
        with tailsight.request():
            threads = [threading.Thread(target=work, args=(contextvars.copy_context(),)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(switch)
        current.recorder = before
    spans = [span for batch in packed for span in load(batch).spans]
    assert failed == []
    assert len(spans) == 1 + 4 * 400 * 2
    assert len({span.span_id for span in spans}) == len(spans)
    assert [span.attributes["n"] for span in spans if span.stage == "own"].count(399) == 4
    assert counters.internal_errors == 0


# --- nothing of ours gets out ---------------------------------------------------------------------------------------


class InjectedError(Exception):
    pass


class Failing:
    """Something that the C calls. It fails from its n-th use on."""

    def __init__(self, uses: int, function: Callable[..., Any]) -> None:
        self.left = uses
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise InjectedError
        return self.function(*arguments)


class FailingContext(Context):
    def get(self, *_: Any) -> Any:
        raise InjectedError


def work() -> str:
    with tailsight.request("rank") as r:
        r.set("a", 1)
        with tailsight.stage("compute") as s:
            s.set("b", [1])
            with tailsight.stage("queue"):
                pass
        shared = tailsight.stage("compute")
        with shared, shared:
            pass
    with tailsight.request("with a context of its own", deadline_ms=5.0), tailsight.stage("x" * 2000):
        pass
    with tailsight.request("long"):
        for _ in range(300):
            with tailsight.stage("compute"):
                pass
    return "done"


@pytest.mark.parametrize("uses", range(14))
@pytest.mark.parametrize("what", ["now", "span_id", "trace_id"])
def test_a_clock_or_ids_that_fail_at_any_time_do_no_harm(what: str, uses: int) -> None:
    clock, ids = Clock(), SequentialIds()
    recorder = Recorder(clock=clock, ids=ids, limits=Limits(), push=discard)
    if what == "now":
        recorder.now = Failing(uses, clock.now)
    elif what == "span_id":
        recorder.new_span_id = Failing(uses, ids.span_id)
    else:
        recorder.new_trace_id = Failing(uses, ids.trace_id)
    before, outside = current.recorder, get_current()
    current.recorder = recorder
    try:
        assert contextvars.copy_context().run(lambda: (work(), get_current() is outside)) == ("done", True)
    finally:
        current.recorder = before
    counters.internal_errors = 0


COLD = ["_enter_specially", "_enter_first", "_exit_again", "_close", "_was_recorded", "_leave", "_set_cleaned"]


@pytest.mark.parametrize("name", COLD)
def test_a_method_that_fails_does_no_harm(captured: Capture, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fail(*_: object) -> Any:
        raise InjectedError

    outside = get_current()
    monkeypatch.setattr(_span.Span, name, fail)
    # Where a sampler decides, the end of a request is left to the Python one.
    recorder = Recorder(
        clock=Clock(), ids=SequentialIds(), limits=Limits(), push=discard, sampler=TailSampler(0.5, lambda *_: None)
    )
    before, current.recorder = current.recorder, recorder
    try:
        assert contextvars.copy_context().run(work) == "done"
    finally:
        current.recorder = before
    assert get_current() is outside
    assert counters.internal_errors > 0 or name in ("_close", "_leave")


def test_a_context_that_fails_does_no_harm(captured: Capture) -> None:
    def inside() -> int:
        attach(FailingContext(get_current()))
        for _ in range(3):
            with tailsight.stage("compute") as s:
                s.set("a", 1)
        return len(get_current())

    with tailsight.request():
        assert contextvars.copy_context().run(inside) == 1
    assert [span.stage for span in captured.spans] == [None]
    assert counters.internal_errors >= 3


class Deadline(Exception):  # noqa: N818  it says what is the case
    pass


def arrives(*_: object) -> None:
    raise Deadline


@pytest.fixture
def handler() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, arrives)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("uses", range(6))
@pytest.mark.parametrize("what", ["now", "new_span_id"])
def test_what_a_signal_handler_raises_in_what_the_hot_path_calls_reaches_the_host(what: str, uses: int) -> None:
    def called(*_: object) -> Any:
        signal.raise_signal(signal.SIGUSR1)

    recorder = Recorder(clock=FakeClock(), ids=SequentialIds(), limits=Limits(), push=discard)
    before, outside = current.recorder, get_current()
    current.recorder = recorder
    reached = False
    try:
        with tailsight.request():
            inside = get_current()
            trace = trace_api.get_current_span()._trace  # type: ignore[attr-defined]
            real, calls = getattr(trace, what), iter(range(uses))

            def sometimes() -> Any:
                if next(calls, None) is None:
                    called()
                return real()

            setattr(trace, what, sometimes)
            try:
                for _ in range(8):
                    with tailsight.stage("compute") as s:
                        s.set("a", 1)
            except Deadline:
                reached = True
            assert get_current() is inside
            setattr(trace, what, real)
    finally:
        current.recorder = before
    assert reached
    assert get_current() is outside
    assert counters.internal_errors == 0


@native_only
def test_a_deadline_that_strikes_anywhere_ends_the_work_and_leaves_nothing_current() -> None:
    """SIGALRM in a tight loop of stages, 1500 times.

    PureCore does not pass: a handler may run before the first instruction of __exit__, where no `try` has begun, and
    then an outermost span stays current. In a process of its own, because gc callbacks of the test runner would swallow
    what a handler raises in them.
    """
    script = """
        import random, signal
        from opentelemetry.context import get_current
        import tailsight
        from tailsight._clock import Clock
        from tailsight._ids import Ids
        from tailsight._recorder import Limits, Recorder, current, discard
        from tailsight._stats import counters

        class Deadline(Exception):
            pass

        def handler(*_):
            raise Deadline

        current.recorder = Recorder(clock=Clock(), ids=Ids(), limits=Limits(), push=discard)
        signal.signal(signal.SIGALRM, handler)
        rounds, outside, left = 0, get_current(), 0
        shared = tailsight.stage("shared")
        for seed in range(1500):
            after = random.Random(seed).uniform(20e-6, 300e-6)
            try:
                signal.setitimer(signal.ITIMER_REAL, after)
                while True:
                    with tailsight.stage("compute") as s:
                        s.set("n", 1)
                        with tailsight.stage("queue", name="q"), shared:
                            s.set("list", [1])
            except Deadline:
                rounds += 1
            left += get_current() is not outside
        print(rounds, left, counters.internal_errors)
    """
    assert python(script) == "1500 0 0"


# --- nothing leaks --------------------------------------------------------------------------------------------------


def exercise(count: int) -> None:
    """Take every way through the C, the ways of errors included."""
    failing = Failing(0, print)
    values = (1, 0.5, "text", True, None, [1], "x" * 5000, 2**80, object)
    for number in range(count):
        with tailsight.request("rank"):
            for name in ("preprocess", "compute", "queue"):
                with tailsight.stage(name, name="own") as s:
                    s.set("n", number)
                    s.set(key="value", value=values[number % len(values)])
        try:
            with tailsight.request("rank") as r, tailsight.stage("compute") as s:
                r._trace.now = failing if number % 3 == 0 else r._trace.now  # type: ignore[union-attr]
                r._trace.new_span_id = failing if number % 5 == 0 else r._trace.new_span_id  # type: ignore[union-attr]
                with tailsight.stage("queue"), s:
                    raise ValueError
        except ValueError:
            pass
        with contextlib.suppress(TypeError):
            tailsight.stage("compute").set("a")  # type: ignore[call-arg]
        span = tailsight.stage("compute")
        contextvars.copy_context().run(span.__enter__)
        span.__exit__(None, None, None)


def measure_growth() -> None:
    """Print what 100,000 stages, and all the ways through the C, have left behind. In a process where nothing else is."""
    current.recorder = recorder = Recorder(clock=Clock(), ids=Ids(), limits=Limits(), push=discard)
    watched = [
        tailsight.Span,
        Context,
        recorder,
        recorder.now,
        recorder.new_span_id,
        _core.SPAN_KEY,
        discard,
        ValueError,
    ]

    def stages(count: int) -> None:
        with tailsight.request():
            for number in range(count):
                with tailsight.stage("compute") as s:
                    s.set("n", number)

    exercise(300)
    stages(1000)
    gc.collect()
    references = [sys.getrefcount(one) for one in watched]
    nothing, objects = sys.getrefcount(None), len(gc.get_objects())
    tracemalloc.start()
    memory = tracemalloc.get_traced_memory()[0]
    stages(100_000)
    exercise(500)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - memory
    tracemalloc.stop()
    print(
        [sys.getrefcount(one) for one in watched] == references,
        abs(sys.getrefcount(None) - nothing) < 100,
        abs(len(gc.get_objects()) - objects) < 50,
        grown < 20_000,
    )


@native_only
def test_a_hundred_thousand_stages_leave_nothing_in_memory() -> None:
    script = f"""
        import sys
        sys.path.insert(0, {str(ROOT / "tests")!r})
        from sdk.test_native import measure_growth
        measure_growth()
    """
    assert python(script) == "True True True True"


# --- a generator's step -------------------------------------------------------------------------------------------------


@native_only
def test_leaving_a_step_stamps_resets_and_returns_what_was_current() -> None:
    leave_step = _core.leave_step
    assert leave_step is not None
    before, inside, around = get_current(), set_value("inside", 1), set_value("around", 2)
    stamps: list[int] = []
    token = _core.attach(inside)
    _core.attach(around)  # a `with stage()` that is still open when the generator yields
    assert leave_step(stamps, time.perf_counter_ns, token) is around
    assert get_current() is before
    assert len(stamps) == 1
    assert 0 <= time.perf_counter_ns() - stamps[0] < 60 * 10**9
    clock = iter([7, 8])
    leave_step(stamps, clock.__next__, _core.attach(inside))
    assert stamps[1] == 7


@native_only
def test_leaving_a_step_fails_as_python_does() -> None:
    leave_step = _core.leave_step
    assert leave_step is not None
    elsewhere = contextvars.copy_context().run(_core.attach, set_value("elsewhere", 1))
    before = get_current()
    with pytest.raises(ValueError, match="different Context"):
        leave_step([], time.perf_counter_ns, elsewhere)
    for wrong in ((), ([],), ((), time.perf_counter_ns, elsewhere), ([], time.perf_counter_ns, None)):
        with pytest.raises(TypeError):
            leave_step(*wrong)
    with pytest.raises(ZeroDivisionError):
        leave_step([], lambda: 1 // 0, elsewhere)
    assert get_current() is before


@native_only
def test_leaving_steps_leaks_nothing() -> None:
    leave_step = _core.leave_step
    assert leave_step is not None
    inside, stamps = set_value("inside", 1), [0]

    def steps() -> None:
        for _ in range(1000):
            leave_step(stamps, time.perf_counter_ns, _core.attach(inside))
            stamps.clear()

    steps()
    references = sys.getrefcount(inside)
    steps()
    assert sys.getrefcount(inside) == references
