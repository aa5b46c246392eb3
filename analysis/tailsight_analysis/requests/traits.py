"""What a request is one of: the hardware, the model, … that it spent most of its critical path on."""

from __future__ import annotations

import numpy as np

from tailsight_analysis.requests.accounting import Floats, Ints
from tailsight_analysis.requests.ledger import Ledger

NO_TRAIT = -1


def contributions_by(ledger: Ledger, dimension: int) -> tuple[list[str], Floats]:
    """Sum the ledger's contributions up by one of the dimensions that it was asked for.

    Returns the dimension's values, and nanoseconds, (requests, values); rows still add up to the durations.
    """
    values = sorted({group[dimension] for group in ledger.groups})
    place = {value: column for column, value in enumerate(values)}
    to_value = np.zeros((len(ledger.groups), len(values)))
    to_value[np.arange(len(ledger.groups)), [place[group[dimension]] for group in ledger.groups]] = 1.0
    sums: Floats = ledger.contribution_ns @ to_value
    return values, sums


def traits_of_requests(values: list[str], contribution_ns: Floats) -> Ints:
    """Index into `values` of the one that each request's critical path spent most time on, NO_TRAIT where on none.

    `""` is no value, however much time has it; of equals, the first in the order of `values`.
    """
    named = np.array([bool(value) for value in values], dtype=np.bool_)
    if not len(contribution_ns) or not named.any():
        return np.full(len(contribution_ns), NO_TRAIT, dtype=np.int64)
    candidates = np.where(named, contribution_ns, -1.0)
    most: Ints = candidates.argmax(axis=1).astype(np.int64)
    return np.where(candidates.max(axis=1) > 0, most, NO_TRAIT)
