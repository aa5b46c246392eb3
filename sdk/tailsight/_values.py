"""Attribute values: what the user passed becomes plain, bounded data.

What comes out consists of exact str, bool, int, float, bytes, None, list and dict. It is a copy, because the user may
go on changing what was passed; and exact, because `marshal` writes the raw memory of a numpy scalar without complaint.
"""

import numbers
from collections.abc import Iterable, Iterator, Mapping, Set
from itertools import islice
from typing import TypeVar

from ._signals import raise_if_host_signal

MAX_DEPTH = 8  # deeper nesting becomes text

Value = str | bool | int | float | bytes | None | list["Value"] | dict[str, "Value"]

T = TypeVar("T")

FIXED_SIZE = frozenset({bool, int, float, type(None)})
"""Types that need no cleaning, whatever the value."""


def text(value: object, max_length: int) -> str:
    """Return str(value), at most `max_length` characters of it, even where str() fails."""
    try:
        # str.__str__ returns the text itself for subclasses such as StrEnum, whatever their own __str__ does.
        shown = str.__str__(value) if isinstance(value, str) else str(value)
        return str.__str__(shown)[:max_length]
    except Exception as error:
        raise_if_host_signal(error)
        return f"<{type(value).__name__}: str() failed>"[: max(0, max_length)]


def clean(value: object, max_length: int) -> Value:
    """Return `value` as plain data.

    `max_length` bounds the characters of a text, the bytes of a bytes value, and of a collection the number of items as
    well as the sum of its characters and bytes, those of nested collections included. What is over is cut off.
    """
    try:
        return _Cleaner(max_length).clean(value, MAX_DEPTH)
    except Exception as error:  # a mapping or a number of the application's that cannot be read
        raise_if_host_signal(error)
        return f"<{type(value).__name__}: cannot be read>"


class _Cleaner:
    """One pass over one attribute value, with one budget of items, and one of characters, for all its levels."""

    __slots__ = ("_characters_left", "_items_left")

    def __init__(self, max_length: int) -> None:
        self._items_left = max_length
        self._characters_left = max_length  # and bytes

    def clean(self, value: object, depth: int) -> Value:
        if type(value) in FIXED_SIZE:
            return value  # type: ignore[return-value]  # mypy does not narrow by a set of types
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, bytes | bytearray | memoryview):
            content = bytes(value[: self._characters_left])
            self._characters_left -= len(content)
            return content
        if depth > 0:
            if isinstance(value, Mapping):
                return self._mapping(value, depth)
            if isinstance(value, list | tuple | Set):
                return [self.clean(item, depth - 1) for item in self._within_budget(value)]
        # numpy registers its scalars here. Anything with __float__ would be too wide: on a tensor it waits for the GPU.
        if isinstance(value, numbers.Integral):
            return int(value)
        if isinstance(value, numbers.Real):
            return float(value)
        if type(value).__module__ == "numpy" and type(value).__name__ in {"bool", "bool_"}:  # registered as nothing
            return bool(value)
        return self._text(value)

    def _text(self, value: object) -> str:
        shown = text(value, self._characters_left)
        self._characters_left -= len(shown)
        return shown

    def _mapping(self, value: Mapping[object, object], depth: int) -> dict[str, Value]:
        pairs = self._within_budget(value.items())
        return {self._text(key): self.clean(item, depth - 1) for key, item in pairs}

    def _within_budget(self, items: Iterable[T]) -> Iterator[T]:
        for item in islice(items, max(0, self._items_left)):
            if self._items_left <= 0 or self._characters_left <= 0:  # spent inside an earlier item
                return
            self._items_left -= 1
            yield item
