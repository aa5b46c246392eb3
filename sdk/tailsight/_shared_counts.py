"""What the words of the shared memory say about spans and requests, and reading the rings without a sidecar."""

from collections.abc import Callable

from . import _record
from ._batches import Counts
from ._ring import RingFile, RingReader, RingWriter, Word, reader_lock
from ._sampling import Reason
from ._stats import Counters, DropReason, Stats

_DROPS = {reason: index for index, reason in enumerate(DropReason)}
_DECISIONS = {reason: index for index, reason in enumerate(Reason)}


def word_of_drop(reason: DropReason) -> int:
    """Return where the service counts what it dropped for this reason."""
    return Word.DROPPED + _DROPS[reason]


def word_of_decision(reason: Reason, *, kept: bool) -> int:
    """Return where the service counts the requests that sampling kept, or did not, for this reason."""
    return (Word.KEPT if kept else Word.SAMPLED_OUT) + _DECISIONS[reason]


def stats_in(file: RingFile) -> Stats:
    """Return what the sidecar counted."""
    words = file.words
    return Stats(
        sent=words[Word.SENT],
        dropped={reason.value: spans for reason, n in _DROPS.items() if (spans := words[Word.DROPPED_THERE + n])},
        pending_bytes=RingWriter(file).waiting_bytes(),
        posts=words[Word.POSTS],
        retries=words[Word.RETRIES],
        failures=words[Word.FAILURES],
        internal_errors=words[Word.INTERNAL_ERRORS],
        spooled_bytes=words[Word.SPOOLED_BYTES],
    )


def counts_in(words: memoryview, here: Counters) -> Counts:
    """Add up what the service dropped before the rings and what was dropped on the sidecar's side."""
    dropped = {
        reason.value: spans
        for reason, index in _DROPS.items()
        if (spans := words[Word.DROPPED + index] + here.dropped.get(reason, 0))
    }
    kept = {reason.value: n for reason, index in _DECISIONS.items() if (n := words[Word.KEPT + index])}
    out = {reason.value: n for reason, index in _DECISIONS.items() if (n := words[Word.SAMPLED_OUT + index])}
    return Counts(sum(words[Word.DROPPED + index] for index in _DROPS.values()), dropped, kept, out)


def read_to_the_end(file: RingFile, take: Callable[[bytes, int], object]) -> bool:
    """Pass on what is in the rings. False if somebody else reads them: then it is theirs."""
    try:
        with reader_lock(file.path):
            reader = RingReader(file)
            reader.look()
            for packed in reader.take():
                take(packed, _record.count(packed))
            reader.commit()
    except OSError:
        return False
    return True
