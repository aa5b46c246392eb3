"""The first pass over a PyTorch profile: what belongs together, packed into a few numbers an event.

Annotations, calls into the runtime and GPU work may stand in any order, the clock's zero behind all of them. Names and
arguments are left for the second pass (kineto.py), which counts the same rows in the same order.
"""

from __future__ import annotations

from array import array
from typing import BinaryIO

from tailsight_collector.errors import BadRequestError
from tailsight_collector.importing.kineto_events import Around, Event, Kind, Thread, events
from tailsight_collector.importing.kineto_intervals import NONE, Timeline
from tailsight_collector.importing.kineto_operators import outermost
from tailsight_collector.importing.kineto_requests import OUTSIDE, Intervals, Requests
from tailsight_collector.importing.registry import Options, Report
from tailsight_collector.receive.checks import YEAR_2000_NS

NO_START = (
    "its times are not of the day: it has no baseTimeNanoseconds, and its ts count from something else than 1970; give "
    "--start, the time of the file's earliest event, as in --start 2026-11-23T08:30:00Z"
)
MOST_ANNOTATIONS = 1_000_000
MOST_THREADS = 100_000


class Scan:
    """What a profile holds, and whose it is. Rows count the annotations, calls and operators in the file's order.

    `call_of` gives the call (its row) that a correlation means, `used` marks the calls that started GPU work;
    `request_of_call` and `parent_of_call` are of these. `end_ns` of a request's row is when its last GPU work had
    ended, if that is later than its annotation's end. `outermost` marks the operators that are spans, in a file without
    GPU work. `outside` is the first start and last end of what lies in no request, None if all does. `shift_ns` makes
    Unix time of the file's.
    """

    def __init__(self, stream: BinaryIO, options: Options, report: Report) -> None:
        self.around = Around()
        self.annotations, self.calls, self.operators = Intervals(), Intervals(), Intervals()
        self.names: list[str] = []
        self.name_of = array("q")
        self.threads: list[Thread] = []
        self.call_of: dict[int, int] = {}
        self.outside: tuple[int, int] | None = None
        self._known_names: dict[str, int] = {}
        self._known_threads: dict[Thread, int] = {}
        self._gpu_correlation, self._gpu_start, self._gpu_end = array("q"), array("q"), array("q")
        self._first_at_zero = -1
        for event in events(stream, self.around, report):
            self._take(event)
        del self._known_names
        self.has_gpu = bool(self._gpu_end)
        self.shift_ns = self._shift_ns(options, report)
        self.requests = Requests(self.annotations, self.names, self.name_of, self.threads)
        if self.requests.left_out:
            report.refuse(
                "more than 1,000 annotations are open at once on its thread",
                f"annotation {min(self.requests.left_out)}",
                len(self.requests.left_out),
            )
        self.end_ns = array("q", self.annotations.end_ns)
        self.used = bytearray(len(self.calls))
        self.request_of_call = array("q", [OUTSIDE]) * len(self.calls)
        self.parent_of_call = array("q", [NONE]) * len(self.calls)
        self._waits = bytearray(len(self.calls))
        self._give_gpu_work(report)
        self._waiting = self._waiting_calls()
        self.has_requests = any(self.requests.is_request(row) for row in range(len(self.annotations)))
        self.outermost = bytearray() if self.has_gpu else self._outermost()
        for row in range(len(self.annotations)):
            if self.requests.of[row] == OUTSIDE and row not in self.requests.left_out:
                self.is_outside(self.annotations.start_ns[row], self.annotations.end_ns[row])

    def call_around(self, request: int, start_ns: int, end_ns: int) -> int:
        """Return the call of a request that waited for the GPU while at least half of a time passed, or NONE."""
        timeline = self._waiting.get(request)
        row = timeline.at((start_ns + end_ns) // 2) if timeline else NONE
        return row if row >= 0 and self.calls.holds_half(row, start_ns, end_ns) else NONE

    def has_no_time(self, start_ns: int) -> bool:
        """Whether GPU work has no start: Kineto writes 0 where one would lie before its zero, as a missing one does."""
        return not start_ns and self.around.base_ns > 0

    def thread_of(self, event: Event) -> int:
        """Return the number of an event's thread."""
        return self._known_threads[event.thread]

    def is_outside(self, start_ns: int, end_ns: int) -> None:
        """Make room for something that lies in no request."""
        first, last = self.outside or (start_ns, end_ns)
        self.outside = min(first, start_ns), max(last, end_ns)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        if event.kind is Kind.GPU:
            if not event.start_ns and self._first_at_zero < 0:
                self._first_at_zero = event.index
            self._gpu_correlation.append(event.correlation)
            self._gpu_start.append(event.start_ns)
            self._gpu_end.append(event.end_ns)
            return
        thread = self._known_threads.setdefault(event.thread, len(self.threads))
        if thread == len(self.threads):
            if thread >= MOST_THREADS:
                raise BadRequestError(f"it has more than {MOST_THREADS:,} threads")
            self.threads.append(event.thread)
        if event.kind is Kind.ANNOTATION:
            if len(self.annotations) >= MOST_ANNOTATIONS:
                raise BadRequestError(f"it has more than {MOST_ANNOTATIONS:,} annotations")
            name = self._known_names.setdefault(event.name, len(self.names))
            if name == len(self.names):
                self.names.append(event.name)
            self.name_of.append(name)
            self.annotations.add(thread, event.start_ns, event.end_ns)
        elif event.kind is Kind.CALL:
            if event.correlation:
                self.call_of.setdefault(event.correlation, len(self.calls))
            self.calls.add(thread, event.start_ns, event.end_ns)
        elif not self._gpu_end:  # operators matter only where there is no GPU work
            self.operators.add(thread, event.start_ns, event.end_ns)

    def _shift_ns(self, options: Options, report: Report) -> int:
        if self.around.base_ns:
            return self.around.base_ns
        of_all = (self.annotations.start_ns, self.calls.start_ns, self._gpu_start, self.operators.start_ns)
        starts = [each for each in of_all if each]
        if not starts or max(max(each) for each in starts) >= YEAR_2000_NS:
            return 0
        if options.start_ns is None:
            raise BadRequestError(NO_START)
        report.note("files whose start is --start: their own times are not of the day")
        return options.start_ns - min(min(each) for each in starts)

    def _give_gpu_work(self, report: Report) -> None:
        """Find whose each piece of GPU work is: that of the annotation in which it was launched."""
        for correlation, start_ns, end_ns in zip(self._gpu_correlation, self._gpu_start, self._gpu_end, strict=True):
            if self.has_no_time(start_ns):
                report.refuse("it has no start: ts is 0 in a file whose zero is another", f"[{self._first_at_zero}]")
                continue
            call = self.call_of.get(correlation, NONE)
            if call == NONE:
                report.note("GPU work whose launch is not in the file: in torch.profile")
                self.is_outside(start_ns, end_ns)
                continue
            if not self.used[call]:
                self._give_call(call, report)
            if start_ns < self.calls.start_ns[call]:
                report.note("GPU work that begins before its launch does: the clocks disagree; kept as it is")
            if end_ns <= self.calls.end_ns[call]:
                self._waits[call] = True
            request = self.request_of_call[call]
            if request == OUTSIDE:
                self.is_outside(start_ns, end_ns)
            elif end_ns > self.end_ns[request]:
                self.end_ns[request] = end_ns
        del self._gpu_correlation, self._gpu_start, self._gpu_end

    def _waiting_calls(self) -> dict[int, Timeline]:
        """Find the calls of each request that returned only when their work had ended: so they waited for the GPU."""
        found: dict[int, list[int]] = {}
        for row in range(len(self.calls)):
            if self._waits[row]:
                found.setdefault(self.request_of_call[row], []).append(row)
        calls = self.calls
        return {
            request: Timeline(calls.by_start(rows), calls.start_ns, calls.end_ns, self.request_of_call)
            for request, rows in found.items()
        }

    def _outermost(self) -> bytearray:
        marks = outermost(self.operators, self.requests)
        if not self.has_requests:
            for row in range(len(marks)):
                if marks[row]:
                    self.is_outside(self.operators.start_ns[row], self.operators.end_ns[row])
        return marks

    def _give_call(self, call: int, report: Report) -> None:
        start_ns, end_ns = self.calls.start_ns[call], self.calls.end_ns[call]
        request, parent, is_sure = self.requests.of_work(self.calls.thread[call], start_ns, end_ns)
        self.used[call] = True
        self.request_of_call[call], self.parent_of_call[call] = request, parent
        if not is_sure:
            report.note("launches while several requests ran, and nothing says whose they are: in torch.profile")
        elif request == OUTSIDE:
            report.note("launches outside every request: in torch.profile")
        if request == OUTSIDE:
            self.is_outside(start_ns, end_ns)
