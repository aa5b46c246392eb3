"""`tailsight alerts`: which alerts are open; `tailsight alerts test` sends each webhook a message."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from tailsight_analysis import connect
from tailsight_analysis.alerting.open import open_alerts
from tailsight_cli._errors import UNREADABLE, CommandError
from tailsight_cli.alerting import ALERTS_ENV
from tailsight_cli.options import store_option
from tailsight_cli.render.alerts import render_alerts, render_answers
from tailsight_cli.render.text import console

_HELP = """Which alerts are open, as the collector that evaluates the rules wrote them into the store.

Rules and webhooks are in a file that the collector is given: docs/alerts.md says how they are written.

\b
Examples:
  tailsight collector --alerts alerts.toml               evaluate rules, tell webhooks
  tailsight alerts                                       what is open now
  tailsight alerts --json | jq '.alerts[].text'
  tailsight alerts test --alerts alerts.toml             does every webhook take messages?
"""


@click.group("alerts", help=_HELP, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON with stable keys.")
@store_option
@click.pass_context
def command(context: click.Context, as_json: bool, store: str) -> None:
    """List open alerts, unless a command of the group is called."""
    if context.invoked_subcommand is not None:
        return
    with connect(store) as opened:
        found = open_alerts(opened)
    if as_json:
        click.echo(json.dumps({"alerts": [alert.to_json() for alert in found]}, indent=2, ensure_ascii=False))
    else:
        console().print(render_alerts(found, time.time_ns()))


@command.command("test")
@click.option(
    "--alerts",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar=ALERTS_ENV,
    show_envvar=True,
    required=True,
    help="File of rules and webhooks, as the collector is given it.",
)
@click.option("--rule", metavar="NAME", help="Only the webhooks of this rule.  [default: all webhooks]")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON with stable keys.")
def test(file: Path, rule: str | None, as_json: bool) -> None:
    """Send each webhook one message that says it is a test, and report what answered.

    Each is tried once. Exit status 4 where one does not take it.
    """
    # here, because listing what is open takes no more than the packages for reading
    from tailsight_cli.alerting.file import read_alert_file
    from tailsight_collector.alerts.messages import trial_message
    from tailsight_collector.alerts.post import Answer, new_client, post
    from tailsight_collector.alerts.settings import nearest
    from tailsight_collector.errors import SettingsError

    read = read_alert_file(file)
    schedules = {schedule.rule: schedule for schedule in read.settings.schedules}
    if rule is not None and rule not in schedules:
        raise CommandError(f"alerts file {file}: there is no rule {rule!r}{nearest(rule, schedules)}")
    names = [webhook.name for webhook in read.settings.webhooks] if rule is None else schedules[rule].webhooks
    if not names:
        whose = "there is no webhook" if rule is None else f"rule {rule} has no webhook"
        raise CommandError(f"alerts file {file}: {whose}; begin one with [[webhook]], name and url")
    payload = trial_message([rule] if rule else list(schedules), time.time_ns())
    answers = []
    for name in names:
        webhook = read.settings.webhook(name)
        try:
            with new_client(webhook) as client:
                answers.append((webhook, post(client, webhook, payload)))
        except SettingsError as error:
            answers.append((webhook, Answer(0, str(error), 0.0)))
    if as_json:
        plain = [
            {
                "webhook": webhook.name,
                "host": webhook.host,
                "taken": answer.is_taken,
                "status": answer.status or None,
                "answer": answer.words,
                "took_ms": answer.took_s * 1000,
            }
            for webhook, answer in answers
        ]
        click.echo(json.dumps({"message_id": payload["id"], "webhooks": plain}, indent=2, ensure_ascii=False))
    else:
        console().print(render_answers(answers))
    refused = [webhook.name for webhook, answer in answers if not answer.is_taken]
    if refused:
        raise CommandError(f"{', '.join(refused)} did not take the test message; its answer is above", UNREADABLE)
