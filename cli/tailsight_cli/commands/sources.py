"""`tailsight sources`: by which rules the spans of other tools become stages, and what they make of a file."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import click

from tailsight_cli._collecting import collector_errors
from tailsight_cli._errors import WRONG_USE, CommandError
from tailsight_cli.render.sources import render_rules, render_trial
from tailsight_cli.render.text import console
from tailsight_cli.source_options import rules_of, sources_option
from tailsight_cli.trace_files import file_options

_HELP = """By which rules the spans of vLLM, SGLang, Triton, OpenTelemetry GenAI and others become stages.

The built-in rules can be extended and replaced by a file of your own: docs/sources.md says how it is written.

\b
Examples:
  tailsight sources list
  tailsight sources list --sources mine.toml --json | jq '.rules[].name'
  tailsight sources test spans.otlp.zst --sources mine.toml
  tailsight collector --sources mine.toml
"""
_LIST_HELP = """List the rules in their order.

The first rule that fits a span is the span's.

\b
Examples:
  tailsight sources list
  TAILSIGHT_SOURCES=mine.toml tailsight sources list --json
"""
_TEST_HELP = """Show what the rules make of a file.

FILE is what `tailsight import` takes, or - for stdin. Nothing is stored.

\b
Examples:
  tailsight sources test spans.json
  tailsight sources test triton.json --start 2026-11-23T08:30:00Z
  tailsight sources test night.otlp.gz --sources mine.toml --json | jq .without_stage
"""


@click.group("sources", help=_HELP)
def command() -> None:
    """Say what becomes of the spans of other tools."""


@command.command("list", help=_LIST_HELP)
@sources_option
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON with stable keys.")
def list_rules(sources: Path | None, as_json: bool) -> None:
    """List the rules."""
    rules = rules_of(sources)
    if as_json:
        click.echo(json.dumps({"rules": [rule.to_json() for rule in rules.rules]}, indent=2, ensure_ascii=False))
    else:
        screen = console()
        screen.print(render_rules(rules.rules, screen.width))


@command.command("test", help=_TEST_HELP)
@click.argument("file")
@file_options
@sources_option
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON with stable keys.")
def test(file: str, start: str | None, mapping: tuple[str, ...], sources: Path | None, as_json: bool) -> None:
    """Apply the rules to a file, and tell."""
    from tailsight_cli.trace_files import opened, options_of, progress_bar
    from tailsight_collector.importer import requests_of
    from tailsight_collector.sources.trial import trial_of

    rules, options = rules_of(sources), options_of(start, mapping)
    with collector_errors(), ExitStack() as stack:
        files = list(opened([file], stack))
        if len(files) > 1:
            raise CommandError(f"{file} is {len(files)} files; name one of them", WRONG_USE)
        on_progress = stack.enter_context(progress_bar())
        trial = trial_of(requests_of(files[0](), options, on_progress), rules)
    if as_json:
        click.echo(json.dumps(trial.to_json(), indent=2, ensure_ascii=False))
    else:
        console().print(render_trial(trial))
