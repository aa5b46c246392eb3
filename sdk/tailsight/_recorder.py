"""What a span needs in order to record: clock, ids, limits, and where finished batches go.

One recorder is current at a time; configure(), a fork and tailsight.testing put another in its place. A trace keeps the
recorder that it began with, so `recorder is trace.recorder` tells a span whether its parent belongs to another process.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ._clock import Clock
from ._ids import Ids
from ._options import DEFAULT_MAX_ATTRIBUTES, DEFAULT_MAX_EVENTS, DEFAULT_MAX_VALUE_LENGTH, Settings
from ._sampling import TailSampler

Push = Callable[[bytes, int], None]
"""Takes a packed batch and its number of spans. Must not block and must not raise."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a span may hold."""

    attributes: int = DEFAULT_MAX_ATTRIBUTES
    events: int = DEFAULT_MAX_EVENTS
    value_length: int = DEFAULT_MAX_VALUE_LENGTH

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Take the limits from the settings."""
        return cls(settings.max_attributes, settings.max_events, settings.max_value_length)


class Recorder:
    """Everything that recording needs, in slots, since the hot path reads it."""

    __slots__ = (
        "clock",
        "enabled",
        "limits",
        "new_span_id",
        "new_trace_id",
        "now",
        "push",
        "sampler",
    )

    def __init__(
        self,
        *,
        clock: Clock,
        ids: Ids,
        limits: Limits,
        push: Push,
        enabled: bool = True,
        sampler: TailSampler | None = None,
    ) -> None:
        self.clock = clock
        self.now = clock.now
        self.new_span_id = ids.span_id
        self.new_trace_id = ids.trace_id
        self.limits = limits
        self.push = push
        self.enabled = enabled
        self.sampler = sampler  # None: everything is kept


def discard(packed: bytes, spans: int) -> None:
    """Take batches that nobody wants: those of a disabled recorder, and of the parent process after a fork."""


class Current:
    """The process's current recorder. `recorder` is None until the first use, when `configure` makes one."""

    __slots__ = ("configure", "recorder")

    def __init__(self) -> None:
        self.recorder: Recorder | None = None
        self.configure: Callable[[], Recorder] | None = None

    def get(self) -> Recorder | None:
        """Return the recorder, made from the environment if nobody called configure()."""
        if self.recorder is None and self.configure is not None:
            self.recorder = self.configure()
        return self.recorder


current = Current()
