"""The table of options: every option once, with its default, its environment variables, and how its text is read.

configure()'s keywords, the environment and docs/sdk.md follow this table; tests compare them with it.
"""

import contextlib
import dataclasses
import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from . import _parse as parse
from ._guard import warn

HTTP, GRPC = "http/protobuf", "grpc"

DEFAULT_ENDPOINT = "http://127.0.0.1:4318"
DEFAULT_GRPC_ENDPOINT = "http://127.0.0.1:4317"
TRACES_PATH = "/v1/traces"
DEFAULT_TIMEOUT_S = 10.0
DEFAULT_SEND_INTERVAL_S = 1.0
DEFAULT_RETRY_INITIAL_S = 1.0
DEFAULT_RETRY_MAX_S = 30.0
DEFAULT_RETRY_FOR_S = 300.0
DEFAULT_FLUSH_TIMEOUT_S = 5.0
DEFAULT_BUFFER_BYTES = 16 * 1024 * 1024
DEFAULT_SPOOL_BYTES = 256 * 1024 * 1024
DEFAULT_FILE = "tailsight-{pid}.otlp"
DEFAULT_DEVICE_INTERVAL_S = 1.0
DEFAULT_BATCH_BYTES = 1024 * 1024
DEFAULT_MAX_ATTRIBUTES = 128
DEFAULT_MAX_EVENTS = 128
DEFAULT_MAX_VALUE_LENGTH = 16_384


@dataclass(frozen=True, slots=True)
class Source:
    """An environment variable, and how its text becomes the option's value. `read` raises ValueError with why."""

    env: str
    read: Callable[[str], Any]


def _option(default: Any, read: Callable[[Any], Any], *otel: Source, help: str) -> Any:  # noqa: A002  as in argparse
    """One row of the table. `read` checks an argument as well as the text of the TAILSIGHT_ variable."""
    metadata = {"read": read, "otel": otel, "help": help}
    if isinstance(default, Mapping):
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _profile(value: object) -> str:
    from ._profile_ask import read_option  # who does not profile does without it

    return read_option(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What configure() arrived at. Frozen: a change is a new configure()."""

    enabled: bool = _option(
        True,
        parse.boolean,
        Source("OTEL_SDK_DISABLED", lambda text: not parse.boolean(text)),
        help="false: record nothing and send nothing; decorated code runs as if it were bare",
    )
    service: str | None = _option(
        None, parse.text, Source("OTEL_SERVICE_NAME", parse.text), help="the service's name, `service.name`"
    )
    version: str | None = _option(None, parse.text, help="the service's version, `service.version`")
    environment: str | None = _option(
        None, parse.text, help="where it is deployed, `deployment.environment.name`: production, staging, …"
    )
    region: str | None = _option(None, parse.text, help="the region, `cloud.region`")
    host: str | None = _option(None, parse.text, help="the host's name, `host.name`; found on the machine by default")
    hardware: str | None = _option(
        None,
        parse.text,
        help="the type of machine or accelerator, `tailsight.hardware`; found on the machine by default",
    )
    run: str | None = _option(
        None, parse.text, help="a name for this execution, `tailsight.run`, to compare it with others"
    )
    model: str | None = _option(
        None, parse.text, help="the model's name, `tailsight.model`, on every span that does not set its own"
    )
    resource_attributes: Mapping[str, Any] = _option(
        parse.EMPTY,
        parse.resource_attributes,
        Source("OTEL_RESOURCE_ATTRIBUTES", parse.resource_attributes),
        help="further resource attributes, `key=value,key=value` in the environment; the options above win over them",
    )
    protocol: str = _option(
        HTTP,
        parse.one_of(HTTP, GRPC),
        Source("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", parse.one_of(HTTP, GRPC)),
        Source("OTEL_EXPORTER_OTLP_PROTOCOL", parse.one_of(HTTP, GRPC)),
        help="`http/protobuf`, or `grpc`, which takes `tailsight[grpc]` and `transport=sidecar`; where one is missing, "
        "HTTP is used and logged",
    )
    endpoint: str = _option(
        DEFAULT_ENDPOINT + TRACES_PATH,
        lambda value: parse.endpoint(value, TRACES_PATH),
        Source("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", lambda text: parse.endpoint(text, "")),
        Source("OTEL_EXPORTER_OTLP_ENDPOINT", lambda text: parse.endpoint(text, TRACES_PATH)),
        help="the collector's OTLP address; `/v1/traces` is appended (not to OTEL_EXPORTER_OTLP_TRACES_ENDPOINT). "
        "For `protocol=grpc` there is no path, and the default is `http://127.0.0.1:4317`",
    )
    headers: Mapping[str, str] = _option(
        parse.EMPTY,
        parse.headers,
        Source("OTEL_EXPORTER_OTLP_TRACES_HEADERS", parse.headers),
        Source("OTEL_EXPORTER_OTLP_HEADERS", parse.headers),
        help="further HTTP headers, or gRPC metadata, for the collector, `key=value,key=value` in the environment",
    )
    compression: str = _option(
        "none",
        parse.one_of("none", "gzip"),
        Source("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", parse.one_of("none", "gzip")),
        Source("OTEL_EXPORTER_OTLP_COMPRESSION", parse.one_of("none", "gzip")),
        help="`gzip` saves network and costs processor time in the service; `none` does the reverse",
    )
    timeout_s: float = _option(DEFAULT_TIMEOUT_S, parse.seconds, help="seconds to wait for the collector's answer")
    transport: str = _option(
        "sidecar",
        parse.one_of("sidecar", "thread", "file"),
        help="who encodes and sends: `sidecar`, a small process beside the service; `thread`, a thread inside it; "
        "`file` writes to `file` instead of sending",
    )
    file: str = _option(
        DEFAULT_FILE,
        parse.path,
        help="where `transport=file` writes length-delimited OTLP, for `tailsight import`; `{pid}` is the process's id",
    )
    send_interval_s: float = _option(
        DEFAULT_SEND_INTERVAL_S, parse.seconds, help="seconds between two rounds of sending"
    )
    retry_initial_s: float = _option(
        DEFAULT_RETRY_INITIAL_S,
        parse.seconds,
        help="seconds before the first retry, at most; doubled each time, with jitter",
    )
    retry_max_s: float = _option(DEFAULT_RETRY_MAX_S, parse.seconds, help="seconds between two retries, at most")
    retry_for_s: float = _option(
        DEFAULT_RETRY_FOR_S,
        parse.not_negative,
        help="seconds after which a batch that cannot be delivered is dropped; the sidecar keeps it on disk instead",
    )
    flush_timeout_s: float = _option(
        DEFAULT_FLUSH_TIMEOUT_S,
        parse.seconds_or_none_at_all,
        help="seconds that the exit of the process may take to send what is pending",
    )
    buffer_bytes: int = _option(
        DEFAULT_BUFFER_BYTES,
        parse.positive_int,
        help="memory for finished, unsent spans; what comes on top is dropped and counted",
    )
    runtime_dir: str | None = _option(
        None,
        parse.path,
        help="where the memory shared with the sidecar lies, best in a tmpfs; by default in /dev/shm or the temporary "
        "folder",
    )
    spool_dir: str | None = _option(
        None,
        parse.path,
        help="where the sidecar keeps batches while the collector is away; by default in the user's state folder",
    )
    spool_bytes: int = _option(
        DEFAULT_SPOOL_BYTES,
        parse.not_negative_int,
        help="disk that the batches may take while the collector is away; 0: no disk, they wait in memory",
    )
    spool_policy: str = _option(
        "oldest-first",
        parse.one_of("oldest-first", "lowest-value-first"),
        help="what is dropped when `spool_bytes` is reached: the oldest batch, or the oldest without errors and slow "
        "requests",
    )
    sample_rate: float = _option(
        1.0,
        parse.fraction,
        help="the part of the requests to keep, beside errors and slow ones, which are always kept; decided at a "
        "request's end by its trace id",
    )
    device_interval_s: float = _option(
        DEFAULT_DEVICE_INTERVAL_S,
        parse.seconds_or_none_at_all,
        help="seconds between two samples of processor, memory and GPU, taken by the sidecar; 0: none",
    )
    profile: str | None = _option(
        None,
        _profile,
        help="when the sidecar records which code runs: `on_tail`, `every_s=900`, or both with a comma between, and "
        "further arguments of `tailsight.profiling.start()` likewise",
    )
    batch_bytes: int = _option(
        DEFAULT_BATCH_BYTES, parse.positive_int, help="encoded bytes of spans in one request, about"
    )
    max_attributes: int = _option(
        DEFAULT_MAX_ATTRIBUTES, parse.positive_int, help="attributes of a span; further ones are dropped and counted"
    )
    max_events: int = _option(
        DEFAULT_MAX_EVENTS,
        parse.positive_int,
        help="events, and links, of a span; further ones are dropped and counted",
    )
    max_value_length: int = _option(
        DEFAULT_MAX_VALUE_LENGTH,
        parse.positive_int,
        help="characters, bytes or items of one attribute value; what is over is cut off",
    )


_GRPC_ENDPOINT = {
    "read": parse.grpc_endpoint,
    "otel": [
        Source(name, parse.grpc_endpoint)
        for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    ],
}
"""How `endpoint` is read with `protocol=grpc`: the one row that depends on another."""


def env_name(option: str) -> str:
    """Return the name of an option's own environment variable."""
    return "TAILSIGHT_" + option.upper()


def resolve(arguments: Mapping[str, object], environ: Mapping[str, str] = os.environ) -> Settings:
    """Decide every option: explicit argument, TAILSIGHT_ variable, OpenTelemetry's variables, default.

    A wrong value is logged and treated as if it were absent. None as an argument means "not given".
    """
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    rows: dict[str, Mapping[str, Any]] = {name: field.metadata for name, field in fields.items()}
    over_grpc = _decide("protocol", rows.pop("protocol"), arguments.get("protocol"), environ) == GRPC
    if over_grpc:
        rows["endpoint"] = _GRPC_ENDPOINT
    chosen = {name: _decide(name, row, arguments.get(name), environ) for name, row in rows.items()}
    if over_grpc:
        chosen |= {"protocol": GRPC, "endpoint": chosen["endpoint"] or DEFAULT_GRPC_ENDPOINT}
    if chosen["file"] is None:
        with contextlib.suppress(OSError):  # the folder that this process works in is gone
            chosen["file"] = parse.path(DEFAULT_FILE)
    for unknown in arguments.keys() - fields.keys():
        near = difflib.get_close_matches(unknown, fields, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(fields)}"
        warn("configure(%s=…) is ignored: there is no such option; %s", unknown, hint)
    return Settings(**{name: value for name, value in chosen.items() if value is not None})


def _decide(name: str, row: Mapping[str, Any], argument: object, environ: Mapping[str, str]) -> Any:
    """Return an option's value, or None for the default. Mappings are merged, and the stronger source wins per key."""
    candidates: list[tuple[str, object, Callable[[Any], Any]]] = [(f"configure({name}=…)", argument, row["read"])]
    candidates += [
        # An empty variable counts as unset, as OpenTelemetry specifies.
        (source.env, environ.get(source.env, "").strip() or None, source.read)
        for source in (Source(env_name(name), row["read"]), *row["otel"])
    ]
    merged: dict[str, Any] = {}
    for where, value, read in candidates:
        if value is None:
            continue
        try:
            result = read(value)
        except Exception as reason:
            shown = "(not shown, it may hold a secret)" if name == "headers" else parse.shown(value)
            warn("%s is ignored: %s, got %s", where, reason, shown)
            continue
        if not isinstance(result, Mapping):
            return result
        merged = {**result, **merged}
    return MappingProxyType(merged) if merged else None
