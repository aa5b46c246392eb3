"""Options that commands share, said once: the store, the window of time, the filters, and the form of the answer."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from tailsight_analysis import Filters, NoSpansError, Store, Window, connect, whole_time
from tailsight_cli._errors import NOT_ENOUGH_DATA, CommandError
from tailsight_cli.nothing_found import way_out
from tailsight_storage import DEFAULT_STORE, STORE_ENV

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

DEFAULT_WINDOW_NS = 3_600_000_000_000
_UNITS_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d|w)")
FILTER_HELP = {
    "service": "Only this service; a request is then what enters it.",
    "stage": "Only this stage.",
    "hardware": "Only this hardware type.",
    "version": "Only this version of the service.",
    "model": "Only this model.",
    "host": "Only this host.",
    "region": "Only this region.",
}


@dataclass(frozen=True, slots=True)
class Question:
    """What every reading command is told: where to read, where to look, and in which form to answer."""

    store: Store
    window: Window
    filters: Filters
    as_json: bool


def store_option(command: Decorated) -> Decorated:
    """Add --store."""
    return click.option(
        "--store", metavar="DSN", envvar=STORE_ENV, default=DEFAULT_STORE, show_default=True, show_envvar=True,
        help="Where the spans are: clickhouse://host:port/database, or chdb:///folder of a collector that is stopped.",
    )(command)  # fmt: skip


def reading_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a reading command, and give it a Question in their place."""

    @functools.wraps(command)
    def with_question(**given: Any) -> None:
        asked = {name: given.pop(name) for name in ("since", "until", "all_time", "as_json", "store")}
        filters = Filters(**{field.name: tuple(given.pop(field.name)) for field in fields(Filters)})
        # before the store is opened: wrong use is wrong use, whether or not a store answers
        window = chosen_window(asked["since"], asked["until"], all_time=asked["all_time"], now_ns=time.time_ns())
        with connect(asked["store"]) as store:
            if window is None and not asked["all_time"] and not filters.run:
                window = Window.last()
            try:
                window = window or _whole_time(store, filters.run)
                command(Question(store, window, filters, asked["as_json"]), **given)
            except NoSpansError as error:
                raise CommandError(f"{error}; {way_out(store, filters)}", NOT_ENOUGH_DATA) from error

    return asking_options(FILTER_HELP)(with_question)


def asking_options(filters: Mapping[str, str]) -> Callable[[Decorated], Decorated]:
    """Add the options of a question: the window of time, filters with their help, the store, and the answer's form."""

    def add(command: Decorated) -> Decorated:
        decorated = click.option("--json", "as_json", is_flag=True, help="Answer in JSON with stable keys.")(command)
        decorated = store_option(decorated)
        for name, text in reversed(list(filters.items())):
            decorated = click.option(f"--{name}", name, multiple=True, metavar="NAME", help=text)(decorated)
        decorated = click.option("--all-time", is_flag=True, help="Everything in the store.")(decorated)
        decorated = click.option(
            "--run", multiple=True, metavar="NAME", help="Only this run; alone: the whole time of it."
        )(decorated)
        decorated = click.option(
            "--until", metavar="TIME", help="End of the window, written like --since. Default: now."
        )(decorated)
        return click.option(
            "--since",
            metavar="TIME",
            help="Start of the window: 15m, 2h, 7d ago, or a date or time of ISO 8601 (UTC unless it says otherwise). "
            "Default: an hour before its end.",
        )(decorated)

    return add


def chosen_window(
    since: str | None,
    until: str | None,
    *,
    all_time: bool,
    now_ns: int,
    names: tuple[str, str] = ("--since ", "--until "),
) -> Window | None:
    """Return the window that the options name; None where they leave it to the data or to the default.

    `names` is what stands before the times where they were written.
    """
    if all_time and (since or until):
        raise click.UsageError("--all-time leaves no choice of --since or --until: use either")
    if since is None and until is None:
        return None
    until_ns = now_ns if until is None else parse_time(until, now_ns, names[1])
    since_ns = until_ns - DEFAULT_WINDOW_NS if since is None else parse_time(since, now_ns, names[0])
    if since_ns >= until_ns:
        raise click.UsageError(f"the window is empty: {names[0]}{since} is not before {names[1]}{until or 'now'}")
    return Window(since_ns, until_ns)


def parse_time(text: str, now_ns: int, option: str) -> int:
    """Read a point in time, in nanoseconds since 1970: `15m` ago, `now`, or ISO 8601, in UTC where it names no zone.

    `option` is what stands before it, like `--since `.
    """
    text = text.strip()
    if text == "now":
        return now_ns
    too_old = click.UsageError(f"{option}{text!r} is before 1970: no span is that old")
    if (ago_s := parse_length_s(text)) is not None:
        if ago_s * 1_000_000_000 > now_ns:
            raise too_old
        return now_ns - round(ago_s * 1_000_000_000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(
            f"{option}{text!r} is no time: use 15m, 2h or 7d (ago), or ISO 8601 like 2026-11-22T07:30:00Z"
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since_epoch = moment - datetime(1970, 1, 1, tzinfo=UTC)
    time_ns = ((since_epoch.days * 86400 + since_epoch.seconds) * 1_000_000 + since_epoch.microseconds) * 1000
    if time_ns < 0:
        raise too_old
    return time_ns


def parse_length_s(text: str) -> float | None:
    """Read a length of time, in seconds: `15m`, `1.5h`; None where it is none."""
    length = _LENGTH.fullmatch(text.strip())
    return float(length[1]) * _UNITS_S[length[2]] if length else None


def _whole_time(store: Store, runs: tuple[str, ...]) -> Window:
    window = whole_time(store, runs)
    if window is None:
        what = f"no spans of run {', '.join(runs)}" if runs else "no spans at all"
        raise NoSpansError(f"{what} in {store.dsn}")
    return window
