"""Where the sidecar's files lie: the shared memory, and the batches that wait for a collector."""

import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  a folder of this user's own is made below it, and checked


def runtime_folder(chosen: str | None, *, shared_memory: Path = SHARED_MEMORY) -> list[Path]:
    """Return the folders to try for the mapped file, the best first: memory costs no disk write."""
    if chosen:
        return [Path(chosen)]
    name = f"tailsight-{os.getuid()}"
    return [shared_memory / name, Path(tempfile.gettempdir()) / name]


def spool_folder(chosen: str | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for batches that wait: $XDG_STATE_HOME, ~/.local/state, or the temporary folder."""
    if chosen:
        return Path(chosen)
    state, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    if state.startswith("/"):
        return Path(state) / "tailsight" / "spool"
    if home.startswith("/") and home != "/" and os.access(home, os.W_OK):
        return Path(home) / ".local" / "state" / "tailsight" / "spool"
    return Path(tempfile.gettempdir()) / f"tailsight-{os.getuid()}" / "spool"


def make_private(folder: Path) -> None:
    """Make a folder that only this user can read. Raises OSError if it belongs to somebody else.

    In a folder where everybody may write, somebody else could have made it first, and would read along.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    check_private(folder)


def check_private(folder: Path) -> None:
    """Raise OSError unless this is a folder, of this user, that nobody else can write to. A link is none."""
    found = folder.stat(follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"{folder} is not a folder")
    if found.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to user {found.st_uid}")
    if found.st_mode & 0o022:
        raise PermissionError(f"{folder} can be written by others")


def is_own_file(found: os.stat_result) -> bool:
    """Tell whether this is a plain file of this user: no link, no pipe, which would have a reader wait, no folder."""
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid()


def read_own(path: Path, *, at_most_bytes: int) -> bytes:
    """Read a plain file of this user. Raises OSError for anything else, and for a larger one; it never waits."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with os.fdopen(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        if not is_own_file(found):
            raise PermissionError(f"{path} is not a file of this user")
        if found.st_size > at_most_bytes:
            raise OSError(f"{path} has {found.st_size} bytes, expected at most {at_most_bytes}")
        return file.read(at_most_bytes)
