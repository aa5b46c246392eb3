import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest
from opentelemetry import trace as trace_api

import tailsight
from tailsight import attributes as keys
from tailsight.testing import Capture

pytestmark = pytest.mark.usefixtures("no_internal_errors")


def nothing_is_current() -> bool:
    return trace_api.get_current_span() is trace_api.INVALID_SPAN


TIMES = {keys.TIME_TO_FIRST_CHUNK, keys.STREAM_GAP_P50_MS, keys.STREAM_GAP_P99_MS, keys.STREAM_GAP_MAX_MS}


def without_times(attributes: dict[str, Any]) -> dict[str, Any]:
    """What the clock decides is test_streams.py's."""
    return {key: value for key, value in attributes.items() if key not in TIMES}


@tailsight.stage("compute")
def numbers(n: int) -> Iterator[int]:
    for number in range(n):
        with tailsight.stage("gpu_kernel"):
            pass
        yield number


@tailsight.stage("compute")
async def async_numbers(n: int) -> AsyncIterator[int]:
    for number in range(n):
        await asyncio.sleep(0)
        with tailsight.stage("gpu_kernel"):
            pass
        yield number


def test_a_generator_is_one_span_from_its_first_step_to_its_end(captured: Capture) -> None:
    assert list(numbers(3)) == [0, 1, 2]
    span = captured.one(stage="compute")
    assert without_times(span.attributes) == {keys.STREAM_ITEMS: 3}
    assert len(captured.children_of(span)) == 3
    assert (span.status, span.name) == ("UNSET", "numbers")


def test_a_generators_span_never_leaks_into_its_consumer(captured: Capture) -> None:
    for _ in numbers(2):
        assert nothing_is_current()
        with tailsight.stage("postprocess"):
            pass
    assert [span.parent_span_id for span in captured.find(stage="postprocess")] == [None, None]


def test_an_async_generators_span_never_leaks_into_its_consumer(captured: Capture) -> None:
    async def main() -> None:
        async for _ in async_numbers(2):
            assert nothing_is_current()
            with tailsight.stage("postprocess"):
                pass
        assert nothing_is_current()

    asyncio.run(main())
    assert [span.parent_span_id for span in captured.find(stage="postprocess")] == [None, None]
    compute = captured.one(stage="compute")
    assert without_times(compute.attributes) == {keys.STREAM_ITEMS: 2}
    assert len(captured.children_of(compute)) == 2


def test_a_block_around_a_yield_is_current_again_in_the_next_step_and_not_in_between(captured: Capture) -> None:
    @tailsight.stage("compute")
    def stream() -> Iterator[None]:
        with tailsight.stage("network"):
            yield
            with tailsight.stage("serialize"):
                pass
        yield

    for _ in stream():
        assert nothing_is_current()
    assert captured.one(stage="serialize").parent_span_id == captured.one(stage="network").span_id
    assert captured.one(stage="network").parent_span_id == captured.one(stage="compute").span_id


def test_interleaved_generators_keep_their_own_spans(captured: Capture) -> None:
    assert list(zip(numbers(2), numbers(2), strict=True)) == [(0, 0), (1, 1)]
    first, second = captured.find(stage="compute")
    assert first.trace_id != second.trace_id
    assert (len(captured.children_of(first)), len(captured.children_of(second))) == (2, 2)


def test_a_generator_belongs_to_the_request_that_takes_its_first_step(captured: Capture) -> None:
    stream = numbers(1)
    with tailsight.request() as r:
        next(stream)
    assert list(stream) == []
    assert captured.one(stage="compute").parent_span_id == r.span_id


def test_a_generator_that_is_never_begun_leaves_no_span(captured: Capture) -> None:
    numbers(1)
    gc.collect()
    assert captured.spans == []


def test_an_abandoned_generator_ends_with_what_was_seen(captured: Capture) -> None:
    for number in numbers(10):
        if number == 1:
            break
    gc.collect()
    span = captured.one(stage="compute")
    assert without_times(span.attributes) == {keys.STREAM_ITEMS: 2, keys.STREAM_ABANDONED: True}
    assert (span.status, span.events) == ("UNSET", ())


def test_an_abandoned_async_generator_ends_with_what_was_seen(captured: Capture) -> None:
    async def main() -> None:
        async for number in async_numbers(10):
            if number == 1:
                break
        gc.collect()
        await asyncio.sleep(0)  # the event loop closes the generator in a task of its own

    asyncio.run(main())
    span = captured.one(stage="compute")
    assert without_times(span.attributes) == {keys.STREAM_ITEMS: 2, keys.STREAM_ABANDONED: True}
    assert span.status == "UNSET"


def test_an_error_in_a_generator_is_recorded_and_passes(captured: Capture) -> None:
    @tailsight.stage("compute")
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    stream = broken()
    assert next(stream) == 1
    with pytest.raises(ValueError, match="broken"):
        next(stream)
    assert (captured.spans[0].status, without_times(captured.spans[0].attributes)) == ("ERROR", {keys.STREAM_ITEMS: 1})


def test_steps_may_be_taken_by_different_tasks(captured: Capture) -> None:
    async def main() -> list[int]:
        stream = async_numbers(3)
        return [await asyncio.create_task(anext(stream)) for _ in range(3)]  # type: ignore[arg-type]

    assert asyncio.run(main()) == [0, 1, 2]


def test_decorated_generators_still_look_like_generators() -> None:
    assert inspect.isgeneratorfunction(numbers)
    assert inspect.isasyncgenfunction(async_numbers)
    assert inspect.iscoroutinefunction(tailsight.stage("compute")(asyncio.sleep))


# --- faithful to the protocol: the same script is played to a bare and to a decorated generator ----------------------


def conversation() -> Generator[Any, Any, str]:
    received = None
    while received != "stop":
        try:
            received = yield ("got", received)
        except KeyError as error:
            received = yield ("caught", error.args)
    return "the end"


def ignores_exit() -> Iterator[int]:
    while True:
        with suppress(GeneratorExit):
            yield 1


def returns_on_exit() -> Iterator[int]:
    try:
        yield 1
    except GeneratorExit:
        return


def converts() -> Iterator[int]:
    try:
        yield 1
    except ValueError:
        raise LookupError("converted") from None


def play(stream: Any, steps: list[Callable[[Any], Any]]) -> list[Any]:
    seen: list[Any] = []
    for step in steps:
        try:
            seen.append(step(stream))
        except BaseException as error:
            seen.append((type(error), error.args, getattr(error, "value", None)))
    return seen


SCRIPTS: list[tuple[Callable[[], Any], list[Callable[[Any], Any]]]] = [
    (conversation, [next, lambda g: g.send("a"), lambda g: g.throw(KeyError("k")), lambda g: g.send("stop")]),
    (conversation, [next, lambda g: g.throw(ValueError("v")), next]),
    (conversation, [next, lambda g: g.close(), next]),
    (conversation, [next, lambda g: g.throw(GeneratorExit), next]),
    (conversation, [lambda g: g.send("too early"), next]),
    (conversation, [lambda g: g.throw(KeyError("before the start")), next]),
    (conversation, [lambda g: g.close(), next]),
    (ignores_exit, [next, lambda g: g.close()]),
    (returns_on_exit, [next, lambda g: g.close(), next]),
    (returns_on_exit, [next, lambda g: g.throw(GeneratorExit)]),
    (converts, [next, lambda g: g.throw(ValueError()), next]),
]


@pytest.mark.parametrize("script", range(len(SCRIPTS)))
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # ignores_exit is collected while running
def test_send_throw_close_and_return_pass_through(captured: Capture, script: int) -> None:
    bare, steps = SCRIPTS[script]
    decorated = tailsight.stage("compute")(bare)
    assert play(decorated(), steps) == play(bare(), steps)
    assert nothing_is_current()


def test_asend_athrow_and_aclose_pass_through(captured: Capture) -> None:
    closed: list[str] = []

    async def conversation() -> Any:
        received = None
        try:
            while True:
                try:
                    received = yield ("got", received)
                except KeyError as error:
                    received = yield ("caught", error.args)
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    async def main(make: Callable[[], Any]) -> list[Any]:
        stream = make()
        seen = [
            await anext(stream),
            await stream.asend("a"),
            await stream.athrow(KeyError("k")),
            await stream.asend("b"),
        ]
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        return seen

    assert asyncio.run(main(tailsight.stage("compute")(conversation))) == asyncio.run(main(conversation))
    assert closed == ["closed", "closed"]
    assert captured.one(stage="compute").attributes[keys.STREAM_ABANDONED] is True


def test_contextmanagers_made_of_decorated_generators_work(captured: Capture) -> None:
    @contextmanager
    @tailsight.stage("network")
    def connection() -> Iterator[str]:
        with suppress(KeyError):
            yield "open"

    @asynccontextmanager
    @tailsight.stage("network")
    async def async_connection() -> AsyncIterator[str]:
        yield "open"

    async def main() -> None:
        async with async_connection() as value:
            assert value == "open"

    with connection() as value:
        assert value == "open"
        raise KeyError
    asyncio.run(main())
    assert [span.status for span in captured.spans] == ["UNSET", "UNSET"]


def test_an_exception_thrown_in_leaves_no_reference_cycle() -> None:
    decorated = tailsight.stage("compute")(conversation)()
    next(decorated)
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(ValueError, match="thrown"):
            decorated.throw(ValueError("thrown"))
        del decorated
        assert not [item for item in gc.get_objects() if isinstance(item, ValueError) and item.args == ("thrown",)]
    finally:
        gc.enable()
