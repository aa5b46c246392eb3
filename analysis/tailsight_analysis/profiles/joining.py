"""Which span each observation belongs to.

Time says which spans were open on the thread; frames say which stage's code is on the stack (`marks.py`). With one
thread a request, both nearly always name one span, and at a stage's edge, where the clock's error counts, the frames
decide. Where coroutines take turns on one thread, many spans are open and only the one whose frames are on the stack
runs: if its stage is open in several requests at once, the stage is known and the request is not.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tailsight_analysis.errors import QuestionError
from tailsight_analysis.profiles.clock import ClockFit
from tailsight_analysis.profiles.marks import marks_by_source, marks_learned
from tailsight_analysis.profiles.model import JoinedSample, Match, Recording, Stack, StageSpan, State
from tailsight_analysis.profiles.sites import Site
from tailsight_analysis.profiles.states import Readings, StateReading, state_by_frame
from tailsight_analysis.profiles.timeline import OpenStages, Sweep, on_thread

Ints = npt.NDArray[np.int64]

EDGE_NS = 1_000_000
"""How far from a span a stack in its stage may be seen: py-spy stamps a sample after it was taken."""
_STATE_WITHIN_NS = 2_000_000
_RELIABLE = 0.9
_LEAST_SEEN = 20
_LEARN_FROM = 20_000
_LOOPS = (("base_events.py", "_run_once"), ("selectors.py", "select"), ("runners.py", "run"))  # the last: of uvloop
_LOOP_FOLDERS = frozenset({"asyncio", "uvloop", "trio", "curio"})
_NOBODY_KNOWS = ("",)


def join(
    recording: Recording,
    fit: ClockFit,
    spans: Sequence[StageSpan],
    classes: Mapping[str, str],
    sites: Sequence[Site] = (),
    states: Sequence[StateReading] = (),
) -> tuple[JoinedSample, ...]:
    """Join each observation to the innermost span on its thread, in the order of time.

    An observation that was filled in, rather than seen, is left out unless it is in the span of the one seen before.
    Those of a time in which the fit does not hold are ambiguous. Where requests were sampled (`fit.complete` is False),
    a task of an event loop may be of a request without spans: of its samples the request is not known.

    `spans`: all of the process in the recording's time. `classes`: of trace ids, "tail" or "typical". `sites` as given
    to fit_clock(). `states`: readings of what threads were doing. Raises QuestionError where the fit is not trusted.
    """
    if not fit.trusted:
        raise QuestionError(f"the profile's clock was not found, so nothing can be joined: {fit.why_not}")
    times_ns = fit.unix_ns(recording.times_us)
    usable = on_thread(spans, {site.stage for site in sites})
    by_thread: defaultdict[int, list[StageSpan]] = defaultdict(list)
    for each in usable:
        by_thread[each.thread_id].append(each)
    marks = _marks(recording, times_ns, usable, sites)
    readings = Readings(states)
    found: list[JoinedSample | None] = [None] * len(recording)
    times_us = recording.times_us.tolist()
    for number, thread in enumerate(recording.threads):
        rows = np.flatnonzero(recording.thread_index == number)
        own = by_thread.get(thread.thread_id, [])
        joiner = _Joiner(own, marks, classes, complete=fit.complete)
        stacks = recording.stack_index[rows].tolist()
        joiner.learn_reliable(times_ns[rows].tolist(), stacks)
        seen = recording.seen[rows].tolist()
        last: object = None
        for row, time_ns, stack_index, was_seen in zip(
            rows.tolist(), times_ns[rows].tolist(), stacks, seen, strict=True
        ):
            stack = recording.stacks[stack_index]
            match, span, also = joiner.place(time_ns, stack_index, stack)
            if own and not fit.holds_us[0] <= times_us[row] < fit.holds_us[1]:
                match, span, also = Match.AMBIGUOUS, None, ()
            if was_seen:
                last = span
            elif span is None or span is not last:
                continue  # a stack that did not change while the span did, or a thread that had ended: no such sample
            state = readings.near(thread.os_thread_id, time_ns, _STATE_WITHIN_NS)
            if state is State.UNKNOWN:
                state = state_by_frame(stack)
            found[row] = joiner.sample(time_ns, thread.thread_id, stack, state, match, span, also)
    return tuple(sample for sample in found if sample is not None)


def _marks(
    recording: Recording, times_ns: Ints, spans: Sequence[StageSpan], sites: Sequence[Site]
) -> list[tuple[str, ...]]:
    """Return the stages of each stack: those that the source tells; of the others what the spans teach."""
    told = marks_by_source(recording.stacks, sites)
    known = {site.stage for site in sites}
    stages = OpenStages(spans)
    if set(stages.bit) <= known | {""}:
        return told
    with_spans = [at for at, thread in enumerate(recording.threads) if thread.thread_id in stages.by_thread]
    chosen = np.flatnonzero(np.isin(recording.thread_index, with_spans) & recording.seen)[-_LEARN_FROM:]
    masks = np.zeros(len(chosen), dtype=np.int64)
    for at in with_spans:
        own = recording.thread_index[chosen] == at
        masks[own] = stages.at(recording.threads[at].thread_id, times_ns[chosen[own]])
    learned = marks_learned(recording, chosen, masks, stages)
    return [
        mark or (other if other and other[-1] not in known else ()) for mark, other in zip(told, learned, strict=True)
    ]


class _Joiner:
    """Places the observations of one thread, in the order of time."""

    def __init__(
        self,
        spans: Sequence[StageSpan],
        marks: Sequence[tuple[str, ...]],
        classes: Mapping[str, str],
        *,
        complete: bool,
    ) -> None:
        self._spans, self._marks, self._classes, self._complete = spans, marks, classes, complete
        self._takes_turns = not complete and _overlap(spans)
        self._sweep = Sweep(spans)
        self._reliable: set[str] = set()
        self._starts: dict[str, list[tuple[int, int]]] = {}
        self._ends: dict[str, list[tuple[int, int]]] = {}
        by_stage: defaultdict[str, list[int]] = defaultdict(list)
        for at, span in enumerate(spans):
            by_stage[span.stage].append(at)
        for stage, own in by_stage.items():
            self._starts[stage] = sorted((spans[at].start_ns, at) for at in own)
            self._ends[stage] = sorted((spans[at].end_ns, at) for at in own)

    def learn_reliable(self, times_ns: Sequence[int], stacks: Sequence[int]) -> None:
        """Find the stages whose code always shows in the stack: of those, a stack without it is in no such stage.

        Asked where one span alone could run. A mark may be missing at an edge, so a tenth may be.
        """
        sweep = Sweep(self._spans)
        seen: defaultdict[str, int] = defaultdict(int)
        shown: defaultdict[str, int] = defaultdict(int)
        for time_ns, stack in zip(times_ns, stacks, strict=True):
            sweep.go_to(time_ns)
            mark = self._marks[stack]
            if mark:
                seen[mark[-1]] += 1
                shown[mark[-1]] += 1
            elif len(sweep.leaves) == 1:
                seen[self._spans[next(iter(sweep.leaves))].stage] += 1
        marked = {stage for stage, count in shown.items() if count >= _LEAST_SEEN}
        self._reliable = {stage for stage in marked if stage and shown[stage] >= _RELIABLE * seen[stage]}

    def place(self, time_ns: int, stack_index: int, stack: Stack) -> tuple[Match, StageSpan | None, tuple[str, ...]]:
        """Return how sure it is, the span (also where only its stage is sure), and the further requests it served."""
        self._sweep.go_to(time_ns)
        mark = self._marks[stack_index]
        if not self._complete and (self._takes_turns or _is_of_loop(stack)):
            return self._of_anybody(mark)
        if mark:
            return self._by_mark(time_ns, mark)
        leaves = self._sweep.leaves
        if not leaves:
            return Match.NONE, None, ()
        if _is_loop(stack) and len(leaves) > 1:
            return Match.NONE, None, ()  # the event loop's own work: none of the tasks runs
        possible = {self._climb(leaf) for leaf in leaves} - {-1}
        if not possible:
            return Match.NONE, None, ()
        return (
            self._one_of(possible) if len(possible) == 1 or self._one_batch(possible) else (Match.AMBIGUOUS, None, ())
        )

    def _by_mark(self, time_ns: int, mark: tuple[str, ...]) -> tuple[Match, StageSpan | None, tuple[str, ...]]:
        stage = mark[-1]
        opened = self._sweep.by_stage.get(stage) or set()
        # Of a stage inside a stage of the same name, the inner one.
        possible = {at for at in opened if at in self._sweep.leaves} or self._innermost(opened)
        if not possible and self._complete:  # else it may be of a request without spans
            possible = self._near(stage, time_ns)
        if not possible:
            return (Match.AMBIGUOUS if self._sweep.leaves else Match.NONE), None, ()
        if len(possible) > 1 and len(mark) > 1:
            possible = {at for at in possible if self._stages_of(at)[-len(mark) :] == mark} or possible
        return self._one_of(possible)

    def _of_anybody(self, mark: tuple[str, ...]) -> tuple[Match, StageSpan | None, tuple[str, ...]]:
        """Place what a task of an event loop runs, where there may be tasks of requests without spans."""
        opened = self._sweep.by_stage.get(mark[-1]) if mark else None
        if not opened:
            return (Match.AMBIGUOUS if self._sweep.leaves else Match.NONE), None, ()
        return Match.STAGE, self._spans[min(opened)], _NOBODY_KNOWS

    def _one_of(self, possible: set[int]) -> tuple[Match, StageSpan | None, tuple[str, ...]]:
        first = min(possible, key=lambda at: (self._spans[at].start_ns, self._spans[at].span_id))
        span = self._spans[first]
        if len(possible) == 1:
            return Match.EXACT, span, ()
        if self._one_batch(possible):
            others = {self._spans[at].trace_id for at in possible} - {span.trace_id}
            return Match.EXACT, span, tuple(sorted(others))
        return Match.STAGE, span, tuple(sorted({self._spans[at].trace_id for at in possible} - {span.trace_id}))

    def _one_batch(self, possible: Iterable[int]) -> bool:
        """Tell whether these are copies of one execution that served several requests: same stage, same times."""
        return len({(each.stage, each.start_ns, each.end_ns) for each in (self._spans[at] for at in possible)}) == 1

    def _climb(self, at: int) -> int:
        """Return the innermost span around that may run without showing: its own code is not on the stack."""
        for _ in range(len(self._spans)):
            if at < 0 or self._spans[at].stage not in self._reliable:
                break
            at = self._sweep.parent[at]
        return at if at in self._sweep.open else -1

    def _innermost(self, opened: set[int]) -> set[int]:
        around: set[int] = set()
        for at in opened:
            parent = self._sweep.parent[at]
            while parent >= 0 and parent not in around:
                around.add(parent)
                parent = self._sweep.parent[parent]
        return opened - around

    def _stages_of(self, at: int) -> tuple[str, ...]:
        stages: list[str] = []
        while at >= 0 and len(stages) < len(self._spans):
            if self._spans[at].stage:
                stages.append(self._spans[at].stage)
            at = self._sweep.parent[at]
        return tuple(reversed(stages))

    def _near(self, stage: str, time_ns: int) -> set[int]:
        """Find the one span of this stage that has just ended, or is about to begin."""
        starts, ends = self._starts.get(stage, []), self._ends.get(stage, [])
        after = starts[bisect_left(starts, (time_ns,)) : bisect_right(starts, (time_ns + EDGE_NS, len(self._spans)))]
        before = ends[bisect_left(ends, (time_ns - EDGE_NS,)) : bisect_right(ends, (time_ns, len(self._spans)))]
        near = [(edge - time_ns, at) for edge, at in after] + [(time_ns - edge, at) for edge, at in before]
        if not near:
            return set()
        nearest = min(near)
        same = {at for distance, at in near if at == nearest[1] or distance == nearest[0]}
        rivals = [distance for distance, at in near if at not in same]
        return same if not rivals or min(rivals) > 2 * nearest[0] else set()

    def sample(
        self,
        time_ns: int,
        thread_id: int,
        stack: Stack,
        state: State,
        match: Match,
        span: StageSpan | None,
        also: tuple[str, ...],
    ) -> JoinedSample:
        """Make the sample, with what is sure of it alone."""
        if span is None:
            return JoinedSample(time_ns, thread_id, stack, state, match)
        exact = match is Match.EXACT
        # A batch counts once, for one of its requests: else a slow one among others would have no samples of the batch.
        requests = {span.trace_id} if exact else {span.trace_id, *also}  # and of nobody known: no class
        of_class = {self._classes.get(trace_id, "") for trace_id in requests}
        request_class = of_class.pop() if len(of_class) == 1 else ""
        return JoinedSample(
            time_ns=time_ns,
            thread_id=thread_id,
            stack=stack,
            state=state,
            match=match,
            trace_id=span.trace_id if exact else "",
            span_id=span.span_id if exact else "",
            stage=span.stage,
            request_class=request_class,
            hardware=span.hardware,
            run=span.run,
            also=also if exact else (),
        )


def _overlap(spans: Sequence[StageSpan]) -> bool:
    """Tell whether requests took turns on the thread: one began while another was open, and ended after it."""
    latest: dict[str, int] = {}
    alone = {(each.stage, each.start_ns, each.end_ns): each for each in spans}  # of a batch's copies one
    for span in sorted(alone.values(), key=lambda each: each.start_ns):
        if any(end > span.start_ns for trace, end in latest.items() if trace != span.trace_id):
            return True
        if latest and min(latest.values()) <= span.start_ns:
            latest = {trace: end for trace, end in latest.items() if end > span.start_ns}
        latest[span.trace_id] = max(latest.get(span.trace_id, 0), span.end_ns)
    return False


def _is_of_loop(stack: Stack) -> bool:
    """Tell whether an event loop is on the stack."""
    return any(folder in _LOOP_FOLDERS for frame in stack for folder in frame.file.split("/")[-3:-1])


def _is_loop(stack: Stack) -> bool:
    """Tell whether the event loop itself runs or waits, rather than a task."""
    leaf = stack[-1]
    return (leaf.file.rpartition("/")[2], leaf.function.rpartition(".")[2]) in _LOOPS
