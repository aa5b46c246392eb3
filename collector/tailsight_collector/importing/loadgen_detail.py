"""MLPerf LoadGen's detail log and summary: settings and results of a whole test, and no single sample.

A detail log has `:::MLLOG {"key": …, "value": …, …}` on each line.
"""

from __future__ import annotations

import json
from typing import BinaryIO

MARK = b":::MLLOG "
_SUMMARY = b"MLPerf Results Summary"
_NEAR_THE_TOP = 300
MAX_LINE_BYTES = 1 << 20
MAX_BYTES = 64 << 20
_WHERE = (
    "import the mlperf_log_trace.json beside it, which LoadGen writes where LogSettings.enable_trace is set: "
    "it has each sample"
)


def is_detail_log(head: bytes) -> bool:
    """Whether this is a detail log or a summary."""
    return head.removeprefix(b"\xef\xbb\xbf").startswith(MARK) or _SUMMARY in head[:_NEAR_THE_TOP]


def what_it_has(stream: BinaryIO) -> str:
    """Say which of the two it is, which test it is of, and which file has its samples."""
    beginning = stream.readline(MAX_LINE_BYTES)
    if not beginning.removeprefix(b"\xef\xbb\xbf").startswith(MARK):
        return f"it is LoadGen's summary of a test, without its single samples: {_WHERE}"
    found: dict[str, object] = {}
    line, read_bytes = beginning, 0
    while line and read_bytes < MAX_BYTES:
        read_bytes += len(line)
        _take(found, line)
        line = stream.readline(MAX_LINE_BYTES)
    facts = [
        str(found.get("effective_scenario", "")),
        f"of {found['test_datetime']}" if "test_datetime" in found else "",
        _count(found),
        str(found.get("result_validity", "without a result")),
    ]
    said = ", ".join(fact for fact in facts if fact)[:200]
    return (
        f"it is LoadGen's detail log, the settings and results of a whole test ({said}) without its samples: {_WHERE}"
    )


def _take(found: dict[str, object], line: bytes) -> None:
    try:
        entry = json.loads(line.removeprefix(b"\xef\xbb\xbf").removeprefix(MARK))
        if isinstance(entry, dict) and isinstance(entry.get("value"), str | int):
            found[str(entry.get("key"))] = entry["value"]
    except (ValueError, RecursionError):
        return  # LoadGen does not escape what it writes


def _count(found: dict[str, object]) -> str:
    queries = found.get("result_query_count", found.get("generated_query_count"))
    each = found.get("generated_samples_per_query", 1)
    if not isinstance(queries, int) or not isinstance(each, int):
        return ""
    said = "1 query" if queries == 1 else f"{queries:,} queries"
    return said if each == 1 else f"{said} of {each:,} samples"
