import asyncio
import contextvars
import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry import trace as trace_api

import tailsight
from tailsight import attributes as keys
from tailsight.testing import Capture, FakeClock, capture

pytestmark = pytest.mark.usefixtures("no_internal_errors")


def test_stages_are_children_of_their_request(captured: Capture) -> None:
    with tailsight.request("rank") as r:
        with tailsight.stage("preprocess"):
            pass
        with tailsight.stage("compute") as outer, tailsight.stage("gpu_kernel"):
            pass
        assert captured.spans == [], "spans wait for the end of their request"
    request = captured.one(name="rank")
    assert (request.stage, request.kind, request.parent_span_id, request.span_id) == (None, "INTERNAL", None, r.span_id)
    assert [span.stage for span in captured.children_of(request)] == ["preprocess", "compute"]
    assert captured.one(stage="gpu_kernel").parent_span_id == outer.span_id
    assert {span.trace_id for span in captured.spans} == {r.trace_id}


def test_a_stage_without_a_request_is_a_trace_of_its_own(captured: Capture) -> None:
    for _ in range(2):
        with tailsight.stage("compute"):
            pass
    first, second = captured.spans
    assert first.parent_span_id is None
    assert first.trace_id != second.trace_id


def test_duration_comes_from_the_monotonic_clock_even_if_the_wall_clock_steps_back() -> None:
    clock = FakeClock()
    with capture(clock=clock) as captured, tailsight.request():
        with tailsight.stage("compute"):
            clock.advance(5_000)
            clock.step_wall_clock(-3_600_000_000_000)
            clock.renew()
            clock.advance(2_000)
        with tailsight.stage("postprocess"):
            clock.advance(1_000)
    compute, postprocess = captured.one(stage="compute"), captured.one(stage="postprocess")
    assert compute.duration_ns == 7_000
    assert compute.start_unix_ns == 1_700_000_000_000_000_000
    assert postprocess.start_unix_ns == compute.start_unix_ns + 7_000, "one trace keeps one anchor"


def test_names_default_to_the_stage_in_a_block_and_to_the_qualified_name_on_a_function(captured: Capture) -> None:
    @tailsight.stage("postprocess")
    def decode() -> None: ...

    @tailsight.stage("postprocess", name="detokenize")
    def other() -> None: ...

    @tailsight.request
    def handle() -> None: ...

    @tailsight.request()
    def handle_too() -> None: ...

    @tailsight.request("serve")
    def handle_as_well() -> None: ...

    for function in (decode, other, handle, handle_too, handle_as_well):
        function()
    with tailsight.stage("queue"), tailsight.request():
        pass
    prefix = "test_names_default_to_the_stage_in_a_block_and_to_the_qualified_name_on_a_function.<locals>."
    assert [span.name for span in captured.spans] == [
        prefix + "decode",
        "detokenize",
        prefix + "handle",
        prefix + "handle_too",
        "serve",
        "queue",
        "request",
    ]


def test_a_decorated_function_keeps_its_identity_arguments_and_result(captured: Capture) -> None:
    @tailsight.stage("compute")
    def add(a: int, b: int = 2) -> int:
        """Add."""
        return a + b

    assert (add.__name__, add.__doc__) == ("add", "Add.")
    assert add(1) == 3
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        add()  # type: ignore[call-arg]
    assert captured.spans[1].status == "ERROR"


def test_methods_static_and_class_methods_can_be_decorated(captured: Capture) -> None:
    class Model:
        @tailsight.stage("compute")
        def run(self, x: int) -> int:
            return x

        @tailsight.stage("compute")
        @staticmethod
        def static(x: int) -> int:
            return x

        @tailsight.stage("compute")
        @classmethod
        def of(cls, x: int) -> tuple[type, int]:
            return cls, x

    assert (Model().run(1), Model.static(2), Model.of(3)) == (1, 2, (Model, 3))
    assert len(captured.spans) == 3


def test_a_partial_can_be_decorated(captured: Capture) -> None:
    assert tailsight.stage("compute")(functools.partial(int, base=2))("101") == 5
    assert captured.spans[0].name == "partial"


def test_what_is_no_function_is_left_as_it_is_with_one_line(
    captured: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    class Model: ...

    assert tailsight.stage("compute")(Model) is Model
    assert tailsight.stage("compute")(7) == 7  # type: ignore[type-var]
    assert "cannot be decorated: expected a function" in caplog.text


def test_a_coroutine_function_is_measured_from_its_first_step_to_its_end(captured: Capture) -> None:
    @tailsight.request
    async def handle() -> str:
        async with tailsight.stage("network") as s:
            await asyncio.sleep(0)
            s.set("bytes", 3)
        return "done"

    handle().close()  # never awaited, never begun
    assert asyncio.run(handle()) == "done"
    assert captured.one(stage="network").attributes == {"bytes": 3}
    assert len(captured.spans) == 2


def test_concurrent_tasks_do_not_see_each_others_stages(captured: Capture) -> None:
    @tailsight.request
    async def handle(number: int) -> None:
        with tailsight.stage("queue") as s:
            s.set("number", number)
            await asyncio.sleep(0)
            with tailsight.stage("compute") as inner:
                await asyncio.sleep(0)
                inner.set("number", number)

    async def main() -> None:
        await asyncio.gather(*(handle(number) for number in range(10)))

    asyncio.run(main())
    for compute in captured.find(stage="compute"):
        (queue,) = [span for span in captured.spans if span.span_id == compute.parent_span_id]
        assert queue.attributes == compute.attributes


def test_recursion_makes_nested_spans(captured: Capture) -> None:
    @tailsight.stage("compute")
    def down(n: int) -> None:
        if n:
            down(n - 1)

    down(3)
    assert len(captured.spans) == 4
    for parent, child in zip(captured.spans, captured.spans[1:], strict=False):
        assert child.parent_span_id == parent.span_id


def test_one_object_can_be_entered_again_also_while_it_is_open(captured: Capture) -> None:
    stage = tailsight.stage("compute")
    with stage as first:
        first.set("n", 1)
        with stage as second:
            second.set("n", 2)
        first.set("still open", True)
    with stage as third:
        third.set("n", 3)
    one, two, three = captured.spans
    assert [span.attributes for span in (one, two, three)] == [{"n": 1, "still open": True}, {"n": 2}, {"n": 3}]
    assert two.parent_span_id == one.span_id
    assert three.parent_span_id is None


def test_one_object_can_be_entered_by_several_threads_at_once(captured: Capture) -> None:
    stage = tailsight.stage("compute")
    all_inside = threading.Barrier(4)

    def work(number: int) -> None:
        with stage as s:
            all_inside.wait(10)
            s.set("number", number)
            all_inside.wait(10)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert sorted(span.attributes["number"] for span in captured.spans) == [0, 1, 2, 3]
    assert {span.parent_span_id for span in captured.spans} == {None}


def test_the_thread_is_recorded(captured: Capture) -> None:
    with tailsight.stage("compute"):
        pass
    assert captured.spans[0].thread_id == threading.get_ident()


def test_an_exception_is_recorded_and_passes_unchanged(captured: Capture) -> None:
    error = ValueError("no such token")
    with pytest.raises(ValueError, match="no such token") as raised, tailsight.stage("compute"):
        raise error
    assert raised.value is error
    (span,) = captured.spans
    assert (span.status, span.status_message) == ("ERROR", "ValueError: no such token")
    (event,) = span.events
    assert event.name == "exception"
    assert event.attributes[keys.EXCEPTION_TYPE] == "ValueError"
    assert event.attributes[keys.EXCEPTION_MESSAGE] == "no such token"
    assert "raise error" in event.attributes[keys.EXCEPTION_STACKTRACE]
    assert span.start_unix_ns <= event.unix_ns <= span.start_unix_ns + span.duration_ns


def test_an_exception_whose_str_fails_is_recorded_all_the_same(captured: Capture) -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with pytest.raises(OddError), tailsight.stage("compute"):
        raise OddError
    assert captured.spans[0].events[0].attributes[keys.EXCEPTION_MESSAGE] == "<OddError: str() failed>"


def test_cancellation_is_marked_and_is_no_error(captured: Capture) -> None:
    async def main() -> None:
        inside = asyncio.Event()

        @tailsight.stage("compute")
        async def wait() -> None:
            inside.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(wait())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    (span,) = captured.spans
    assert (span.status, span.attributes, span.events) == ("UNSET", {keys.CANCELLED: True}, ())


def test_stop_iteration_is_how_an_iterator_ends_and_no_error(captured: Capture) -> None:
    class Numbers:
        @tailsight.stage("preprocess")
        def __next__(self) -> int:
            raise StopIteration

    with pytest.raises(StopIteration):
        Numbers().__next__()
    assert (captured.spans[0].status, captured.spans[0].events) == ("UNSET", ())


def test_a_handled_exception_is_an_event_and_the_status_stays(captured: Capture) -> None:
    with tailsight.stage("network") as s:
        s.record_exception(TimeoutError("slow"), {"attempt": 1})
    (span,) = captured.spans
    assert span.status == "UNSET"
    assert span.events[0].attributes["attempt"] == 1


def test_a_status_set_by_the_user_wins_over_the_exception(captured: Capture) -> None:
    @tailsight.stage("compute")
    def expected_to_fail() -> None:
        trace_api.get_current_span().set_status(trace_api.Status(trace_api.StatusCode.OK))
        raise KeyError("expected")

    with pytest.raises(KeyError):
        expected_to_fail()
    assert captured.spans[0].status == "OK"


def test_nothing_can_be_set_before_the_beginning_or_after_the_end(captured: Capture) -> None:
    s = tailsight.stage("compute")
    s.set("early", 1)
    assert not s.is_recording()
    assert (s.trace_id, s.span_id) == ("0" * 32, "0" * 16)
    with s:
        assert s.is_recording()
    s.set("late", 1)
    s.add_event("late")
    s.add_link(s.get_span_context())
    s.record_exception(ValueError())
    s.set_status(trace_api.StatusCode.ERROR)
    s.update_name("late")
    assert (captured.spans[0].attributes, captured.spans[0].events) == ({}, ())
    assert s.span_id == captured.spans[0].span_id


def test_end_ends_early_and_only_once(captured: Capture) -> None:
    with tailsight.stage("compute") as s:
        s.end()
        s.set("late", True)
        s.end()
    assert len(captured.spans) == 1
    assert captured.spans[0].attributes == {}


def test_links_and_events_are_kept_up_to_their_limit(captured: Capture) -> None:
    with tailsight.stage("compute") as batch:
        pass
    with tailsight.stage("compute") as s:
        for number in range(130):
            s.add_link(batch.get_span_context(), {"number": number})
            s.add_event("tick", {"number": number}, timestamp=1_700_000_000_000_000_000 + number)
    span = captured.spans[1]
    assert (len(span.links), len(span.events)) == (128, 128)
    assert (span.links[0].trace_id, span.links[0].span_id) == (batch.trace_id, batch.span_id)
    assert span.events[1].unix_ns == 1_700_000_000_000_000_001


def test_a_request_with_many_spans_hands_them_on_before_its_end(captured: Capture) -> None:
    with tailsight.request():
        for _ in range(300):
            with tailsight.stage("compute"):
                pass
        assert len(captured.spans) == 256
    assert len(captured.spans) == 301
    assert len({span.span_id for span in captured.spans}) == 301


def test_a_stage_that_outlives_its_request_is_kept(captured: Capture) -> None:
    late: contextvars.Context | None = None
    with tailsight.request() as r:
        late = contextvars.copy_context()

    def afterwards() -> None:
        with tailsight.stage("postprocess"):
            pass

    late.run(afterwards)
    span = captured.one(stage="postprocess")
    assert (span.trace_id, span.parent_span_id) == (r.trace_id, r.span_id)


def test_leaving_in_another_context_than_entering_is_harmless(captured: Capture) -> None:
    s = tailsight.stage("compute")
    contextvars.copy_context().run(s.__enter__)
    contextvars.copy_context().run(s.__exit__, None, None, None)
    assert len(captured.spans) == 1
    assert trace_api.get_current_span() is trace_api.INVALID_SPAN


def test_spans_ended_by_many_threads_are_neither_lost_nor_repeated(captured: Capture) -> None:
    def work(context: contextvars.Context) -> None:
        def many() -> None:
            for _ in range(500):
                with tailsight.stage("compute"):
                    pass

        context.run(many)

    with tailsight.request():
        threads = [threading.Thread(target=work, args=(contextvars.copy_context(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    assert len(captured.spans) == 2001
    assert len({span.span_id for span in captured.spans}) == 2001


def test_a_disabled_sdk_records_nothing_and_changes_nothing() -> None:
    with capture(enabled=False) as captured:

        @tailsight.request
        def handle() -> str:
            with tailsight.stage("compute") as s:
                s.set("a", 1)
                assert trace_api.get_current_span() is trace_api.INVALID_SPAN
            return "done"

        assert handle() == "done"
    assert captured.spans == []
