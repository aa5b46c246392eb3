"""Rings that nobody reads any more: the service was killed together with its sidecar. Another sidecar sends them.

It goes on in the name of the sender that is gone, with its numbers and counts, so that its account is complete. What
the collector does not take now goes to the spool, in that sender's name too.
"""

import contextlib
import fcntl
from collections.abc import Callable
from pathlib import Path

from . import _otlp
from . import attributes as keys
from ._answer import Unreachable
from ._batches import Batch, Batcher
from ._delivery import Collector, count_accepted, count_refused
from ._resource import resource_attributes
from ._ring import READER_SUFFIX, RingFile, RingReader, Word, reader_lock
from ._shared_counts import counts_in
from ._sidecar_config import Config
from ._spool import Spool
from ._stats import Counters, DropReason


class Finisher:
    """Finishes what others left in the same folder, for the same destination."""

    def __init__(
        self,
        own: RingFile,
        collector: Collector,
        *,
        is_for_us: Callable[[str], bool],
        spool_for: Callable[[str], Spool],
        batch_bytes: int,
    ) -> None:
        self._own = own
        self._collector = collector
        self._is_for_us = is_for_us
        self._spool_for = spool_for
        self._batch_bytes = batch_bytes

    def look(self, *, away: bool) -> None:
        """Look for rings without a service and without a sidecar. `away`: do not try the collector, it is not there."""
        for path in self._own.path.parent.glob("*.ring"):
            if path != self._own.path:
                # It is in use, gone, or no ring file.
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    self._take_over(path, away=away)

    def _take_over(self, path: Path, *, away: bool) -> None:
        file = RingFile.attach(path)
        try:
            if file.words[Word.PYTHON] != self._own.words[Word.PYTHON]:
                return
            said = file.description()
            config = Config.from_plain(said)
            if not self._is_for_us(str(said["destination"])):
                return
            fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails: the service is alive, or somebody is at it
            with reader_lock(path):  # fails: it has a sidecar, which goes on without its service
                # Its sidecar knew best. Where it came to none, this one is on the same machine.
                known = said.get("resource")
                resource = (
                    bytes.fromhex(known)
                    if known
                    else _otlp.resource(resource_attributes(config.settings, pid=config.pid))
                )
                self._finish(file, config, resource, away=away)
                path.unlink(missing_ok=True)
                path.with_suffix(READER_SUFFIX).unlink(missing_ok=True)
        finally:
            file.close()

    def _finish(self, file: RingFile, config: Config, resource: bytes, *, away: bool) -> None:
        """Send or spool all that is in the rings."""
        lost = Counters()  # not this service's
        batcher = Batcher(
            lambda: resource,
            {keys.MODEL: config.settings.model} if config.settings.model else {},
            counts=lambda: counts_in(file.words, lost),
            drop=lambda spans: lost.drop(DropReason.INTERNAL_ERROR, spans),
        )
        go_on(batcher, file.words)
        spool = self._spool_for(batcher.id)
        reader = RingReader(file)

        def ship(*, last: bool = False) -> None:
            nonlocal away
            for batch in batcher.take(last=last):
                away = away or not self._is_delivered(batch, lost)
                if away:
                    spool.put(batch.number, batch.priority, batch.spans, batch.body)
            commit(batcher, reader, file.words)

        try:
            reader.look()
            for packed in reader.take():
                batcher.add(packed)
                if batcher.bytes >= self._batch_bytes:
                    ship()
            ship()
            ship(last=True)
        finally:
            spool.close()

    def _is_delivered(self, batch: Batch, lost: Counters) -> bool:
        """Send a batch once. Return whether nobody needs to send it again."""
        try:
            answer = self._collector.post(batch.body)
        except Unreachable:
            return False
        if answer.retryable:
            return False
        if answer.accepted:
            count_accepted(lost, self._collector.url, answer, batch.spans)
        else:
            count_refused(lost, self._collector.url, answer, batch.spans)
        return True


def go_on(batcher: Batcher, words: memoryview) -> None:
    """Let a batcher take the place of the one that read these rings before, if there was one."""
    if words[Word.SENDER_ID]:
        batcher.go_on((words[Word.SENDER_ID], words[Word.NUMBER], words[Word.TAKEN_IN], words[Word.ENCODED]))


def commit(batcher: Batcher, reader: RingReader, words: memoryview) -> None:
    """Give back the rings' room, and remember how far the sender is. What is not committed is sent again, as it was."""
    reader.commit()
    words[Word.SENDER_ID], words[Word.NUMBER], words[Word.TAKEN_IN], words[Word.ENCODED] = batcher.state
