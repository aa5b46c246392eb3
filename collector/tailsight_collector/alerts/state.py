"""What must outlive a restart: open alerts, what rules remember, messages on their way, rows for the store. One file.

It is written whole, to a new file that then takes the old one's place: a crash leaves the one or the other. A file that
cannot be read is put aside, and everything begins anew.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tailsight_collector.alerts.machine import Alert

log = logging.getLogger(__name__)

_VERSION = 1


@dataclass(slots=True)
class State:
    """All of it: `alerts` by rule and fingerprint, `outbox` by webhook, `rows` that are not in the store yet."""

    alerts: dict[str, dict[str, Alert]] = field(default_factory=dict)
    memories: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    outbox: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "version": _VERSION,
            "alerts": [alert.to_json() for alerts in self.alerts.values() for alert in alerts.values()],
            "memories": self.memories,
            "outbox": self.outbox,
            "rows": self.rows,
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> State:
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError."""
        if plain["version"] != _VERSION:
            raise ValueError(f"version {plain['version']} is not {_VERSION}")
        state = cls()
        for each in plain["alerts"]:
            alert = Alert.from_json(each)
            state.alerts.setdefault(alert.rule, {})[alert.fingerprint] = alert
        for rule, memory in plain["memories"].items():
            state.memories[str(rule)] = dict(memory)
        for webhook, messages in plain["outbox"].items():
            state.outbox[str(webhook)] = [dict(message) for message in messages]
            for message in messages:
                if "id" not in message or "text" not in message:
                    raise ValueError("a message without id or text")
                datetime.fromisoformat(message["at"])
        state.rows = [dict(row) for row in plain["rows"]]
        return state


def read_state(path: Path) -> State:
    """Read the file; what makes no sense is put aside, and all begins anew."""
    try:
        return State.from_json(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return State()
    except OSError as error:
        log.warning("the state of the alerts cannot be read (%s): open alerts begin anew", error)
        return State()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        aside = path.with_suffix(".unreadable")
        with contextlib.suppress(OSError):
            path.replace(aside)
        log.error(
            "the state of the alerts cannot be read (%s) and is put aside as %s: open alerts begin anew", error, aside
        )
        return State()


def write_state(path: Path, state: State) -> None:
    """Write the file and sync it; raises OSError."""
    new = path.with_suffix(".new")
    data = json.dumps(state.to_json(), separators=(",", ":")).encode()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
