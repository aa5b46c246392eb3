"""The collector: receives OTLP, makes it safe on the disk, and loads it into the store exactly once."""

from tailsight_collector.errors import (
    AccessError,
    BadRequestError,
    CollectorError,
    JournalError,
    JournalFullError,
    RefusedQueryError,
    SettingsError,
    UnreadableFileError,
)
from tailsight_collector.guard.tls import Tls
from tailsight_collector.guard.tokens import Token
from tailsight_collector.server import Addresses, Collector, run
from tailsight_collector.settings import CollectorSettings

__all__ = [
    "AccessError",
    "Addresses",
    "BadRequestError",
    "Collector",
    "CollectorError",
    "CollectorSettings",
    "JournalError",
    "JournalFullError",
    "RefusedQueryError",
    "SettingsError",
    "Tls",
    "Token",
    "UnreadableFileError",
    "run",
]
