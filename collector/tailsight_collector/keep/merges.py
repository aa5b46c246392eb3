"""No merges on a disk that is nearly full.

chDB ends a merge whose files were cut off by a full disk as if it were whole (keeper.py notices it, and that costs a
restart). So merges are stopped before it comes to that; inserts go on until the engine itself refuses them.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from tailsight_storage import Store

log = logging.getLogger(__name__)

LOW_SPACE_BYTES = 256 * 1024 * 1024
LOW_SPACE_PART = 20  # and at most this part of the disk: small disks have merges too
_STOP = "SYSTEM STOP MERGES"
_START = "SYSTEM START MERGES"


class Merges:
    """Stops and starts the merges of an embedded store. `look` is to be called every few seconds."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self.are_stopped = False

    def look(self) -> None:
        """Stop merges where little space is left, start them where there is twice as much; raises StorageError."""
        disk = os.statvfs(self._folder)
        free_bytes = disk.f_bavail * disk.f_frsize
        low_bytes = min(LOW_SPACE_BYTES, disk.f_blocks * disk.f_frsize // LOW_SPACE_PART)
        if not self.are_stopped and free_bytes < low_bytes:
            log.warning("%s has %d bytes left: merges are stopped until there are more", self._folder, free_bytes)
            self._store.run(_STOP)
            self.are_stopped = True
        elif self.are_stopped and free_bytes >= 2 * low_bytes:
            self._store.run(_START)
            self.are_stopped = False
