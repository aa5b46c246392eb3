"""Record a run of the sample pipeline into a file: `python -m tailsight_cli.demo.record OUT.otlp.zst`.

The pipeline sends its spans to a small OTLP endpoint in this process, which writes every request down as it came. That
is how `sample_traces/` was made; its README has the command.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import zstandard

from tailsight_cli.demo.pipeline import DEFAULT_REQUESTS, Progress, run_pipeline
from tailsight_collector.keep.records import encode_varint

ZSTD_LEVEL = 19


class _Sink(ThreadingHTTPServer):
    """Keeps the bodies of OTLP requests, in the order of their arrival."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Keep a request with spans and accept it. Metrics do not belong into a file of traces: 404 says so."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        assert isinstance(self.server, _Sink)  # noqa: S101 - only _Sink makes us
        traces = self.path == "/v1/traces"
        if traces:
            self.server.bodies.append(body)
        self.send_response(200 if traces else 404)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""


def record(out: Path, *, requests: int, run: str) -> int:
    """Run the pipeline and write its OTLP requests to `out`, zstd-packed; return the file's size in bytes."""
    sink = _Sink()
    server = threading.Thread(target=sink.serve_forever, daemon=True)
    server.start()
    try:
        run_pipeline(f"http://127.0.0.1:{sink.server_port}", requests=requests, run=run, on_progress=_show)
    finally:
        sink.shutdown()
        server.join()
        sink.server_close()
    plain = b"".join(encode_varint(len(body)) + body for body in sink.bodies)
    out.write_bytes(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(plain))
    return out.stat().st_size


def _show(now: Progress) -> None:
    sys.stderr.write(f"\r{now.done + now.errors} of {now.total} requests")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--requests", type=int, default=DEFAULT_REQUESTS)
    parser.add_argument("--run", default="sample")
    options = parser.parse_args()
    size_bytes = record(options.out, requests=options.requests, run=options.run)
    sys.stderr.write(f"\n{options.out}: {size_bytes:,} bytes\n")


if __name__ == "__main__":
    main()
