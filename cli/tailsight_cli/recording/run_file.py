"""The run file, NAME.otlp.zst: a zstd skippable frame with the header in JSON, then zstd frames of OTLP.

What follows the header is what any `.otlp.zst` holds: length-delimited ExportTraceServiceRequests, a frame a run,
each with a checksum. Tools that do not know of headers skip them, so `tailsight import` and `zstd -d` read the file.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import zstandard

from tailsight_cli.recording.header import Header, HeaderError
from tailsight_cli.recording.messages import TornError, messages_in
from tailsight_collector.errors import UnreadableFileError
from tailsight_collector.zstd_frames import is_skippable, is_zstd, unpacked

SUFFIX = ".otlp.zst"
_MAGIC = 0x184D2A50
_FRAME = struct.Struct("<II")  # magic number and size, least byte first
_MAX_HEADER_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RunFile:
    """A run file that was looked at: its header, None where it is an `.otlp.zst` without one."""

    path: Path
    header: Header | None

    def messages(self) -> Iterator[bytes]:
        """Yield each ExportTraceServiceRequest, encoded; raises UnreadableFileError where the file is damaged."""
        try:
            with self.path.open("rb") as file:
                yield from messages_in(unpacked(file))
        except OSError as error:
            raise UnreadableFileError(f"{self.path}: {error.strerror or error}") from None
        except (EOFError, zstandard.ZstdError, TornError) as error:
            raise UnreadableFileError(f"{self.path}: the file is damaged: {error}") from None


def read_header(path: Path) -> Header | None:
    """Read a run file's header without its spans; None where the file is an `.otlp.zst` without a header.

    Raises UnreadableFileError: it is missing, no zstd, damaged, cut off, or of a later format.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(_FRAME.size)
            if not is_zstd(beginning):
                raise UnreadableFileError(f"{path}: this is no run file; `tailsight record -o {path.name}` makes one")
            if not is_skippable(beginning):
                return None
            content = _header_in(path, file, beginning)
            size_bytes = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise UnreadableFileError(f"{path}: {error.strerror or error}") from None
    try:
        header = Header.from_json(json.loads(content))
    except (ValueError, RecursionError, HeaderError) as error:
        raise UnreadableFileError(f"{path}: its header cannot be read: {error}") from None
    expected = _FRAME.size + len(content) + header.body_bytes
    if size_bytes != expected:
        what = "cut off" if size_bytes < expected else "followed by something else"
        raise UnreadableFileError(f"{path}: the file is {what}: {size_bytes} bytes of {expected}; record it again")
    return header


def read_run_file(path: Path) -> RunFile:
    """Look at a run file; its spans are read by `messages()`. Raises as read_header."""
    return RunFile(path, read_header(path))


def run_name(path: Path) -> str:
    """Name a run after its file. What is no UTF-8 in a file's name is replaced: a span can hold no such text."""
    return as_text(path.name.removesuffix(".zst").removesuffix(".otlp") or path.name)


def as_text(said: str) -> str:
    """Replace what came from bytes that are no UTF-8: neither JSON nor a span can hold it."""
    return said.encode("utf-8", "backslashreplace").decode()


def write_run_file(path: Path, header: Header, parts: Sequence[Path]) -> int:
    """Write a header and zstd frames that lie in files, and return the size in bytes; whole or not at all.

    `header.body_bytes` must be the size of all parts together. Raises OSError.
    """
    return write_run_files([(path, header, parts)])[0]


def write_run_files(files: Sequence[tuple[Path, Header, Sequence[Path]]]) -> list[int]:
    """Write several, as write_run_file does: none of them takes its place before all are on the disk."""
    partials = [path.with_name(f".{path.name}.{os.getpid()}.partial") for path, _, _ in files]
    try:
        sizes = [_write(partial, header, parts) for partial, (_, header, parts) in zip(partials, files, strict=True)]
        for partial, (path, _, _) in zip(partials, files, strict=True):
            partial.replace(path)
    except BaseException as error:
        for partial in partials:
            with suppress(OSError):
                partial.unlink()
        if isinstance(error, OSError) and error.filename is None:  # a write does not know where
            raise OSError(error.errno, error.strerror, str(files[0][0].parent)) from None
        raise
    return sizes


def _write(path: Path, header: Header, parts: Sequence[Path]) -> int:
    content = json.dumps(header.to_json(), ensure_ascii=False).encode()
    path.unlink(missing_ok=True)  # of a recorder with our process id that was killed: in containers ids come again
    with path.open("xb") as file:
        file.write(_FRAME.pack(_MAGIC, len(content)) + content)
        for part in parts:
            with part.open("rb") as packed:
                shutil.copyfileobj(packed, file, 1024 * 1024)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def _header_in(path: Path, file: BinaryIO, beginning: bytes) -> bytes:
    if len(beginning) == _FRAME.size:
        magic, size_bytes = _FRAME.unpack(beginning)
        if magic != _MAGIC or size_bytes > _MAX_HEADER_BYTES:
            raise UnreadableFileError(f"{path}: a header of {size_bytes} bytes in frame {magic:#x} is none of ours")
        content = file.read(size_bytes)
        if len(content) == size_bytes:
            return content
    raise UnreadableFileError(f"{path}: the file is cut off in its header; record it again")
