"""Read a file of alert rules and webhooks (TOML); secrets come from the environment. See docs/alerts.md."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailsight_analysis import QuestionError
from tailsight_analysis.alerting import words
from tailsight_analysis.alerting.rules import Rule, rule_of
from tailsight_cli._errors import UNREADABLE, CommandError
from tailsight_collector import SettingsError
from tailsight_collector.alerts import settings as defaults
from tailsight_collector.alerts.settings import AlertSettings, Schedule, Webhook

REGRESSION_EVERY_S = 600.0
_TOP = ("webhook", "rule", "dashboard")
WEBHOOK_KEYS = ("name", "url", "url_env", "secret_env", "headers", "headers_env", "format", "timeout", "ca_file")
SCHEDULE_KEYS = frozenset({"name", "kind", "webhooks", "severity", "every", "for", "resolve_after", "repeat"})


@dataclass(frozen=True, slots=True)
class AlertFile:
    """A file's webhooks and schedules, and its rules by name."""

    settings: AlertSettings
    rules: Mapping[str, Rule]


def read_alert_file(path: Path, environment: Mapping[str, str] = os.environ) -> AlertFile:
    """Read a file; raises CommandError, whose one line names the file, the table and the key."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CommandError(f"alerts file {path} cannot be read: {error.strerror}", UNREADABLE) from None
    except (ValueError, RecursionError) as error:  # also numbers and tables without end
        raise CommandError(f"alerts file {path} is no TOML: {error}") from None
    try:
        return _read(document, environment)
    except (QuestionError, SettingsError) as error:
        raise CommandError(f"alerts file {path}: {error}") from None


def _read(document: Mapping[str, Any], environment: Mapping[str, str]) -> AlertFile:
    words.check_keys("its top", document, _TOP)
    webhooks = tuple(_webhook(table, place, environment) for place, table in _tables(document, "webhook"))
    names = tuple(webhook.name for webhook in webhooks)
    schedules, rules = [], {}
    for place, table in _tables(document, "rule"):
        name = words.text(f"rule {place}", "name", table.get("name"))
        where = f"rule {name}"
        rules[name] = rule_of(where, table.get("kind"), table, beside=SCHEDULE_KEYS)
        schedules.append(_schedule(where, name, table, names))
    if not schedules:
        raise QuestionError('there is no rule in it; begin one with [[rule]], name = "…" and kind = "slo"')
    dashboard = words.text("its top", "dashboard", document["dashboard"]) if "dashboard" in document else ""
    if dashboard and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", dashboard):  # no user: messages hold it
        raise QuestionError(f'dashboard = {dashboard!r} is no address; write it like "http://host:8501"')
    return AlertFile(AlertSettings(webhooks, tuple(schedules), dashboard), rules)


def _tables(document: Mapping[str, Any], key: str) -> list[tuple[int, Mapping[str, Any]]]:
    found = document.get(key, [])
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise QuestionError(f"{key} is no list of tables; begin each with [[{key}]]")
    return list(enumerate(found, 1))


def _webhook(table: Mapping[str, Any], place: int, environment: Mapping[str, str]) -> Webhook:
    name = words.text(f"webhook {place}", "name", table.get("name"))
    where = f"webhook {name}"
    words.check_keys(where, table, WEBHOOK_KEYS)
    if ("url" in table) == ("url_env" in table):
        raise QuestionError(f"{where}: give either url, or url_env, the name of a variable that holds it")
    if "url" in table:
        url = words.text(where, "url", table["url"])
    else:
        url = _from_environment(where, "url_env", table["url_env"], environment)
    headers = {
        key: words.text(where, f"headers.{key}", value) for key, value in _table(where, table, "headers").items()
    }
    for key, variable in _table(where, table, "headers_env").items():
        headers[key] = _from_environment(where, f"headers_env.{key}", variable, environment)
    return Webhook(
        name,
        url,
        secret=_from_environment(where, "secret_env", table["secret_env"], environment)
        if "secret_env" in table
        else "",
        headers=headers,
        form=words.text(where, "format", table.get("format", defaults.FORMATS[0])),
        timeout_s=_seconds(where, table, "timeout", defaults.DEFAULT_TIMEOUT_S),
        ca_file=words.text(where, "ca_file", table["ca_file"]) if "ca_file" in table else "",
    )


def _schedule(where: str, name: str, table: Mapping[str, Any], webhooks: tuple[str, ...]) -> Schedule:
    kind = str(table["kind"])
    every_s = REGRESSION_EVERY_S if kind == "regression" else defaults.DEFAULT_EVERY_S
    return Schedule(
        name,
        kind,
        tuple(dict.fromkeys(words.names(where, "webhooks", table["webhooks"]))) if "webhooks" in table else webhooks,
        severity=words.text(where, "severity", table.get("severity", "warning")),
        every_s=_seconds(where, table, "every", every_s),
        for_s=_seconds(where, table, "for", 0.0),
        resolve_after_s=_seconds(where, table, "resolve_after", defaults.DEFAULT_RESOLVE_AFTER_S),
        repeat_s=_seconds(where, table, "repeat", defaults.DEFAULT_REPEAT_S),
    )


def _seconds(where: str, table: Mapping[str, Any], key: str, default_s: float) -> float:
    return words.seconds(where, key, table[key]) if key in table else default_s


def _table(where: str, table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = table.get(key, {})
    if not isinstance(found, dict):
        raise QuestionError(f'{where}: {key} is no table; write it like {key} = {{ Authorization = "…" }}')
    return found


def _from_environment(where: str, key: str, variable: object, environment: Mapping[str, str]) -> str:
    name = words.text(where, key, variable)
    value = environment.get(name, "")
    if not value:
        raise QuestionError(f"{where}: the variable {name} of {key} is not set")
    return value
