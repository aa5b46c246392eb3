"""What does an item cost: of a decorated generator, over the bare one, and of a queue, over the standard library's?

Interleaved rounds in one process, in a request. Finished spans are packed and thrown away, as by a full buffer: encoding
is another process's work. Figures are nanoseconds per item. Run it with: python tests/benchmarks/bench_streams.py
"""

import asyncio
import gc
import json
import platform
import queue
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import tailsight
from tailsight._clock import Clock
from tailsight._ids import Ids
from tailsight._recorder import Limits, Recorder, current, discard

ITEMS = 2048
ROUNDS = 100
QUEUED = 64

Contender = Callable[[], float]


def bare(n: int) -> Iterator[int]:
    for token in range(n):  # noqa: UP028  a generator that does something
        yield token


async def async_bare(n: int) -> AsyncIterator[int]:
    for token in range(n):
        yield token


decorated = tailsight.stage("compute")(bare)
async_decorated = tailsight.stage("compute")(async_bare)


def of_stream(make: Callable[[int], Any]) -> Contender:
    def run() -> float:
        stream = make(ITEMS)
        begin = time.perf_counter_ns()
        for _ in stream:
            pass
        return (time.perf_counter_ns() - begin) / ITEMS

    return run


def of_async_stream(make: Callable[[int], Any], loop: asyncio.AbstractEventLoop) -> Contender:
    async def consume() -> float:
        stream = make(ITEMS)
        begin = time.perf_counter_ns()
        async for _ in stream:
            pass
        return (time.perf_counter_ns() - begin) / ITEMS

    return lambda: loop.run_until_complete(consume())


def of_queue(make: Callable[[], Any]) -> Contender:
    waiting = make()
    items = [object() for _ in range(QUEUED)]

    def run() -> float:
        begin = time.perf_counter_ns()
        for item in items:
            waiting.put(item)
        for _ in items:
            waiting.get()
        return (time.perf_counter_ns() - begin) / QUEUED

    return run


def of_async_queue(make: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> Contender:
    items = [object() for _ in range(QUEUED)]

    async def run() -> float:
        waiting = make()
        begin = time.perf_counter_ns()
        for item in items:
            await waiting.put(item)
        for _ in items:
            await waiting.get()
        return (time.perf_counter_ns() - begin) / QUEUED

    return lambda: loop.run_until_complete(run())


def main() -> None:
    loop = asyncio.new_event_loop()
    pairs: dict[str, tuple[Contender, Contender]] = {
        "generator": (of_stream(bare), of_stream(decorated)),
        "async generator": (of_async_stream(async_bare, loop), of_async_stream(async_decorated, loop)),
        "stream(generator)": (of_stream(bare), of_stream(lambda n: tailsight.stream(bare(n)))),
        "stream(async generator)": (
            of_async_stream(async_bare, loop),
            of_async_stream(lambda n: tailsight.stream(async_bare(n)), loop),
        ),
        "queue.Queue": (of_queue(queue.Queue), of_queue(tailsight.Queue)),
        "asyncio.Queue": (of_async_queue(asyncio.Queue, loop), of_async_queue(tailsight.AsyncQueue, loop)),
    }
    figures: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in pairs}
    before = current.recorder
    current.recorder = Recorder(clock=Clock(), ids=Ids(), limits=Limits(), push=discard)
    try:
        with tailsight.request("bench"):
            for round_number in range(ROUNDS + 2):
                for name, (plain, measured) in pairs.items():
                    gc.collect(0)
                    one, other = plain(), measured()
                    if round_number >= 2:  # the first rounds warm up
                        figures[name][0].append(one)
                        figures[name][1].append(other)
    finally:
        current.recorder = before
        loop.close()

    print(f"Python {platform.python_version()}, {ROUNDS} rounds; ns per item; over: measured minus bare")
    print(f"{'':26}{'bare':>18}{'measured':>18}{'over':>18}")
    print(f"{'':26}" + f"{'min':>9}{'median':>9}" * 3)
    summary: dict[str, object] = {"bench": "streams", "python": platform.python_version(), "unit": "ns_per_item"}
    for name, (plain_ns, measured_ns) in figures.items():
        cells = [min(plain_ns), statistics.median(plain_ns), min(measured_ns), statistics.median(measured_ns)]
        over = [cells[2] - cells[0], cells[3] - cells[1]]
        print(f"{name:26}" + "".join(f"{cell:9.0f}" for cell in cells + over))
        summary[name] = {
            "over_min": round(over[0], 1),
            "over_median": round(over[1], 1),
            "bare_min": round(cells[0], 1),
        }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
