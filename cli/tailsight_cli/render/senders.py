"""What was sent and what of it arrived, in a terminal: a sentence a device, a table of senders, what is odd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from tailsight_analysis import Delivery, Device, Sender, SenderState
from tailsight_cli.render.text import GAP, new_table, note_lines, printable, title_line

NO_HOST = "(no host)"
NO_SERVICE = "(no service)"
_SHORT_ID = 8  # characters of 16: enough to tell a device's senders apart
_MAX_GAPS = 6
_DROPPED = ("stored", "batches", "state")  # columns that a narrow terminal does not get, in this order
_LEAST_NAME = 10
_WORDS = {"missing_batches": "in batches that did not come", "unaccounted": "unaccounted for"}


def render_delivery(result: Delivery, limit: int) -> RenderableType:
    """Say it in a sentence a device, then list the senders; `limit` of each, those that lost most first."""
    shown = result.devices[:limit]
    sentences = [Text(f"{_name(device.host, NO_HOST)}: {account(device)}", style="bold") for device in shown]
    if rest := result.devices[limit:]:
        lost, sent = sum(device.lost for device in rest), sum(device.sent for device in rest)
        sentences.append(Text(f"{_count(len(rest), 'more device')}: {sent:,} sent, {lost:,} lost"))
    senders = sorted(
        (sender for device in shown for sender in device.senders), key=lambda each: (-each.lost, -each.outstanding)
    )
    notes = [note for sender in senders[:limit] for note in _remarks(sender)]
    if len(senders) > limit:
        notes.append(f"{_count(len(senders) - limit, 'more sender')} of these devices: see --limit, or --json.")
    parts: list[RenderableType] = [
        title_line("What was sent, in spans", result.window, result.filters.label),
        *sentences,
    ]
    if senders[:limit]:
        parts += [Text(""), _SendersTable(tuple(senders[:limit]))]
    return Group(*parts, *note_lines(["", *notes] if notes else []))


def account(device: Device) -> str:
    """Say what became of a device's spans: `12,040 sent, 79 lost (…), 6 outstanding`."""
    text = f"{device.sent:,} sent, {device.lost:,} lost"
    if device.lost:
        text += f" ({_by_reason(device.lost_by)})"
    return f"{text}, {device.outstanding:,} outstanding" if device.outstanding else text


@dataclass(frozen=True, slots=True)
class _SendersTable:
    """A table that leaves out columns, in the order of _DROPPED, until it fits."""

    senders: tuple[Sender, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        names = {
            "host": [_name(sender.host, NO_HOST) for sender in self.senders],
            "service": [_name(sender.service, NO_SERVICE) for sender in self.senders],
        }
        shown = {
            "sender": [_short(sender) for sender in self.senders],
            "state": [str(sender.state) for sender in self.senders],
            "batches": [f"{sender.batches:,}" for sender in self.senders],
            "sent": [f"{sender.sent:,}" for sender in self.senders],
            "stored": [f"{sender.stored:,}" for sender in self.senders],
            "lost": [f"{sender.lost:,}" for sender in self.senders],
            "outstanding": [f"{sender.outstanding:,}" for sender in self.senders],
        }
        widths = {name: max(cell_len(name), *map(cell_len, cells)) for name, cells in {**names, **shown}.items()}
        for heading in _DROPPED:
            folded = sum(min(widths[name], _LEAST_NAME) for name in names)
            if folded + sum(widths[name] for name in shown) + GAP * (len(names) + len(shown)) <= options.max_width:
                break
            del shown[heading]
        table = new_table()
        for name in names:
            table.add_column(name, overflow="fold", min_width=min(widths[name], _LEAST_NAME))
        for heading in shown:
            side: Literal["left", "right"] = "left" if heading in ("sender", "state") else "right"
            table.add_column(heading, justify=side, no_wrap=True, min_width=widths[heading])
        for cells in zip(*names.values(), *shown.values(), strict=True):
            table.add_row(*(Text(cell) for cell in cells))  # texts, because names may look like markup
        yield table


def _remarks(sender: Sender) -> Iterator[str]:
    """Say what a table has no room for: what is missing, and what is odd."""
    name = f"{_name(sender.service, NO_SERVICE)}/{_short(sender)}"
    if sender.gaps:
        spans = sum(gap.spans for gap in sender.gaps)
        labels = ", ".join(gap.label for gap in sender.gaps[:_MAX_GAPS])
        if sender.gap_count > _MAX_GAPS:
            labels += f", … ({sender.missing_batches:,} in all)"
        word = "batch" if sender.missing_batches == 1 else "batches"
        held = f"{_count(spans, 'span')}" if sender.gap_count <= len(sender.gaps) else f"more than {spans:,} spans"
        yield f"{name}: {word} {labels} missing, with {held}."
    if sender.short_batches:
        yield f"{name}: {_count(sender.short_batches, 'batch', 'batches')} came with fewer spans than were sent."
    if sender.repeated_batches:
        came = _count(sender.repeated_batches, "batch", "batches")
        yield f"{name}: {came} came more than once: {_count(sender.repeated_spans, 'span')} stored again."
    if sender.state is SenderState.SILENT:
        since = datetime.fromtimestamp(sender.last_heard_ns // 10**9, UTC)
        yield f"{name}: silent since {since:%Y-%m-%d %H:%M:%S} UTC, and it did not say goodbye: more may be missing."
    if sender.sampled_out:
        kept = f"kept {sum(sender.kept.values()):,}" + (f" ({_by_reason(sender.kept)})" if sender.kept else "")
        yield f"{name}: sampling {kept} and left out {_count(sum(sender.sampled_out.values()), 'request')}."
    if sender.contradictions:
        yield f"{name}: its numbers contradict themselves, so its account is not exact; do two processes share its id?"


def _by_reason(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {_WORDS.get(reason) or printable(reason)}" for reason, count in counts.items())


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _name(name: str, empty: str) -> str:
    return printable(name) or empty


def _short(sender: Sender) -> str:
    return printable(sender.sender[:_SHORT_ID])
