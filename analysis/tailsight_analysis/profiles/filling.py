"""From changes of stacks to observations of threads.

A sample sees every thread; the file has only those whose stack changed. So each sample that any thread betrays is an
observation of all threads known by then. What remains silent, because nothing at all had changed, is filled in by the
rate. py-spy samples at random (exponential) intervals of mean 1/rate, so a silent gap g holds rate × g − 1 samples on
average, less than none where it is short: these debts are carried on (error diffusion, Floyd and Steinberg 1976), so
that neither a busy process gets samples that nobody took, nor a waiting one loses those that were taken.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tailsight_analysis.profiles.errors import UnreadableProfileError

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MAX_OBSERVATIONS = 40_000_000
ONE_SAMPLE_US = 200
"""Changes of different threads so close to each other are of one sample: writing them takes py-spy far less."""
_LEAST_GAP = 1.5  # of 1/rate: within less there is nothing to fill in
_MOST_DEBT = 10.0  # samples


def observations(
    times_us: Ints, thread: Ints, stack: Ints, *, rate_hz: float, idle: bool
) -> tuple[Ints, Ints, Ints, Bools]:
    """Return the observations' times (µs), threads, stacks, and whether each is written down rather than filled in.

    The changes come in the order of time. Without `idle` a thread that does not change may not have been looked at:
    only the changes are observations then.
    """
    if not idle or not len(times_us):
        return times_us.copy(), thread.copy(), stack.copy(), np.ones(len(times_us), dtype=bool)
    sample = _sample_of(times_us, thread)
    moments = times_us[np.concatenate(([True], np.diff(sample) > 0))]
    if float(moments[-1] - moments[0]) * rate_hz / 1e6 > MAX_OBSERVATIONS:
        raise _too_many()
    fills = _fills(moments, rate_hz)
    first = np.concatenate(([0], np.cumsum(1 + fills)))  # where each sample stands among all, the filled ones included
    whole = np.empty(int(first[-1]), dtype=np.int64)
    taken = np.zeros(len(whole), dtype=bool)
    whole[first[:-1]], taken[first[:-1]] = moments, True
    for at in np.flatnonzero(fills):
        count, gap = int(fills[at]), int(moments[at + 1] - moments[at])
        whole[first[at] + 1 : first[at] + 1 + count] = moments[at] + gap * np.arange(1, count + 1) // (count + 1)
    grouped = np.argsort(thread, kind="stable")
    bounds = np.searchsorted(thread[grouped], np.arange(int(thread.max()) + 2))
    parts: list[tuple[Ints, Ints, Ints, Bools]] = []
    total = 0
    for each in range(len(bounds) - 1):
        own = grouped[bounds[each] : bounds[each + 1]]
        begins: Ints = first[sample[own]]
        if not len(begins):
            continue
        total += len(whole) - int(begins[0])
        if total > MAX_OBSERVATIONS:
            raise _too_many()
        rows = np.arange(int(begins[0]), len(whole))
        held = np.searchsorted(begins, rows, side="right") - 1
        # After its last change a thread may have ended: nobody says so.
        known = taken[rows] & (rows <= int(begins[-1]))
        parts.append((whole[rows], np.full(len(rows), each, dtype=np.int64), stack[own][held], known))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return columns[0][order], columns[1][order], columns[2][order], columns[3][order].astype(bool)


def _sample_of(times_us: Ints, thread: Ints) -> Ints:
    """Count the samples up: a sample changes a thread once, and is written within ONE_SAMPLE_US."""
    numbers = np.empty(len(times_us), dtype=np.int64)
    number, begun, members = -1, -(1 << 62), set[int]()
    for at, (time, each) in enumerate(zip(times_us.tolist(), thread.tolist(), strict=True)):
        if time - begun > ONE_SAMPLE_US or each in members:
            number += 1
            members = set()
        begun = time
        members.add(each)
        numbers[at] = number
    return numbers


def _fills(moments_us: Ints, rate_hz: float) -> Ints:
    """How many samples to fill in after each."""
    fills = np.zeros(len(moments_us), dtype=np.int64)
    debt = 0.0
    gaps = np.diff(moments_us) * (rate_hz / 1e6)
    for at, gap in enumerate(gaps.tolist()):
        debt = max(debt + gap - 1.0, -_MOST_DEBT)
        if debt >= 1.0 and gap >= _LEAST_GAP:
            count = int(min(debt, gap))
            fills[at] = count
            debt -= count
        debt = min(debt, _MOST_DEBT)
    return fills


def _too_many() -> UnreadableProfileError:
    return UnreadableProfileError(
        f"the trace has more than {MAX_OBSERVATIONS:,} observations: record less at a time, or at a lower rate"
    )
