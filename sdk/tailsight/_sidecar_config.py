"""What a service and its sidecar tell each other at the start."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ._destination import own_mark
from ._options import Settings

READY = b"ready\n"
"""The sidecar's first words: it reads the rings. Log lines may follow."""

_BYTES = "\0bytes"


class Config:
    """What the service tells its sidecar, as JSON over the socket: secrets do not belong on a command line."""

    def __init__(self, settings: Settings, *, pid: int, ring: Path) -> None:
        self.settings = settings
        self.pid = pid
        self.ring = ring

    def plain(self, *, secrets: bool = True) -> dict[str, Any]:
        """Return what JSON can say; without `secrets`, no headers, but a mark that tells them from others."""
        names = [name for name in Settings.__slots__ if secrets or name != "headers"]
        settings = {name: _plain(getattr(self.settings, name)) for name in names}
        content = {"pid": self.pid, "ring": str(self.ring), "settings": settings}
        if not secrets:
            content["destination"] = own_mark(*self.destination)
        return content

    @property
    def destination(self) -> tuple[str, Mapping[str, str]]:
        """Where batches go, and as whose: the endpoint and the headers, or the file."""
        return destination_of(self.settings)

    def to_json(self) -> bytes:
        """Encode as one line."""
        return json.dumps(self.plain()).encode() + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> "Config":
        """Decode a line. Raises ValueError, KeyError or TypeError if it is none."""
        return cls.from_plain(json.loads(line))

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "Config":
        """Read what plain() said."""
        values: dict[str, Any] = {}
        for name, value in content["settings"].items():
            again = _again(value)
            values[name] = MappingProxyType(again) if isinstance(again, dict) else again
        return cls(Settings(**values), pid=content["pid"], ring=Path(content["ring"]))


def destination_of(settings: Settings) -> tuple[str, Mapping[str, str]]:
    """Return where batches go, and as whose: the endpoint and the headers, or the file."""
    if settings.transport == "file":
        return settings.file, {}
    return settings.endpoint, settings.headers


def _plain(value: Any) -> Any:
    """Say bytes, which a resource attribute may hold, in JSON."""
    if isinstance(value, bytes):
        return {_BYTES: value.hex()}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _again(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_BYTES}:
            return bytes.fromhex(value[_BYTES])
        return {key: _again(item) for key, item in value.items()}
    return [_again(item) for item in value] if isinstance(value, list) else value
