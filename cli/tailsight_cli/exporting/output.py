"""Where an export goes: a file that is there whole or not at all, or stdout."""

from __future__ import annotations

import gzip
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

import click
import zstandard

from tailsight_cli._errors import UNREADABLE, CommandError

STDOUT = "-"
_BUFFER_BYTES = 1024**2
_LEVEL = 6


def check(output: str, *, force: bool, is_text: bool) -> None:
    """Refuse what cannot or must not be written to, before anything is read; raises UsageError."""
    if output == STDOUT:
        if not is_text and sys.stdout.isatty():
            raise click.UsageError("a terminal cannot show this format: name a file with --output, or pipe it on")
        return
    path = Path(output)
    if path.is_dir():
        raise click.UsageError(f"--output {output} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise click.UsageError(f"--output {output}: there is no folder {path.parent}")
    if path.is_file() and not force:
        raise _exists(output)


def _exists(output: str) -> click.UsageError:
    return click.UsageError(f"--output {output} exists already: say --force to replace it, or name another")


@contextmanager
def opened(output: str, packing: str, *, force: bool) -> Iterator[BinaryIO]:
    """Open what an export is written to. A file gets its name when all is in it; whatever goes wrong leaves none."""
    try:
        with _opened(output, force=force) as file, _packed(file, packing) as packed:
            yield packed
    except BrokenPipeError:
        raise
    except OSError as error:
        what = "stdout" if output == STDOUT else f"--output {output}"
        left = "" if output == STDOUT else "; nothing is left of it"
        raise CommandError(f"{what} cannot be written: {error.strerror or error}{left}", UNREADABLE) from error


@contextmanager
def _opened(output: str, *, force: bool) -> Iterator[BinaryIO]:
    if output == STDOUT:
        yield from _stdout()
        return
    path = Path(os.path.realpath(output))
    if path.exists() and not path.is_file():  # a device or a pipe: it cannot be replaced
        with path.open("wb", buffering=_BUFFER_BYTES) as device:
            yield device
        return
    beside = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        with beside.open("xb", buffering=_BUFFER_BYTES) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if not force and path.exists():  # somebody was quicker
            raise _exists(output)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _stdout() -> Iterator[BinaryIO]:
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            # what is left in its buffer would fail once more when the interpreter ends
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


@contextmanager
def _packed(file: BinaryIO, packing: str) -> Iterator[BinaryIO]:
    if packing == ".gz":
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=_LEVEL, mtime=0) as packed:
            yield cast("BinaryIO", packed)
    elif packing == ".zst":
        writer = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).stream_writer(file, closefd=False)
        with writer as packed_writer:
            yield cast("BinaryIO", packed_writer)
    else:
        yield file
