"""What a webhook is told: JSON with stable keys, and a `text` that chat systems show. See docs/alerts.md."""

from __future__ import annotations

import hashlib
import hmac
import html
import json
import math
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Any
from urllib.parse import urlencode

from tailsight_collector.alerts.machine import RESOLVED, Event
from tailsight_collector.alerts.settings import Schedule, Webhook

PAYLOAD_VERSION = 1
TEST = "test"
SIGNATURE_HEADER = "Tailsight-Signature"
ID_HEADER = "Tailsight-Message-Id"


def message(event: Event, schedule: Schedule, dashboard: str = "") -> dict[str, Any]:
    """Put an event into the words of a message."""
    alert = event.alert
    is_over = event.status == RESOLVED
    link = f"{dashboard.rstrip('/')}/?{urlencode(alert.filters, doseq=True)}" if dashboard else ""
    mark = "RESOLVED" if is_over else "FIRING" if alert.told == 1 else "STILL FIRING"
    return {
        **_envelope(event.id, event.status, event.at_ns),
        "text": f"[{mark}] {schedule.rule}: {alert.text}{f' {link}' if link else ''}",
        "alert": {
            "id": alert.id,
            "rule": schedule.rule,
            "kind": schedule.kind,
            "severity": schedule.severity,
            "labels": dict(alert.labels),
            "filters": {name: list(values) for name, values in alert.filters.items()},
            "value": plain_number(alert.value),
            "limit": plain_number(alert.limit),
            "unit": alert.unit,
            "description": alert.text,
            "since": iso(alert.since_ns),
            "fired": iso(alert.fired_ns),
            "resolved": iso(event.at_ns) if is_over else None,
            "repeated": 0 if is_over else alert.told - 1,
            "link": link or None,
        },
    }


def trial_message(rules: list[str], now_ns: int) -> dict[str, Any]:
    """Make a message that says it is none."""
    about = f"rule {rules[0]}" if len(rules) == 1 else f"{len(rules)} rules"
    return {
        **_envelope(f"test-{now_ns:x}", TEST, now_ns),
        "text": f"[TEST] tailsight on {_host()}: a test message for {about}. Nothing is wrong, nothing is to be done.",
        "alert": None,
    }


def encoded(payload: Mapping[str, Any], webhook: Webhook) -> bytes:
    """Write a message as a webhook takes it."""
    # a stage that is called <!channel> must not call everybody
    sent = {"text": html.escape(payload["text"], quote=False)} if webhook.form == "slack" else payload
    return json.dumps(sent, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def signature(secret: str, body: bytes, at_s: int) -> str:
    """Sign a body and the moment of its sending: `t=SECONDS,v1=HEX`, HMAC-SHA256 of `SECONDS.BODY`."""
    digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def iso(time_ns: int) -> str:
    """ISO 8601 text in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ns % 1_000_000_000 // 1_000_000:03}Z"


def plain_number(value: float | None) -> float | None:
    """Return what JSON can hold."""
    return value if value is not None and math.isfinite(value) else None


def _envelope(message_id: str, status: str, at_ns: int) -> dict[str, Any]:
    return {
        "version": PAYLOAD_VERSION,
        "id": message_id,
        "status": status,
        "at": iso(at_ns),
        "source": {"tailsight": _version(), "host": _host()},
    }


@cache
def _version() -> str:
    return version("tailsight")


def _host() -> str:
    return socket.gethostname()
