"""A gate's answer as JSON that every reader takes: RFC 8259 has no NaN, and UTF-8 no halves of characters."""

from __future__ import annotations

import json
import math
import re
from typing import Any

# what Python makes of a file's name that is no UTF-8
_HALVES = re.compile("[\ud800-\udfff]")


def strict_json(data: Any) -> str:
    """Write plain data: null for a number that is none, � for half a character."""
    text = json.dumps(_finite(data), indent=2, ensure_ascii=False, allow_nan=False)
    return _HALVES.sub("�", text)


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, list) else data
