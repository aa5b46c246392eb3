"""How a recording is summed up: what was joined, how good the fit is, and how to see the flame graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from tailsight_cli.profiling.putting_together import PutTogether
from tailsight_cli.render.text import percent, printable, significant


def said_of(profile_id: str, together: PutTogether) -> dict[str, Any]:
    """Plain data with stable keys; see docs/profiles.md."""
    said = together.plain["profile"]
    return {
        "id": profile_id,
        **{name: value for name, value in said.items() if name != "started_ns"},
        "spans": together.spans,
        "requests": len(together.plain["requests"]["trace_id"]),
        "threshold_ms": together.threshold_ms,
    }


def render_profiles(kept: Sequence[tuple[str, PutTogether]]) -> RenderableType:
    """Write a paragraph for each recording, and the command that shows what they saw."""
    parts: list[RenderableType] = [_one(*each) for each in kept]
    services = sorted({str(each.plain["profile"]["service"]) for _, each in kept})
    shown = "".join(f" --service {printable(service)}" for service in services if service)
    if any(each.plain["profile"]["trusted"] for _, each in kept):
        parts.append(Text(f"See it with `tailsight flame{shown}`, or `tailsight flame{shown} --diff tail:typical`."))
    return Group(*parts)


def _one(profile_id: str, together: PutTogether) -> Text:
    said = together.plain["profile"]
    head = (
        f"Process {said['process']} of {printable(said['service'])} on {printable(said['host'])}: {said['samples']:,} "
        f"samples in {said['duration_ms'] / 1000:.1f} s at {said['rate_hz']:g} Hz, kept as {profile_id[:8]}."
    )
    lines = [head]
    if said["samples"]:
        joined, ambiguous = (said[name] / said["samples"] for name in ("joined", "ambiguous"))
        lines.append(
            f"{percent(joined)} ran for a stage or request of {together.spans:,} spans, {percent(ambiguous)} are "
            f"ambiguous; py-spy could not read {said['lost']:,}."
        )
    if together.fit is not None and said["trusted"]:
        lines.append(
            f"Clocks: frames and spans agree in {percent(said['agreement'])} of the samples (by chance "
            f"{percent(said['by_chance'])}), {significant(said['offset_ms'])} ms after the start."
        )
    if together.threshold_ms is not None:
        lines.append(f"The tail begins at {significant(together.threshold_ms)} ms.")
    else:
        lines.append("There were too few requests to tell tail from typical.")
    lines += [f"Note: {printable(note)}" for note in said["notes"]]
    return Text("\n".join(lines) + "\n")
