"""Rings that nobody reads any more: the service was killed together with its sidecar. Another sidecar sends them."""

import contextlib
import fcntl
import os
from pathlib import Path

from . import _otlp
from . import attributes as keys
from ._batches import Batcher, Counts
from ._delivery import Collector, count_accepted
from ._http import Unreachable
from ._resource import resource_attributes
from ._ring import READER_SUFFIX, RingFile, RingReader, Word
from ._sampling import Reason
from ._sidecar_config import Config
from ._stats import Counters, DropReason, counters


def send_left_behind(own: RingFile, collector: Collector) -> None:
    """Look for rings without a sidecar and without a service, and send what they hold to this collector."""
    for path in own.path.parent.glob("*.ring"):
        if path != own.path:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # it is in use, gone, or no ring file
                _take_over(path, own, collector)


def _take_over(path: Path, own: RingFile, collector: Collector) -> None:
    reader_fd = os.open(path.with_suffix(READER_SUFFIX), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(reader_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails: it has a sidecar
        file = RingFile.attach(path)
        try:
            fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails: the service is alive
            if _is_for(file, own, collector) and _send(file, collector):
                path.unlink(missing_ok=True)
                path.with_suffix(READER_SUFFIX).unlink(missing_ok=True)
        finally:
            file.close()
    finally:
        os.close(reader_fd)


def _is_for(file: RingFile, own: RingFile, collector: Collector) -> bool:
    """Tell whether these rings hold what this sidecar can read, for the collector that it knows."""
    same_python = file.words[Word.PYTHON] == own.words[Word.PYTHON]
    return same_python and file.description().get("settings", {}).get("endpoint") == collector.url


def _send(file: RingFile, collector: Collector) -> bool:
    """Return whether there is nothing left in it."""
    said = file.description()
    config = Config.from_plain(said)
    # Its sidecar knew best. Where it came to none, this one is on the same machine.
    known = said.get("resource")
    resource = bytes.fromhex(known) if known else _otlp.resource(resource_attributes(config.settings, pid=config.pid))
    batcher = Batcher(
        lambda: resource,
        {keys.MODEL: config.settings.model} if config.settings.model else {},
        counts=lambda: counts_in(file.words, Counters()),
        drop=lambda spans: counters.drop(DropReason.INTERNAL_ERROR, spans),
    )
    reader = RingReader(file)
    reader.look()
    for packed in reader.take():
        batcher.add(packed)
    for batch in batcher.take(last=True):
        try:
            answer = collector.post(batch.body)
        except Unreachable:
            return False
        if answer.retryable:
            return False
        counters.posts += 1
        if answer.accepted:
            count_accepted(counters, collector.url, answer, batch.spans)
    reader.commit()
    return True


def counts_in(words: memoryview, here: Counters) -> Counts:
    """Add up what the service dropped before the rings and what was dropped on this side."""
    dropped = {
        reason.value: spans
        for index, reason in enumerate(DropReason)
        if (spans := words[Word.DROPPED + index] + here.dropped.get(reason, 0))
    }
    kept = {reason.value: n for index, reason in enumerate(Reason) if (n := words[Word.KEPT + index])}
    out = {reason.value: n for index, reason in enumerate(Reason) if (n := words[Word.SAMPLED_OUT + index])}
    never_taken_in = sum(words[Word.DROPPED + index] for index in range(len(DropReason)))
    return Counts(never_taken_in, dropped, kept, out)
