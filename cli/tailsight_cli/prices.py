"""What devices cost an hour, as the user says it: `--price`, repeated, or TAILSIGHT_PRICES."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

PRICES_ENV = "TAILSIGHT_PRICES"
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def price_option(command: Decorated) -> Decorated:
    """Add --price, which gives `prices`: an hour's price by hardware type."""
    return click.option(
        "--price", "prices", multiple=True, metavar="TYPE=PRICE", callback=_prices,
        help="Price of an hour of one device of a hardware type, like 'NVIDIA L4=0.71', in any currency; repeatable. "
        f"Also {PRICES_ENV}='NVIDIA L4=0.71; NVIDIA H100 80GB HBM3=2.99'.",
    )(command)  # fmt: skip


def _prices(_ctx: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, float]:
    # not click's own envvar: it would part the names at their spaces
    from_environment = [text for text in os.environ.get(PRICES_ENV, "").split(";") if text.strip()]
    prices: dict[str, tuple[str, float]] = {}
    for source, texts in ((PRICES_ENV, from_environment), ("--price", list(given))):
        for text in texts:
            name, _, number = text.rpartition("=")
            try:
                price = float(number)
            except ValueError:
                price = math.nan
            if not name.strip() or not 0 <= price < math.inf:
                raise click.BadParameter(f"{source} {text.strip()!r} is no price: write it like 'NVIDIA L4=0.71'")
            prices[name.strip().casefold()] = (name.strip(), price)  # the last word counts, however it is spelt
    return dict(prices.values())
