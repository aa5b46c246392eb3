"""A collector as users run it: a process of its own, with real sockets and a real embedded ClickHouse."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

READY_PATIENCE_S = 60
STOP_PATIENCE_S = 30
PROTOBUF = {"Content-Type": "application/x-protobuf"}


class CollectorProcess:
    """`tailsight collector` on ports of the system's choosing. A context manager; `kill` and `start` may alternate."""

    def __init__(self, data: Path, *options: str, token: str = "", verify: bool | ssl.SSLContext = True) -> None:
        """`token` and `verify` are what `post` and `health` show and trust."""
        self.data = data
        self._options = options
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._verify = verify
        self._process: subprocess.Popen[str] | None = None
        self.otlp_url = ""
        self.grpc_target = ""
        self.store = ""
        self.log: list[str] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()

    def start(self) -> None:
        command = [sys.executable, "-m", "tailsight_cli.main", "collector", "--data", str(self.data)]
        self._process = subprocess.Popen(
            [*command, *self._ports(), *self._options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                name: value
                for name, value in os.environ.items()
                if not name.startswith("TAILSIGHT_") or name == "TAILSIGHT_NATIVE"
            },
        )
        stdout, stderr = self._process.stdout, self._process.stderr
        assert stdout is not None
        assert stderr is not None
        self._reader = threading.Thread(target=lambda: self.log.extend(stderr), daemon=True)
        self._reader.start()
        addresses: dict[str, str] = {}
        while "health" not in addresses and (line := stdout.readline()):
            name, _, value = line.partition(" ")
            addresses[name] = value.strip()
        if "health" not in addresses:
            self._process.wait(READY_PATIENCE_S)
            self._close()
            raise AssertionError(f"the collector did not start: {''.join(self.log)}")
        if "--store" not in self._options:  # else another keeps the spans
            self.store = stdout.readline().partition(" ")[2].strip()
        self.otlp_url = addresses["health"].removesuffix("/healthz")
        self.grpc_target = addresses["OTLP/gRPC"]

    def _ports(self) -> list[str]:
        """Return any ports the first time, and then the same ones: clients know where they sent to."""
        if not self.otlp_url:
            return ["--http-port", "0", "--grpc-port", "0", "--sql-port", "0"]
        addresses = (self.otlp_url, f"grpc://{self.grpc_target}", self.store)
        http, grpc, sql = (str(urlsplit(address).port or 0) for address in addresses)
        return ["--http-port", http, "--grpc-port", grpc, "--sql-port", sql]

    def post(self, body: bytes, headers: dict[str, str] = PROTOBUF, *, path: str = "/v1/traces") -> httpx.Response:
        headers = self._headers | headers
        return httpx.post(f"{self.otlp_url}{path}", content=body, headers=headers, timeout=30, verify=self._verify)

    def health(self) -> dict[str, Any]:
        answer = httpx.get(f"{self.otlp_url}/healthz", headers=self._headers, timeout=30, verify=self._verify)
        health: dict[str, Any] = answer.json()
        return health

    def wait_until_loaded(self) -> None:
        eventually(lambda: self.health()["journal"]["bytes"] == 0, "the journal is empty")

    def wait_until_metrics_are_loaded(self) -> None:
        eventually(lambda: self.health()["metrics"]["journal"]["bytes"] == 0, "the journal of metrics is empty")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it as a crash does: no handler runs."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to end, as a service manager does; returns its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        try:
            code = self._process.wait(STOP_PATIENCE_S)
        finally:
            self._process.kill()
            self._close()
        return code

    def _close(self) -> None:
        assert self._process is not None
        self._reader.join()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def eventually(holds: Callable[[], bool], what: str, patience_s: float = 30) -> None:
    """Wait until something holds that gives no sign of its own."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {patience_s} s"
        time.sleep(0.02)
