"""JSON read piecewise: one goes down into objects and lists, and decodes only what is small enough to be one record.

    reader = JsonReader(stream)
    for key in reader.members():            # the object that comes next
        if key == "spans":
            for index in reader.items():    # the list that comes next
                span = reader.value()       # one record, decoded by the standard library's C code
        # what a loop's body does not read is stepped over

Memory: the piece that is being decoded (MAX_VALUE_CHARS at most) and one chunk. A record that cannot be decoded
although its end can be found (nested too deeply, too large, a number of 5,000 digits) raises RecordError and is stepped
over: what comes next can be read. Where the text is no JSON, BadRequestError says at which character.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, BinaryIO

from tailsight_collector.errors import BadRequestError

CHUNK_BYTES = 256 * 1024
MAX_VALUE_CHARS = 16 * 1024 * 1024
_SPACE = " \t\n\r"
_NOT_SPACE = re.compile(r"[^ \t\n\r]")
# A whole string without escapes is one step; a lone quote begins one that is looked at more closely.
_STEP = re.compile(r'"[^"\\]*"|[\[\]{}"]')
_STRING_STEP = re.compile(r'["\\]')
_NUMBER_MAY_GO_ON = re.compile(r"[0-9.eE+-]*\Z")
_SCALAR_END = re.compile(r"[,\]}\s]")


class RecordError(Exception):
    """One value cannot be decoded; it was stepped over. The text is a reason, without the value."""


class JsonReader:
    """A JSON text, or several behind each other, from a stream of bytes.

    `duplicate`: a key that stood twice in one object of the last `value()` (the last one counts), else None.
    """

    def __init__(
        self,
        stream: BinaryIO,
        *,
        max_value_chars: int = MAX_VALUE_CHARS,
        chunk_bytes: int = CHUNK_BYTES,
        parse_float: Callable[[str], Any] = float,
    ) -> None:
        """`parse_float` makes a number of a text with a fraction or an exponent: Decimal loses no digit."""
        self._stream = stream
        self._max_value_chars = max_value_chars
        self._chunk_bytes = chunk_bytes
        self._decode_bytes = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._decode = json.JSONDecoder(object_pairs_hook=self._object, parse_float=parse_float).raw_decode
        self._text = ""
        self._at = 0
        self._before = 0  # characters that have left the buffer
        self._ended = False
        self._values = 0  # that were begun: tells whether a loop's body has read its value
        self.duplicate: str | None = None

    @property
    def position(self) -> int:
        """How many characters were read."""
        return self._before + self._at

    def peek(self) -> str:
        """Return the next character that is no white space, "" at the end."""
        while True:
            found = _NOT_SPACE.search(self._text, self._at)
            if found:
                self._at = found.start()
                return self._text[self._at]
            self._at = len(self._text)
            if not self._more():
                return ""

    def peek_inside(self) -> str:
        """Return the first character inside the list or object that comes next, "" at the end."""
        self.peek()
        while True:
            found = _NOT_SPACE.search(self._text, self._at + 1)
            if found:
                return found[0]
            if not self._more():
                return ""

    def documents(self) -> Iterator[int]:
        """Go through texts behind each other (JSON lines, or one alone): yield 0, 1, …."""
        number = 0
        while self.peek():
            yield from self._one(number)
            number += 1

    def members(self) -> Iterator[str]:
        """Go through the object that comes next: yield each key, with its value as what comes next."""
        self._begin("{", "an object")
        if self.peek() == "}":
            self._at += 1
            return
        while True:
            if self.peek() != '"':
                raise self._no_json("a key in quotation marks was expected")
            key = self._decoded()
            if self.peek() != ":":
                raise self._no_json("a colon was expected")
            self._at += 1
            yield from self._one(str(key))
            if not self._goes_on("}"):
                return

    def items(self, *, may_be_cut_off: bool = False) -> Iterator[int]:
        """Go through the list that comes next: yield 0, 1, …, with that item as what comes next.

        `may_be_cut_off`: the text may end between two items, as tools write that are killed.
        """
        self._begin("[", "a list")
        index = 0
        if self.peek() == "]":
            self._at += 1
            return
        while not (may_be_cut_off and self.peek() in ("", "]")):
            yield from self._one(index)
            index += 1
            if may_be_cut_off and not self.peek():
                return
            if not self._goes_on("]"):
                return
        self._at += bool(self.peek())

    def value(self) -> Any:
        """Decode what comes next; raises RecordError where only this value is at fault."""
        self._values += 1
        self.duplicate = None
        if not self.peek():
            raise self._no_json("it ends where a value was expected")
        return self._decoded()

    def skip(self) -> None:
        """Step over what comes next, however large it is."""
        self._values += 1
        first = self.peek()
        if first == '"':
            self._at += 1
            self._skip_string()
        elif first and first in "{[":
            self._skip_nested()
        else:
            self._skip_scalar()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _one(self, of: Any) -> Iterator[Any]:
        values = self._values
        yield of
        if values == self._values:
            self.skip()

    def _begin(self, bracket: str, what: str) -> None:
        self._values += 1
        if self.peek() != bracket:
            raise self._no_json(f"{what} was expected")
        self._at += 1

    def _goes_on(self, end: str) -> bool:
        sign = self.peek()
        if sign not in (",", end):
            raise self._no_json(f"a comma or {end} was expected" if sign else "it is cut off")
        self._at += 1
        return sign == ","

    def _decoded(self) -> Any:
        chunk = self._chunk_bytes
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._more(chunk):
                    if len(self._text) - self._at > self._max_value_chars:
                        return self._too_much("is larger than a record may be")
                    chunk *= 2
                    continue
                raise self._no_json(error.msg, error.pos) from None
            except RecursionError:
                return self._too_much("is nested too deeply")
            except (ValueError, ArithmeticError):
                return self._too_much("holds a number with too many digits")
            # "12" may go on as "123", and "1." and "1e" as numbers of which only the beginning was taken
            if isinstance(value, int | float | Decimal) and _NUMBER_MAY_GO_ON.match(self._text, end) and self._more():
                continue
            if end - self._at > self._max_value_chars:
                return self._too_much("is larger than a record may be")
            self._at = end
            return value

    def _too_much(self, reason: str) -> Any:
        self.skip()
        raise RecordError(reason)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            counts = Counter(key for key, _ in pairs)
            self.duplicate = next(key for key, count in counts.items() if count > 1)
        return found

    def _skip_nested(self) -> None:
        depth = 0
        while True:
            for step in _STEP.finditer(self._text, self._at):
                sign = step[0]
                if sign in "{[":
                    depth += 1
                elif sign in "}]":
                    depth -= 1
                    if not depth:
                        self._at = step.end()
                        return
                elif sign == '"':  # with escapes, or its end is not read yet
                    self._at = step.end()
                    self._skip_string()
                    break
            else:
                self._at = len(self._text)
                if not self._more():
                    raise self._no_json("it is cut off")

    def _skip_string(self) -> None:
        """Step over the rest of a string, its end included."""
        while True:
            found = _STRING_STEP.search(self._text, self._at)
            if found is None:
                self._at = len(self._text)
            elif found[0] == '"':
                self._at = found.end()
                return
            elif found.end() < len(self._text):
                self._at = found.end() + 1
                continue
            else:
                self._at = found.start()
            if not self._more():
                raise self._no_json("a text in quotation marks is cut off")

    def _skip_scalar(self) -> None:
        if self.peek() in (",", "]", "}", ":", ""):  # else nothing would be stepped over, for ever
            raise self._no_json("a value was expected")
        while True:
            found = _SCALAR_END.search(self._text, self._at)
            if found:
                self._at = found.start()
                return
            self._at = len(self._text)
            if not self._more():
                return

    def _more(self, size: int = 0) -> bool:
        """Read on; False at the end."""
        while not self._ended:
            data = self._stream.read(size or self._chunk_bytes)
            self._ended = not data
            try:
                text = self._decode_bytes(data, self._ended)
            except UnicodeDecodeError as error:
                raise BadRequestError(
                    f"it is not UTF-8: {error.reason} after character {self._before + len(self._text):,}"
                ) from None
            if text:
                self._before += self._at
                self._text = self._text[self._at :] + text
                self._at = 0
                return True
        return False

    def _no_json(self, what: str, at: int | None = None) -> BadRequestError:
        position = self._before + (self._at if at is None else at)
        return BadRequestError(f"it is not JSON at character {position:,}: {what[:1].lower()}{what[1:]}")
