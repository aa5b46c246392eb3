"""What the embedded engine has on the disk: the parts of its tables, and its memory of inserted blocks.

A part is a folder that never changes: `<partition>_<first block>_<last block>_<level>[_<mutation>]`. A merge makes a
part that covers others; the covered ones stay on the disk for a while. Which blocks it has inserted the engine
remembers in `deduplication_logs/`, a line an insert: `1 <tab> <part> <tab> <block id>`, 2 for a part that was dropped.

All of it is for an engine that is not running.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tailsight_collector.keep.synced import sync_folder, write_synced

log = logging.getLogger(__name__)

# What the engine does not look at, but lists in system.detached_parts.
ASIDE = "detached"
ASIDE_PREFIX = "unsynced_"
_PART = re.compile(r"([^_]+)_(\d+)_(\d+)_(\d+)(?:_(\d+))?")
# Files of a part that system.parts.bytes_on_disk leaves out, and those without which nobody can read it.
_NOT_COUNTED = frozenset({
    "checksums.txt", "columns.txt", "columns_substreams.txt", "default_compression_codec.txt", "metadata_version.txt",
    "uuid.txt",
})  # fmt: skip
_NEVER_EMPTY = ("checksums.txt", "columns.txt")
_ADDED, _DROPPED = b"1", b"2"


@dataclass(frozen=True, slots=True)
class Part:
    """A part's name, taken apart."""

    name: str
    partition: str
    first: int
    last: int
    level: int
    mutation: int

    @classmethod
    def named(cls, name: str) -> Part | None:
        """Read a name; None where it is no part's: something temporary, or of another kind."""
        match = _PART.fullmatch(name)
        if match is None:
            return None
        first, last, level, mutation = (int(number or 0) for number in match.groups()[1:])
        return cls(name, match[1], first, last, level, mutation)

    def covers(self, other: Part) -> bool:
        """Whether this part holds all that the other holds: it is that part, or was made of it."""
        return (
            self.partition == other.partition
            and self.first <= other.first
            and self.last >= other.last
            and self.level >= other.level
            and self.mutation >= other.mutation
        )


def parts_in(table: Path) -> list[Part]:
    """List the parts in a table's folder; none where the folder is not there."""
    try:
        entries = list(table.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [part for entry in entries if (part := Part.named(entry.name)) and entry.is_dir()]


def is_short(table: Path, name: str, size_bytes: int) -> bool:
    """Whether a part's files hold less than the engine wrote; `size_bytes` is its own count of what it did.

    On a full disk chDB finishes merges whose files are cut off, says nothing, and deletes what it merged. False where
    the part is not there any more.
    """
    try:
        sizes = {path.name: path.stat().st_size for path in (table / name).rglob("*") if path.is_file()}
    except FileNotFoundError:
        return False
    if not sizes:
        return False
    counted_bytes = sum(size for file, size in sizes.items() if file not in _NOT_COUNTED)
    return counted_bytes < size_bytes or not all(sizes.get(file, 1) for file in _NEVER_EMPTY)


def roll_back(table: Path, listed: Collection[str]) -> int:
    """Make a table hold the listed parts and nothing that came after them; returns how many parts were put aside.

    May be repeated, also after it was cut short. A listed part that is gone and that a later one covers was merged and
    cleared away: then the later one stays, and the memory of its blocks tells what must not be inserted again. A listed
    part that is gone without a trace was dropped (retention). What is put aside moves into the engine's `detached/`.
    """
    there = parts_in(table)
    wanted = [part for name in listed if (part := Part.named(name))]
    # what a listed part was made of is the engine's to clear away
    kept = [part for part in there if any(each.covers(part) for each in wanted)]
    later = [part for part in there if part not in kept]
    for part in wanted:
        if any(other.covers(part) for other in kept):
            continue
        heirs = [other for other in later if other.covers(part)]
        if heirs:
            heir = min(heirs, key=lambda other: other.last - other.first)
            log.warning("table %s: %s was cleared away after its merge; keeping %s", table, part.name, heir.name)
            kept.append(heir)
    later = [part for part in later if not any(other.covers(part) for other in kept)]
    for part in later:
        _put_aside(table, part)
    if there:
        sync_folder(table)
        _forget_blocks(table / "deduplication_logs", kept)
    return len(later)


def forget_missing_blocks(table: Path) -> None:
    """Let the engine remember only blocks that it has.

    It writes a block down before the block's part gets its name: killed in between, it would refuse the block for good.
    """
    _forget_blocks(table / "deduplication_logs", parts_in(table))


def _put_aside(table: Path, part: Part) -> None:
    aside = table / ASIDE
    aside.mkdir(exist_ok=True)
    target = aside / f"{ASIDE_PREFIX}{part.name}"
    number = 0
    while target.exists():
        number += 1
        target = aside / f"{ASIDE_PREFIX}{part.name}_{number}"
    (table / part.name).rename(target)
    sync_folder(aside)


def _forget_blocks(logs: Path, kept: Collection[Part]) -> None:
    """Let the engine remember only blocks that are in a part: what it remembers without having it, it would refuse."""
    for path in sorted(logs.glob("deduplication_log_*.txt")) if logs.is_dir() else ():
        data = path.read_bytes()
        true = b"".join(_true_lines(data, kept))
        if true != data:
            write_synced(path, true)


def _true_lines(data: bytes, kept: Collection[Part]) -> Iterator[bytes]:
    for line in data.splitlines(keepends=True):
        fields = line.rstrip(b"\n").split(b"\t")
        if not line.endswith(b"\n") or len(fields) != 3 or fields[0] not in (_ADDED, _DROPPED):
            continue  # torn, or zeros: written when the power went
        part = Part.named(fields[1].decode("utf-8", "replace"))
        if part and (fields[0] == _DROPPED or any(other.covers(part) for other in kept)):
            yield line
