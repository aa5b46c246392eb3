"""What was open on each thread, and when, as columns that can be asked for many moments at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tailsight_analysis.profiles.model import StageSpan

Ints = npt.NDArray[np.int64]

MOST_STAGES = 62  # that are told apart; further ones share the last bit
_OFF_THREAD = frozenset({"queue", "gpu_kernel"})


def on_thread(spans: Iterable[StageSpan], marked: Collection[str]) -> list[StageSpan]:
    """Leave out the spans whose time is not spent on their thread: an item's wait in a queue, a kernel on a device.

    Kept where the source shows a `with stage("queue")`: `marked` are the stages that it names.
    """
    return [span for span in spans if span.stage not in _OFF_THREAD or span.stage in marked]


class Sweep:
    """The spans of one thread, open or not, as time goes on. Moments are asked in their order."""

    def __init__(self, spans: Sequence[StageSpan]) -> None:
        self.spans = spans
        number = {span.span_id: at for at, span in enumerate(spans)}
        self.parent = [number.get(span.parent_span_id, -1) for span in spans]
        # At one moment ends come before starts; what begins and ends at once was never open.
        self._steps = sorted(
            step
            for at, span in enumerate(spans)
            if span.end_ns > span.start_ns
            for step in ((span.start_ns, 1, at), (span.end_ns, 0, at))
        )
        self._at = 0
        self._children = [0] * len(spans)
        self.open: set[int] = set()
        self.leaves: set[int] = set()  # open, with no open child on this thread
        self.by_stage: defaultdict[str, set[int]] = defaultdict(set)  # the open ones

    def moments(self) -> list[int]:
        """Return when anything changes."""
        return [step[0] for step in self._steps]

    def go_to(self, time_ns: int) -> None:
        """Be at this moment: later than the last."""
        steps = self._steps
        while self._at < len(steps) and steps[self._at][0] <= time_ns:
            _, starts, span = steps[self._at]
            self._at += 1
            if starts:
                self._start(span)
            else:
                self._end(span)

    def _start(self, span: int) -> None:
        self.open.add(span)
        self.by_stage[self.spans[span].stage].add(span)
        if not self._children[span]:
            self.leaves.add(span)
        parent = self.parent[span]
        if parent >= 0:
            self._children[parent] += 1
            self.leaves.discard(parent)

    def _end(self, span: int) -> None:
        self.open.discard(span)
        self.leaves.discard(span)
        self.by_stage[self.spans[span].stage].discard(span)
        parent = self.parent[span]
        if parent >= 0:
            self._children[parent] -= 1
            if not self._children[parent] and parent in self.open:
                self.leaves.add(parent)


class OpenStages:
    """Of each thread: which stages are innermost at a moment, as a set of bits."""

    def __init__(self, spans: Iterable[StageSpan]) -> None:
        by_thread: defaultdict[int, list[StageSpan]] = defaultdict(list)
        counts: defaultdict[str, int] = defaultdict(int)
        for span in spans:
            by_thread[span.thread_id].append(span)
            counts[span.stage] += 1
        common = sorted(counts, key=lambda stage: (-counts[stage], stage))
        self.bit = {stage: min(at, MOST_STAGES) for at, stage in enumerate(common)}
        self.by_thread = dict(by_thread)
        self._masks = {thread: self._columns(each) for thread, each in by_thread.items()}

    def at(self, thread_id: int, times_ns: Ints) -> Ints:
        """Return the bits of the innermost open stages at each moment, 0 where nothing is open."""
        times, masks = self._masks[thread_id]
        found: Ints = masks[np.searchsorted(times, times_ns, side="right")]
        return found

    def _columns(self, spans: list[StageSpan]) -> tuple[Ints, Ints]:
        sweep = Sweep(spans)
        times: list[int] = []
        masks = [0]
        for moment in sweep.moments():
            if times and times[-1] == moment:
                continue
            sweep.go_to(moment)
            mask = 0
            for stage in {spans[leaf].stage for leaf in sweep.leaves}:
                mask |= 1 << self.bit[stage]
            times.append(moment)
            masks.append(mask)
        return np.array(times, dtype=np.int64), np.array(masks, dtype=np.int64)
