"""The files of the spool: a batch each, whose name says what is needed to decide about it."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from ._folders import is_own_file

MAX_BATCH_BYTES = 64 * 1024 * 1024
"""A file that is larger was not made by a sender."""

ENDPOINT = "endpoint"
"""The file that says where a folder's batches were meant to go."""

_NAME = re.compile(r"(\d{12})-(\d{1,12})-(high|normal)\.otlp")


class Waiting(NamedTuple):
    """A batch in the spool."""

    folder: Path
    number: int
    spans: int
    priority: str
    size: int
    own: bool  # False: another sender left it behind
    body: bytes | None = None  # None: it is on disk

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder / f"{self.number:012d}-{self.spans}-{self.priority}.otlp"


def write_file(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file of this user's alone; `durable` waits until it is on the disk. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)


def since(folder: Path) -> float:
    """Return when a sender began to use its folder."""
    try:
        return (folder / ENDPOINT).stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return folder.stat(follow_symlinks=False).st_mtime


def is_older(folder: Path, than_unix_s: float) -> bool:
    """Tell whether all files of a folder, or itself where there is none, were last written to before."""
    with os.scandir(folder) as entries:
        written = [entry.stat(follow_symlinks=False).st_mtime for entry in entries]
    return max(written, default=folder.stat(follow_symlinks=False).st_mtime) < than_unix_s


def batches_in(folder: Path) -> list[Waiting]:
    """Return the batches that a sender left in its folder."""
    found = []
    for path in folder.iterdir():
        match = _NAME.fullmatch(path.name)
        if match:
            status = path.stat(follow_symlinks=False)
            if is_own_file(status) and status.st_size <= MAX_BATCH_BYTES:
                number, spans = int(match[1]), int(match[2])
                found.append(Waiting(folder, number, spans, match[3], status.st_size, own=False))
    return found
