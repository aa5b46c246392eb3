"""What a run file says about itself: where, when and of what it was recorded, run by run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

FORMAT = 1
# What a field of a type may be in JSON; the others are read one by one.
_IN_JSON: Mapping[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (float, int), "bool": (bool,)}


class HeaderError(Exception):
    """A header that cannot be understood. The text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was recorded. `id` tells machines apart and names none: a hash."""

    id: str
    cpu: str
    cores: int
    memory_bytes: int
    architecture: str
    kernel: str


@dataclass(frozen=True, slots=True)
class Device:
    """What the SDK takes for the machine's hardware: the first GPU that may be used, else the processor."""

    kind: str
    name: str
    vendor: str


@dataclass(frozen=True, slots=True)
class Git:
    """The commit of the folder that the command ran in. `dirty`: tracked files differ from it."""

    commit: str
    branch: str
    dirty: bool


@dataclass(frozen=True, slots=True, order=True)
class Service:
    """A kind of process that spans came from, in its own words. `sdk`: "tailsight python 0.1.0"."""

    name: str
    version: str
    hardware: str
    sdk: str


@dataclass(frozen=True, slots=True)
class Lost:
    """What of a run is known not to be in the file.

    `spans`: by reason, what the senders say they dropped. `missing_batches`:
    numbers that never came. `cut_off_senders`: processes that ended without a last word, so that requests
    under way at that moment are missing. `unread_rings`: what such a process left in memory that could not be read.
    `refused_requests`: what the receiver did not take. `damaged_bytes`: what could not be decoded.
    """

    spans: Mapping[str, int] = field(default_factory=dict)
    missing_batches: int = 0
    cut_off_senders: int = 0
    unread_rings: int = 0
    refused_requests: int = 0
    damaged_bytes: int = 0

    @property
    def anything(self) -> bool:
        """Whether something is missing."""
        counts = (self.missing_batches, self.cut_off_senders, self.unread_rings, self.refused_requests)
        return any((*self.spans.values(), *counts, self.damaged_bytes))


@dataclass(frozen=True, slots=True)
class Run:
    """One execution. `run` is what its spans carry as `tailsight.run`; times are Unix nanoseconds.

    `requests` counts its spans without a parent. `load_1m`: the machine's load average when it began.
    """

    run: str
    start_ns: int
    end_ns: int
    exit_code: int
    spans: int
    requests: int
    load_1m: float
    lost: Lost


@dataclass(frozen=True, slots=True)
class Header:
    """A run file's header. `order`: how the runs of several files recorded together took turns; see order.py."""

    created: str
    name: str
    source: str
    command: tuple[str, ...]
    order: str
    machine: Machine
    hardware: Device
    versions: Mapping[str, str]
    services: tuple[Service, ...]
    git: Git | None
    runs: tuple[Run, ...]
    body_bytes: int
    format: int = FORMAT

    @property
    def spans(self) -> int:
        """All spans in the file."""
        return sum(run.spans for run in self.runs)

    def to_json(self) -> dict[str, Any]:
        """Say it in JSON, with the names of the fields as keys."""
        return asdict(self)

    @classmethod
    def from_json(cls, said: object) -> Header:
        """Read what to_json() said; keys that are not known are left alone. Raises HeaderError."""
        if not isinstance(said, dict) or not isinstance(said.get("format"), int):
            raise HeaderError("it has no format")
        if said["format"] > FORMAT:
            raise HeaderError(
                f"it is of format {said['format']}, and this version of tailsight reads {FORMAT}: update it"
            )
        try:
            git = said["git"]
            return cls(
                created=str(said["created"]),
                name=str(said["name"]),
                source=str(said["source"]),
                command=tuple(map(str, said["command"])),
                order=str(said["order"]),
                machine=Machine(**_plain(Machine, said["machine"])),
                hardware=Device(**_plain(Device, said["hardware"])),
                versions={str(name): str(version) for name, version in said["versions"].items()},
                services=tuple(Service(**_plain(Service, service)) for service in said["services"]),
                git=Git(**_plain(Git, git)) if git else None,
                runs=tuple(Run(**_plain(Run, run), lost=_lost(run["lost"])) for run in said["runs"]),
                body_bytes=int(said["body_bytes"]),
                format=said["format"],
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise HeaderError(f"{type(error).__name__}: {error}") from None


def _lost(said: dict[str, Any]) -> Lost:
    by_reason = {str(reason): int(count) for reason, count in said.get("spans", {}).items()}
    return Lost(**_plain(Lost, said), spans=by_reason)


def _plain(kind: type[Machine | Device | Git | Service | Lost | Run], said: object) -> dict[str, Any]:
    """Take the plain fields of an object, each of the type that it must have."""
    if not isinstance(said, dict):
        raise TypeError(f"{kind.__name__.lower()} is {said!r:.40}")
    found = {each.name: said[each.name] for each in fields(kind) if each.name in said and each.type in _IN_JSON}
    for each in fields(kind):
        if each.name in found and type(found[each.name]) not in _IN_JSON[str(each.type)]:
            raise TypeError(f"{each.name} is {found[each.name]!r:.40}")
    return found
