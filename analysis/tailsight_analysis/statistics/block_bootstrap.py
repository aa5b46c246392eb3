"""Stretches of time as the units of chance: what follows each other is alike, so it is drawn together or not at all.

The block bootstrap (Künsch 1989; here with blocks that do not overlap, Carlstein 1986). Of independent observations,
sums over blocks are independent too, and nothing but a few degrees of freedom is lost. Where a figure is a sum, a mean
or a ratio of them, `linearised` says the same without drawing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEVEL = 0.95
DRAWS = 500
_SEED = 20_261_122


def block_draws(blocks: int, draws: int = DRAWS) -> Floats:
    """How often each block is drawn, draw by draw, (draws, blocks): with replacement, the same ones at every call."""
    random = np.random.default_rng(_SEED)
    return random.multinomial(blocks, np.full(blocks, 1 / blocks), size=draws).astype(np.float64)


def percentile_interval(drawn: Floats, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Percentile interval of each column of a statistic's draws (Efron 1979): low and high."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
