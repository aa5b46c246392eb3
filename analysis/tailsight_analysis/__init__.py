"""Every question that tailsight answers: SQL where the data is large, pure functions over columns where it is not.

Open a store with `connect`, say where to look with `Window` and `Filters`, and ask: `breakdown`, `tail`, `timeline`.
"""

from tailsight_analysis.attributes import OverRepresented
from tailsight_analysis.breakdown import DIMENSIONS, Breakdown, BreakdownRow, breakdown
from tailsight_analysis.errors import AnalysisError, NoSendersError, NoSpansError, NotEnoughDataError, QuestionError
from tailsight_analysis.latency import LatencySummary
from tailsight_analysis.reading import choices, connect, whole_time
from tailsight_analysis.response import ResponseTimes
from tailsight_analysis.scope import Filters, Window
from tailsight_analysis.senders import (
    DEFAULT_GRACE_S,
    SENDER_FILTERS,
    Delivery,
    Device,
    Gap,
    Sender,
    delivery,
    senders_heard,
)
from tailsight_analysis.senders import State as SenderState
from tailsight_analysis.tail import Excess, StageExcess, StoredRequests, Tail, tail
from tailsight_analysis.timeline import Timeline, TimelinePoint, timeline
from tailsight_storage import DEFAULT_STORE, STORE_ENV, StorageError, Store, StoreUnavailableError

__all__ = [
    "DEFAULT_GRACE_S",
    "DEFAULT_STORE",
    "DIMENSIONS",
    "SENDER_FILTERS",
    "STORE_ENV",
    "AnalysisError",
    "Breakdown",
    "BreakdownRow",
    "Delivery",
    "Device",
    "Excess",
    "Filters",
    "Gap",
    "LatencySummary",
    "NoSendersError",
    "NoSpansError",
    "NotEnoughDataError",
    "OverRepresented",
    "QuestionError",
    "ResponseTimes",
    "Sender",
    "SenderState",
    "StageExcess",
    "StorageError",
    "Store",
    "StoreUnavailableError",
    "StoredRequests",
    "Tail",
    "Timeline",
    "TimelinePoint",
    "Window",
    "breakdown",
    "choices",
    "connect",
    "delivery",
    "senders_heard",
    "tail",
    "timeline",
    "whole_time",
]
