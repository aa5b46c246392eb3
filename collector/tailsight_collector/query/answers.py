"""Answers on their way to their clients: sent in pieces, held in memory once, and bounded all together."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from tailsight_collector.errors import BusyError

PIECE_BYTES = 1024 * 1024
# All answers that are not sent yet, and of these one caller's. A small answer is sent always.
MAX_UNSENT_BYTES = 512 * 1024 * 1024
MAX_UNSENT_OF_ONE_BYTES = 256 * 1024 * 1024
SMALL_BYTES = 64 * 1024


class Answers:
    """Counts what is not sent. For one event loop."""

    def __init__(self) -> None:
        self._unsent: Counter[str] = Counter()

    @property
    def unsent_bytes(self) -> int:
        """Bytes of answers that wait for their clients to read."""
        return self._unsent.total()

    def response(self, answer: bytes, caller: str, headers: dict[str, str]) -> Response:
        """Make the response that sends an answer; raises BusyError where too much is unread.

        One answer, however large, is always sent where the caller has no other, and nobody else's are in the way.
        """
        if len(answer) <= SMALL_BYTES:
            return Response(answer, headers=headers, media_type="application/octet-stream")
        self._check_room(len(answer), caller)
        return StreamingResponse(
            self._pieces(answer, caller),
            headers={**headers, "Content-Length": str(len(answer))},
            media_type="application/octet-stream",
        )

    def _check_room(self, size_bytes: int, caller: str) -> None:
        own_bytes = self._unsent[caller]
        if own_bytes and own_bytes + size_bytes > MAX_UNSENT_OF_ONE_BYTES:
            raise BusyError(f"{own_bytes} bytes of your answers are not read yet; read them, or ask for less")
        unsent_bytes = self.unsent_bytes
        if unsent_bytes and unsent_bytes + size_bytes > MAX_UNSENT_BYTES:
            raise BusyError(f"{unsent_bytes} bytes of answers are not read yet")

    async def _pieces(self, answer: bytes, caller: str) -> AsyncIterator[bytes]:
        """Hand the answer on, a piece when the one before is on its way; whoever leaves ends this."""
        left_bytes = len(answer)
        self._unsent[caller] += left_bytes
        try:
            for start in range(0, len(answer), PIECE_BYTES):
                piece = answer[start : start + PIECE_BYTES]
                yield piece
                left_bytes -= len(piece)
                self._unsent[caller] -= len(piece)
        finally:
            self._unsent[caller] -= left_bytes
            self._unsent += Counter()  # forget who has none
