"""The folders of a recording: private, and gone at its end, or at the next one's start where the recorder was killed.

    spans/PID.otlp    what the tailsight SDK of a process wrote, children's too
    received.otlp     what came over OTLP/HTTP
    tests/PID.jsonl   which tests ran when, where the pytest plugin is at work
    spool/            what the SDK could not write

and beside it one in shared memory, for the rings between processes and their sidecars.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tailsight._folders import SHARED_MEMORY

PREFIX = "tailsight-record-"
_LOCK = "recorder.lock"


@dataclass(frozen=True, slots=True)
class Folder:
    """A recording's folder, and that of its rings."""

    path: Path
    rings: Path

    @property
    def spans(self) -> Path:
        """Where the SDK's files are."""
        return self.path / "spans"

    @property
    def received(self) -> Path:
        """What came over OTLP/HTTP."""
        return self.path / "received.otlp"

    @property
    def tests(self) -> Path:
        """Where the pytest plugin says which tests ran."""
        return self.path / "tests"


@contextmanager
def recording_folder() -> Iterator[Folder]:
    """Make the folders of a recording, for this user only, and remove them at the end."""
    shared = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with private_folder() as path, private_folder(shared) as rings:
        yield Folder(path, rings)


@contextmanager
def private_folder(parent: Path | None = None) -> Iterator[Path]:
    """Make a folder in `parent`, or where temporary files go, and remove it at the end."""
    parent = parent or Path(tempfile.gettempdir())
    _remove_left_over(parent)
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    try:
        begun = path / f"{_LOCK}.new"
        with _locked(begun, os.O_CREAT):
            begun.rename(path / _LOCK)  # which nobody has found without its lock
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _remove_left_over(parent: Path) -> None:
    """Remove what recorders of this user left that were killed: nobody holds its lock."""
    for path in parent.glob(f"{PREFIX}*"):
        # held, gone, not ours, or so new that it has no lock yet
        with suppress(OSError):
            if path.stat(follow_symlinks=False).st_uid == os.getuid():
                with _locked(path / _LOCK):
                    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(path: Path, flags: int = 0) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)
