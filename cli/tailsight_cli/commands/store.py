"""`tailsight store` says what is there: `senders`, whether all that was sent is there; `quarantine`, what is not."""

from __future__ import annotations

import json
import time

import click

from tailsight_analysis import (
    DEFAULT_GRACE_S,
    SENDER_FILTERS,
    Filters,
    NoSendersError,
    Store,
    Window,
    connect,
    delivery,
    senders_heard,
)
from tailsight_cli._errors import NOT_ENOUGH_DATA, CommandError
from tailsight_cli.commands.store_quarantine import group as quarantine
from tailsight_cli.options import FILTER_HELP, asking_options, chosen_window, parse_length_s
from tailsight_cli.render.senders import render_delivery
from tailsight_cli.render.text import console

_MAX_NAMES = 8
_FILTERS = {name: FILTER_HELP[name] for name in SENDER_FILTERS if name in FILTER_HELP} | {
    "service": "Only this service's senders."
}
_HELP = """What was sent, and did all of it arrive? One sentence a device, then its senders.

tailsight's SDK numbers its batches and counts what it drops, so loss is known and not guessed. Lost is what will never
come: spans of missing batches once their sender has ended, spans that the sender dropped, spans that were rejected.
Outstanding is what is missing and may still come: from the spool of a sender that runs, or fell silent. Other exporters
number nothing, and are not listed.

The window chooses the senders of whom anything arrived in it; the answer is of their whole life up to its end.

\b
Examples:
  tailsight store senders                      who sent in the last hour
  tailsight store senders --host edge-7 --since 7d
  tailsight store senders --all-time --json | jq '.devices[] | {host, lost}'
"""


@click.group("store", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Say what the store holds, and whether it is all that was sent."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


command.add_command(quarantine)


def _grace_s(_ctx: click.Context, _parameter: click.Parameter, text: str) -> float:
    length_s = parse_length_s(text)
    if length_s is None:
        raise click.BadParameter(f"{text!r} is no length of time: use 30s, 5m or 2h")
    return length_s


@command.command("senders", help=_HELP, short_help="What was sent, and did all of it arrive?")
@asking_options(_FILTERS)
@click.option(
    "--grace", "grace_s", default=f"{DEFAULT_GRACE_S / 60:g}m", show_default=True, callback=_grace_s, metavar="TIME",
    help="How long after a sender's last batch its missing ones may still come.",
)  # fmt: skip
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(min=0), metavar="N",
    help="Most devices and senders to list, those that lost most first.",
)  # fmt: skip
def senders(
    since: str | None,
    until: str | None,
    all_time: bool,
    as_json: bool,
    store: str,
    grace_s: float,
    limit: int,
    **limits: tuple[str, ...],
) -> None:
    """Ask what was sent and what of it arrived, and print it."""
    now_ns = time.time_ns()
    chosen = chosen_window(since, until, all_time=all_time, now_ns=now_ns)
    filters = Filters(**limits)
    with connect(store) as opened:
        window = chosen or (_whole_time(opened, now_ns) if all_time or filters.run else Window.last(now_ns=now_ns))
        try:
            result = delivery(opened, window, filters, grace_s)
        except NoSendersError as error:
            raise CommandError(f"{error}; {_way_out(opened, filters)}", NOT_ENOUGH_DATA) from error
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    else:
        console().print(render_delivery(result, limit))


def _whole_time(store: Store, now_ns: int) -> Window:
    """From the first that was heard until now; the collector's clock may be ahead of ours."""
    heard = senders_heard(store)
    if heard is None:
        return Window.last(now_ns=now_ns)
    return Window(heard[0].since_ns, max(heard[0].until_ns, now_ns))


def _way_out(store: Store, filters: Filters) -> str:
    """Name what could be asked for instead."""
    heard = senders_heard(store)
    if heard is None:
        return "nobody in this store numbers batches: tailsight's own SDK does, other OTLP exporters do not"
    window, names = heard
    for name, known in names.items():
        for value in getattr(filters, name):
            if value not in known:
                named = [other for other in known if other]
                rest = ", …" if len(named) > _MAX_NAMES else ""
                return f"no sender has {name}={value}; there are: {', '.join(named[:_MAX_NAMES]) + rest or 'none'}"
    return f"senders were heard {window.label}; choose with --since and --until, or --all-time"
