"""How long garbage collection held this process up, so that a request can say how much of its time that was."""

import gc
import time
from types import TracebackType
from typing import Self


class GcWatch:
    """Adds up the pauses of the collector while it is entered.

    A collection holds the interpreter's lock: it stops every request, not only the one whose allocation set it off. So
    one total for the process is enough, and a request's share is the total at its end less that at its beginning.
    """

    def __init__(self) -> None:
        self.paused_ns = 0
        self.full_collections = 0  # of the oldest generation: they walk through everything that is alive
        self._began_ns = 0

    def __enter__(self) -> Self:
        gc.callbacks.append(self._on_collection)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        gc.callbacks.remove(self._on_collection)

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began_ns = time.perf_counter_ns()
        else:
            self.paused_ns += time.perf_counter_ns() - self._began_ns
            self.full_collections += info["generation"] == 2
