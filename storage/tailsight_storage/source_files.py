"""Read a file of rules for sources (TOML); of what is wrong, say which rule, which key, and what would be right."""

from __future__ import annotations

import difflib
import functools
import tomllib
from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from tailsight_storage.errors import InvalidSourcesError
from tailsight_storage.source_rules import (
    BUILT_IN,
    KINDS,
    MAX_PHASES,
    MAX_RULES,
    UNITS_NS,
    Choices,
    Match,
    Phase,
    Rule,
    Rules,
    Texts,
)

RULE_KEYS = (
    "name", "source", "match", "stage", "definition", "model", "copy", "phase", "waits", "batch", "instead_of", "off",
)  # fmt: skip
MATCH_KEYS = ("scope", "version", "name", "kind", "has", "any", "lacks", "events", "equals", "resource")
PHASE_KEYS = ("stage", "name", *UNITS_NS, "minus", "unless", "from", "to", "own", "definition")
MAX_TEXT_CHARS = 1000
MAX_TEXTS = 100
"""In one list: every name of a rule is compared with every span that the rule may concern."""
MAX_FILE_BYTES = 1024 * 1024
_MOST_SHOWN = 80


@functools.cache
def built_in_rules() -> Rules:
    """Return the rules of this version."""
    text = (resources.files("tailsight_storage") / "sources.toml").read_text(encoding="utf-8")
    return Rules(tuple(rule for rule, _ in rules_in(text, BUILT_IN)))


def read_rules(path: Path | None) -> Rules:
    """Return the rules of a user's file, and after them the built-in ones that it does not replace.

    Raises InvalidSourcesError, whose one line names the file, the rule and the key.
    """
    built_in = built_in_rules()
    if path is None:
        return built_in
    where = f"sources file {path}"
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InvalidSourcesError(f"{where} cannot be read: {reason}", is_missing=True) from None
    try:
        if len(content) > MAX_FILE_BYTES:
            raise InvalidSourcesError(f"it is larger than {MAX_FILE_BYTES:,} bytes: no file of rules")
        theirs = rules_in(text, str(path), known=built_in.names)
        replaced: Mapping[str, Rule | None] = {rule.name: None if is_off else rule for rule, is_off in theirs}
        new = [rule for rule, is_off in theirs if rule.name not in built_in.names and not is_off]
        kept = [replaced.get(rule.name, rule) for rule in built_in.rules]
        rules = (*new, *(rule for rule in kept if rule is not None))
        if len(rules) > MAX_RULES:
            raise InvalidSourcesError(f"there are {len(rules)} rules with the built-in ones; {MAX_RULES} are the limit")
        return Rules(rules)
    except InvalidSourcesError as error:
        raise InvalidSourcesError(f"{where}: {error}") from None


def rules_in(text: str, origin: str, known: Collection[str] = ()) -> list[tuple[Rule, bool]]:
    """Read the rules of a file, each with whether it is off; `known` are names that may stand in `instead_of` too.

    Raises InvalidSourcesError.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidSourcesError(f"this is no TOML: {error}") from None
    _check_keys("its top", document, ("rule",))
    tables = document.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InvalidSourcesError("rule is no list of tables; begin each with [[rule]]")
    found: dict[str, tuple[Rule, bool]] = {}
    for number, table in enumerate(tables, 1):
        rule, is_off = _rule(table, number, origin, known)
        if rule.name in found:
            raise InvalidSourcesError(f"rule {rule.name}: there are two of this name")
        found[rule.name] = rule, is_off
    for rule, _ in found.values():
        for name in rule.instead_of:
            if name not in found and name not in known:
                raise InvalidSourcesError(
                    f"rule {rule.name}: instead_of names no rule {_shown(name)}{_near(name, [*found, *known])}"
                )
    return list(found.values())


def _rule(table: Mapping[str, Any], number: int, origin: str, known: Collection[str]) -> tuple[Rule, bool]:
    name = _text(f"rule {number}", "name", table.get("name"))
    if not name.isprintable():
        raise InvalidSourcesError(f"rule {number}: name = {_shown(name)} has characters that cannot be shown")
    where = f"rule {name}"
    _check_keys(where, table, RULE_KEYS)
    is_off = table.get("off", False)
    if not isinstance(is_off, bool):
        raise InvalidSourcesError(f"{where}: off = {_shown(is_off)} is neither true nor false")
    if is_off and name not in known:
        raise InvalidSourcesError(f"{where}: it is off, and there is no built-in rule of this name{_near(name, known)}")
    if is_off:
        return Rule(name, "", Match(), origin=origin), True
    if "match" not in table:
        raise InvalidSourcesError(
            f'{where}: it has no match; give one, like match = {{ name = "infer", kind = "SERVER" }}'
        )
    rule = Rule(
        name,
        _text(where, "source", table.get("source", name.partition(".")[0])),
        _match(where, _table(where, "match", table["match"])),
        stage=_optional(where, "stage", table),
        definition=_optional(where, "definition", table),
        model=_texts(where, "model", table),
        copy=_choices(where, "copy", table),
        phases=_phases(where, table),
        waits=_optional(where, "waits", table),
        batch=_optional(where, "batch", table),
        instead_of=_texts(where, "instead_of", table),
        origin=origin,
    )
    if origin != BUILT_IN and not (rule.stages or rule.definition or rule.model or rule.copy):
        raise InvalidSourcesError(f"{where}: nothing becomes of its spans; give a stage, or a [[rule.phase]]")
    return rule, False


def _match(where: str, table: Mapping[str, Any]) -> Match:
    where = f"{where}: match"
    _check_keys(where, table, MATCH_KEYS)
    match = Match(
        **{key: _texts(where, key, table) for key in MATCH_KEYS[:-2]},
        equals=_choices(where, "equals", table),
        resource=_choices(where, "resource", table),
    )
    for kind in match.kind:
        if kind not in KINDS:
            raise InvalidSourcesError(f"{where}: kind {_shown(kind)} is none{_near(kind.upper(), KINDS)}")
    for key, patterns in zip(("scope", "version", "name"), match.patterns, strict=True):
        for pattern in patterns:
            if "*" in pattern[:-1]:
                raise InvalidSourcesError(
                    f"{where}: {key} {_shown(pattern)} has a * before its end, where it stands for itself alone; "
                    f"end it there: {_shown(pattern[: pattern.index('*') + 1])}"
                    if pattern.index("*")
                    else f"{where}: {key} {_shown(pattern)} begins with a *, and only what begins alike can be named; "
                    "ask for an attribute or the scope instead"
                )
    if match == Match():
        raise InvalidSourcesError(f"{where} has no condition: the rule would take every span")
    return match


def _phases(where: str, table: Mapping[str, Any]) -> tuple[Phase, ...]:
    tables = table.get("phase", [])
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise InvalidSourcesError(f"{where}: phase is no list of tables; begin each with [[rule.phase]]")
    if len(tables) > MAX_PHASES:
        raise InvalidSourcesError(f"{where}: it has {len(tables)} phases; {MAX_PHASES} are the limit")
    phases = tuple(_phase(f"{where}: phase {number}", each) for number, each in enumerate(tables, 1))
    names = [phase.name for phase in phases]
    for name in names:
        if names.count(name) > 1:
            raise InvalidSourcesError(
                f"{where}: two phases are called {_shown(name)}; give one another name, for their ids follow from it"
            )
    return phases


def _phase(where: str, table: Mapping[str, Any]) -> Phase:
    _check_keys(where, table, PHASE_KEYS)
    stage = _text(where, "stage", table.get("stage"))
    units = [unit for unit in UNITS_NS if unit in table]
    has_events = "from" in table or "to" in table
    if len(units) + has_events != 1 or ("from" in table) != ("to" in table):
        raise InvalidSourcesError(f"{where}: give either one of {', '.join(UNITS_NS)}, or from and to")
    if has_events and ("minus" in table):
        raise InvalidSourcesError(f"{where}: minus is for phases in attributes; leave it out")
    if "own" in table and not has_events:
        raise InvalidSourcesError(f"{where}: own is for phases between events; leave it out")
    own = table.get("own", False)
    if not isinstance(own, bool):
        raise InvalidSourcesError(f"{where}: own = {_shown(own)} is neither true nor false")
    return Phase(
        stage,
        _optional(where, "name", table) or stage,
        keys=_texts(where, units[0], table) if units else (),
        unit_ns=UNITS_NS[units[0]] if units else 0.0,
        minus=_texts(where, "minus", table),
        unless=_texts(where, "unless", table),
        begin=_texts(where, "from", table),
        end=_texts(where, "to", table),
        own=own,
        definition=_optional(where, "definition", table),
    )


# --- values -----------------------------------------------------------------------------------------------------------


def _check_keys(where: str, table: Mapping[str, Any], known: Collection[str]) -> None:
    for key in table:
        if key not in known:
            raise InvalidSourcesError(f"{where}: there is no key {_shown(key)}{_near(key, known)}")


def _near(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word[:_MOST_SHOWN], known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}" if known else ""


def _table(where: str, key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidSourcesError(f"{where}: {key} = {_shown(value)} is no table")
    return value


def _text(where: str, key: str, value: object) -> str:
    if value is None:
        raise InvalidSourcesError(f"{where}: it has no {key}")
    if not isinstance(value, str) or not value or len(value) > MAX_TEXT_CHARS:
        raise InvalidSourcesError(f"{where}: {key} = {_shown(value)} is no text of 1 to {MAX_TEXT_CHARS} characters")
    return value


def _optional(where: str, key: str, table: Mapping[str, Any]) -> str:
    return _text(where, key, table[key]) if key in table else ""


def _texts(where: str, key: str, table: Mapping[str, Any]) -> Texts:
    if key not in table:
        return ()
    value = table[key]
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list):
        raise InvalidSourcesError(f"{where}: {key} = {_shown(value)} is neither a text nor a list of texts")
    if not 1 <= len(values) <= MAX_TEXTS:
        raise InvalidSourcesError(
            f"{where}: {key} is a list of {len(values)} texts; give 1 to {MAX_TEXTS}, or leave it out"
        )
    return tuple(_text(where, key, each) for each in values)


def _choices(where: str, key: str, table: Mapping[str, Any]) -> Choices:
    inner = _table(where, key, table.get(key, {}))
    choices = tuple((name, _texts(f"{where}: {key}", name, inner)) for name in inner)
    if len(choices) > MAX_TEXTS:
        raise InvalidSourcesError(f"{where}: {key} has {len(choices)} attributes; {MAX_TEXTS} are the limit")
    if any(not name for name, _ in choices):
        raise InvalidSourcesError(f"{where}: {key}: an attribute without a name; give one")
    return choices


def _shown(value: object) -> str:
    """Show a value in a message of one line, however long it is."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
