"""How well spans and frames agree, if the profiler's clock began at this moment of Unix time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from tailsight_analysis.profiles.marks import frame_tokens
from tailsight_analysis.profiles.model import Recording
from tailsight_analysis.profiles.timeline import OpenStages

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BLOCKS = 10
_LEAST_SEEN = 5  # observations of a frame, for it to tell anything


class Score(Protocol):
    """What is largest at the right offset; of the `chosen` observations of a recording."""

    recording: Recording
    chosen: Ints

    def at(self, offset_ns: float) -> float:
        """Return the score."""
        ...

    def by_block(self, offset_ns: float) -> Floats:
        """Return the scores of consecutive stretches of the recording."""
        ...

    def masks(self, offset_ns: float) -> Ints:
        """Return the innermost open stages of each observation, as bits."""
        ...

    def values(self, offset_ns: float) -> Floats:
        """Return what each observation adds."""
        ...

    def of(self, chosen: Ints) -> Self:
        """Return the same score of other observations."""
        ...


class _Chosen:
    """Observations, thread by thread."""

    def __init__(self, recording: Recording, chosen: Ints, stages: OpenStages) -> None:
        self.recording, self.chosen, self.stages = recording, chosen, stages
        groups: defaultdict[int, list[int]] = defaultdict(list)
        for at, thread in enumerate(recording.thread_index[chosen].tolist()):
            groups[thread].append(at)
        times_ns = recording.times_us[chosen] * 1000
        self._groups = [
            (recording.threads[thread].thread_id, np.array(rows), times_ns[rows]) for thread, rows in groups.items()
        ]
        self.block = np.minimum(np.arange(len(chosen)) * BLOCKS // max(1, len(chosen)), BLOCKS - 1)

    def masks(self, offset_ns: float) -> Ints:
        """Return the innermost open stages of each observation, as bits."""
        whole = round(offset_ns)
        found = np.zeros(len(self.chosen), dtype=np.int64)
        for thread_id, rows, times_ns in self._groups:
            found[rows] = self.stages.at(thread_id, times_ns + whole)
        return found

    def _by_block(self, values: Floats) -> Floats:
        sums = np.bincount(self.block, weights=values, minlength=BLOCKS)
        means: Floats = sums / np.maximum(np.bincount(self.block, minlength=BLOCKS), 1)
        return means


class Agreement(_Chosen):
    """The share of observations whose stack is in an innermost open stage, or in none while none is open.

    `marked_only` leaves out those of which nothing is known: where stages were learned rather than read. Without
    `complete`, spans of some requests are not there: then only observations tell anything in whose time one was open.
    """

    def __init__(
        self,
        recording: Recording,
        chosen: Ints,
        stages: OpenStages,
        marks: Sequence[tuple[str, ...]],
        *,
        marked_only: bool = False,
        complete: bool = True,
    ) -> None:
        bits = np.array([stages.bit.get(mark[-1], -2) if mark else -1 for mark in marks], dtype=np.int64)
        if marked_only:
            chosen = chosen[bits[recording.stack_index[chosen]] != -1]
        super().__init__(recording, chosen, stages)
        self._marks, self._marked_only, self._complete = marks, marked_only, complete
        self._bit = bits[recording.stack_index[chosen]]
        known = {mark[-1] for mark in marks if mark} & set(stages.bit)
        self._known = sum(1 << bit for bit in {stages.bit[stage] for stage in known})

    def at(self, offset_ns: float) -> float:
        """Return the score."""
        agree, counts = self._agree(offset_ns)
        return float(agree.sum() / max(1.0, counts.sum()))

    def by_block(self, offset_ns: float) -> Floats:
        """Return the scores of consecutive stretches of the recording."""
        agree, counts = self._agree(offset_ns)
        sums, sizes = (np.bincount(self.block, weights=each, minlength=BLOCKS) for each in (agree, counts))
        means: Floats = sums / np.maximum(sizes, 1)
        return means

    def values(self, offset_ns: float) -> Floats:
        """Return what each observation adds."""
        return self._agree(offset_ns)[0]

    def of(self, chosen: Ints) -> Self:
        """Return the same score of other observations."""
        return type(self)(
            self.recording, chosen, self.stages, self._marks, marked_only=self._marked_only, complete=self._complete
        )

    def _agree(self, offset_ns: float) -> tuple[Floats, Floats]:
        """Return of each observation whether it agrees, and whether it counts."""
        masks = self.masks(offset_ns)
        inside = (masks >> np.maximum(self._bit, 0)) & 1
        agree = np.where(self._bit >= 0, inside, (self._bit == -1) & ((masks & self._known) == 0)).astype(float)
        counts = np.ones(len(masks)) if self._complete else (masks != 0).astype(float)
        return agree * counts, counts


class Information(_Chosen):
    """The information (nats per observation) that frames give of the open stages, summed over frames and stages."""

    def __init__(self, recording: Recording, chosen: Ints, stages: OpenStages) -> None:
        super().__init__(recording, chosen, stages)
        tokens, rows = frame_tokens(recording, chosen)
        lengths = np.array([len(row) for row in rows])
        columns = np.concatenate(rows) if rows else np.empty(0, dtype=np.int64)
        pointers = np.concatenate(([0], np.cumsum(lengths)))
        whole = csr_matrix((np.ones(len(columns)), columns, pointers), shape=(len(rows), len(tokens)))
        seen = np.asarray(whole.sum(axis=0)).ravel()
        self._tokens = whole[:, (seen >= _LEAST_SEEN) & (seen <= len(rows) - _LEAST_SEEN)]
        self._seen = np.asarray(self._tokens.sum(axis=0)).ravel()
        self._bits = np.arange(max(stages.bit.values(), default=0) + 1)

    def at(self, offset_ns: float) -> float:
        """Return the score."""
        value = self._joint(offset_ns)
        return float((value[0] * value[1] + value[2] * value[3]).sum()) / max(1, len(self.chosen))

    def by_block(self, offset_ns: float) -> Floats:
        """Return the scores of consecutive stretches of the recording."""
        return self._by_block(self.values(offset_ns))

    def values(self, offset_ns: float) -> Floats:
        """Return what each observation adds."""
        _, when_open, _, when_not = self._joint(offset_ns)
        opened = self._open(offset_ns)
        values = (self._tokens @ when_open * opened).sum(axis=1) + (self._tokens @ when_not * (1 - opened)).sum(axis=1)
        return np.asarray(values).ravel()

    def of(self, chosen: Ints) -> Self:
        """Return the same score of other observations."""
        return type(self)(self.recording, chosen, self.stages)

    def _open(self, offset_ns: float) -> Floats:
        opened: Floats = ((self.masks(offset_ns)[:, None] >> self._bits) & 1).astype(float)
        return opened

    def _joint(self, offset_ns: float) -> tuple[Floats, Floats, Floats, Floats]:
        """Return, of each frame and stage: observations while open and their information each; the same while not."""
        opened = self._open(offset_ns)
        together = np.asarray(self._tokens.T @ opened)
        apart = self._seen[:, None] - together
        base = opened.mean(axis=0)
        return together, _log(together, self._seen, base), apart, _log(apart, self._seen, 1 - base)


def _log(counts: Floats, seen: Floats, base: Floats) -> Floats:
    """ln(P(stage | frame) ÷ P(stage)), 0 where it never was."""
    ratio = counts / (np.maximum(seen, 1)[:, None] * np.maximum(base, 1e-12))
    found: Floats = np.log(ratio, out=np.zeros_like(ratio), where=counts > 0)
    return found
