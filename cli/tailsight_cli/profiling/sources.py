"""The source files that a recording names, where they can be read: they say which lines run inside which stage."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from tailsight_analysis.profiles import Recording, Site, find_sites

MAX_FILES = 3_000
MAX_FILE_BYTES = 1024 * 1024


def sites_of(recording: Recording, pid: int) -> tuple[Site, ...]:
    """Find the stages in the source files of a recording. A file that cannot be read has none."""
    names = sorted({frame.file for stack in recording.stacks for frame in stack if frame.file.endswith(".py")})
    found: list[Site] = []
    for name in names[:MAX_FILES]:
        text = _text(name, pid)
        # what speaks of no stage has none: most files of a service
        if text and "stage" in text:
            found += find_sites(text, name)
    return tuple(found)


def _text(name: str, pid: int) -> str:
    """Read a file as the process sees it: in its container, and from its working folder."""
    for path in _places(name, pid):
        try:
            if not stat.S_ISREG((said := path.stat()).st_mode) or said.st_size > MAX_FILE_BYTES:
                continue
            return path.read_text(errors="replace")
        except (OSError, ValueError):
            continue
    return ""


def _places(name: str, pid: int) -> Iterable[Path]:
    proc = Path(f"/proc/{pid}")
    if name.startswith("/"):
        return (proc / "root" / name.lstrip("/"), Path(name))
    return (proc / "cwd" / name,)
