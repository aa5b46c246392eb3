"""Batches: one execution, and each request's trace has it, once, with nothing of the others."""

import asyncio
import contextvars
import gc
import itertools
import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace as trace_api
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

import tailsight
from tailsight import _batch, _emit
from tailsight import attributes as keys
from tailsight._recorder import Limits, current
from tailsight.testing import Capture, CapturedSpan, FakeClock, capture

pytestmark = pytest.mark.usefixtures("no_internal_errors")


class Item:
    """Something that can be referenced weakly, as most objects can."""


def in_thread(function: Callable[[], Any]) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    if failed:
        raise failed[0]


def submit(waiting: Any, item: Any, name: str = "rank") -> str:
    with tailsight.request(name) as r:
        waiting.put(item)
    return r.trace_id


def of_trace(captured: Capture, trace_id: str, stage: str | None) -> list[CapturedSpan]:
    return [span for span in captured.spans if span.trace_id == trace_id and span.stage == stage]


@pytest.mark.parametrize("make", [Item, dict, lambda: ("x", 1), lambda: [1]], ids=["object", "dict", "tuple", "list"])
def test_each_request_gets_its_own_span_linked_to_the_batch(make: Callable[[], Any]) -> None:
    clock = FakeClock()
    with capture(clock=clock) as captured:
        waiting: tailsight.Queue[Any] = tailsight.Queue()
        traces = [submit(waiting, make(), f"r{n}") for n in range(3)]

        def worker() -> None:
            items = []
            for _ in range(3):
                clock.advance(1_000)
                items.append(waiting.get())
            clock.advance(10_000)
            with tailsight.batch(items, stage="compute") as b:
                clock.advance(50_000)
                b.set("shape", 3)
            assert trace_api.get_current_span() is trace_api.INVALID_SPAN

        in_thread(worker)
    computes = [of_trace(captured, trace, "compute") for trace in traces]
    assert [len(found) for found in computes] == [1, 1, 1]
    spans = [found[0] for found in computes]
    assert {(span.start_unix_ns, span.duration_ns) for span in spans} == {(spans[0].start_unix_ns, 50_000)}
    for span, trace in zip(spans, traces, strict=True):
        assert span.attributes == {keys.BATCH_SIZE: 3, "shape": 3}
        assert span.parent_span_id == of_trace(captured, trace, None)[0].span_id
    batch, *others = spans
    for span in others:
        assert [(link.trace_id, link.span_id) for link in span.links] == [(batch.trace_id, batch.span_id)]
    assert [(link.trace_id, link.span_id) for link in batch.links] == [(span.trace_id, span.span_id) for span in others]
    assert len({(span.trace_id, span.span_id) for span in captured.spans}) == len(captured.spans)


def test_waiting_for_the_batch_to_fill_is_a_queue_span_of_its_own() -> None:
    clock = FakeClock()
    with capture(clock=clock) as captured:
        waiting: tailsight.Queue[Item] = tailsight.Queue()
        traces = [submit(waiting, Item()) for _ in range(3)]

        def worker() -> None:
            items = []
            for _ in range(3):
                clock.advance(1_000)
                items.append(waiting.get())
            clock.advance(500)
            with tailsight.batch(items):
                clock.advance(50_000)
            with tailsight.batch(items, stage="postprocess"):  # it has not been waiting since then
                clock.advance(1)

        in_thread(worker)
    for trace, waited, filled in zip(traces, [1_000, 2_000, 3_000], [2_500, 1_500, 500], strict=True):
        queued, filling = of_trace(captured, trace, "queue")
        assert (queued.name, queued.duration_ns) == ("queue", waited)
        assert (filling.name, filling.duration_ns) == ("batch", filled)
        assert filling.start_unix_ns == queued.start_unix_ns + waited
        assert filling.attributes == {keys.BATCH_SIZE: 3}
        assert [len(of_trace(captured, trace, stage)) for stage in ("compute", "postprocess")] == [1, 1]


def test_what_is_measured_inside_appears_in_each_request_below_its_own_span(captured: Capture) -> None:
    waiting: tailsight.Queue[Item] = tailsight.Queue()
    traces = [submit(waiting, Item()) for _ in range(3)]

    def worker() -> None:
        items = [waiting.get() for _ in range(3)]
        with tailsight.batch(items), tailsight.stage("serialize") as s:
            s.set("bytes", 7)
            with tailsight.stage("gpu_kernel"):
                pass

    in_thread(worker)
    for trace in traces:
        (compute,) = of_trace(captured, trace, "compute")
        (serialize,) = of_trace(captured, trace, "serialize")
        (kernel,) = of_trace(captured, trace, "gpu_kernel")
        assert serialize.parent_span_id == compute.span_id
        assert kernel.parent_span_id == serialize.span_id
        assert serialize.attributes == {"bytes": 7}
    assert len({span.span_id for span in captured.spans}) == len(captured.spans)


def test_more_spans_inside_than_wait_at_once_keep_their_parents(captured: Capture) -> None:
    waiting: tailsight.Queue[Item] = tailsight.Queue()
    traces = [submit(waiting, Item()) for _ in range(2)]

    def worker() -> None:
        with tailsight.batch([waiting.get(), waiting.get()]):
            for _ in range(300):
                with tailsight.stage("serialize"):
                    pass

    in_thread(worker)
    for trace in traces:
        (compute,) = of_trace(captured, trace, "compute")
        children = of_trace(captured, trace, "serialize")
        assert len(children) == 300
        assert {span.parent_span_id for span in children} == {compute.span_id}


def test_a_late_span_of_the_batch_reaches_every_request(captured: Capture) -> None:
    waiting: tailsight.Queue[Item] = tailsight.Queue()
    traces = [submit(waiting, Item()) for _ in range(2)]

    def worker() -> None:
        from tailsight._otel import get_current

        with tailsight.batch([waiting.get(), waiting.get()]):
            context = get_current()
        assert current.recorder is not None
        now = current.recorder.now()
        _emit.emit(context, stage="gpu_kernel", start_ns=now, end_ns=now + 5)

    in_thread(worker)
    for trace in traces:
        (kernel,) = of_trace(captured, trace, "gpu_kernel")
        assert kernel.parent_span_id == of_trace(captured, trace, "compute")[0].span_id


def test_no_request_has_the_time_of_another() -> None:
    """Contributions by hand: of each trace, the stages' times without overlap are the request's whole duration."""
    clock = FakeClock()
    with capture(clock=clock) as captured:
        waiting: tailsight.Queue[Item] = tailsight.Queue()
        open_requests = []
        for _ in range(3):
            clock.advance(10)
            open_requests.append(tailsight.request("rank"))
            open_requests[-1].__enter__()
            waiting.put(Item())
            with tailsight.carried(object()):
                pass
            _leave_open(open_requests[-1])

        def worker() -> None:
            clock.advance(100)
            items = [waiting.get() for _ in range(3)]
            clock.advance(7)
            with tailsight.batch(items):
                clock.advance(1_000)

        in_thread(worker)
        for span in open_requests:
            _end(span)
    for root in captured.find(name="rank"):
        stages = captured.children_of(root)
        assert len(stages) == 3
        assert len([span for span in captured.spans if span.trace_id == root.trace_id]) == 4
        assert sum(span.duration_ns for span in stages) == root.duration_ns
        ordered = sorted(stages, key=lambda span: span.start_unix_ns)
        for before, after in itertools.pairwise(ordered):
            assert before.start_unix_ns + before.duration_ns == after.start_unix_ns


def _leave_open(span: Any) -> None:
    span.suspend()


def _end(span: Any) -> None:
    from tailsight._otel import get_current

    span.resume(get_current())
    span.__exit__(None, None, None)


def test_an_exception_marks_every_requests_span_and_passes(captured: Capture) -> None:
    waiting: tailsight.Queue[Item] = tailsight.Queue()
    for _ in range(3):
        submit(waiting, Item())

    def worker() -> None:
        items = [waiting.get() for _ in range(3)]
        with pytest.raises(ValueError, match="the host's own") as raised, tailsight.batch(items):
            raise ValueError("the host's own")
        assert raised.value.__context__ is None

    in_thread(worker)
    spans = captured.find(stage="compute")
    assert [(span.status, span.status_message) for span in spans] == [("ERROR", "ValueError: the host's own")] * 3
    assert [span.events[0].attributes[keys.EXCEPTION_MESSAGE] for span in spans] == ["the host's own"] * 3


def test_a_worker_in_a_span_of_its_own_has_the_batch_below_it(captured: Capture) -> None:
    waiting: tailsight.Queue[Item] = tailsight.Queue()
    traces = [submit(waiting, Item()) for _ in range(2)]

    def worker() -> None:
        with tailsight.request("turn") as turn, tailsight.batch([waiting.get(), waiting.get()]) as b:
            with tailsight.stage("serialize"):
                assert tailsight.inject()["traceparent"].split("-")[1] == turn.trace_id
            b.set("k", 1)

    in_thread(worker)
    turn = captured.one(name="turn")
    (batch,) = captured.children_of(turn)
    assert (batch.stage, batch.attributes) == ("compute", {keys.BATCH_SIZE: 2, "k": 1})
    assert len(captured.children_of(batch)) == 1
    for trace in traces:
        (compute,) = of_trace(captured, trace, "compute")
        assert [(link.trace_id, link.span_id) for link in compute.links] == [(batch.trace_id, batch.span_id)]
        assert len(of_trace(captured, trace, "serialize")) == 1


def test_a_request_with_several_items_has_the_batch_once_and_so_has_a_leader(captured: Capture) -> None:
    waiting: tailsight.Queue[Item] = tailsight.Queue()
    with tailsight.request("many") as many:
        waiting.put(Item())
        waiting.put(Item())
    with tailsight.request("leader") as leader:
        carriers = [tailsight.carrier(), *[tailsight.carrier()]]
        with tailsight.batch([waiting.get(), waiting.get()], stage="compute"):
            pass
        with tailsight.batch([1, 2], requests=carriers, stage="postprocess"):
            pass
    assert len(of_trace(captured, many.trace_id, "compute")) == 1
    assert len([s for s in of_trace(captured, many.trace_id, "queue") if s.name == "batch"]) == 1
    assert len(of_trace(captured, leader.trace_id, "compute")) == 1
    (post,) = of_trace(captured, leader.trace_id, "postprocess")
    assert (post.attributes[keys.BATCH_SIZE], post.links) == (2, ())


def test_explicit_requests_are_carriers_spans_or_contexts(captured: Capture) -> None:
    with tailsight.request("a") as a:
        one = tailsight.carrier()
    with tailsight.request("b") as b:
        pass
    with tailsight.request("c") as c:
        context = trace_api.set_span_in_context(c)
    foreign = NonRecordingSpan(SpanContext(77, 8, is_remote=True, trace_flags=TraceFlags(1)))
    with tailsight.batch([1, 2, 3, 4, 5], requests=[one, b, context, foreign, None]) as batch:
        assert [carrier is not None for carrier in batch.requests] == [True, True, True, True, False]
    spans = captured.find(stage="compute")
    assert {span.trace_id for span in spans} == {a.trace_id, b.trace_id, c.trace_id, f"{77:032x}"}
    assert {span.attributes[keys.BATCH_SIZE] for span in spans} == {5}
    assert next(span for span in spans if span.trace_id == f"{77:032x}").parent_span_id == f"{8:016x}"


def test_requests_of_the_batch_can_be_carried_afterwards(captured: Capture) -> None:
    waiting: tailsight.Queue[dict[str, int]] = tailsight.Queue()
    traces = [submit(waiting, {"n": n}) for n in range(2)]

    def worker() -> None:
        items = [waiting.get(), waiting.get()]
        with tailsight.batch(items) as b:
            pass
        for request in b.requests:
            with tailsight.carried(request), tailsight.stage("postprocess"):
                pass

    in_thread(worker)
    assert [span.trace_id for span in captured.find(stage="postprocess")] == traces


def test_items_that_were_made_anew_are_never_taken_for_somebody_elses(captured: Capture) -> None:
    """A new object may lie where an item lay that is dead: its id alone would name the dead one's request."""
    waiting: tailsight.Queue[Any] = tailsight.Queue()
    for make in (dict, Item):
        for n in range(200):
            submit(waiting, make(), f"{make.__name__} {n}")

        def worker() -> None:
            for _ in range(50):
                waiting.get()  # dropped: too old, say
                converted = [type(waiting.get())() for _ in range(3)]
                with tailsight.batch(converted) as b:
                    assert b.requests == [None] * 3

        in_thread(worker)
    assert all(span.parent_span_id is None for span in captured.find(stage="compute"))


def test_an_object_that_lies_where_a_dead_item_lay_is_not_taken_for_it(captured: Capture) -> None:
    waiting: tailsight.Queue[Any] = tailsight.Queue()
    for n in range(2):
        submit(waiting, {"n": n})

    def worker() -> None:
        kept = waiting.get()
        dead = id(waiting.get())
        made = []
        for _ in range(100_000):
            made.append({"made": "here"})
            if id(made[-1]) == dead:
                break
        else:
            pytest.skip("the memory was not used again")
        with tailsight.batch([made[-1]]) as b:
            assert b.requests == [None]
        del kept

    in_thread(worker)


def test_batches_follow_one_another(captured: Capture) -> None:
    waiting: tailsight.Queue[dict[str, int]] = tailsight.Queue()
    traces = [submit(waiting, {"n": n}) for n in range(4)]

    def worker() -> None:
        for _ in range(2):
            items = [waiting.get(), waiting.get()]
            with tailsight.batch(items):
                pass

    in_thread(worker)
    assert [len(of_trace(captured, trace, "compute")) for trace in traces] == [1] * 4
    assert {span.attributes[keys.BATCH_SIZE] for span in captured.find(stage="compute")} == {2}


def test_an_item_that_was_done_before_the_batch_does_not_count(captured: Capture) -> None:
    waiting: tailsight.Queue[dict[str, int]] = tailsight.Queue()
    traces = [submit(waiting, {"n": n}) for n in range(3)]

    def worker() -> None:
        items = [waiting.get()]
        waiting.get()  # too old
        waiting.task_done()
        items.append(waiting.get())
        with tailsight.batch(items):
            pass

    in_thread(worker)
    assert [len(of_trace(captured, trace, "compute")) for trace in traces] == [1, 0, 1]


def test_several_items_of_one_request_wait_once_from_the_first() -> None:
    clock = FakeClock()
    with capture(clock=clock) as captured:
        waiting: tailsight.Queue[Item] = tailsight.Queue()
        with tailsight.request():
            for _ in range(3):
                waiting.put(Item())

        def worker() -> None:
            items = []
            for _ in range(3):
                items.append(waiting.get())
                clock.advance(1_000)
            with tailsight.batch(items):
                pass

        in_thread(worker)
    (filling,) = [span for span in captured.find(stage="queue") if span.name == "batch"]
    assert filling.duration_ns == 3_000


def test_a_batch_without_known_requests_is_a_stage_and_says_so_once(
    captured: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with tailsight.batch([1, 2, 3]), tailsight.stage("gpu_kernel"):
            pass
    with tailsight.request("offline") as r, tailsight.batch([1, 2, 3]):
        pass
    spans = captured.find(stage="compute")
    assert [span.attributes[keys.BATCH_SIZE] for span in spans] == [3, 3, 3]
    assert [span.parent_span_id for span in spans] == [None, None, r.span_id]
    assert captured.find(stage="gpu_kernel")[0].parent_span_id == spans[0].span_id
    assert len(caplog.records) == 1
    assert "none of the 3 items has a known request" in caplog.text


def test_a_tensor_or_a_generator_is_not_iterated_over(captured: Capture) -> None:
    class Tensor:
        def __len__(self) -> int:
            return 32

        def __iter__(self) -> Any:
            raise AssertionError("this would copy from the device")

        __getitem__ = __iter__

    def lazy() -> Any:
        raise AssertionError("this is the host's to consume")
        yield

    with tailsight.request("a"):
        carrier = tailsight.carrier()
    with tailsight.batch(Tensor(), requests=[carrier]):
        pass
    with tailsight.batch(lazy(), requests=[carrier]):
        pass
    assert [span.attributes[keys.BATCH_SIZE] for span in captured.find(stage="compute")] == [32, 1]


def test_unsampled_requests_have_no_spans_and_do_not_stop_the_others() -> None:
    with capture() as captured:
        waiting: tailsight.Queue[Item] = tailsight.Queue()

        def unsampled() -> None:
            with use_span(NonRecordingSpan(SpanContext(1, 2, is_remote=True))):
                submit(waiting, Item())

        unsampled()

        def alone() -> None:
            with tailsight.batch([waiting.get()]), tailsight.stage("gpu_kernel"):
                pass

        in_thread(alone)
        assert captured.spans == []
        unsampled()
        trace = submit(waiting, Item())
        unsampled()

        def mixed() -> None:
            with tailsight.batch([waiting.get() for _ in range(3)]):
                pass

        in_thread(mixed)
        assert [span.trace_id for span in captured.find(stage="compute")] == [trace]
    with capture(enabled=False) as captured, tailsight.batch([Item()], requests=[None]) as b:
        b.set("k", 1)
    assert captured.spans == []


def test_a_task_batches_what_it_took_with_a_timeout(captured: Capture) -> None:
    async def main() -> list[str]:
        waiting: tailsight.AsyncQueue[tuple[int, Any]] = tailsight.AsyncQueue()
        traces = []
        for n in range(3):
            with tailsight.request("rank") as r:
                await waiting.put((n, asyncio.get_running_loop().create_future()))
                traces.append(r.trace_id)

        async def batcher() -> None:
            items = [await waiting.get()]
            while len(items) < 8:
                try:
                    items.append(await asyncio.wait_for(waiting.get(), 0.01))
                except TimeoutError:
                    break
            async with tailsight.batch(items):
                await asyncio.sleep(0)
                with tailsight.stage("gpu_kernel"):
                    pass
            assert trace_api.get_current_span() is trace_api.INVALID_SPAN

        await asyncio.create_task(batcher())
        return traces

    traces = contextvars.Context().run(asyncio.run, main())  # in a context that nobody has used
    assert sorted(span.trace_id for span in captured.find(stage="compute")) == sorted(traces)
    assert sorted(span.trace_id for span in captured.find(stage="gpu_kernel")) == sorted(traces)


def test_links_are_bounded() -> None:
    with capture(limits=Limits(events=3)) as captured:
        carriers = []
        for _ in range(10):
            with tailsight.request("rank"):
                carriers.append(tailsight.carrier())
        with tailsight.batch(carriers, requests=carriers):
            for n in range(2):
                trace_api.get_current_span().add_link(SpanContext(n + 1, 1, is_remote=False))
    assert sorted(len(span.links) for span in captured.find(stage="compute")) == [3] * 10


def test_nothing_is_left_behind_and_errors_of_ours_do_not_reach_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    from tailsight._stats import counters

    def fail(*args: object, **kwargs: object) -> Any:
        raise RuntimeError("injected")

    for where, name in [
        (_batch, "get_current"),
        (_batch, "new_span"),
        (_batch, "trace_of"),
        (_batch, "emit"),
        (_batch, "Fan"),
        (_batch, "detach"),
        (_batch.Fan, "begin"),
        (_batch.Fan, "_copy"),
        (_batch.Fan, "_linked"),
        (_batch.Batch, "_find_requests"),
        (_batch.Batch, "_emit_waits"),
        (_batch._taken, "find_all"),
    ]:

        def use(where: Any = where, name: str = name) -> None:
            with capture():
                waiting = tailsight.wrap_queue(queue.Queue[Item]())
                submit(waiting, Item())
                submit(waiting, Item())
                with monkeypatch.context() as patch:
                    patch.setattr(where, name, fail)
                    with tailsight.batch([waiting.get(), waiting.get()]) as b, tailsight.stage("gpu_kernel"):
                        b.set("a", 1)

        in_thread(use)
        assert counters.internal_errors > 0, name
        counters.reset()
    gc.collect()
