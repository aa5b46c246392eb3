"""Profiles among the files of `tailsight import`: recognised by their content, read, and kept as samples of no span."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tailsight_cli._errors import CommandError
from tailsight_cli.profiling.keeping import ProfilePlace
from tailsight_collector.errors import UnreadableFileError
from tailsight_collector.importing import shape
from tailsight_collector.importing.registry import HEAD_BYTES
from tailsight_collector.importing.source import FileSource, translated
from tailsight_collector.receive.checks import DAY_NS, YEAR_2000_NS
from tailsight_storage.errors import InvalidProfileError
from tailsight_storage.profiles import ProfileRows, checked_profile, insert_profile

TITLES = "profiles of speedscope, pyinstrument, and as collapsed stacks"
# Read whole, and as Python's values twelve times as large.
MAX_FILE_BYTES = 128 << 20
Keep = Callable[[Mapping[str, Any]], bool]
"""Stores a profile's document and says whether it was not there yet."""

_SPEEDSCOPE = re.compile(rb'"\$schema"\s*:\s*"https?://www\.speedscope\.app/file-format-schema\.json"')
_COLLAPSED_LINE = re.compile(r"\S.* \d{1,15}\r?")


@dataclass(frozen=True, slots=True)
class KeptProfile:
    """A file's profile. `is_new` is false where it was there already."""

    file: str
    format: str
    id: str
    samples: int
    stacks: int
    notes: tuple[str, ...]
    is_new: bool

    def to_json(self) -> dict[str, object]:
        """Return it as `tailsight import --json` prints it."""
        return {
            "file": self.file,
            "format": self.format,
            "id": self.id,
            "samples": self.samples,
            "stacks": self.stacks,
            "notes": list(self.notes),
            "new": self.is_new,
        }


class ProfileImport:
    """Takes the profiles out of files that are imported. `kept`: what came of them, in their order."""

    def __init__(
        self, keep: Keep, *, service: str | None, run: str | None, stage: str | None, start_ns: int | None
    ) -> None:
        self.kept: list[KeptProfile] = []
        self._keep = keep
        self._labels = {"service": service or "", "run": run or "", "stage": stage or ""}
        self._start_ns = start_ns

    def takes(self, source: FileSource) -> bool:
        """Keep what a file has, if it is a profile. Raises UnreadableFileError; CommandError where nothing is kept."""
        if not is_profile(source.head):
            return False
        # with the analysis, which takes a second to load, and which few imports need
        from tailsight_cli.profiling.imported import profile_of_file, read_profile_file

        # the document says nothing of the file's name: the same profile under another one is the same
        try:
            with translated(source.name), source.open() as stream:
                raw = stream.read(MAX_FILE_BYTES + 1)
            if len(raw) > MAX_FILE_BYTES:
                raise UnreadableFileError(
                    f"{source.name}: a profile larger than {MAX_FILE_BYTES >> 20} MiB is not read; as collapsed "
                    "stacks, each of which is there once, it is smaller"
                )
            file = read_profile_file(raw)
            del raw
            plain = profile_of_file(file, **self._labels, started_ns=self._start_ns)
            _check_start(plain["profile"]["started_ns"])
            profile = checked_profile(plain)
        except (CommandError, InvalidProfileError) as error:
            raise UnreadableFileError(f"{source.name}: {error}") from None
        said = plain["profile"]
        if not said["samples"]:
            raise UnreadableFileError(f"{source.name}: the profile has no samples")
        is_new = self._keep(plain)
        self.kept.append(
            KeptProfile(
                source.name,
                file.format,
                profile.id,
                said["samples"],
                len(plain["stacks"]),
                tuple(said["notes"][1:]),
                is_new,
            )
        )
        return True


def keeps_at(place: ProfilePlace) -> Keep:
    """Return what stores profiles in a running collector."""
    return lambda plain: place.sent(plain)[1]


def keeps_in(store: ProfileRows) -> Keep:
    """Return what stores profiles in a store of this process."""
    return lambda plain: insert_profile(store, checked_profile(plain))


def _check_start(started_ns: int) -> None:
    if not YEAR_2000_NS <= started_ns < time.time_ns() + DAY_NS:
        when = datetime.fromtimestamp(started_ns // 10**9, UTC)
        raise CommandError(f"the profile would begin at {when:%Y-%m-%d %H:%M:%S} UTC: before 2000, or a day ahead")


def is_profile(head: bytes) -> bool:
    """Whether a file that begins so is a profile of speedscope, pyinstrument, or collapsed stacks."""
    found = shape.paths(head)
    if found:
        return (
            _SPEEDSCOPE.search(head) is not None
            or "shared.frames" in found
            or {"profiles[].type", "profiles[].unit"} <= found
            or not found.isdisjoint(("frame_tree", "root_frame", "session.start_call_stack"))
            or _is_collapsed(head)
        )
    return _is_collapsed(head)


def _is_collapsed(head: bytes) -> bool:
    """Whether each whole line ends with a count, and one of them has several frames."""
    whole, newline, _ = head.rpartition(b"\n")
    try:
        text = (whole if newline and len(head) >= HEAD_BYTES else head).decode("utf-8-sig")
    except UnicodeDecodeError:
        return False
    lines = [line for line in text.split("\n") if line.strip()]
    return any(";" in line for line in lines) and all(_COLLAPSED_LINE.fullmatch(line) for line in lines)
