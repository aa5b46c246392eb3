"""propagate(), carrier() and carried(): a request's context travels to other threads and tasks."""

import asyncio
import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import trace as trace_api
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

import tailsight
from tailsight.testing import Capture

pytestmark = pytest.mark.usefixtures("no_internal_errors")


def nothing_is_current() -> bool:
    return trace_api.get_current_span() is trace_api.INVALID_SPAN


@tailsight.stage("compute", name="work")
def work(x: int) -> int:
    return x + 1


def test_an_executors_calls_belong_to_the_request_that_submitted_them(captured: Capture) -> None:
    with ThreadPoolExecutor(2) as executor:
        with tailsight.request("rank") as r:
            assert executor.submit(tailsight.propagate(work), 1).result() == 2
            assert list(executor.map(tailsight.propagate(work), [1, 2, 3])) == [2, 3, 4]
        assert executor.submit(nothing_is_current).result()
        assert executor.submit(nothing_is_current).result()
    assert [span.parent_span_id for span in captured.find(stage="compute")] == [r.span_id] * 4


def test_a_thread_belongs_to_the_request_that_was_current_when_it_was_wrapped_not_when_it_ran(
    captured: Capture,
) -> None:
    with tailsight.request("first") as first:
        target = tailsight.propagate(work)
    with tailsight.request("second"):
        thread = threading.Thread(target=target, args=(1,))
        thread.start()
        thread.join()
    assert captured.one(stage="compute").parent_span_id == first.span_id


def test_wrapped_outside_of_any_request_it_runs_outside_of_any(captured: Capture) -> None:
    target = tailsight.propagate(work)
    with tailsight.request("rank"):
        target(1)
    assert captured.one(stage="compute").parent_span_id is None


def test_what_it_raises_passes_and_nothing_leaks(captured: Capture) -> None:
    def broken() -> None:
        raise KeyError("the application's")

    async def broken_later() -> None:
        await asyncio.sleep(0)
        raise KeyError("the application's")

    with tailsight.request("rank"):
        wrapped, wrapped_later = tailsight.propagate(broken), tailsight.propagate(broken_later)
    with pytest.raises(KeyError, match="the application's"):
        wrapped()
    assert nothing_is_current()

    async def main() -> None:
        with pytest.raises(KeyError, match="the application's"):
            await wrapped_later()
        assert nothing_is_current()

    asyncio.run(main())


def test_a_coroutine_function_stays_one_and_keeps_its_context_across_awaits(captured: Capture) -> None:
    async def handle(x: int) -> int:
        await asyncio.sleep(0)
        with tailsight.stage("compute"):
            await asyncio.sleep(0)
        return x + 1

    with tailsight.request("rank") as r:
        wrapped = tailsight.propagate(handle)
    assert asyncio.iscoroutinefunction(wrapped)

    async def main() -> list[int]:
        other = asyncio.create_task(asyncio.to_thread(nothing_is_current))
        numbers = await asyncio.gather(wrapped(1), wrapped(2))
        assert nothing_is_current()
        assert await other
        return list(numbers)

    assert asyncio.run(main()) == [2, 3]
    assert [span.parent_span_id for span in captured.find(stage="compute")] == [r.span_id] * 2


def test_the_wrapper_looks_like_what_it_wraps_and_takes_anything_that_can_be_called(captured: Capture) -> None:
    class Model:
        def __call__(self, x: int) -> int:
            return x + 1

        def run(self, x: int) -> int:
            return x + 2

    assert tailsight.propagate(work).__name__ == "work"
    calls: list[Any] = [Model(), Model().run, functools.partial(work, 1), len, int]
    assert [
        tailsight.propagate(call)(*args) for call, args in zip(calls, [(1,), (1,), (), ("abc",), ("7",)], strict=True)
    ] == [
        2,
        3,
        2,
        3,
        7,
    ]


def test_what_cannot_be_called_is_left_as_it_is_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    thing: Any = object()
    assert tailsight.propagate(thing) is thing
    assert "propagate() got" in caplog.text


def test_a_carrier_takes_a_request_anywhere(captured: Capture) -> None:
    with tailsight.request("rank") as r:
        carrier = tailsight.carrier()

    def later() -> None:
        with tailsight.carried(carrier), tailsight.stage("compute"):
            pass
        assert nothing_is_current()

    thread = threading.Thread(target=later)
    thread.start()
    thread.join()
    assert captured.one(stage="compute").parent_span_id == r.span_id


def test_carried_takes_spans_and_contexts_too_and_nests(captured: Capture) -> None:
    foreign = NonRecordingSpan(SpanContext(7, 8, is_remote=False, trace_flags=TraceFlags(1)))
    with tailsight.request("outer") as outer:
        with tailsight.carried(foreign):
            with tailsight.stage("compute"):
                pass
            with tailsight.carried(outer), tailsight.stage("network"):
                pass
        assert trace_api.get_current_span() is outer
        with tailsight.carried(trace_api.set_span_in_context(foreign)), tailsight.stage("serialize"):
            pass
        with tailsight.carried(object()), tailsight.stage("postprocess"):  # of no known request: where it was
            pass
    assert captured.one(stage="compute").trace_id == f"{7:032x}"
    assert captured.one(stage="serialize").parent_span_id == f"{8:016x}"
    assert captured.one(stage="network").parent_span_id == outer.span_id
    assert captured.one(stage="postprocess").parent_span_id == outer.span_id


def test_an_unsampled_request_stays_unsampled_elsewhere(captured: Capture) -> None:
    with use_span(NonRecordingSpan(SpanContext(1, 2, is_remote=True))), tailsight.request("rank"):
        wrapped = tailsight.propagate(work)
    thread = threading.Thread(target=wrapped, args=(1,))
    thread.start()
    thread.join()
    assert captured.spans == []
