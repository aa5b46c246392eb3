"""Which requests are kept, where a rate is set: decided at a request's end, because only then is it known to be slow.

Errors and slow requests are kept, always. Of the rest a part is kept that depends on the trace id alone, as
OpenTelemetry's consistent probability sampling does it (the id's last 56 bits are its randomness), so that all services
of a trace agree. A kept request says for how many it stands; what was not kept is counted.

Requests end in many threads, and a lock would cost more than a decision. So what is remembered of earlier ones is only
about right: two threads may count over each other, and whoever goes through a table does so in a copy of its own.
"""

from collections.abc import Callable
from enum import StrEnum

RANDOM_BITS = 56
_RANDOM_MASK = 2**RANDOM_BITS - 1

MIN_OBSERVATIONS = 100
"""Requests of one name that must have been seen before one of them can be called slow: a p99 of fewer is a maximum."""
_REFRESH_EVERY = 64
_FORGET_AT = 8192
_MAX_NAMES = 256
_SUB_BITS = 7  # 128 buckets for each doubling: bounds are at most 0.8 % apart
_FORGOTTEN = 0.1  # a bucket that weighs less is gone


class Reason(StrEnum):
    """Why a request was kept, or not."""

    ERROR = "error"  # a span of it has status ERROR
    DEADLINE = "deadline"  # it took longer than its own tailsight.deadline_ms
    SLOW = "slow"  # it took longer than the running p99 of requests of its name
    LONG = "long"  # it had so many spans that they could not wait for its end
    RATE = "rate"  # its trace id is, or is not, within the rate
    UNDECIDED = "undecided"  # the decision itself failed, a defect of ours: it is kept, and stands for itself


Decision = tuple[float, str]
"""A kept request's weight (1 / the probability with which it was kept) and the reason."""


class RunningP99:
    """A running estimate of the 99th percentile: a log-linear histogram that forgets half of its past now and then."""

    __slots__ = ("_counts", "_until_refresh", "threshold_ns")

    def __init__(self) -> None:
        self._counts: dict[int, float] = {}
        self._until_refresh = MIN_OBSERVATIONS
        self.threshold_ns: int | None = None
        """Durations over it are slow; None until there is an estimate."""

    def add(self, duration_ns: int) -> None:
        """Take a duration into account, from the next refresh on."""
        duration_ns = max(0, duration_ns)
        shift = max(0, duration_ns.bit_length() - _SUB_BITS - 1)
        bucket = (shift << (_SUB_BITS + 1)) + (duration_ns >> shift)
        counts = self._counts
        counts[bucket] = counts.get(bucket, 0) + 1
        self._until_refresh -= 1
        if self._until_refresh <= 0:
            self._refresh()

    def _refresh(self) -> None:
        counts = self._counts.copy()  # in one step: other threads go on counting
        total = sum(counts.values())
        self._until_refresh = max(_REFRESH_EVERY, int(total) // 16)
        above = total / 100
        for bucket in sorted(counts, reverse=True):
            above -= counts[bucket]
            if above <= 0:  # this bucket holds the quantile: what is over its upper end is certainly beyond
                shift = bucket >> (_SUB_BITS + 1)
                self.threshold_ns = ((bucket & (2 ** (_SUB_BITS + 1) - 1)) + 1 << shift) - 1
                break
        if total >= _FORGET_AT:
            # Halved as fractions: what is rare is what this is about, and must fade no faster than the rest.
            self._counts = {bucket: count / 2 for bucket, count in counts.items() if count / 2 >= _FORGOTTEN}


class SlowRequests:
    """Tells slow requests from others, by their name. Bounded: names over the limit share one estimate."""

    __slots__ = ("_by_name",)

    def __init__(self) -> None:
        self._by_name: dict[str, RunningP99] = {}

    def is_slow(self, name: str, duration_ns: int) -> bool:
        """Compare a request with the ones before it, and remember it."""
        if name not in self._by_name and len(self._by_name) >= _MAX_NAMES:
            name = ""
        running = self._by_name.get(name)
        if running is None:
            running = self._by_name[name] = RunningP99()
        threshold_ns = running.threshold_ns
        running.add(duration_ns)
        return threshold_ns is not None and duration_ns > threshold_ns


class TailSampler:
    """Decides about a request at its end."""

    __slots__ = ("_count", "_slow", "_threshold", "_weight")

    def __init__(self, rate: float, count: Callable[[Reason, bool], None]) -> None:
        """`rate` in [0, 1] is the part to keep of what is neither an error nor slow; `count` is told each decision."""
        self._threshold = round((1.0 - rate) * 2**RANDOM_BITS)
        self._weight = 1.0 / rate if rate > 0 else 1.0
        self._slow = SlowRequests()
        self._count = count

    def decide(
        self,
        *,
        trace_id: int,
        name: str,
        duration_ns: int,
        failed: bool,
        deadline_ms: object = None,
        long: bool = False,
    ) -> Decision | None:
        """Return the weight and the reason with which a request is kept, or None to drop it. It never raises.

        Where the decision fails, the request is kept: what an error of ours loses must not be what is looked for.
        """
        try:
            slow = self._slow.is_slow(name, duration_ns)
            reason = Reason.RATE
            if failed:
                reason = Reason.ERROR
            elif isinstance(deadline_ms, int | float) and duration_ns > deadline_ms * 1_000_000:
                reason = Reason.DEADLINE
            elif slow:
                reason = Reason.SLOW
            elif long:
                reason = Reason.LONG
            kept = reason is not Reason.RATE or trace_id & _RANDOM_MASK >= self._threshold
        except Exception as error:
            _caught("deciding about a request", error)
            reason, kept = Reason.UNDECIDED, True
        try:
            self._count(reason, kept)
        except Exception as error:
            _caught("counting a decision", error)
        if not kept:
            return None
        return self._weight if reason is Reason.RATE else 1.0, reason.value


def _caught(where: str, error: Exception) -> None:
    from ._guard import caught  # it counts in _stats, which knows the reasons above

    caught(where, error)
