"""Files without GPU work: PyTorch's outermost operators are what the processor computed."""

from __future__ import annotations

from tailsight_collector.importing.kineto_intervals import NONE
from tailsight_collector.importing.kineto_requests import Intervals, Requests


def outermost(operators: Intervals, requests: Requests) -> bytearray:
    """Mark the operators that lie in no other one. One in which an annotation begins or ends is none: its parts are."""
    marks = bytearray(len(operators))
    thread, until_ns = NONE, 0
    for row in operators.in_order():
        if operators.thread[row] != thread:
            thread, until_ns = operators.thread[row], 0
        start_ns, end_ns = operators.start_ns[row], operators.end_ns[row]
        if end_ns <= until_ns and start_ns < until_ns:
            continue
        if requests.is_between_annotations(thread, start_ns, end_ns):
            marks[row], until_ns = True, max(until_ns, end_ns)
    return marks
