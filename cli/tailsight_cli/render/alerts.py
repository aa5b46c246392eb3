"""Open alerts in a terminal, and what webhooks answered to a test."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from tailsight_analysis.alerting.open import OpenAlert
from tailsight_cli.render.text import new_table, printable

_NS_PER_S = 1_000_000_000
_LONGEST_TEXT = 2_000
_INDENT = 2


class _Webhook(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def host(self) -> str: ...


class _Answer(Protocol):
    @property
    def is_taken(self) -> bool: ...
    @property
    def words(self) -> str: ...
    @property
    def took_s(self) -> float: ...


def render_alerts(alerts: Sequence[OpenAlert], now_ns: int) -> RenderableType:
    """List open alerts, the latest first: what, since when, and the sentence that webhooks were told."""
    if not alerts:
        return Text("No alert is open.")
    parts: list[RenderableType] = [
        Text(f"{len(alerts)} alert{' is' if len(alerts) == 1 else 's are'} open", style="bold")
    ]
    for alert in alerts:
        began = f"{datetime.fromtimestamp(alert.since_ns // _NS_PER_S, UTC):%Y-%m-%d %H:%M:%S} UTC"
        head = Text.assemble(
            "\n",
            (printable(alert.rule), "bold"),
            ("  ", ""),
            (printable(alert.severity), "yellow"),
            (f"  since {began} ({_ago(now_ns - alert.since_ns)})", "dim"),
        )
        said = " ".join(printable(word) for word in alert.text[:_LONGEST_TEXT].split())
        parts += [head, Padding(Text(said), (0, 0, 0, _INDENT))]
    return Group(*parts)


def render_answers(answers: Sequence[tuple[_Webhook, _Answer]]) -> RenderableType:
    """Say of each webhook whether it took the test message, and what it answered."""
    table = new_table()
    table.add_column("webhook", overflow="fold")
    table.add_column("host", overflow="fold")
    table.add_column("took it")
    table.add_column("ms", justify="right")
    table.add_column("answer", overflow="fold")
    for webhook, answer in answers:
        taken = Text("yes", style="green") if answer.is_taken else Text("no", style="red")
        words = " ".join(printable(word) for word in answer.words.split())
        table.add_row(
            Text(printable(webhook.name)),
            Text(printable(webhook.host)),
            taken,
            f"{answer.took_s * 1000:,.0f}",
            Text(words),
        )
    return table


def _ago(length_ns: int) -> str:
    seconds = max(0, length_ns // _NS_PER_S)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
