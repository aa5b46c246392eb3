"""Numbers and names as people read them: units always, decimals only where they mean something."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime

NO_STAGE = "(no stage)"
NO_STAGE_HELP = (
    f"{NO_STAGE}: spans without a stage. Their part of the critical path is unaccounted: no stage explains it."
)
UNACCOUNTED = "unaccounted"
UNACCOUNTED_HELP = f"{UNACCOUNTED} is time of the requests that no stage explains."
# what Streamlit's Markdown gives a meaning, in texts that others chose
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&])")
_LINKS = re.compile(r"https?(?=://)|www(?=\.)", re.IGNORECASE)  # made links of although they are escaped
_JOINER = "\u2060"  # takes no room, and no line is broken there


def milliseconds(value: float) -> str:
    """Format milliseconds for a column whose title names the unit: three figures, at most three decimals."""
    size = abs(value)
    if size >= 99.95:
        text = f"{value:,.0f}"
    elif size >= 9.995:
        text = f"{value:.1f}"
    elif size >= 0.9995:
        text = f"{value:.2f}"
    else:
        text = f"{value:.3f}"
    return "0" if float(text.replace(",", "")) == 0 else text.replace("-", "−")


def duration(value_ms: float) -> str:
    """Format milliseconds with the unit that fits: `73 µs`, `41.2 ms`, `12.4 s`."""
    size = abs(value_ms)
    if size < 0.0005:
        return "0 ms"
    if size < 0.0995:
        return f"{value_ms * 1000:.0f} µs".replace("-", "−")
    if size < 9_995:
        return f"{milliseconds(value_ms)} ms"
    return f"{milliseconds(value_ms / 1000)} s"


def length(seconds: float) -> str:
    """Format a length of time that people chose or read: `301 ms`, `7.92 s`, `24 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:,.3g} min"


def signed_duration(value_ms: float) -> str:
    """Format a difference in milliseconds: `+17.1 ms`, `−36 µs`."""
    text = duration(value_ms)
    return text if value_ms <= 0 or text == "0 ms" else f"+{text}"


def within(low_ms: float | None, high_ms: float | None) -> str:
    """Format the bounds of a quantile: `41.4 to 60.1`, `≥ 41.4` where there is no upper one, an em dash for none."""
    if low_ms is None:
        return "—" if high_ms is None else f"≤ {milliseconds(high_ms)}"
    return f"≥ {milliseconds(low_ms)}" if high_ms is None else f"{milliseconds(low_ms)} to {milliseconds(high_ms)}"


def share(value: float | None) -> str:
    """Format a share of 1 as per cent: `61 %`, `4.2 %`, `<0.1 %`; an em dash where it is unknown."""
    if value is None:
        return "—"
    percent = abs(value) * 100
    sign = "−" if value < 0 else ""
    if percent == 0:
        return "0 %"
    if percent < 0.1:
        return "<0.1 %"  # below zero too: the difference beside it has the sign
    text = f"{percent:.1f}" if percent < 9.95 else f"{percent:,.0f}"
    return f"{sign}{text.removesuffix('.0')} %"


def count(value: int) -> str:
    """Format a count: `2,100`; from ten million on `12.3 million`."""
    return f"{value:,}" if value < 10_000_000 else f"{value / 1e6:,.1f} million"


def p_value(value: float) -> str:
    """Format a p-value: three decimals, or `<0.001`."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def lift(value: float, *, at_least: bool = False) -> str:
    """Format how many times as often: `11×`, or `≥80×` where no typical request has the value."""
    text = f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}"
    return f"{'≥' if at_least else ''}{text}×"


def quantile(value: float) -> str:
    """Name a quantile: 0.99 is `p99`, 0.999 is `p99.9`."""
    return f"p{value * 100:.6g}"


def clock(time_ns: int) -> str:
    """Time of day in UTC of nanoseconds since 1970."""
    return f"{datetime.fromtimestamp(time_ns // 1_000_000_000, UTC):%H:%M:%S} UTC"


def clock_and_day(time_ns: int) -> str:
    """Day and time of day in UTC of nanoseconds since 1970: `2026-11-22 07:10:00`."""
    return f"{datetime.fromtimestamp(time_ns // 1_000_000_000, UTC):%Y-%m-%d %H:%M:%S}"


def group_name(dimension: str, value: str) -> str:
    """Name a group: its value, or `(no stage)`, `(no model)` … where spans have none."""
    return value or f"(no {dimension})"


def plain(text: str) -> str:
    """Make text that others chose harmless in Markdown."""
    return _MARKDOWN.sub(r"\\\1", _LINKS.sub(rf"\g<0>{_JOINER}", " ".join(text.split())))


def chart_text(text: str, width: int = 30) -> str:
    """Make text that others chose harmless in a chart's pseudo-HTML, and break it so that no label is cut off."""
    words = re.findall(rf"\S{{1,{width}}}", text)
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "<br>".join(html.escape(line) for line in lines)
