"""Rules of sources in a terminal, and what they make of a file."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from tailsight_cli.render.text import NO_VALUE, new_table, printable, significant
from tailsight_collector.sources.trial import SpanKind, Trial
from tailsight_storage.source_rules import BUILT_IN, KINDS, Match, Rule

_MOST_KINDS = 200
_WIDE = 110


def render_rules(rules: Sequence[Rule], width: int) -> RenderableType:
    """List the rules: what is recognised, and which stages come of it; in a narrow terminal without the sources."""
    table = new_table()
    is_wide = width >= _WIDE
    table.add_column("rule", overflow="fold")
    if is_wide:
        table.add_column("source", overflow="fold")
    table.add_column("a span is it by", overflow="fold")
    table.add_column("stages", overflow="fold")
    for rule in rules:
        name = Text(printable(rule.name), style="" if rule.origin == BUILT_IN else "bold")
        stages = ", ".join(map(printable, rule.stages)) or NO_VALUE
        source = [Text(printable(rule.source))] if is_wide else []
        table.add_row(name, *source, Text(_recognised_by(rule.match)), Text(stages))
    own = [rule for rule in rules if rule.origin != BUILT_IN]
    parts: list[RenderableType] = [table]
    if own:
        parts.append(Text(f"{len(own)} of {len(rules)} rules are from {printable(own[0].origin)}", style="dim"))
    return Group(*parts)


def _recognised_by(match: Match) -> str:
    parts = [
        f"{key} {' | '.join(texts)}" for key in ("scope", "version", "name", "kind") if (texts := getattr(match, key))
    ]
    parts += [f"has {' and '.join(match.has)}"] if match.has else []
    parts += [_one_of(match.any)] if match.any else []
    parts += [f"events {' and '.join(match.events)}"] if match.events else []
    parts += [f"{key} = {' | '.join(texts)}" for key, texts in (*match.equals, *match.resource)]
    parts += [f"without {' or '.join(match.lacks)}"] if match.lacks else []
    return printable("; ".join(parts))


def _one_of(keys: Sequence[str]) -> str:
    return f"has {' or '.join(keys[:2])}" + (f" or {len(keys) - 2} more" if len(keys) > 2 else "")


def render_trial(trial: Trial) -> RenderableType:
    """Say what became of a file's spans: first those with a stage or a rule, then the others."""
    head = f"{trial.spans:,} spans, {trial.derived:,} more derived of their phases"
    if trial.rejected:
        head += f", {trial.rejected:,} rejected"
    parts: list[RenderableType] = [Text(head, style="bold")]
    if trial.with_stage:
        parts += [Text(), _with_stage(trial.with_stage[:_MOST_KINDS])]
    if trial.without_stage:
        parts += [Text("\nno rule concerns", style="bold"), _without_stage(trial.without_stage[:_MOST_KINDS])]
    left_out = sum(max(0, len(kinds) - _MOST_KINDS) for kinds in (trial.with_stage, trial.without_stage))
    if left_out:
        parts.append(Text(f"{left_out:,} rarer kinds of spans are left out; --json has all", style="dim"))
    return Group(*parts)


def _with_stage(kinds: Sequence[SpanKind]) -> RenderableType:
    table = new_table()
    table.add_column("span", overflow="fold")
    table.add_column("rule", overflow="fold")
    table.add_column("becomes", overflow="fold")
    table.add_column("spans", justify="right")
    table.add_column("mean ms", justify="right")
    for kind in kinds:
        stage = Text(printable(kind.stage) or NO_VALUE)
        table.add_row(Text(_name_of(kind)), Text(printable(kind.rule)), stage, f"{kind.spans:,}", "")
        for phase in kind.phases.values():
            name = phase.stage if phase.name == phase.stage else f"{phase.stage} ({phase.name})"
            mean = significant(phase.total_ms / phase.spans)
            table.add_row("", "", Text(f"  {printable(name)}"), f"{phase.spans:,}", mean)
        for reason, count in kind.why_not.items():
            table.add_row("", "", Text(f"  no phases: {printable(reason)}", style="dim"), f"{count:,}", "")
    return table


def _without_stage(kinds: Sequence[SpanKind]) -> RenderableType:
    table = new_table()
    table.add_column("span", overflow="fold")
    table.add_column("scope", overflow="fold")
    table.add_column("spans", justify="right")
    for kind in kinds:
        table.add_row(Text(_name_of(kind)), Text(printable(kind.scope) or NO_VALUE), f"{kind.spans:,}")
    return table


def _name_of(kind: SpanKind) -> str:
    return printable(kind.name) if kind.kind in KINDS[:2] else f"{printable(kind.name)} ({kind.kind})"
