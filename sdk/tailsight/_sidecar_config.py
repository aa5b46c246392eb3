"""What the service tells its sidecar at its start."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ._options import Settings


class Config:
    """What the service tells its sidecar, as JSON over the socket: secrets do not belong on a command line."""

    def __init__(self, settings: Settings, *, pid: int, ring: Path) -> None:
        self.settings = settings
        self.pid = pid
        self.ring = ring

    def to_json(self) -> bytes:
        """Encode as one line."""
        values = {name: getattr(self.settings, name) for name in Settings.__slots__}
        plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}
        content = {"pid": self.pid, "ring": str(self.ring), "settings": plain}
        return json.dumps(content, default=lambda value: {"bytes": value.hex()}).encode() + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> "Config":
        """Decode a line."""
        content = json.loads(line, object_hook=_bytes_again)
        values: dict[str, Any] = {
            name: MappingProxyType(value) if isinstance(value, dict) else value
            for name, value in content["settings"].items()
        }
        return cls(Settings(**values), pid=content["pid"], ring=Path(content["ring"]))


def _bytes_again(found: dict[str, Any]) -> Any:
    return bytes.fromhex(found["bytes"]) if found.keys() == {"bytes"} else found
