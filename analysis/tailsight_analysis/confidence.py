"""How sure is a quantile? Fetch what its interval follows from: how many were how long, in which block of time.

The quantiles themselves are exact, and come from elsewhere. Here durations are counted in cells, so that what is
fetched does not grow with the spans: see docs/analysis/confidence.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailsight_analysis.queries import query
from tailsight_analysis.scope import NS_PER_MS
from tailsight_analysis.statistics.intervals import Cells, Interval, quantile_intervals
from tailsight_storage import Store

LEVELS = (0.5, 0.9, 0.95, 0.99, 0.999)
EXACT_UP_TO = 200_000  # spans: of as many, every duration is a cell of its own
ALL_BLOCKS_UP_TO = (
    2_000_000  # spans: of more, every second block of time is counted, of four times as many every fourth
)
BLOCKS = 64
BLOCKS_A_BUCKET = 16  # where time itself is divided, so that each bucket's bounds see what comes in bursts
MANY_GROUPS = 64
_MANTISSA_BITS = 52


@dataclass(frozen=True, slots=True)
class Scale:
    """How finely durations and time are counted. `parameters` bind sql/span_cells.sql and sql/request_cells.sql."""

    cell_shift: int
    blocks: int
    stride: int
    first_ns: int
    block_ns: int

    @classmethod
    def of(cls, spans: int, groups: int, first_ns: int, last_ns: int) -> Scale:
        """Choose one for so many spans, that start from `first_ns` to `last_ns`: the more, the coarser."""
        many = groups > MANY_GROUPS
        blocks = BLOCKS // 4 if many else BLOCKS
        bits = None if spans <= EXACT_UP_TO else 5 if many else 9 if spans <= ALL_BLOCKS_UP_TO else 7
        stride = 1 if spans <= ALL_BLOCKS_UP_TO else 2 if many or spans <= 2 * ALL_BLOCKS_UP_TO else 8
        return cls(
            cell_shift=0 if bits is None else _MANTISSA_BITS - bits,
            blocks=blocks,
            stride=stride,
            first_ns=first_ns,
            block_ns=(last_ns - first_ns) // blocks + 1,
        )

    @classmethod
    def of_run(cls, spans: int, first_ns: int, last_ns: int) -> Scale:
        """Choose one that leaves nothing out, for quantiles that are taken from the cells: exact, or to 0.2 %."""
        shift = 0 if spans <= EXACT_UP_TO else _MANTISSA_BITS - 9
        return cls(
            cell_shift=shift, blocks=BLOCKS, stride=1, first_ns=first_ns, block_ns=(last_ns - first_ns) // BLOCKS + 1
        )

    @classmethod
    def in_buckets(cls, spans: int, buckets: int, first_ns: int, bucket_ns: int) -> Scale:
        """Choose one for buckets of time from `first_ns`, each of BLOCKS_A_BUCKET blocks: its length is a multiple."""
        bits = None if spans <= EXACT_UP_TO else 7 if spans <= ALL_BLOCKS_UP_TO else 5
        return cls(
            cell_shift=0 if bits is None else _MANTISSA_BITS - bits,
            blocks=buckets * BLOCKS_A_BUCKET,
            stride=1,
            first_ns=first_ns,
            block_ns=bucket_ns // BLOCKS_A_BUCKET,
        )

    @property
    def accuracy(self) -> float:
        """How far an interval's ends may lie off, as a share of them; 0 where they are exact."""
        return 0.0 if self.cell_shift == 0 else float(2.0 ** (self.cell_shift - _MANTISSA_BITS))

    @property
    def parameters(self) -> dict[str, int]:
        """Bind the queries."""
        return {
            "cell_shift": self.cell_shift,
            "blocks": self.blocks,
            "stride": self.stride,
            "first_ns": self.first_ns,
            "block_ns": self.block_ns,
        }


def span_intervals(
    store: Store, parameters: Mapping[str, Any], scale: Scale, rows: Mapping[tuple[str, ...], Mapping[str, Any]]
) -> dict[tuple[str, ...], tuple[Interval, ...]]:
    """Intervals in ms of each group's quantiles, in the order of LEVELS.

    `rows` are those of sql/breakdown.sql (or its weighted counterpart) by group, `parameters` its own and `weighted`.
    """
    cells = span_cells(store, parameters, scale)
    return {
        group: intervals_ms(cells.get(group), scale, row["quantiles_ns"], int(row.get("stored", row.get("spans"))))
        for group, row in rows.items()
    }


def request_intervals(
    store: Store,
    parameters: Mapping[str, Any],
    scale: Scale,
    quantiles_ns: Sequence[float],
    stored: int,
    levels: Sequence[float] = LEVELS,
    timed: int = 0,
) -> tuple[Interval, ...]:
    """Intervals in ms of the requests' quantiles, in the order of `levels`; of other times than durations by `timed`.

    `parameters` are those of sql/requests.sql, `stored` is how many requests it finds.
    """
    return intervals_ms(request_cells(store, parameters, scale, timed), scale, quantiles_ns, stored, levels)


def span_cells(store: Store, parameters: Mapping[str, Any], scale: Scale) -> dict[tuple[str, ...], Cells]:
    """Count the spans' durations in cells, by group. `parameters` are as for `span_intervals`."""
    asked = {name: value for name, value in parameters.items() if name != "weighted"}
    question = query("span_cells_weighted" if parameters["weighted"] else "span_cells")
    found = store.ask(question, **asked, **scale.parameters)
    return {tuple(str(row[f"by_{name}"]) for name in parameters["by"]): cells_of_row(row, scale) for row in found}


def request_cells(store: Store, parameters: Mapping[str, Any], scale: Scale, timed: int = 0) -> Cells:
    """Count the requests' durations, or other times by `timed`. `parameters` are those of sql/requests.sql."""
    return cells_of_row(store.ask(query("request_cells"), **parameters, **scale.parameters, timed=timed)[0], scale)


def intervals_ms(
    cells: Cells | None,
    scale: Scale,
    quantiles_ns: Sequence[float],
    stored: int,
    levels: Sequence[float] = LEVELS,
) -> tuple[Interval, ...]:
    """Intervals in ms of the quantiles of `stored` durations, which `cells` count; None: none is in a block counted."""
    cells = cells_of_row({}, scale) if cells is None else cells
    counted = int(cells.count.sum())
    # a group that is seen in the left out blocks only has no cells
    part = 1.0 if scale.stride == 1 or not counted else counted / stored
    found = quantile_intervals(cells, levels, [float(value) for value in quantiles_ns], part=part)
    return tuple(Interval(_ms(each.low), _ms(each.high), each.missing) for each in found)


def cells_of_row(row: Mapping[str, Any], scale: Scale) -> Cells:
    """Read cells from a row with arrays of codes, blocks and counts, and weights where there are any."""
    codes = np.asarray(row.get("codes", ()), dtype=np.uint64)
    counts = np.asarray(row.get("counts", ()), dtype=np.int64)
    low = (codes << np.uint64(scale.cell_shift)).view(np.float64)
    width = np.zeros(len(codes))
    if scale.cell_shift:
        width = ((codes + np.uint64(1)) << np.uint64(scale.cell_shift)).view(np.float64) - low
    return Cells(
        value=low,
        width=width,
        block=np.asarray(row.get("blocks", ()), dtype=np.int64),
        count=counts,
        weight=np.asarray(row.get("weights", counts), dtype=np.float64),
        weight2=np.asarray(row.get("weights2", counts), dtype=np.float64),
    )


def _ms(value_ns: float | None) -> float | None:
    return None if value_ns is None else value_ns / NS_PER_MS
