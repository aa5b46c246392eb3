"""What is recorded before the sidecar reads: from the first push on it lies in the shared memory, if that can be had.

So a process that is killed right after its first request, or a forked child that leaves by os._exit(), has lost
nothing. Only a part of the first ring is reserved then, in a fraction of a millisecond; the rest takes some
milliseconds, in a thread. What does not fit into that part waits in memory until the thread is done.
"""

from collections.abc import Callable

from . import _record
from ._backlog import Backlog
from ._options import Settings
from ._ring import READER_SUFFIX, RingFile, RingWriter
from ._shared_counts import read_to_the_end
from ._sidecar_start import CannotStart, make_rings
from ._stats import Counters


class Early:
    """The beginning of the rings. One thread at a time makes them, any thread pushes."""

    def __init__(
        self,
        settings: Settings,
        counters: Counters,
        adopt: Callable[[RingFile], None],
        use: Callable[[RingWriter], None],
    ) -> None:
        """`adopt` is told which file it is from now on, `use` which writer has all of its rings."""
        self._settings = settings
        self._adopt = adopt
        self._use = use
        self._writer: RingWriter | None = None
        self.backlog = Backlog(settings.buffer_bytes, counters)

    def begin(self) -> None:
        """Make what takes no time."""
        try:
            file = make_rings(self._settings)
        except CannotStart:  # complete() tries again, and says so
            return
        self._adopt(file)
        self._writer = RingWriter(file, early=True)

    def push(self, packed: bytes) -> None:
        """Keep a packed batch, in shared memory if there is room. What is too much is dropped and counted."""
        writer = self._writer
        if writer is None or not writer.push(packed):
            self.backlog.add(packed, _record.count(packed))

    def complete(self, file: RingFile | None) -> None:
        """Reserve all of the rings; where there is no room for them, make others in the next folder.

        Raises CannotStart or OSError; the file is the same then.
        """
        if file is None or self._writer is None:
            file = file or make_rings(self._settings)
            file.reserve()
            self._adopt(file)
            self._use(RingWriter(file))
            return
        # There is a ring to write into at each moment of this: whoever is killed now has lost nothing.
        try:
            file.reserve()
        except OSError:
            elsewhere = make_rings(self._settings, beyond=file.path)
            try:
                elsewhere.reserve()
            except OSError:
                remove(elsewhere)
                raise
            self._adopt(elsewhere)
            whole = RingWriter(elsewhere)
            self._use(whole)
            self.retire()
            read_to_the_end(file, lambda packed, spans: whole.push(packed) or self.backlog.add(packed, spans))
            remove(file)
        else:
            whole = RingWriter(file, beside=True)
            self._use(whole)
            whole.succeed(self._writer)
            self._writer = None

    def retire(self) -> None:
        """Write no more: what is in the file is to be read by somebody."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.retire()


def remove(file: RingFile) -> None:
    """Remove rings that were read to their end."""
    for path in (file.path, file.path.with_suffix(READER_SUFFIX)):
        path.unlink(missing_ok=True)
