"""Every question that tailsight answers: SQL where the data is large, pure functions over columns where it is not.

Open a store with `connect`, say where to look with `Window` and `Filters`, and ask: `breakdown`, `tail`, `timeline`.
"""

from tailsight_analysis.breakdown import DIMENSIONS, Breakdown, BreakdownRow, breakdown
from tailsight_analysis.causes.attributes import OverRepresented
from tailsight_analysis.causes.causes import Cause
from tailsight_analysis.causes.conditions import Condition, Place
from tailsight_analysis.changes.history import HistoryChange
from tailsight_analysis.changes.mix import MixShift
from tailsight_analysis.changes.search import Change, change_points
from tailsight_analysis.changes.settings import ChangeSettings
from tailsight_analysis.compare import Comparison, Difference, Side, SlowdownCause, compare
from tailsight_analysis.errors import AnalysisError, NoSendersError, NoSpansError, NotEnoughDataError, QuestionError
from tailsight_analysis.gate import (
    Calibration,
    Compared,
    GateSettings,
    Judgement,
    Needed,
    calibrate,
    gate,
    judge,
)
from tailsight_analysis.gating.samples import RunSample, Series
from tailsight_analysis.hardware import hardware
from tailsight_analysis.jitter import Jitter, JitterRow, jitter
from tailsight_analysis.latency import LatencySummary
from tailsight_analysis.machines.prices import PRICES_ENV, prices_from, read_prices
from tailsight_analysis.machines.result import (
    Covariate,
    Hardware,
    HardwareComparison,
    HardwareType,
    HardwareUse,
    Standardised,
)
from tailsight_analysis.models.result import Dominated, Pareto, Variant
from tailsight_analysis.pareto import pareto
from tailsight_analysis.quality import DataQuality, data_quality
from tailsight_analysis.queueing import Queueing, Station, queueing
from tailsight_analysis.reading import choices, connect, whole_time
from tailsight_analysis.regressions import Regressions, regressions
from tailsight_analysis.replaying.outcomes import Outcome, Shift
from tailsight_analysis.replaying.scenarios import Scenario, default_scenarios
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
from tailsight_analysis.statistics.dominance import Certainty, Estimate
from tailsight_analysis.statistics.intervals import Interval
from tailsight_analysis.statistics.standardise import Ratio
from tailsight_analysis.tail import Examples, Excess, StageExcess, StoredRequests, Tail, tail
from tailsight_analysis.timeline import Timeline, TimelinePoint, timeline
from tailsight_analysis.trace import trace
from tailsight_analysis.tracing.result import (
    Trace,
    TraceContribution,
    TraceEvent,
    TraceInterval,
    TraceLink,
    TraceMoved,
    TraceRequest,
    TraceSection,
    TraceSpan,
)
from tailsight_analysis.variance import variance
from tailsight_analysis.variance_result import HardwareVariance, StageVariance, Variance, VarianceLedger, VarianceTerm
from tailsight_analysis.whatif import WhatIf, whatif
from tailsight_storage import DEFAULT_STORE, STORE_ENV, StorageError, Store, StoreUnavailableError

__all__ = [
    "DEFAULT_GRACE_S",
    "DEFAULT_STORE",
    "DIMENSIONS",
    "PRICES_ENV",
    "SENDER_FILTERS",
    "STORE_ENV",
    "AnalysisError",
    "Breakdown",
    "BreakdownRow",
    "Calibration",
    "Cause",
    "Certainty",
    "Change",
    "ChangeSettings",
    "Compared",
    "Comparison",
    "Condition",
    "Covariate",
    "DataQuality",
    "Delivery",
    "Device",
    "Difference",
    "Dominated",
    "Estimate",
    "Examples",
    "Excess",
    "Filters",
    "Gap",
    "GateSettings",
    "Hardware",
    "HardwareComparison",
    "HardwareType",
    "HardwareUse",
    "HardwareVariance",
    "HistoryChange",
    "Interval",
    "Jitter",
    "JitterRow",
    "Judgement",
    "LatencySummary",
    "MixShift",
    "Needed",
    "NoSendersError",
    "NoSpansError",
    "NotEnoughDataError",
    "Outcome",
    "OverRepresented",
    "Pareto",
    "Place",
    "QuestionError",
    "Queueing",
    "Ratio",
    "Regressions",
    "ResponseTimes",
    "RunSample",
    "Scenario",
    "Sender",
    "SenderState",
    "Series",
    "Shift",
    "Side",
    "SlowdownCause",
    "StageExcess",
    "StageVariance",
    "Standardised",
    "Station",
    "StorageError",
    "Store",
    "StoreUnavailableError",
    "StoredRequests",
    "Tail",
    "Timeline",
    "TimelinePoint",
    "Trace",
    "TraceContribution",
    "TraceEvent",
    "TraceInterval",
    "TraceLink",
    "TraceMoved",
    "TraceRequest",
    "TraceSection",
    "TraceSpan",
    "Variance",
    "VarianceLedger",
    "VarianceTerm",
    "Variant",
    "WhatIf",
    "Window",
    "breakdown",
    "calibrate",
    "change_points",
    "choices",
    "compare",
    "connect",
    "data_quality",
    "default_scenarios",
    "delivery",
    "gate",
    "hardware",
    "jitter",
    "judge",
    "pareto",
    "prices_from",
    "queueing",
    "read_prices",
    "regressions",
    "senders_heard",
    "tail",
    "timeline",
    "trace",
    "variance",
    "whatif",
    "whole_time",
]
