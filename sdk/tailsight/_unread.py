"""Rings that never had a sidecar: their service was gone before it had one, as a forked child is after os._exit()."""

import contextlib
import fcntl
import os
import sys
from pathlib import Path

from ._destination import same_destination
from ._folders import runtime_folder
from ._fork import has_forked, no_fork
from ._options import Settings
from ._ring import READER_SUFFIX, RING_SUFFIX, RingFile, Word
from ._sidecar_config import destination_of


def rings_in(folder: Path) -> dict[Path, bool]:
    """Return the ring files of a folder, and whether each has, or had, a sidecar. Raises OSError."""
    names = {entry.name for entry in os.scandir(folder)}
    return {
        folder / name: name.removesuffix(RING_SUFFIX) + READER_SUFFIX in names
        for name in names
        if name.endswith(RING_SUFFIX)
    }


def has_children() -> bool:
    """Tell whether this process may have had children with rings: it forked, or multiprocessing started them."""
    return has_forked() or any(f"multiprocessing.popen_{how}" in sys.modules for how in ("spawn_posix", "forkserver"))


def is_there(settings: Settings, *, python: int) -> bool:
    """Tell whether there is such a ring that goes where `settings` say."""
    for folder in runtime_folder(settings.runtime_dir):
        with contextlib.suppress(OSError):
            if any(
                _is_for(settings, path, python) for path, had_sidecar in rings_in(folder).items() if not had_sidecar
            ):
                return True
    return False


def _is_for(settings: Settings, path: Path, python: int) -> bool:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError), no_fork():
        file = RingFile.attach(path)
        try:
            if file.words[Word.PYTHON] != python:
                return False
            mark = str(file.description()["destination"])
            fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails: its service is alive
            return same_destination(mark, *destination_of(settings))
        finally:
            file.close()
    return False
