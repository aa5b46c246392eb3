"""Which request an item that was taken from a queue belongs to.

An item is found again by identity, and an id alone does not tell: the next object may lie where a dead one lay. So an
object that can be referenced weakly is known until it dies. A dict, list, tuple, str or number cannot, and must not be
kept alive for us either. Of those, each consumer has a list of what it took since its last batch, and a batch is
believed only if it has *all* of them: then each request is counted once and none is missed, whatever their order.
"""

import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._carry import Carrier

MAX_KNOWN = 65_536
"""So many living objects are known at most; with more the oldest are forgotten."""

MAX_TAKEN = 1024
"""So many dicts, lists, … are remembered of a consumer; a larger batch needs `requests=`."""


class _Known(weakref.ref[Any]):
    """A weak reference to an item, with its request."""

    __slots__ = ("carrier", "key")

    carrier: "Carrier"
    key: int


_known: dict[int, _Known] = {}


def _forget(known: weakref.ref[Any]) -> None:
    if isinstance(known, _Known) and _known.get(known.key) is known:
        _known.pop(known.key, None)


class Taken:
    """What one thread or task took since its last batch, of what cannot be referenced weakly."""

    __slots__ = ("entries", "owner")

    def __init__(self, owner: int) -> None:
        self.owner = owner
        self.entries: deque[tuple[int, type, Carrier, int]] = deque(maxlen=MAX_TAKEN)


_taken: ContextVar[Taken | None] = ContextVar("tailsight_taken", default=None)


def begin(owner: int) -> Taken:
    """Return the caller's list. A task inherits its parent's context, but not its list."""
    taken = _taken.get()
    if taken is None or taken.owner != owner:
        taken = Taken(owner)
        _taken.set(taken)
    return taken


def remember(item: object, carrier: "Carrier | None", queue: int) -> None:
    """Note whose item this is. `carrier` is None if it belongs to no request."""
    key = id(item)
    if type(item).__weakrefoffset__:
        if carrier is None:
            _known.pop(key, None)
            return
        known = _Known(item, _forget)
        known.carrier, known.key = carrier, key
        _known[key] = known
        if len(_known) > MAX_KNOWN:
            with suppress(RuntimeError, StopIteration):  # another thread changed it: that one cares for the bound
                _known.pop(next(iter(_known)), None)
    elif carrier is not None:
        taken = _taken.get()
        if taken is not None:
            taken.entries.append((key, type(item), carrier, queue))


def done(queue: int) -> None:
    """Forget the item that the caller took from `queue` last."""
    taken = _taken.get()
    if taken is not None and taken.entries and taken.entries[-1][3] == queue:
        taken.entries.pop()


def find(item: object) -> "Carrier | None":
    """Return the request of one item."""
    if type(item).__weakrefoffset__:
        known = _known.get(id(item))
        return known.carrier if known is not None and known() is item else None
    taken = _taken.get()
    if taken is not None and taken.entries:
        key, kind, carrier, _ = taken.entries[-1]
        if key == id(item) and kind is type(item):
            return carrier
    return None


def find_all(items: Sequence[object]) -> list["Carrier | None"]:
    """Return the requests of a batch's items, None where an item has none or it cannot be told."""
    found: list[Carrier | None] = []
    taken = _taken.get()
    uncertain: dict[tuple[int, type], list[Carrier]] = {}
    if taken is not None:
        for key, kind, carrier, _ in taken.entries:
            uncertain.setdefault((key, kind), []).append(carrier)
    matched: list[tuple[int, Carrier]] = []
    for position, item in enumerate(items):
        if type(item).__weakrefoffset__:
            found.append(find(item))
            continue
        found.append(None)
        same = uncertain.get((id(item), type(item)))
        if same:
            matched.append((position, same.pop(0)))
    if taken is not None:
        if len(matched) == len(taken.entries):
            for position, carrier in matched:
                found[position] = carrier
        taken.entries.clear()
    return found
