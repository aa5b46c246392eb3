"""The table of what changes would bring: a pure function from what analysis returns to a pandas Styler."""

from __future__ import annotations

import pandas as pd
from pandas.io.formats.style import Styler

from tailsight_analysis import WhatIf
from tailsight_dashboard.format import milliseconds, quantile
from tailsight_dashboard.tables import signed, styled


def outcomes(result: WhatIf) -> Styler:
    """Build the table: a line a change, with the median and the quantile that requests would have."""
    name = quantile(result.quantile)
    tails = [outcome.tail for outcome in result.outcomes]
    frame = pd.DataFrame(
        {
            "If": [outcome.scenario.label for outcome in result.outcomes],
            f"{name} (ms)": [tail.replayed_ms for tail in tails],
            "95 %": [_interval(tail.bounds_ms, with_sign=False) for tail in tails],
            "Change (ms)": [tail.delta_ms for tail in tails],
            "95 % of the change": [_interval(tail.delta_bounds_ms, with_sign=True) for tail in tails],
            "p50 (ms)": [outcome.typical.replayed_ms for outcome in result.outcomes],
        }
    )
    formats = {f"{name} (ms)": milliseconds, "Change (ms)": signed, "p50 (ms)": milliseconds}
    return styled(frame, formats)


def _interval(bounds_ms: tuple[float, float] | None, *, with_sign: bool) -> str:
    write = signed if with_sign else milliseconds
    return " to ".join(write(bound) for bound in bounds_ms) if bounds_ms else "—"
