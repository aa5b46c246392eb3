"""What devices cost an hour, as the user says it: `--price`, repeated, or TAILSIGHT_PRICES."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from tailsight_analysis import PRICES_ENV, QuestionError, prices_from, read_prices

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
    from_environment = prices_from(os.environ.get(PRICES_ENV, ""))
    for source, texts in ((PRICES_ENV, from_environment), ("--price", given)):
        try:
            read_prices(texts)
        except QuestionError as error:
            raise click.BadParameter(f"{source} {error}") from error
    return read_prices([*from_environment, *given])
