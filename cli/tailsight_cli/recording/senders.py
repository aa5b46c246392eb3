"""What senders say of themselves: the counters that the tailsight SDK attaches to each batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope

from tailsight import attributes as keys


@dataclass(slots=True)
class _Sender:
    numbers: set[int] = field(default_factory=set)
    latest: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    has_said_last: bool = False


class Senders:
    """The senders of one run, by what their batches say."""

    def __init__(self) -> None:
        self._senders: dict[str, _Sender] = {}

    def add(self, scope: InstrumentationScope) -> None:
        """Take note of a batch's scope; of others there is nothing to note."""
        said = {pair.key: pair.value for pair in scope.attributes}
        if keys.BATCH_NUMBER not in said or keys.SENDER_ID not in said:
            return
        number = said[keys.BATCH_NUMBER].int_value
        sender = self._senders.setdefault(said[keys.SENDER_ID].string_value, _Sender())
        sender.numbers.add(number)
        sender.has_said_last |= keys.SENDER_LAST in said
        if number > sender.latest:
            sender.latest = number
            dropped: Iterable[Any] = (
                said[keys.SENDER_DROPPED].kvlist_value.values if keys.SENDER_DROPPED in said else ()
            )
            sender.dropped = {pair.key: pair.value.int_value for pair in dropped}

    @property
    def dropped(self) -> dict[str, int]:
        """Spans that the senders say they dropped, by reason."""
        total: Counter[str] = Counter()
        for sender in self._senders.values():
            total.update(sender.dropped)
        return dict(total)

    @property
    def missing_batches(self) -> int:
        """Batches whose numbers have not come."""
        return sum(sender.latest - len(sender.numbers) for sender in self._senders.values())

    @property
    def cut_off(self) -> int:
        """Senders that ended without a last word."""
        return sum(not sender.has_said_last for sender in self._senders.values())
