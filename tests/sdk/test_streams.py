"""The pace of a stream: time to the first item, gaps between items, and what they cost nobody."""

import asyncio
import contextlib
import gc
import inspect
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace as trace_api
from opentelemetry.trace import NonRecordingSpan, SpanContext, use_span

import tailsight
from tailsight import _otlp, _pace, _record, _stream
from tailsight import attributes as keys
from tailsight._pace import BLOCK, STAMPS_KEPT, Pace, summary
from tailsight._stats import counters
from tailsight.testing import Capture, FakeClock, capture

pytestmark = pytest.mark.usefixtures("no_internal_errors")

MS = 1_000_000
GAPS = {keys.STREAM_GAP_P50_MS, keys.STREAM_GAP_P99_MS, keys.STREAM_GAP_MAX_MS}


def paced(gaps: list[int], start_ns: int = 0) -> dict[str, Any]:
    """Play a stream whose first item comes after gaps[0], without a generator. Return its attributes."""
    pace, now, left = Pace(), start_ns, BLOCK
    for gap in gaps:
        now += gap
        pace.fresh.append(now)
        left -= 1
        if not left:
            left = BLOCK
            pace.turn()
    return summary(pace.packed(), start_ns)


# --- what is recorded -------------------------------------------------------------------------------------------------


def test_a_stream_has_its_time_to_the_first_item_and_its_gaps() -> None:
    clock = FakeClock()

    @tailsight.stage("compute")
    def tokens() -> Iterator[int]:
        for wait in (30, 1, 2, 3, 10):
            clock.advance(wait * MS)
            yield wait
        clock.advance(500 * MS)  # after the last item: no gap

    with capture(clock=clock) as captured:
        clock.advance(5 * MS)
        assert len(list(tokens())) == 5
    span = captured.one(stage="compute")
    assert span.attributes == {
        keys.STREAM_ITEMS: 5,
        keys.TIME_TO_FIRST_CHUNK: 0.030,
        keys.STREAM_GAP_P50_MS: 2.5,
        keys.STREAM_GAP_P99_MS: pytest.approx(np.quantile([1, 2, 3, 10], 0.99)),
        keys.STREAM_GAP_MAX_MS: 10.0,
    }
    assert span.duration_ns == 546 * MS


def test_a_gap_is_what_the_consumer_sees_its_own_time_included() -> None:
    clock = FakeClock()

    @tailsight.stage("compute")
    async def tokens() -> AsyncIterator[int]:
        for n in range(3):
            clock.advance(2 * MS)
            await asyncio.sleep(0)
            yield n

    async def main() -> None:
        async for _ in tokens():
            clock.advance(7 * MS)

    with capture(clock=clock) as captured:
        asyncio.run(main())
    attributes = captured.one(stage="compute").attributes
    assert attributes[keys.TIME_TO_FIRST_CHUNK] == 0.002
    assert {attributes[key] for key in GAPS} == {9.0}


@pytest.mark.parametrize(
    ("items", "expected"), [(0, set()), (1, {keys.TIME_TO_FIRST_CHUNK}), (2, {keys.TIME_TO_FIRST_CHUNK, *GAPS})]
)
def test_short_streams_have_what_there_is(captured: Capture, items: int, expected: set[str]) -> None:
    assert len(list(tailsight.stage("compute")(iter_range)(items))) == items
    attributes = captured.one(stage="compute").attributes
    assert attributes.pop(keys.STREAM_ITEMS) == items
    assert set(attributes) == expected


def iter_range(n: int) -> Iterator[int]:
    yield from range(n)


def test_abandoned_and_broken_streams_end_with_what_was_seen() -> None:
    clock = FakeClock()

    @tailsight.stage("compute")
    def tokens() -> Iterator[int]:
        for n in range(5):
            clock.advance(4 * MS)
            yield n
        raise ValueError("the host's")

    with capture(clock=clock) as captured:
        for n in tokens():
            if n == 2:
                break
        gc.collect()
        with pytest.raises(ValueError, match="the host's"):
            list(tokens())
    abandoned, broken = captured.spans
    assert abandoned.attributes[keys.STREAM_ABANDONED] is True
    assert (abandoned.attributes[keys.STREAM_ITEMS], abandoned.attributes[keys.STREAM_GAP_MAX_MS]) == (3, 4.0)
    assert (broken.status, broken.attributes[keys.STREAM_ITEMS]) == ("ERROR", 5)


def test_items_are_counted_whatever_the_consumer_sends_and_throws(
    captured: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    @tailsight.stage("compute")
    def conversation() -> Any:
        received = 0
        while True:
            try:
                received = yield received
            except KeyError:
                received = -1

    talk = conversation()
    assert [next(talk), talk.send(5), talk.throw(KeyError()), talk.send(6), next(talk)] == [0, 5, -1, 6, None]
    sizes = []
    turn = Pace.turn
    monkeypatch.setattr(Pace, "turn", lambda self: (sizes.append(len(self.fresh)), turn(self))[1])
    for _ in range(3 * BLOCK):
        assert talk.throw(KeyError()) == -1
    talk.close()
    assert max(sizes) <= 2 * BLOCK + 1, "memory is bounded here too"
    assert captured.one(stage="compute").attributes[keys.STREAM_ITEMS] == 5 + 3 * BLOCK
    assert trace_api.get_current_span() is trace_api.INVALID_SPAN


def test_an_error_that_is_thrown_in_has_no_context_of_ours(captured: Capture) -> None:
    def stream() -> Iterator[int]:
        with contextlib.suppress(KeyError):
            yield 1
        raise ValueError("behind the block")

    contexts = []
    for make in (stream, tailsight.stage("compute")(stream)):
        running: Any = make()
        next(running)
        with pytest.raises(ValueError, match="behind the block") as raised:
            running.throw(KeyError())
        contexts.append(raised.value.__context__)
    assert contexts == [None, None]


def test_what_the_user_set_stands(captured: Capture) -> None:
    @tailsight.stage("compute")
    def tokens() -> Iterator[int]:
        yield 1
        trace_api.get_current_span().set_attribute(keys.TIME_TO_FIRST_CHUNK, 0.5)

    list(tokens())
    assert captured.one(stage="compute").attributes[keys.TIME_TO_FIRST_CHUNK] == 0.5


def test_the_numbers_are_on_the_wire() -> None:
    packed: list[bytes] = []
    with capture() as captured:
        assert tailsight._recorder.current.recorder is not None  # type: ignore[attr-defined]
        tailsight._recorder.current.recorder.push = lambda batch, spans: packed.append(batch)  # type: ignore[attr-defined]
        list(tailsight.stage("compute")(iter_range)(3))
    assert captured.spans == []
    encoded = _otlp.spans(_record.load(packed[0]))
    for key in (keys.STREAM_ITEMS, keys.TIME_TO_FIRST_CHUNK, *GAPS):
        assert key.encode() in encoded


# --- how exact ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10**11), min_size=2, max_size=300))
@settings(max_examples=100, deadline=None)
def test_quantiles_are_numpys(gaps: list[int]) -> None:
    attributes = paced(gaps)
    between = np.array(gaps[1:], dtype=float) / 1e6
    assert attributes[keys.STREAM_ITEMS] == len(gaps)
    assert attributes[keys.STREAM_GAP_P50_MS] == pytest.approx(np.quantile(between, 0.5), rel=1e-12)
    assert attributes[keys.STREAM_GAP_P99_MS] == pytest.approx(np.quantile(between, 0.99), rel=1e-12)
    assert attributes[keys.STREAM_GAP_MAX_MS] == pytest.approx(between.max(), rel=1e-12)


@pytest.mark.parametrize("items", [STAMPS_KEPT, STAMPS_KEPT + 1, STAMPS_KEPT + BLOCK, 60_000])
@pytest.mark.parametrize("seed", [1, 2])
def test_long_streams_are_exact_to_one_per_cent(items: int, seed: int) -> None:
    chance = random.Random(seed)
    gaps = [round(chance.lognormvariate(15, 2)) + (10**9 if n == items - 7 else 0) for n in range(items)]
    attributes = paced(gaps, start_ns=10**15)
    between = np.array(gaps[1:], dtype=float) / 1e6
    exact = 1e-12 if items <= STAMPS_KEPT else 0.01
    assert attributes[keys.STREAM_ITEMS] == items
    assert attributes[keys.STREAM_GAP_P50_MS] == pytest.approx(np.quantile(between, 0.5), rel=exact)
    assert attributes[keys.STREAM_GAP_P99_MS] == pytest.approx(np.quantile(between, 0.99), rel=exact)
    assert attributes[keys.STREAM_GAP_MAX_MS] == pytest.approx(between.max(), rel=1e-12)
    assert attributes[keys.TIME_TO_FIRST_CHUNK] == pytest.approx(gaps[0] / 1e9)


@given(st.integers(1, 2**62))
def test_every_bucket_of_the_histogram_is_less_than_one_per_cent_wide(gap: int) -> None:
    pace = Pace()
    pace._packed_items, pace._last = STAMPS_KEPT, 0
    pace.fresh.append(gap)
    pace.turn()
    (code,) = pace._buckets
    assert _pace._middle(code) == pytest.approx(gap, rel=0.005)
    assert pace._longest == gap


def test_memory_is_bounded_however_long_the_stream() -> None:
    pace = Pace()
    now, largest = 0, 0
    for n in range(40 * STAMPS_KEPT):
        now += 1_000 + n % 977
        pace.fresh.append(now)
        if len(pace.fresh) == BLOCK:
            pace.turn()
            largest = max(largest, len(pace._kept) + 100 * len(pace._buckets))
    items, kept, buckets, longest = pace.packed()
    assert (items, len(kept), longest) == (40 * STAMPS_KEPT, 8 * STAMPS_KEPT, 1_976)
    assert sum(buckets.values()) == 39 * STAMPS_KEPT
    assert len(buckets) < 200
    assert largest < 64 * 1024


def test_a_decorated_generator_folds_as_it_goes(captured: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = []
    turn = Pace.turn
    monkeypatch.setattr(Pace, "turn", lambda self: (turns.append(len(self.fresh)), turn(self))[1])
    n = STAMPS_KEPT + 3 * BLOCK + 5
    assert sum(1 for _ in tailsight.stage("compute")(iter_range)(n)) == n
    assert turns == [BLOCK] * (STAMPS_KEPT // BLOCK + 3) + [5]
    assert captured.one(stage="compute").attributes[keys.STREAM_ITEMS] == n


# --- not recorded -----------------------------------------------------------------------------------------------------


def test_without_a_recorder_or_a_sample_the_generator_runs_bare() -> None:
    returned: list[Any] = []

    @tailsight.stage("compute")
    def tokens() -> Any:
        received = yield 1
        returned.append(received)
        return "the end"

    @tailsight.stage("compute")
    async def async_tokens() -> Any:
        received = yield 1
        returned.append(received)
        try:
            yield 2
        except KeyError:
            yield 3

    async def main() -> list[Any]:
        stream: Any = async_tokens()
        seen = [await anext(stream), await stream.asend("b"), await stream.athrow(KeyError())]
        await stream.aclose()
        return seen

    for context in (capture(enabled=False), use_span(NonRecordingSpan(SpanContext(1, 2, is_remote=True)))):
        with context:
            stream = tokens()
            assert next(stream) == 1
            with pytest.raises(StopIteration) as stop:
                stream.send("a")
            assert stop.value.value == "the end"
            assert asyncio.run(main()) == [1, 2, 3]
    assert returned == ["a", "b"] * 2


def test_an_unsampled_request_is_current_in_its_steps_and_records_nothing() -> None:
    @tailsight.request
    def tokens() -> Iterator[str]:
        yield tailsight.inject()["traceparent"]

    with capture() as captured, use_span(NonRecordingSpan(SpanContext(1, 2, is_remote=True))):
        (header,) = tokens()
        assert header.startswith(f"00-{1:032x}-")
        assert header.endswith("-00")
        assert header.split("-")[2] != f"{2:016x}"
    assert captured.spans == []


# --- somebody else's iterators ------------------------------------------------------------------------------------------


def test_stream_measures_somebody_elses_iterator(captured: Capture) -> None:
    class Client:
        def __init__(self) -> None:
            self.n = 0

        def __iter__(self) -> "Client":
            return self

        def __next__(self) -> int:
            with tailsight.stage("network"):
                self.n += 1
            if self.n > 3:
                raise StopIteration
            return self.n

    with tailsight.request() as r:
        for _ in tailsight.stream(Client(), stage="compute"):
            with tailsight.stage("postprocess"):
                pass
    compute = captured.one(stage="compute")
    assert (compute.name, compute.parent_span_id, compute.attributes[keys.STREAM_ITEMS]) == ("compute", r.span_id, 3)
    assert len(captured.children_of(compute)) == 4
    assert {span.parent_span_id for span in captured.find(stage="postprocess")} == {r.span_id}


def test_stream_measures_async_iterators_and_leaves_them_open(captured: Capture) -> None:
    async def source() -> AsyncIterator[int]:
        for n in range(10):
            yield n

    async def main() -> list[int]:
        tokens = source()
        seen = []
        measured = tailsight.stream(tokens, stage="compute", name="llm")
        async for n in measured:
            seen.append(n)
            if n == 2:
                break
        await measured.aclose()  # type: ignore[attr-defined]
        return [*seen, *[n async for n in tokens]]

    assert asyncio.run(main()) == list(range(10)), "the consumer may go on with the source"
    span = captured.one(stage="compute")
    assert (span.name, span.attributes[keys.STREAM_ITEMS], span.attributes[keys.STREAM_ABANDONED]) == ("llm", 3, True)


def test_stream_takes_any_iterable_and_says_what_it_would_say(captured: Capture) -> None:
    assert list(tailsight.stream([1, 2])) == [1, 2]
    thing: Any = 7
    with pytest.raises(TypeError, match="'int' object is not iterable"):
        list(tailsight.stream(thing))
    assert inspect.isgenerator(tailsight.stream([]))
    assert [span.status for span in captured.spans] == ["UNSET", "ERROR"]


# --- errors of ours -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["attach", "reset", "get_current", "detach", "leave_step"])
def test_an_internal_error_does_not_reach_the_consumer(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fail(*args: object, **kwargs: object) -> Any:
        raise LookupError("injected")

    def application() -> None:
        @tailsight.stage("compute")
        async def async_tokens() -> AsyncIterator[int]:
            yield 1
            yield 2

        async def main() -> list[int]:
            return [n async for n in async_tokens()]

        talk: Any = tailsight.stage("compute")(iter_range)(3)
        assert next(talk) == 0
        with pytest.raises(KeyError):
            talk.throw(KeyError())
        assert list(tailsight.stage("compute")(iter_range)(3)) == [0, 1, 2]
        assert asyncio.run(main()) == [1, 2]

    with capture(), monkeypatch.context() as patch:
        patch.setattr(_stream, "leave_step", None)  # what C does in one call, Python does in these
        patch.setattr(_stream, name, fail)
        in_thread(application)  # its context goes with it
    assert counters.internal_errors > 0
    counters.reset()


@pytest.mark.parametrize("name", ["turn", "packed"])
def test_an_internal_error_of_the_statistics_does_not_reach_the_consumer(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(*args: object, **kwargs: object) -> Any:
        raise LookupError("injected")

    where: Any = (_pace, "_pack_block") if name == "turn" else (Pace, "packed")
    with capture() as captured, monkeypatch.context() as patch:
        patch.setattr(*where, fail)
        assert len(list(tailsight.stage("compute")(iter_range)(2 * BLOCK))) == 2 * BLOCK
        assert trace_api.get_current_span() is trace_api.INVALID_SPAN
    assert len(captured.find(stage="compute")) == 1
    assert counters.internal_errors > 0
    counters.reset()


def in_thread(function: Callable[[], None]) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    if failed:
        raise failed[0]
