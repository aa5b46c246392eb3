"""What becomes of the spans that other tools send: the rules of `sources.toml`, and of a user's file before them.

The collector applies them where a request comes in (docs/decisions/0018); docs/sources.md explains them. Which spans a
rule concerns is asked in C for every span (`decoder.match`); for that the rules are made of *facts*, one bit each: an
attribute is there, or has a text; an event has a name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any

from tailsight_storage.errors import InvalidSourcesError

BUILT_IN = "built-in"
MAX_FACTS = 128
MAX_RULES = 500
MAX_PATTERNS = 2_000
"""Names, scopes and versions of all rules together: each may be compared with each span."""
MAX_PHASES = 16
KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
UNITS_NS = {"seconds": 1e9, "milliseconds": 1e6, "microseconds": 1e3, "nanoseconds": 1.0}
# A span that has one of these is nobody's: its sender, or another collector, has said what it is.
STAGE, SOURCE = "tailsight.stage", "tailsight.source"

Texts = tuple[str, ...]
Choices = tuple[tuple[str, Texts], ...]
"""By key, the texts of which a value must be one."""


class Where(IntEnum):
    """Where a fact is looked for; the numbers are those of storage/native/match.c."""

    ATTRIBUTE = 0
    EVENT = 1
    RESOURCE = 2


@dataclass(frozen=True, slots=True)
class Fact:
    """An attribute that is there (`value` None) or is this text; or an event of this name."""

    where: Where
    key: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """How a span is recognised: every condition that is given must hold."""

    scope: Texts = ()
    version: Texts = ()
    name: Texts = ()
    kind: Texts = ()
    has: Texts = ()
    any: Texts = ()
    lacks: Texts = ()
    events: Texts = ()
    equals: Choices = ()
    resource: Choices = ()

    @property
    def patterns(self) -> tuple[Texts, Texts, Texts]:
        """The texts that may end with `*`: of the scope, its version and the span's name."""
        return self.scope, self.version, self.name


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a span's time: so much of it, in attributes, or from one event to another.

    `own`: both events are the span's; else they may be those of its children in the same request.
    """

    stage: str
    name: str
    keys: Texts = ()
    unit_ns: float = 0.0
    minus: Texts = ()
    unless: Texts = ()
    begin: Texts = ()
    end: Texts = ()
    own: bool = False
    definition: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of a span. `origin` is the file that says so, or BUILT_IN.

    `waits` and `batch` are stages: of the time since what it links to ended, and of its own time in what it links to.
    """

    name: str
    source: str
    match: Match
    stage: str = ""
    definition: str = ""
    model: Texts = ()
    copy: Choices = ()
    phases: tuple[Phase, ...] = ()
    waits: str = ""
    batch: str = ""
    instead_of: Texts = ()
    origin: str = BUILT_IN

    @property
    def stages(self) -> Texts:
        """All stages that come of it, in their order."""
        named = (self.stage, *(phase.stage for phase in self.phases), self.waits, self.batch)
        return tuple(dict.fromkeys(stage for stage in named if stage))

    def to_json(self) -> dict[str, object]:
        """As `tailsight sources list --json` shows it; conditions and keys that are not given are left out."""
        plain = asdict(self)
        plain["match"] = {key: _plain(value) for key, value in plain["match"].items() if value}
        plain["copy"] = {key: list(values) for key, values in self.copy}
        plain["phases"] = [
            {key: _plain(value) for key, value in asdict(phase).items() if value} for phase in self.phases
        ]
        plain["stages"] = list(self.stages)
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return {key: list(texts) for key, texts in value}
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True, slots=True)
class Conditions:
    """A rule's match in bits of facts: `all_of` are there, `none_of` are not, and of each of `groups` at least one."""

    kinds: int
    all_of: int
    none_of: int
    groups: tuple[int, ...]


@dataclass(frozen=True)
class Rules:
    """Rules in their order: the first that fits a span is its rule."""

    rules: tuple[Rule, ...]
    facts: tuple[Fact, ...] = field(init=False)
    conditions: tuple[Conditions, ...] = field(init=False)
    compiled: bytes = field(init=False)
    """For `decoder.match`."""

    def __post_init__(self) -> None:
        numbers: dict[Fact, int] = {Fact(Where.ATTRIBUTE, key): bit for bit, key in enumerate((STAGE, SOURCE))}
        conditions = tuple(_conditions(rule.match, numbers) for rule in self.rules)
        if len(numbers) > MAX_FACTS:
            raise InvalidSourcesError(
                f"the rules ask for {len(numbers)} different attributes and events; {MAX_FACTS} are the limit: "
                "switch built-in rules off that you do not need"
            )
        patterns = sum(len(texts) for rule in self.rules for texts in rule.match.patterns)
        if patterns > MAX_PATTERNS:
            raise InvalidSourcesError(
                f"the rules name {patterns} spans, scopes and versions; {MAX_PATTERNS} are the limit: "
                "one text with * at its end may do for many"
            )
        object.__setattr__(self, "facts", tuple(numbers))
        object.__setattr__(self, "conditions", conditions)
        object.__setattr__(self, "compiled", _compiled(self.rules, self.facts, conditions))

    @property
    def names(self) -> Texts:
        """The rules' names."""
        return tuple(rule.name for rule in self.rules)


def _conditions(match: Match, numbers: dict[Fact, int]) -> Conditions:
    def bits(where: Where, keys: Iterable[str], values: Iterable[str | None] = (None,)) -> int:
        found = 0
        for key in keys:
            for value in values:
                found |= 1 << numbers.setdefault(Fact(where, key, value), len(numbers))
        return found

    groups = [bits(Where.ATTRIBUTE, match.any)] if match.any else []
    groups += [bits(Where.ATTRIBUTE, [key], texts) for key, texts in match.equals]
    groups += [bits(Where.RESOURCE, [key], texts) for key, texts in match.resource]
    return Conditions(
        kinds=sum(1 << KINDS.index(kind) for kind in set(match.kind)),
        all_of=bits(Where.ATTRIBUTE, match.has) | bits(Where.EVENT, match.events),
        none_of=bits(Where.ATTRIBUTE, (STAGE, SOURCE, *match.lacks)),
        groups=tuple(groups),
    )


def _compiled(rules: tuple[Rule, ...], facts: tuple[Fact, ...], conditions: tuple[Conditions, ...]) -> bytes:
    """Write the rules as storage/native/match.c reads them: 32-bit numbers, texts with their length, 128-bit masks."""
    out = [struct.pack("=I", len(facts))]
    for fact in facts:
        out.append(struct.pack("=II", fact.where, fact.value is not None))
        out += map(_text, (fact.key, fact.value or ""))
    out.append(struct.pack("=I", len(rules)))
    for rule, each in zip(rules, conditions, strict=True):
        out += [
            struct.pack("=I", each.kinds),
            _bits(each.all_of),
            _bits(each.none_of),
            struct.pack("=I", len(each.groups)),
        ]
        out += map(_bits, each.groups)
        for patterns in rule.match.patterns:
            out.append(struct.pack("=I", len(patterns)))
            for pattern in patterns:
                is_prefix = pattern.endswith("*")
                out += [struct.pack("=I", is_prefix), _text(pattern[:-1] if is_prefix else pattern)]
    return b"".join(out)


def _bits(number: int) -> bytes:
    return struct.pack("=QQ", number & (1 << 64) - 1, number >> 64)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("=I", len(encoded)) + encoded
