"""Which cases there are: kinds and numbers, fixed for good."""

from __future__ import annotations

from testkit.simulator.case import KINDS

COUNTS = {
    "slow_stage": 20, "slow_hardware": 18, "slow_version": 20, "batch_size": 16, "queue_build_up": 20,
    "periodic_pause": 18, "thermal_throttling": 18, "lock_contention": 14, "cache_misses": 16, "network_delay": 18,
    "two_causes": 22, "mix_shift": 20, "clock_skew": 12, "nothing": 30,
}  # fmt: skip


def plan(cases: int | None = None, kind: str | None = None, first: int = 0) -> list[tuple[str, int]]:
    """Return (kind, number) of all cases, kinds in turn; the first `cases` of them, or those of one kind.

    `first` is the number that each kind begins with: other cases of the same kinds, as many.
    """
    counts = {each: COUNTS[each] for each in KINDS if kind in (None, each)}
    wanted = [
        (each, first + number)
        for number in range(max(counts.values(), default=0))
        for each in counts
        if number < counts[each]
    ]
    if kind and cases:  # of one kind there are as many as wanted
        return [(kind, first + number) for number in range(cases)]
    return wanted[:cases]


def find(name: str) -> tuple[str, int]:
    """Find a case by its name (`cache_misses-03`) or its seed (8003). Raises ValueError."""
    if name.isdecimal():
        place, number = divmod(int(name), 1000)
        if place < len(KINDS):
            return KINDS[place], number
    kind, _, number_text = name.rpartition("-")
    if kind in KINDS and number_text.isdecimal():
        return kind, int(number_text)
    raise ValueError(f"no case {name!r}: use a name like {KINDS[0]}-03, or a seed below {1000 * len(KINDS)}")
