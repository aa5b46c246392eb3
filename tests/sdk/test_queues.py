"""Queues: waiting is the `queue` stage of the request that waits, and its context goes with the item."""

import asyncio
import gc
import heapq
import itertools
import os
import queue
import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import trace as trace_api
from opentelemetry.trace import NonRecordingSpan, SpanContext, use_span

import tailsight
from tailsight import _taken
from tailsight import attributes as keys
from tailsight._queue import Waiting
from tailsight.testing import Capture, FakeClock, capture

pytestmark = pytest.mark.usefixtures("no_internal_errors")


class Item:
    """Something of the user's."""


def nothing_is_current() -> bool:
    return trace_api.get_current_span() is trace_api.INVALID_SPAN


def in_thread(function: Callable[[], Any]) -> Any:
    """Run in a thread of its own, which has no context, and return what it returns or raise what it raises."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((True, function()))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert outcome, "the thread hangs"
    fine, value = outcome[0]
    if not fine:
        raise value
    return value


def test_waiting_is_the_queue_stage_of_the_request_that_put_the_item() -> None:
    clock = FakeClock()
    with capture(clock=clock) as captured:
        waiting: tailsight.Queue[Item] = tailsight.Queue()
        with tailsight.request("rank") as r:
            clock.advance(1_000)
            waiting.put(Item())
            waiting.put(Item())
            clock.advance(5_000)
            in_thread(waiting.get)
            clock.advance(2_000)
            in_thread(waiting.get)
    first, second = captured.find(stage="queue")
    begin = captured.one(name="rank").start_unix_ns
    assert (first.start_unix_ns - begin, first.duration_ns) == (1_000, 5_000)
    assert (second.start_unix_ns - begin, second.duration_ns) == (1_000, 7_000)
    assert {first.parent_span_id, second.parent_span_id} == {r.span_id}
    assert (first.attributes[keys.QUEUE_DEPTH], second.attributes[keys.QUEUE_DEPTH]) == (0, 1)


def test_the_consumer_goes_on_in_the_request_of_its_item_until_the_next_one(captured: Capture) -> None:
    waiting: tailsight.Queue[Item | None] = tailsight.Queue()

    def worker() -> None:
        while waiting.get() is not None:
            with tailsight.stage("compute"):
                pass
        assert nothing_is_current(), "the sentinel was put outside of any request"

    with tailsight.request("a") as a:
        waiting.put(Item())
    with tailsight.request("b") as b:
        waiting.put(Item())
    waiting.put(None)
    in_thread(worker)
    assert [span.parent_span_id for span in captured.find(stage="compute")] == [a.span_id, b.span_id]
    assert len(captured.find(stage="queue")) == 2, "the sentinel is nobody's"


def test_task_done_and_empty_queues(captured: Capture) -> None:
    one: tailsight.Queue[int] = tailsight.Queue()
    other: tailsight.Queue[int] = tailsight.Queue()
    with tailsight.request("a") as a:
        one.put(1)

    def worker() -> None:
        one.get()
        with pytest.raises(queue.Empty):
            other.get_nowait()
        with pytest.raises(queue.Empty):
            other.get(timeout=0.001)
        assert trace_api.get_current_span().get_span_context().span_id == int(a.span_id, 16), "still at work on it"
        with pytest.raises(ValueError, match="task_done"):
            other.task_done()
        assert not nothing_is_current()
        one.task_done()
        assert nothing_is_current()

    in_thread(worker)
    one.join()


def test_a_consumer_in_a_span_of_its_own_stays_there(captured: Capture) -> None:
    results: tailsight.Queue[int] = tailsight.Queue()
    with tailsight.request("worker"):
        results.put(1)
    with tailsight.request("client") as client, tailsight.stage("network") as network:
        results.get()
        assert trace_api.get_current_span() is network
        with tailsight.stage("serialize"):
            pass
    assert nothing_is_current()
    assert captured.one(stage="serialize").parent_span_id == network.span_id
    assert captured.one(stage="queue").parent_span_id != client.span_id


def test_a_queue_of_results_need_not_carry(captured: Capture) -> None:
    results: tailsight.Queue[int] = tailsight.Queue(carry=False)
    wrapped = tailsight.wrap_queue(queue.SimpleQueue(), carry=False)
    with tailsight.request("worker"):
        results.put(1)
        wrapped.put(2)

    def client() -> None:
        assert (results.get(), wrapped.get()) == (1, 2)
        assert nothing_is_current()

    in_thread(client)
    assert len(captured.find(stage="queue")) == 2


def test_an_exception_in_the_worker_leaves_nothing_behind_for_the_next_item(captured: Capture) -> None:
    waiting: tailsight.Queue[int] = tailsight.Queue()
    with tailsight.request("a"):
        waiting.put(1)
    with tailsight.request("b") as b:
        waiting.put(2)

    def worker() -> None:
        try:
            with tailsight.stage("compute"):
                waiting.get()
                raise KeyError
        except KeyError:
            pass
        assert nothing_is_current()
        try:
            waiting.get()
            raise KeyError
        except KeyError:
            with tailsight.stage("postprocess"):
                pass

    in_thread(worker)
    assert captured.one(stage="postprocess").parent_span_id == b.span_id


def test_the_time_that_put_blocks_is_waiting(captured: Capture) -> None:
    clock = FakeClock()
    with capture(clock=clock) as spans:
        full: tailsight.Queue[int] = tailsight.Queue(maxsize=1)
        full.put(0)
        with tailsight.request("rank"):
            blocked = threading.Thread(target=tailsight.propagate(full.put), args=(1,))
            blocked.start()
            while not full.not_full._waiters:  # type: ignore[attr-defined]  # until put() has begun to wait
                pass
            clock.advance(3_000)
            assert full.get() == 0
            blocked.join()
            clock.advance(4_000)
            assert full.get() == 1
    span = spans.one(stage="queue")
    assert (span.duration_ns, span.attributes[keys.QUEUE_DEPTH]) == (7_000, 0)


def test_a_put_that_fails_waits_for_nothing(captured: Capture) -> None:
    full: tailsight.Queue[int] = tailsight.Queue(maxsize=1)
    with tailsight.request("rank"):
        full.put(0)
        with pytest.raises(queue.Full):
            full.put_nowait(1)
        with pytest.raises(queue.Full):
            full.put(1, timeout=0.001)
    with tailsight.request("next") as r:
        in_thread(full.get)
        full.put(2)
        in_thread(full.get)
    first, second = captured.find(stage="queue")
    assert first.parent_span_id != r.span_id
    assert second.parent_span_id == r.span_id


def test_items_lie_in_the_queue_as_they_are_and_come_out_in_their_order() -> None:
    @dataclass(order=True)
    class Job:
        priority: int

    for make, order in [(queue.PriorityQueue, sorted), (queue.LifoQueue, lambda jobs: jobs[::-1]), (queue.Queue, list)]:
        with capture() as captured:
            waiting = tailsight.wrap_queue(make())
            jobs = [Job(n) for n in (3, 1, 2)]
            for job in jobs:
                with tailsight.request(f"job {job.priority}"):
                    waiting.put(job)
            assert all(any(inside is job for job in jobs) for inside in waiting.queue)
            taken = []
            while not waiting.empty():
                taken.append(waiting.get())
                with tailsight.stage("compute", name=str(taken[-1].priority)):
                    pass
                waiting.task_done()
            assert taken == order(jobs)  # type: ignore[operator]
            assert isinstance(waiting, make)
            assert len(captured.find(stage="queue")) == 3
            for job in jobs:  # each in its own request
                compute = captured.one(stage="compute", name=str(job.priority))
                assert compute.parent_span_id == captured.one(name=f"job {job.priority}").span_id


def test_one_object_many_times_in_the_queue_belongs_to_each_request_in_turn(captured: Capture) -> None:
    waiting: tailsight.Queue[int] = tailsight.Queue()
    waiting.put(1)
    ids = []
    for name in ("a", "b"):
        with tailsight.request(name) as r:
            waiting.put(1)
            ids.append(r.span_id)
    in_thread(waiting.get)
    assert captured.find(stage="queue") == [], "the first one was put outside of any request"
    in_thread(waiting.get)
    in_thread(waiting.get)
    assert sorted(span.parent_span_id or "" for span in captured.find(stage="queue")) == sorted(ids)


def test_several_queues_in_a_chain_are_one_trace_and_contexts_do_not_pile_up(captured: Capture) -> None:
    queues: list[tailsight.Queue[Item]] = [tailsight.Queue() for _ in range(5)]
    with tailsight.request("rank") as r:
        queues[0].put(Item())
    for before, after in itertools.pairwise(queues):

        def step(before: Any = before, after: Any = after) -> None:
            after.put(before.get())

        in_thread(step)
    last = queues[-1]
    in_thread(last.get)
    assert [span.parent_span_id for span in captured.find(stage="queue")] == [r.span_id] * 5

    with tailsight.request("again"):
        last.put(Item())
    depths = []

    def around() -> None:
        for _ in range(3):
            last.put(last.get())
            (carrier,) = last._tailsight._carriers.values()
            depths.append(type(carrier.context).__name__)  # type: ignore[union-attr]

    in_thread(around)
    assert depths == ["Context"] * 3


def test_outside_of_requests_unsampled_or_disabled_nothing_is_recorded_and_all_works() -> None:
    with capture() as captured:
        waiting: tailsight.Queue[int] = tailsight.Queue()
        waiting.put(1)
        with use_span(NonRecordingSpan(SpanContext(1, 2, is_remote=True))), tailsight.request("rank"):
            waiting.put(2)

        def worker() -> None:
            assert waiting.get() == 1
            assert nothing_is_current()
            assert waiting.get() == 2
            with tailsight.stage("compute"):  # not sampled either
                assert trace_api.get_current_span().get_span_context().trace_flags == 0

        in_thread(worker)
    assert captured.spans == []
    with capture(enabled=False) as captured, tailsight.request("rank"):
        waiting.put(3)
        assert waiting.get() == 3
    assert captured.spans == []


def test_put_under_one_configuration_and_taken_under_another() -> None:
    waiting: tailsight.Queue[int] = tailsight.Queue()
    with capture(), tailsight.request("rank") as r:
        waiting.put(1)
    with capture() as captured:
        in_thread(waiting.get)
    assert captured.one(stage="queue").parent_span_id == r.span_id


def test_a_foreign_span_is_a_request_too(captured: Capture) -> None:
    waiting: tailsight.Queue[int] = tailsight.Queue()
    with use_span(NonRecordingSpan(SpanContext(7, 8, is_remote=False, trace_flags=trace_api.TraceFlags(1)))):
        waiting.put(1)
    in_thread(waiting.get)
    span = captured.one(stage="queue")
    assert (span.trace_id, span.parent_span_id) == (f"{7:032x}", f"{8:016x}")


def test_an_item_is_not_kept_alive_and_carriers_do_not_grow(captured: Capture) -> None:
    waiting: tailsight.Queue[Any] = tailsight.Queue()
    known = len(_taken._known)

    def consume() -> None:
        for _ in range(3000):
            with tailsight.request("rank"):
                waiting.put(Item())
                waiting.put({"a": "dict"})
            reference = weakref.ref(waiting.get())
            waiting.get()
            assert reference() is None
        taken = _taken._taken.get()
        assert taken is not None
        assert len(taken.entries) == _taken.MAX_TAKEN

    in_thread(consume)
    assert len(_taken._known) == known
    assert waiting._tailsight._carriers == {}


def test_a_queue_emptied_behind_our_back_confuses_no_requests(captured: Capture) -> None:
    waiting: tailsight.Queue[int] = tailsight.Queue()
    with tailsight.request("lost"):
        waiting.put(1)
        waiting.put(2)
    with waiting.mutex:
        waiting.queue.clear()
    with tailsight.request("kept") as kept:
        waiting.put(1)
    in_thread(waiting.get)
    assert captured.one(stage="queue").parent_span_id == kept.span_id
    assert waiting._tailsight._carriers == {}


def test_many_threads_lose_and_mix_nothing(captured: Capture) -> None:
    waiting: tailsight.Queue[tuple[int, str] | None] = tailsight.Queue(maxsize=3)
    simple = tailsight.wrap_queue(queue.SimpleQueue())

    def produce(number: int) -> None:
        for turn in range(50):
            with tailsight.request(f"{number}/{turn}"):
                waiting.put((number, f"{number}/{turn}"))

    def pass_on() -> None:
        while (item := waiting.get()) is not None:
            with tailsight.stage("preprocess", name=item[1]):
                pass
            simple.put(item)

    def consume() -> None:
        while (item := simple.get()) is not None:
            with tailsight.stage("compute", name=item[1]):
                pass

    producers = [threading.Thread(target=produce, args=(n,)) for n in range(4)]
    middles = [threading.Thread(target=pass_on) for _ in range(3)]
    ends = [threading.Thread(target=consume) for _ in range(3)]
    for thread in producers + middles + ends:
        thread.start()
    for thread in producers:
        thread.join(30)
    for _ in middles:
        waiting.put(None)
    for thread in middles:
        thread.join(30)
    for _ in ends:
        simple.put(None)
    for thread in ends:
        thread.join(30)
    roots = {span.name: span for span in captured.spans if span.stage is None}
    assert len(roots) == 200
    assert len(captured.find(stage="queue")) == 400
    for stage in ("preprocess", "compute"):
        spans = captured.find(stage=stage)
        assert len(spans) == 200
        assert all(span.parent_span_id == roots[span.name].span_id for span in spans)


# --- asyncio ----------------------------------------------------------------------------------------------------------


def test_asyncio_tasks_go_on_in_the_request_of_their_item(captured: Capture) -> None:
    async def main() -> tuple[str, str]:
        waiting: tailsight.AsyncQueue[int | None] = tailsight.AsyncQueue()

        async def worker() -> None:
            while await waiting.get() is not None:
                with tailsight.stage("compute"):
                    await asyncio.sleep(0)
                waiting.task_done()
                assert nothing_is_current()

        task = asyncio.create_task(worker())
        ids = []
        for name in ("a", "b"):
            with tailsight.request(name) as r:
                await waiting.put(1)
                ids.append(r.span_id)
                await waiting.join()
                assert trace_api.get_current_span() is r
        waiting.put_nowait(None)
        await task
        return ids[0], ids[1]

    a, b = asyncio.run(main())
    assert [span.parent_span_id for span in captured.find(stage="compute")] == [a, b]
    assert [span.parent_span_id for span in captured.find(stage="queue")] == [a, b]


def test_asyncio_put_that_blocks_counts_and_a_cancelled_get_takes_nothing() -> None:
    clock = FakeClock()

    async def main() -> None:
        waiting: tailsight.AsyncQueue[int] = tailsight.AsyncQueue(maxsize=1)
        getting = asyncio.create_task(waiting.get())
        await asyncio.sleep(0)
        getting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await getting
        waiting.put_nowait(0)
        with tailsight.request("rank"):
            blocked = asyncio.create_task(waiting.put(1))
            cancelled = asyncio.create_task(waiting.put(2))
            await asyncio.sleep(0)
            cancelled.cancel()
            clock.advance(3_000)
            assert await waiting.get() == 0
            await blocked
            clock.advance(4_000)
            assert await waiting.get() == 1
        assert waiting.empty()

    with capture(clock=clock) as captured:
        asyncio.run(main())
    assert captured.one(stage="queue").duration_ns == 7_000


def test_asyncio_wait_for_finds_the_items_request(captured: Capture) -> None:
    async def main() -> None:
        waiting: tailsight.AsyncQueue[Any] = tailsight.AsyncQueue()
        for item in (Item(), {"a": "dict"}):
            with tailsight.request("rank") as r:
                await waiting.put(item)

            async def consume(r: tailsight.Span = r) -> None:
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(asyncio.Event().wait(), 0.001)
                taken = await asyncio.wait_for(waiting.get(), 10)
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(waiting.get(), 0.001)
                with tailsight.carried(taken):
                    assert trace_api.get_current_span() is r
                if sys.version_info < (3, 12):
                    assert nothing_is_current()

            await asyncio.create_task(consume())

    asyncio.run(main())
    assert len(captured.find(stage="queue")) == 2


def test_asyncio_priority_and_lifo_queues_are_wrapped_in_place(captured: Capture) -> None:
    async def main() -> None:
        for plain in (asyncio.PriorityQueue[int](), asyncio.LifoQueue[int](), asyncio.Queue[int]()):
            expected = [5, 6] if isinstance(plain, asyncio.PriorityQueue) else [6, 5]
            waiting = tailsight.wrap_queue(plain)
            assert waiting is plain
            assert tailsight.wrap_queue(plain) is plain
            with tailsight.request("rank"):
                for n in sorted(expected, reverse=True) if type(plain) is tailsight.AsyncQueue else [5, 6]:
                    await plain.put(n)
            assert [await plain.get(), await plain.get()] == expected

    asyncio.run(main())
    assert len(captured.find(stage="queue")) == 6


# --- wrapping, and staying what it was --------------------------------------------------------------------------------


def test_what_cannot_be_wrapped_is_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    thing = object()
    assert tailsight.wrap_queue(thing) is thing
    assert "wrap_queue() got" in caplog.text


def test_a_subclass_with_its_own_hooks_sees_the_items_themselves(captured: Capture) -> None:
    seen: list[int] = []

    class Heap(queue.Queue[int]):
        def _init(self, maxsize: int) -> None:
            self.queue: Any = []

        def _put(self, item: int) -> None:
            seen.append(item)
            heapq.heappush(self.queue, item)

        def _get(self) -> int:
            return int(heapq.heappop(self.queue))

    waiting = tailsight.wrap_queue(Heap())
    with tailsight.request("rank"):
        waiting.put(2)
        waiting.put(1)
    assert in_thread(lambda: [waiting.get(), waiting.get()]) == [1, 2]
    assert seen == [2, 1]
    assert len(captured.find(stage="queue")) == 2


@pytest.mark.skipif(not hasattr(queue, "ShutDown"), reason="Python 3.13 has it")
def test_shutdown_passes() -> None:
    waiting: Any = tailsight.Queue()
    with capture() as captured, tailsight.request("rank"):
        waiting.put(1)
        waiting.put(2)
        waiting.shutdown(immediate=True)
        with pytest.raises(queue.ShutDown):  # type: ignore[attr-defined,unused-ignore]
            waiting.get()
    assert captured.find(stage="queue") == []
    assert waiting._tailsight._carriers == {}


def test_a_forked_child_uses_its_copy_of_the_queue(captured: Capture) -> None:
    waiting: tailsight.Queue[int] = tailsight.Queue()
    with tailsight.request("rank"):
        waiting.put(1)
    child = os.fork()
    if child == 0:  # pragma: no cover
        os._exit(0 if waiting.get(timeout=5) == 1 and waiting.empty() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert in_thread(waiting.get) == 1
    assert len(captured.find(stage="queue")) == 1


def test_an_internal_error_reaches_neither_putter_nor_taker(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> Any:
        raise RuntimeError("injected")

    from tailsight import _queue
    from tailsight._stats import counters

    async def both() -> None:
        later: tailsight.AsyncQueue[int] = tailsight.AsyncQueue()
        await later.put(1)
        assert await later.get() == 1
        later.task_done()

    for where, name in [
        (_queue, "arriving"),
        (_queue, "took"),
        (_queue, "emit"),
        (_queue, "carry"),
        (_queue, "put_down"),
        (_queue, "get_current"),
        (_queue, "Carrier"),
        (Waiting, "entered"),
        (Waiting, "left"),
        (_taken, "remember"),
        (_taken, "begin"),
        (_taken, "done"),
    ]:
        with capture(), tailsight.request("rank"), monkeypatch.context() as patch:
            patch.setattr(where, name, fail)
            waiting: tailsight.Queue[int] = tailsight.Queue()
            simple = tailsight.wrap_queue(queue.SimpleQueue())
            waiting.put(1)
            simple.put(2)
            assert (waiting.get(), simple.get()) == (1, 2), name
            waiting.task_done()
            waiting.join()
            asyncio.run(both())
        assert counters.internal_errors > 0, name
        counters.reset()
    gc.collect()
