"""Rings that nobody reads any more: the service was killed together with its sidecar, or before it had one.

Another sidecar sends them.
It goes on in the name of the sender that is gone, with its numbers and counts, so that its account is complete. What
the collector does not take now goes to the spool, in that sender's name too.
"""

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterable
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
from ._unread import rings_in

_NO_END = float("inf")


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
        self._not_for_us: set[Path] = set()

    def look(self, *, away: bool) -> None:
        """Look for rings without a service and without a sidecar. `away`: do not try the collector, it is not there."""
        self._take_over_each(self._others(), away, _NO_END)

    def look_for_unread(self, *, away: bool, until: float = _NO_END) -> None:
        """Look only for those that never had a sidecar: a forked child ended by os._exit(), say, or was killed.

        It costs the listing of a folder. `until`: monotonic seconds at which it is over; what is left is the next
        one's.
        """
        others = self._others()
        self._not_for_us.intersection_update(others)
        unread = [path for path in others if path not in self._not_for_us and not others[path]]
        self._take_over_each(unread, away, until)

    def _others(self) -> dict[Path, bool]:
        others = rings_in(self._own.path.parent)
        others.pop(self._own.path, None)
        return others

    def _take_over_each(self, paths: Iterable[Path], away: bool, until: float) -> None:
        for path in paths:
            if time.monotonic() > until:
                return
            # It is in use, gone, or no ring file.
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                away = self._take_over(path, away=away)

    def _take_over(self, path: Path, *, away: bool) -> bool:
        """Finish one. Return whether the collector is away, now or still."""
        file = RingFile.attach(path)
        try:
            if file.words[Word.PYTHON] != self._own.words[Word.PYTHON]:
                self._not_for_us.add(path)
                return away
            said = file.description()
            config = Config.from_plain(said)
            if not self._is_for_us(str(said["destination"])):
                self._not_for_us.add(path)
                return away
            fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails: the service is alive, or somebody is at it
            with reader_lock(path):  # fails: it has a sidecar, which goes on without its service
                # Its sidecar knew best. Where it came to none, this one is on the same machine.
                known = said.get("resource")
                resource = (
                    bytes.fromhex(known)
                    if known
                    else _otlp.resource(resource_attributes(config.settings, pid=config.pid))
                )
                away = self._finish(file, config, resource, away=away)
                path.unlink(missing_ok=True)
                path.with_suffix(READER_SUFFIX).unlink(missing_ok=True)
            return away
        finally:
            file.close()

    def _finish(self, file: RingFile, config: Config, resource: bytes, *, away: bool) -> bool:
        """Send or spool all that is in the rings. Return whether the collector is away."""
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
        return away

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
