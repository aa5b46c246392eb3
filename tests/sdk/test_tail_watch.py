"""The sidecar's estimate of the tail: right within its buckets, forgetful, and small."""

import random

import numpy as np
import pytest

from tailsight._tail_watch import SLOT_S, TailWatch


def fed(durations_ms: list[float], factor: float = 1.5, *, usual_ms: float = 10.0) -> TailWatch:
    """A watch to which 1,000 requests are usual, and these are of the last slot."""
    watch = TailWatch(factor, 0.0)
    for _ in range(1000):
        watch.add(int(usual_ms * 1e6))
    watch.look(7 * SLOT_S)
    for ms in durations_ms:
        watch.add(int(ms * 1e6))
    return watch


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.0], ids=["narrow", "wide", "very_wide"])
def test_the_recent_p99_is_right_within_three_percent(spread: float) -> None:
    made = random.Random(5)
    durations_ms = [50 * made.lognormvariate(0, spread) for _ in range(5000)]
    found = fed(durations_ms).look(7.5 * SLOT_S)
    assert found is not None
    recent_ms, usual_ms = found
    assert recent_ms == pytest.approx(np.quantile(durations_ms, 0.99), rel=0.035)
    assert usual_ms == pytest.approx(10.0, rel=0.035)


def test_it_takes_as_much_as_the_factor_says() -> None:
    for factor, exceeded in ((1.5, True), (2.5, False)):
        assert (fed([20.0] * 30, factor).look(7.5 * SLOT_S) is not None) is exceeded


def test_a_minute_later_it_is_usual_and_in_the_end_forgotten() -> None:
    watch = fed([30.0] * 30)
    assert watch.look(7.9 * SLOT_S)
    assert watch.look(14 * SLOT_S) is None, "there is nothing recent"
    assert sum(watch._usual.values()) == pytest.approx(1030, rel=0.05)
    watch.look(10_000 * SLOT_S)
    assert watch._usual == {}


def test_it_stays_small_whatever_comes() -> None:
    watch = TailWatch(1.5, 0.0)
    made = random.Random(1)
    for number in range(50_000):
        watch.add(made.randrange(-10, 2 ** made.randrange(1, 63)))
        if number % 500 == 0:
            watch.look(number / 500 * SLOT_S)
    assert len(watch._usual) + sum(len(slot) for slot in watch._slots) < 8 * 64 * 32
