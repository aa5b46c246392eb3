"""Profiles whose content is known, and the spans that their samples ran for, for the Profiles view.

Run a, 90 requests of `ranker`: 30 of the tail, which alone spend about 50 ms in `slow`, and 60 typical ones. Run b: 40
requests without it. A stage `few` with 20 samples; a batch of the stage `queue`; one recording whose clock did not fit,
one of another service with very many functions, and one whose names mean harm.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from random import Random
from typing import Any

from dashboard.sample_store import PATIENCE_S, post
from testkit.otlp import request, span, span_id, trace_id
from testkit.profiles import BASE_NS, PATH, place, profile

TAIL, TYPICAL, OTHER = range(1, 31), range(101, 161), range(301, 341)
UNSEEN = 399  # a request of run a that no sample is of
MANY_NODES = 5_000
HOSTILE = "<img src=x onerror=alert(1)>*b* [a](http://such.example) $x$ `c`"
PROFILED_SPANS = 4 * len(TAIL) + 3 * (len(TYPICAL) + 1) + 2
_MS = 1_000_000
_FRAMES = [
    "main (/srv/ranker/app.py:1)", "handle (/srv/ranker/app.py:10)", "fast (/srv/ranker/score.py:20)",
    "slow (/srv/ranker/score.py:30)", "spin (/srv/ranker/score.py:40)", "acquire (/usr/lib/python3.11/threading.py:327)",
    "tokenize (/srv/ranker/text.py:7)",
]  # fmt: skip
_STACKS = [[0, 1, 2, 4], [0, 1, 3, 4], [0, 1, 3, 5], [0, 1, 6]]
FAST, SLOW, LOCKED, TOKENIZE = range(4)
FEW_SAMPLES = 20


def send_profiles(otlp_url: str, at_ns: int) -> None:
    """Send all recordings and the spans of run a; the latest sample is at `at_ns`."""
    resource = {"service.name": "ranker", "host.name": "box", "tailsight.run": "a"}
    post(otlp_url, request(_spans(at_ns), resource).SerializeToString())
    for number, service in enumerate(("wide", HOSTILE)):
        only = [_span(900 + number, 1, 0, "call", at_ns, 0, 5)]
        post(otlp_url, request(only, {"service.name": service}).SerializeToString())
    for number, plain in enumerate((ranker(), other_run(), unfitted(), many(), hostile())):
        send_profile(otlp_url, moved(plain, at_ns - (number + 1) * 60_000 * _MS))


def send_profile(otlp_url: str, plain: dict[str, Any]) -> None:
    """Send one profile, as `tailsight profile` does."""
    body, headers = json.dumps(plain).encode(), {"Content-Type": "application/json"}
    asked = urllib.request.Request(f"{otlp_url}{PATH}", data=body, headers=headers, method="POST")
    with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
        assert answer.status == 200


def moved(plain: dict[str, Any], to_ns: int) -> dict[str, Any]:
    """Move a profile in time: its first sample is at `to_ns`."""
    plain["profile"]["started_ns"] += to_ns - BASE_NS
    plain["samples"]["time_ns"] = [time_ns + to_ns - BASE_NS for time_ns in plain["samples"]["time_ns"]]
    return plain


def ranker() -> dict[str, Any]:
    """The recording that most of this is about; rows are place, stack, samples, and what the thread did."""
    places = [place(number, kind="tail", run="a") for number in TAIL] + [place(number, run="a") for number in TYPICAL]
    rows = [(number, FAST, 3 + number % 2, "running") for number in range(90)]
    # 5 or 6 samples of each tail request in `slow`, 1 to 4 of them in a lock
    locked = [1 + number % 4 for number in range(30)]
    rows += [(n, SLOW, 5 - locked[n] + n % 5 // 4, "running" if n % 3 else "gil") for n in range(30)]
    rows += [(number, LOCKED, locked[number], "gil" if number < 20 else "waiting") for number in range(30)]
    places += [place(number, stage="few", run="a") for number in TYPICAL[:10]]
    rows += [(90 + number, TOKENIZE, FEW_SAMPLES // 10, "unknown") for number in range(10)]
    batch = [f"{number:032x}" for number in TAIL[1:]]
    places += [place(TAIL[0], stage="queue", run="a", also=batch), place(200, match="ambiguous", run="a")]
    rows += [(100, TOKENIZE, 9, "running"), (101, SLOW, 60, "running")]
    return _made(places, rows, ambiguous=60, trigger="tail")


def other_run() -> dict[str, Any]:
    """Run b, without what is slow, and without classes."""
    places = [place(number, kind="", run="b") for number in OTHER]
    return _made(places, [(number, FAST, 3 + number % 2, "running") for number in range(40)])


def unfitted() -> dict[str, Any]:
    """A recording whose clock could not be fitted: its samples are of nothing."""
    places = [place(0, stage="", match="none", trace_id="", span_id="", kind="")]
    said = {"trusted": False, "offset_ms": None, "agreement": None, "by_chance": None, "margin": None, "joined": 0}
    notes = ["frames and spans agree at several offsets: nothing is joined"]
    return _made(places, [(0, FAST, 70, "running")], notes=notes, **said)


def many() -> dict[str, Any]:
    """A tree of MANY_NODES functions, 60 deep, of the service `wide`."""
    random = Random(11)
    frames = [
        f"function_{number} (/srv/wide/module_{number % 90}.py:{number % 400 + 1})" for number in range(MANY_NODES)
    ]
    way = list(range(25))  # callers of all of it
    stacks, paths = [], [way]
    for number in range(25, MANY_NODES):
        path = paths[max(0, len(paths) - 1 - int(random.expovariate(0.02)))]
        paths.append([*(path if len(path) < 60 else way), number])
        stacks.append(paths[-1])
    places = [place(900 + number, stage="infer", service="wide", kind="", run="") for number in range(40)]
    rows = [
        (number % 40, number, 1 + number % 3, ("running", "gil", "waiting")[number % 3])
        for number in range(len(stacks))
    ]
    return _made(places, rows, service="wide") | {"frames": frames, "stacks": stacks}


def hostile() -> dict[str, Any]:
    """Names that mean harm, of stages, services and functions."""
    places = [place(700 + number, stage=HOSTILE, service=HOSTILE, kind="", run="") for number in range(30)]
    plain = _made(places, [(number, SLOW, 2, "running") for number in range(30)], service=HOSTILE, notes=[HOSTILE])
    plain["frames"] = [f"{HOSTILE}{number} (/srv/{HOSTILE}.py:{number + 1})" for number in range(len(_FRAMES))]
    return plain


def _made(places: list[dict[str, Any]], rows: list[tuple[int, int, int, str]], **said: object) -> dict[str, Any]:
    plain = profile(places, [(where, stack, number) for where, stack, number, _ in rows], **said)
    plain["frames"], plain["stacks"] = list(_FRAMES), [list(stack) for stack in _STACKS]
    plain["samples"]["state"] = [state for *_, state in rows]
    once = {one: at for at, one in enumerate(plain["requests"]["trace_id"])}  # a request has several places
    for name, values in plain["requests"].items():
        plain["requests"][name] = [values[at] for one, at in once.items() if one]
    return plain


def _spans(at_ns: int) -> Iterator[dict[str, Any]]:
    for number in (*TAIL, *TYPICAL, UNSEEN):
        is_tail = number in TAIL
        start_ns = at_ns - (400 - number) * 100 * _MS
        length_ms = 95 if is_tail else 45
        parts = [("queue", 0, 3)] if is_tail else []
        for at, (stage, begin, end) in enumerate(
            [*parts, ("preprocess", 3, 5), ("compute", 5, length_ms - 1)], start=2
        ):
            yield _span(number, at, 1, stage, start_ns, begin, end)
        yield _span(number, 1, 0, "handle", start_ns, 0, length_ms)


def _span(trace: int, number: int, parent: int, name: str, start_ns: int, begin: float, end: float) -> dict[str, Any]:
    return span(
        trace_id=trace_id(trace),
        span_id=span_id(trace * 10 + number),
        parent_span_id=span_id(trace * 10 + parent) if parent else b"",
        name=name,
        start_time_unix_nano=start_ns + round(begin * _MS),
        end_time_unix_nano=start_ns + round(end * _MS),
        attributes={"tailsight.stage": name} if parent else {},
    )
