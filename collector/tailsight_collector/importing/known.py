"""The formats that `tailsight import` reads, in the order in which they are tried."""

from __future__ import annotations

from tailsight_collector.importing import (
    jaeger,
    kineto,
    langfuse,
    loadgen,
    nezha,
    otel_js,
    otlp_json,
    otlp_protobuf,
    request_csv,
    triton,
    zipkin,
)
from tailsight_collector.importing.registry import Format

# Each recognises its own files and no other's: tests/collector/importing/test_every_file.py holds them to it.
FORMATS: tuple[Format, ...] = (
    otlp_json.FORMAT,
    otlp_protobuf.FORMAT,
    jaeger.FORMAT,
    zipkin.FORMAT,
    triton.FORMAT,
    loadgen.FORMAT,
    kineto.FORMAT,
    langfuse.FORMAT,
    otel_js.FORMAT,
    nezha.FORMAT,
    request_csv.FORMAT,
)


def format_of(head: bytes) -> Format | None:
    """Return the format of a file that begins so, None where it is none of them."""
    return next((each for each in FORMATS if each.recognises(head)), None)
