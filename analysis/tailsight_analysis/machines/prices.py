"""What devices cost an hour, as people write it: `NVIDIA L4=0.71; NVIDIA H100 80GB HBM3=2.99`."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tailsight_analysis.errors import QuestionError

PRICES_ENV = "TAILSIGHT_PRICES"


def prices_from(text: str) -> list[str]:
    """Take several prices apart, as they stand in PRICES_ENV."""
    return [part.strip() for part in text.split(";") if part.strip()]


def read_prices(texts: Iterable[str]) -> dict[str, float]:
    """Read `TYPE=PRICE`, each; of a type that is named twice, the last counts, however it is spelt.

    Raises QuestionError for what is no price.
    """
    prices: dict[str, tuple[str, float]] = {}
    for text in texts:
        name, _, number = (part.strip() for part in text.rpartition("="))
        try:
            price = float(number)
        except ValueError:
            price = math.nan
        if not name or not 0 <= price < math.inf:
            raise QuestionError(f"{text.strip()!r} is no price: write it like 'NVIDIA L4=0.71'")
        prices[name.casefold()] = (name, price)
    return dict(prices.values())
