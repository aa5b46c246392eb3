"""Pipelines with a known cause of slowness, for the diagnosis benchmark. See docs/analysis/diagnosis_benchmark.md.

    pipeline → traffic → engine (→ labels) → encode → OTLP
                 causes, effects ↗      truth: what is right to say about it

Nothing here knows of the analysis, and nothing of the analysis may know of this.
"""

from testkit.simulator.case import KINDS, QUIET, Case, NoCaseError, make_case
from testkit.simulator.encode import Run, described, metrics, traces
from testkit.simulator.plan import COUNTS, find, plan
from testkit.simulator.truth import Accepted, Truth

__all__ = [
    "COUNTS", "KINDS", "QUIET", "Accepted", "Case", "NoCaseError", "Run", "Truth", "described", "find", "make_case", "metrics",
    "plan", "traces",
]  # fmt: skip
