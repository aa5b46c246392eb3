"""What the collector says while it runs: one line a message on stderr, for people or, as JSON, for machines.

A message may carry fields: `log.warning("segment %s …", token, extra={"segment": token})`. In JSON they are keys beside
`ts`, `level`, `logger` and `message`; in text they are left to the message. Nobody can fill the disk by making us say
the same again and again, and what looks like a secret is masked, whoever wrote it.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

FORMATS = ("auto", "text", "json")
TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
BURST = 10
WINDOW_S = 10.0
_MAX_KINDS = 1000
_MASK = "***"
_SECRET_NAME = re.compile(r"authori[sz]ation|passw|secret|credential|api_?key|bearer|cookie", re.IGNORECASE)
# user:password@ of an address, what stands behind Bearer or Basic, and tokens of ours.
_SECRETS = (
    (re.compile(r"(://[^\s:/@]*:)[^\s@/]+@"), rf"\1{_MASK}@"),
    (re.compile(r"\b(Bearer|Basic)(\s+)[\w.~+/=-]{6,}", re.IGNORECASE), rf"\1\2{_MASK}"),
    (re.compile(r"\b(ts_)[\w-]{24,}", re.ASCII), rf"\1{_MASK}"),
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class RateLimit(logging.Filter):
    """Lets each kind of message through BURST times in WINDOW_S; the next that comes through says how many did not.

    A kind is a logger, a level and a text before its values are put in.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.suppressed = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: OrderedDict[tuple[str, int, str], _Window] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a message is written."""
        kind = (record.name, record.levelno, str(record.msg)[:200])
        now_s = self._clock()
        with self._lock:
            window = self._kinds.get(kind)
            if window is None:
                window = self._kinds[kind] = _Window(now_s)
                if len(self._kinds) > _MAX_KINDS:
                    self._kinds.popitem(last=False)
            self._kinds.move_to_end(kind)
            if now_s - window.began_s >= WINDOW_S:
                window.began_s, window.count = now_s, 0
            window.count += 1
            if window.count > BURST:
                window.suppressed += 1
                self.suppressed += 1
                return False
            left_out, window.suppressed = window.suppressed, 0
        if left_out:
            record.suppressed = left_out
        return True


class _Window:
    __slots__ = ("began_s", "count", "suppressed")

    def __init__(self, began_s: float) -> None:
        self.began_s = began_s
        self.count = 0
        self.suppressed = 0


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record with its fields; what cannot be JSON becomes its text."""
        fields: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": masked(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in fields:
                fields[name] = _MASK if _SECRET_NAME.search(name) else _plain(value)
        if record.exc_info:
            fields["exception"] = masked(self.formatException(record.exc_info))
        return json.dumps(fields, ensure_ascii=False, default=lambda value: masked(str(value)))


class TextFormatter(logging.Formatter):
    """One line for people; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__(TEXT_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        text = masked(super().format(record))
        left_out = getattr(record, "suppressed", 0)
        return f"{text} ({left_out} more like this were left out)" if left_out else text


def masked(text: str) -> str:
    """Hide passwords in addresses, and tokens, in a text."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def configure_logging(level: str, form: str = "auto", stream: TextIO | None = None) -> RateLimit:
    """Set the logging of this process up; returns what counts messages that were left out.

    `auto` is text on a terminal, and JSON elsewhere.
    """
    stream = stream or sys.stderr
    if form == "auto":
        form = "text" if stream.isatty() else "json"
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    limit = RateLimit()
    handler.addFilter(limit)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # uvicorn tells of every start and connection at info
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    return limit


def present_limit() -> RateLimit | None:
    """Find what limits the messages of this process; None where its logging was set up by somebody else."""
    filters = (each for handler in logging.getLogger().handlers for each in handler.filters)
    return next((each for each in filters if isinstance(each, RateLimit)), None)


def _plain(value: object) -> object:
    return masked(value) if isinstance(value, str) else value
