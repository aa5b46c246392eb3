"""What a recording of the code is to be like, and when: read from arguments, from the option's text, or from JSON.

Both sides know it: the service checks what it was asked for and says it to its sidecar, which does it.
"""

import dataclasses
import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import _parse as parse

MAX_RATE_HZ = 1000
MAX_DURATION_S = 300.0
MAX_SAMPLES = 60_000
"""Of one thread in a recording: py-spy keeps them in its memory until it ends."""
MIN_EVERY_S = 10.0
MAX_PER_HOUR = 60


def _number(low: float, high: float, *, whole: bool = False) -> Callable[[object], float]:
    def read(value: object) -> float:
        number = parse.not_negative(value)
        if not low <= number <= high or (whole and number != int(number)):
            raise ValueError(f"expected a {'whole ' if whole else ''}number from {low:g} to {high:g}")
        return int(number) if whole else number

    return read


def _field(default: Any, read: Callable[[Any], Any]) -> Any:
    return dataclasses.field(default=default, metadata={"read": read})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """How to record, and when: now, where neither `every_s` nor `on_tail` says otherwise."""

    rate_hz: int = _field(100, _number(1, MAX_RATE_HZ, whole=True))
    duration_s: float = _field(10.0, _number(1, MAX_DURATION_S))
    every_s: float | None = _field(None, _number(MIN_EVERY_S, parse.MAX_SECONDS))
    on_tail: bool = _field(False, parse.boolean)
    factor: float = _field(1.5, _number(1.01, 1000))
    pause_s: float = _field(300.0, _number(1, parse.MAX_SECONDS))
    max_per_hour: int = _field(6, _number(1, MAX_PER_HOUR, whole=True))
    blocking: bool = _field(False, parse.boolean)
    idle: bool = _field(True, parse.boolean)
    gil: bool = _field(True, parse.boolean)

    @property
    def is_standing(self) -> bool:
        """Whether it is to be done again and again, and not once, now."""
        return self.every_s is not None or self.on_tail

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can say."""
        return dataclasses.asdict(self)


def read_ask(given: Mapping[str, object]) -> Ask:
    """Check what was asked for. Raises ValueError, which says which value is wrong and what was expected."""
    fields = {field.name: field for field in dataclasses.fields(Ask)}
    for unknown in given.keys() - fields.keys():
        near = difflib.get_close_matches(unknown, fields, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)}"
        raise ValueError(f"there is no {unknown!r}; {hint}")
    values = {}
    for name, value in given.items():
        if value is None and name == "every_s":
            continue
        try:
            values[name] = fields[name].metadata["read"](value)
        except ValueError as error:
            raise ValueError(f"{name}={parse.shown(value)}: {error}") from None
    ask = Ask(**values)
    if ask.rate_hz * ask.duration_s > MAX_SAMPLES:
        raise ValueError(
            f"rate_hz × duration_s is {ask.rate_hz * ask.duration_s:,.0f} samples, more than {MAX_SAMPLES:,}: "
            "record for less time, or at a lower rate"
        )
    return ask


def read_option(value: object) -> str:
    """Check the option `profile`: `on_tail`, `every_s=900`, both, with other names of start(). Returns it as text."""
    pairs: dict[str, object] = {}
    for member in parse.text(value).split(","):
        name, equals, content = member.partition("=")
        if member.strip():
            pairs[name.strip()] = content.strip() if equals else "true"
    if not read_ask(pairs).is_standing:
        raise ValueError("it says not when: name on_tail, or every_s=SECONDS")
    return ",".join(f"{name}={content}" for name, content in pairs.items())


def of_option(text: str) -> Ask:
    """Read what read_option() returned."""
    return read_ask(dict(member.split("=", 1) for member in text.split(",")))


def line_for(ask: Ask | None) -> bytes:
    """Write the line by which a service asks its sidecar; None: to stop."""
    return json.dumps({"profile": ask.to_json() if ask else None}).encode() + b"\n"


def heard(line: bytes) -> Ask | None:
    """Read such a line. Raises ValueError where it is none."""
    try:
        said = json.loads(line)["profile"]
        return None if said is None else read_ask(said)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no line of ours: {error!r}") from None
