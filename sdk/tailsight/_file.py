"""Writing batches to a file instead of sending them: length-delimited OTLP, which `tailsight import` reads."""

import os
from pathlib import Path

from ._answer import Answer, Unreachable
from ._wire import varint


class FileCollector:
    """Stands where the collector does, and takes everything. Used by one thread at a time."""

    def __init__(self, path: str, *, pid: int) -> None:
        self.path = Path(path.replace("{pid}", str(pid))).absolute()
        self.url = str(self.path)
        self._fd: int | None = None

    def post(self, body: bytes, *, timeout_s: float | None = None) -> Answer:  # noqa: ARG002  a file does not wait
        """Append a request, as a whole or not at all. Raises Unreachable where the disk does not take it."""
        try:
            if self._fd is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            record = varint(len(body)) + body
            written = os.write(self._fd, record)
            if written != len(record):  # the disk is full: take back the part, it would spoil what follows
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
                raise Unreachable(f"the disk took {written} of {len(record)} bytes")
        except OSError as error:
            self.close()
            raise Unreachable(str(error)) from error
        return Answer(status="written", accepted=True)

    def close(self) -> None:
        """Close the file; the next post() opens it again."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
