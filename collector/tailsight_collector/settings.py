"""What a collector is told at its start: frozen, with named defaults, checked before anything opens."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tailsight_collector.alerts.settings import AlertPlan
from tailsight_collector.errors import SettingsError
from tailsight_collector.guard.exposure import is_loopback, refuse_open_doors
from tailsight_collector.guard.tls import Tls
from tailsight_collector.guard.tokens import Token
from tailsight_collector.receive.limits import HttpLimits
from tailsight_collector.recordings.joining import RecordingPlan
from tailsight_collector.retention import Retention
from tailsight_storage import ChdbDsn, StoreDsn, parse_dsn
from tailsight_storage.source_files import built_in_rules
from tailsight_storage.source_rules import Rules

DEFAULT_DATA = Path("tailsight-data")
DEFAULT_HOST = "127.0.0.1"
DEFAULT_HTTP_PORT = 4318
DEFAULT_GRPC_PORT = 4317
DEFAULT_SQL_PORT = 8123
DEFAULT_MAX_REQUEST_BYTES = 64 * 1024 * 1024
# Reached under load alone, or while the database is away: else a segment is closed by its age.
DEFAULT_SEGMENT_BYTES = 24 * 1024 * 1024
DEFAULT_SEGMENT_AGE_S = 0.5
DEFAULT_MAX_JOURNAL_BYTES = 8 * 1024**3
MAX_SEGMENT_AGE_S = 60.0
METRICS_AGE_FACTOR = 10
METRICS_JOURNAL_PART = 8


@dataclass(frozen=True, slots=True)
class CollectorSettings:
    """All options of a collector. Ports of 0 let the system choose. `store` None means: embedded, in `data`."""

    data: Path = DEFAULT_DATA
    store: StoreDsn | None = None
    host: str = DEFAULT_HOST
    http_port: int = DEFAULT_HTTP_PORT
    grpc_port: int = DEFAULT_GRPC_PORT
    sql_port: int = DEFAULT_SQL_PORT
    max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES
    segment_bytes: int = DEFAULT_SEGMENT_BYTES
    segment_age_s: float = DEFAULT_SEGMENT_AGE_S
    max_journal_bytes: int = DEFAULT_MAX_JOURNAL_BYTES
    tokens: Path | None = None
    own_tokens: tuple[Token, ...] = ()
    """Of this run alone, beside those of the file: of a parent process that reads."""
    tls: Tls | None = None
    insecure: bool = False
    sql_ingest: bool = False
    """Without tokens: whether everybody who reaches the SQL port may insert."""
    http_limits: HttpLimits = field(default_factory=HttpLimits)
    retention: Retention = field(default_factory=lambda: Retention({}))
    alerts: AlertPlan | None = None
    recordings: RecordingPlan | None = None
    """How recordings that sidecars send are joined; without, there is no route for them."""
    sources: Rules = field(default_factory=built_in_rules)
    """What becomes of the spans that other tools send."""

    def __post_init__(self) -> None:
        named: dict[int, str] = {}
        for name in ("http_port", "grpc_port", "sql_port"):
            port = getattr(self, name)
            if not 0 <= port <= 65535:
                raise SettingsError(f"{name} {port} is no port; use 0 (the system chooses) to 65535")
            option = f"--{name.replace('_', '-')}"
            if port and named.setdefault(port, option) != option:
                raise SettingsError(f"{named[port]} and {option} are both {port}; give them different ports")
        if self.max_request_bytes < 1024:
            raise SettingsError(f"max_request_bytes {self.max_request_bytes} is too small; use at least 1024")
        if not 0 < self.segment_age_s <= MAX_SEGMENT_AGE_S:
            raise SettingsError(f"segment_age_s {self.segment_age_s} must lie above 0 and be at most 60")
        if self.max_journal_bytes < self.segment_bytes or self.segment_bytes < 4096:
            raise SettingsError(
                f"max_journal_bytes {self.max_journal_bytes} must hold a segment, "
                f"and segment_bytes {self.segment_bytes} at least 4096"
            )
        refuse_open_doors(self.host, asks_who=self.asks_who, insecure=self.insecure)

    @classmethod
    def of(cls, *, data: Path | None, store: str | None, **options: object) -> CollectorSettings:
        """Make settings from what a user gave: with an embedded store, its folder also holds the journal."""
        dsn = parse_dsn(store) if store else None
        if isinstance(dsn, ChdbDsn):
            if data is not None and data.expanduser().absolute() != dsn.folder:
                raise SettingsError(
                    f"--data {data} and --store {dsn} name two folders; an embedded store lies in the data folder: "
                    "give one of them"
                )
            data = dsn.folder
        folder = (data or DEFAULT_DATA).expanduser().absolute()
        return cls(data=folder, store=dsn, **options)  # type: ignore[arg-type]  # names come from the option table

    @property
    def takes_any_name(self) -> bool:
        """Whether requests may be for any host name.

        A web page that reaches us by a name of its own has no token, and our certificate is not its.
        """
        return self.tokens is not None or self.tls is not None

    @property
    def only_name(self) -> str:
        """The one host name that OTLP may be sent to, beside addresses; empty where it may be any."""
        return "" if self.takes_any_name or self.insecure or not is_loopback(self.host) else self.host

    @property
    def store_dsn(self) -> StoreDsn:
        """Where spans stay."""
        return self.store or ChdbDsn(self.data)

    @property
    def asks_who(self) -> bool:
        """Whether clients must say who they are, by a token or by a certificate."""
        return self.tokens is not None or bool(self.tls and self.tls.client_ca)

    @property
    def journal_folder(self) -> Path:
        """Where acknowledged requests wait to be loaded."""
        return self.data / "journal"

    @property
    def metrics_journal_folder(self) -> Path:
        """Where acknowledged metrics wait to be loaded."""
        return self.journal_folder / "metrics"

    @property
    def metrics_segment_age_s(self) -> float:
        """How old a segment of metrics becomes: they come all the time and a few at once, and every insert costs."""
        return min(self.segment_age_s * METRICS_AGE_FACTOR, MAX_SEGMENT_AGE_S)

    @property
    def max_metrics_journal_bytes(self) -> int:
        """How much metrics may wait: a part of what spans may, on top of it."""
        return max(self.max_journal_bytes // METRICS_JOURNAL_PART, self.segment_bytes)
