"""Every question that tailsight answers: SQL where the data is large, pure functions over columns where it is not.

Open a store with `connect`, say where to look with `Window` and `Filters`, and ask: `breakdown`, `tail`, `timeline`.
"""

from tailsight_analysis.attributes import OverRepresented
from tailsight_analysis.breakdown import DIMENSIONS, Breakdown, BreakdownRow, breakdown
from tailsight_analysis.errors import AnalysisError, NoSpansError, NotEnoughDataError, QuestionError
from tailsight_analysis.latency import LatencySummary
from tailsight_analysis.reading import choices, connect, whole_time
from tailsight_analysis.scope import Filters, Window
from tailsight_analysis.tail import Excess, StageExcess, Tail, tail
from tailsight_analysis.timeline import Timeline, TimelinePoint, timeline
from tailsight_storage import DEFAULT_STORE, STORE_ENV, StorageError, Store, StoreUnavailableError

__all__ = [
    "DEFAULT_STORE",
    "DIMENSIONS",
    "STORE_ENV",
    "AnalysisError",
    "Breakdown",
    "BreakdownRow",
    "Excess",
    "Filters",
    "LatencySummary",
    "NoSpansError",
    "NotEnoughDataError",
    "OverRepresented",
    "QuestionError",
    "StageExcess",
    "StorageError",
    "Store",
    "StoreUnavailableError",
    "Tail",
    "Timeline",
    "TimelinePoint",
    "Window",
    "breakdown",
    "choices",
    "connect",
    "tail",
    "timeline",
    "whole_time",
]
