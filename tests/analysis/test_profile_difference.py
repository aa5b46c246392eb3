"""Differences of flame graphs: who comes first, and how often chance is taken for a difference."""

from __future__ import annotations

import numpy as np
import pytest

from tailsight_analysis import NotEnoughDataError, QuestionError
from tailsight_analysis.profiles import FlameDifference, Frame, JoinedSample, Match, State, difference

FUNCTIONS = ("parse", "embed", "rank", "decode", "log", "lock")


def sample(trace: int, *names: str) -> JoinedSample:
    stack = tuple(Frame(name, "app.py") for name in ("main", "handle", *names))
    return JoinedSample(0, 1, stack, State.RUNNING, Match.EXACT, trace_id=f"{trace:032x}", stage="compute")


def requests_of(random: np.random.Generator, first: int, count: int) -> tuple[list[JoinedSample], list[str]]:
    """Requests whose samples hang together: each has a favourite function, and lasts as long as it happens to."""
    samples = []
    for trace in range(first, first + count):
        favourite = random.dirichlet(np.full(len(FUNCTIONS), 0.3))
        chosen = random.choice(FUNCTIONS, size=int(random.lognormal(1.0, 0.8)), p=favourite)
        samples += [sample(trace, str(function), "spin") for function in chosen]
    return samples, [f"{trace:032x}" for trace in range(first, first + count)]


def compare(a: tuple[list[JoinedSample], list[str]], b: tuple[list[JoinedSample], list[str]]) -> FlameDifference:
    return difference(a[0], b[0], 100, requests_a=a[1], requests_b=b[1])


def test_chance_is_hardly_ever_taken_for_a_difference() -> None:
    """Two draws of the same requests: with 60 of them, ten false alarms are 2.4 standard errors from 5 %."""
    alarms = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        found = compare(requests_of(random, 0, 40), requests_of(random, 1000, 120))
        alarms += any(entry.certain for entry in found.functions)
    assert alarms <= 7


def test_the_function_that_only_one_class_runs_comes_before_its_callers_and_callees() -> None:
    random = np.random.default_rng(3)
    tail, typical = requests_of(random, 0, 60), requests_of(random, 1000, 200)
    for trace in range(60):
        tail[0].extend(sample(trace, "slow", "inner", "spin") for _ in range(4 + trace % 3))
    found = compare(tail, typical)
    first = found.functions[0]
    assert (first.function, first.certain, first.b.samples) == ("slow", True, 0)
    assert first.low_ms < 50 < first.high_ms
    assert found.functions[1].function == "inner"
    assert found.stacks[0][0] == "main;handle;slow;inner;spin"


def test_one_request_with_many_samples_proves_nothing() -> None:
    """To count samples as if each were a request of its own would find 200 against none beyond all doubt."""
    random = np.random.default_rng(5)
    tail, typical = requests_of(random, 0, 60), requests_of(random, 1000, 200)
    tail[0].extend(sample(7, "rare") for _ in range(200))
    rare = next(entry for entry in compare(tail, typical).functions if entry.function == "rare")
    assert rare.a.samples == 200
    assert not rare.certain


def test_requests_that_nobody_saw_count_in_the_time_per_request() -> None:
    random = np.random.default_rng(6)
    a, b = requests_of(random, 0, 60), requests_of(random, 1000, 60)
    seen = compare((a[0], []), (b[0], []))
    every = compare(a, b)
    assert every.requests_a == 60 > seen.requests_a
    assert every.functions[0].a.ms * 60 == pytest.approx(
        next(e for e in seen.functions if e.function == every.functions[0].function).a.ms * seen.requests_a
    )


def test_the_same_question_has_the_same_answer() -> None:
    sides = [requests_of(np.random.default_rng(seed), 1000 * seed, 60) for seed in (1, 2)]
    assert compare(sides[0], sides[1]).to_json() == compare(sides[0], sides[1]).to_json()


def test_samples_of_no_known_request_are_shown_and_not_compared() -> None:
    a, b = (requests_of(np.random.default_rng(seed), 1000 * seed, 60) for seed in (1, 2))
    lost = JoinedSample(0, 1, (Frame("main", "app.py"),), State.RUNNING, Match.STAGE, stage="compute")
    found = compare((a[0] + [lost] * 5, a[1]), b)
    assert (found.samples_a, found.unassigned_a) == (len(a[0]), 5)
    assert found.flame_a.samples == len(a[0]) + 5


def test_too_few_requests_and_requests_of_both_classes_are_refused() -> None:
    many = [sample(trace % 5, "a") for trace in range(100)]
    others = [sample(100 + trace, "a") for trace in range(100)]
    with pytest.raises(NotEnoughDataError, match="5 requests are tail, 5 more"):
        difference(many, others, 100)
    with pytest.raises(QuestionError, match="both tail and typical"):
        difference(others, others, 100)
