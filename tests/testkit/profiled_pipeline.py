"""A service to be profiled: `python pipeline.py KIND REQUESTS OUT` waits for a line on stdin, works, writes its spans.

Each request runs code objects of its own, named after it: so a stack tells, to a test, whose it is.
"""

import asyncio
import json
import sys
import threading
from pathlib import Path
from time import thread_time_ns
from types import FunctionType

import tailsight
from tailsight.testing import capture

KEPT = []


def work(ms):
    end = thread_time_ns() + ms * 1_000_000
    x = 0
    while thread_time_ns() < end:
        for i in range(200):
            x += i
    return x


def own(function, name):
    made = FunctionType(function.__code__.replace(co_name=name, co_qualname=name), globals())
    KEPT.append(made)
    return made


def slow_path():
    work(12)


def other_path():
    work(0.5)


def handle(number):
    with tailsight.request(f"r{number}"):
        with tailsight.stage("preprocess"):
            own(work, f"work_preprocess_r{number}")(2)
        own(work, f"work_between_r{number}")(0.5)
        with tailsight.stage("compute"):
            own(work, f"work_compute_r{number}")(5)
            if number % 10 == SLOW_OF_TEN:
                slow_path()
            elif number % 2:
                other_path()
            with tailsight.stage("lookup"):
                own(work, f"work_lookup_r{number}")(1.5)
        decode(number)


@tailsight.stage("postprocess")
def decode(number):
    own(work, f"work_postprocess_r{number}")(1)


async def handle_async(number):
    with tailsight.request(f"r{number}"):
        with tailsight.stage("preprocess"):
            own(work, f"work_preprocess_r{number}")(2)
        await asyncio.sleep(0.003)
        with tailsight.stage("compute"):
            await compute_async(number)
        async with tailsight.stage("lookup"):
            await asyncio.sleep(0.005)
            own(work, f"work_lookup_r{number}")(1)
        own(work, f"work_between_r{number}")(0.5)
        decode(number)


async def compute_async(number):
    own(work, f"work_compute_r{number}")(4)


SLOW_OF_TEN = 3  # of the requests r3, r13, r23, …


def threads(count):
    def loop(first):
        for number in range(first, count, 2):
            handle(number)

    own_threads = [threading.Thread(target=loop, args=(first,)) for first in range(2)]
    for thread in own_threads:
        thread.start()
    for thread in own_threads:
        thread.join()


def coroutines(count):
    async def loop(first):
        for number in range(first, count, 4):
            await handle_async(number)

    async def everything():
        await asyncio.gather(*(loop(first) for first in range(4)))

    asyncio.run(everything())


def main():
    kind, count, out = sys.argv[1:]
    sys.stdin.readline()
    with capture() as captured:
        {"threads": threads, "asyncio": coroutines}[kind](int(count))
    spans = [
        {
            "trace_id": span.trace_id,
            "span_id": span.span_id,
            "parent_span_id": span.parent_span_id or "",
            "stage": span.stage or "",
            "name": span.name,
            "thread_id": span.thread_id,
            "start_ns": span.start_unix_ns,
            "end_ns": span.start_unix_ns + span.duration_ns,
        }
        for span in captured.spans
    ]
    Path(out).write_text(json.dumps(spans))


if __name__ == "__main__":
    main()
