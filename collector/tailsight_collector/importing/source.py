"""Where a file's bytes come from: unpacked piecewise, as often as wanted; stdin is kept in a temporary file first."""

from __future__ import annotations

import errno
import gzip
import io
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import zstandard

from tailsight_collector.errors import BadRequestError, UnknownFormatError, UnreadableFileError
from tailsight_collector.importing.registry import HEAD_BYTES
from tailsight_collector.zstd_frames import is_zstd, unpacked

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

STDIN = "-"
GZIP_MAGIC = b"\x1f\x8b"
# Traces pack ten to fifty times. More than both of these is no trace file but a bomb.
BOMB_RATIO = 500
BOMB_BYTES = 1024**3


class FileSource:
    """A file, or what came by stdin. `size_bytes`: as it lies there, packed."""

    def __init__(self, name: str, open_packed: Callable[[], BinaryIO], size_bytes: int) -> None:
        self.name = name
        self.size_bytes = size_bytes
        self.on_read: Callable[[int], None] = lambda _: None
        self._open_packed = open_packed
        with translated(name), self.open() as stream:
            self.head = stream.read(HEAD_BYTES)

    def open(self) -> BinaryIO:
        """Return the unpacked bytes from the start."""
        packed = self._open_packed()
        beginning = packed.read(4)
        packed.seek(0)
        watched = cast("BinaryIO", _Watched(packed, self))
        if beginning.startswith(GZIP_MAGIC):
            pieces = _gunzipped(watched)
        elif is_zstd(beginning):
            pieces = unpacked(watched)
        else:
            return cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", watched), HEAD_BYTES))
        return cast("BinaryIO", io.BufferedReader(_Pieces(pieces, watched, self.size_bytes), HEAD_BYTES))


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn what reading can raise into UnreadableFileError, with the file's name."""
    try:
        yield
    except (UnreadableFileError, UnknownFormatError):
        raise
    except BadRequestError as error:
        raise UnreadableFileError(f"{name}: {error}") from None
    except (EOFError, zlib.error, zstandard.ZstdError, gzip.BadGzipFile) as error:
        raise UnreadableFileError(f"{name}: the packed file is damaged: {error}") from None
    except OSError as error:
        raise UnreadableFileError(f"{name}: {error.strerror or error}") from None


@contextmanager
def room_needed() -> Iterator[None]:
    """Say of a temporary file that cannot grow where it lies: neither the name nor the folder is the user's."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UnreadableFileError(
            f"no room in {tempfile.gettempdir()} for what is read ({error.strerror}): TMPDIR names another folder"
        ) from None


def file_source(path: Path) -> FileSource:
    """Return a file's source; raises UnreadableFileError."""
    with translated(str(path)):
        if not path.is_file():
            raise UnreadableFileError(f"{path}: it is no file; `tailsight import - < {path}` reads a pipe or a device")
        return FileSource(str(path), lambda: path.open("rb"), path.stat().st_size)


@contextmanager
def stdin_source(stream: BinaryIO) -> Iterator[FileSource]:
    """Keep all of a stream that can be read once in a temporary file."""
    with tempfile.TemporaryFile(prefix="tailsight-import-") as kept:
        with translated("stdin"), room_needed():
            shutil.copyfileobj(stream, kept)
            kept.flush()
        # a file without a name, so that nothing is left behind whatever happens; this opens it anew
        path = Path(f"/proc/self/fd/{kept.fileno()}")
        yield FileSource("stdin", lambda: path.open("rb"), kept.tell())


def _gunzipped(packed: BinaryIO) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=packed) as file:
        while piece := file.read(HEAD_BYTES):
            yield piece


class _Watched(io.RawIOBase):
    """A file that says how far it is read."""

    def __init__(self, file: BinaryIO, source: FileSource) -> None:
        self._file = file
        self._source = source
        self._read = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self._read += len(data)
        self._source.on_read(self._read)
        return data

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        room = memoryview(buffer).cast("B")
        data = self.read(len(room))
        room[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Pieces(io.RawIOBase):
    """Pieces of unpacked bytes as a file, with an end where they cannot be a trace any more."""

    def __init__(self, pieces: Iterator[bytes], packed: BinaryIO, packed_bytes: int) -> None:
        self._pieces = pieces
        self._packed = packed
        self._limit = max(BOMB_BYTES, packed_bytes * BOMB_RATIO)
        self._rest = b""
        self._total = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        room = memoryview(buffer).cast("B")
        if not self._rest:
            self._rest = next(self._pieces, b"")
            self._total += len(self._rest)
            if self._total > self._limit:
                raise BadRequestError(
                    f"it unpacks to more than {self._limit >> 20:,} MiB, over {BOMB_RATIO} times its size: unpack it "
                    "yourself if that is right"
                )
        taken = self._rest[: len(room)]
        room[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)

    def close(self) -> None:
        self._packed.close()
        super().close()
