"""Waiting until everything that processes recorded is in files: their sidecars go on a moment longer than they.

Rings whose sidecar was killed with its process are finished here.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from tailsight._file import FileCollector
from tailsight._left_behind import Finisher
from tailsight._options import resolve
from tailsight._ring import reader_lock
from tailsight._sidecar_start import CannotStart, make_rings
from tailsight._spool import Spool
from tailsight_cli.recording.folders import Folder

PATIENCE_S = 15.0
_POLL_S = 0.01
_FINISHED = "finished.otlp"


def settle(folder: Folder, patience_s: float = PATIENCE_S) -> int:
    """Wait until no sidecar is at work; returns how many rings could not be read to their end."""
    deadline_s = time.monotonic() + patience_s
    while any(map(_is_read_by_somebody, _rings(folder))) and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    if _rings(folder):
        _finish(folder)
    return len(_rings(folder))


def _rings(folder: Folder) -> list[Path]:
    return list(folder.rings.glob("*.ring"))


def _is_read_by_somebody(ring: Path) -> bool:
    try:
        with reader_lock(ring):
            return False
    except OSError:  # its sidecar has the lock
        return True


def _finish(folder: Folder) -> None:
    """Read the rings that nobody reads, as the next sidecar on the machine would."""
    environ = {
        "TAILSIGHT_TRANSPORT": "file",
        "TAILSIGHT_FILE": str(folder.spans / _FINISHED),
        "TAILSIGHT_RUNTIME_DIR": str(folder.rings),
    }
    settings = resolve({}, environ)
    try:
        own = make_rings(settings)
    except CannotStart:
        return
    collector = FileCollector(settings.file, pid=os.getpid())
    try:
        Finisher(
            own,
            collector,
            is_for_us=lambda _: True,
            spool_for=lambda sender: Spool(
                folder.path / "spool",
                sender,
                settings.file,
                headers={},
                limit_bytes=settings.spool_bytes,
                memory_bytes=settings.buffer_bytes,
                lowest_value_first=False,
            ),
            batch_bytes=settings.batch_bytes,
        ).look(away=False)
    finally:
        collector.close()
        own.close()
        with suppress(OSError):
            own.path.unlink()
