"""`tailsight up --tokens` as a user runs it: its own dashboard reads, the CLI reads and imports, strangers do neither."""

import os
import re
import socket
import subprocess
import sys

import httpx
import psutil
import pytest
from testkit.otlp import request, span
from testkit.processes import PROTOBUF, STOP_PATIENCE_S, eventually

from tailsight_storage import open_store

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("TAILSIGHT_", "OTEL_"))}
TAILSIGHT = [sys.executable, "-m", "tailsight_cli.main"]


def tailsight(*arguments, **environment):
    command = [*TAILSIGHT, *map(str, arguments)]
    return subprocess.run(
        command, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=120, check=False
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    file = tmp_path_factory.mktemp("tokens") / "tokens.txt"
    made = {"file": file}
    for scope in ("ingest", "read"):
        done = tailsight("token", "create", "--name", scope, "--scope", scope, "--file", file)
        assert done.returncode == 0, done.stderr
        made[scope] = done.stdout.strip()
    return made


@pytest.fixture(scope="module")
def up(tokens, tmp_path_factory):
    ports = {name: free_port() for name in ("http", "grpc", "sql", "dashboard")}
    options = [text for name, port in ports.items() for text in (f"--{name}-port", str(port))]
    command = [
        *TAILSIGHT,
        "up",
        "--data",
        str(tmp_path_factory.mktemp("up")),
        "--tokens",
        str(tokens["file"]),
        *options,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=ENVIRONMENT)
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if line.startswith("Ctrl-C"):
                break
        yield process, "".join(said), ports
    finally:
        process.terminate()
        process.wait(STOP_PATIENCE_S)
        process.stdout.close()


def test_its_own_dashboard_reads_with_a_token_that_nobody_sees(up):
    process, said, _ports = up
    children = psutil.Process(process.pid).children(recursive=True)
    stores = {child.environ().get("TAILSIGHT_STORE", "") for child in children if "dashboard" in child.cmdline()}
    [store] = stores
    secret = re.search(r":(ts_[\w-]{43})@", store)[1]
    with open_store(store) as opened:
        assert opened.rows("SELECT count() FROM spans") is not None
    shown = [said, *(" ".join(child.cmdline()) for child in [psutil.Process(process.pid), *children])]
    assert not any(secret in text for text in shown)


def test_strangers_neither_send_nor_read(up):
    _, _, ports = up
    otlp, sql = f"http://127.0.0.1:{ports['http']}", f"http://127.0.0.1:{ports['sql']}"
    body = request([span()]).SerializeToString()
    assert httpx.post(f"{otlp}/v1/traces", content=body, headers=PROTOBUF).status_code == 401
    assert httpx.post(sql, content="SELECT 1").status_code == 401
    done = tailsight("tail", "--store", f"clickhouse://127.0.0.1:{ports['sql']}/tailsight")
    assert done.returncode == 4
    assert "token" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_cli_imports_and_reads_with_tokens(up, tokens, tmp_path):
    _, _, ports = up
    file = tmp_path / "spans.pb"
    file.write_bytes(request([span() for _ in range(3)], {"service.name": "imported"}).SerializeToString())
    command = ["import", file, "--endpoint", f"http://127.0.0.1:{ports['http']}"]
    refused = tailsight(*command)
    assert refused.returncode == 4
    assert "OTEL_EXPORTER_OTLP_HEADERS='Authorization=Bearer%20TOKEN'" in refused.stderr
    wrong_scope = tailsight(*command, TAILSIGHT_HEADERS=f"authorization=Bearer {tokens['read']}")
    assert (wrong_scope.returncode, tokens["read"] in wrong_scope.stderr) == (4, False)
    done = tailsight(*command, OTEL_EXPORTER_OTLP_HEADERS=f"Authorization=Bearer%20{tokens['ingest']}")
    assert done.returncode == 0, done.stderr
    store = f"clickhouse://me:{tokens['read']}@127.0.0.1:{ports['sql']}/tailsight"
    with open_store(store) as opened:
        eventually(
            lambda: opened.rows("SELECT count() FROM spans WHERE service = 'imported'") == [(3,)], "all is loaded"
        )
    read = tailsight("breakdown", "--all-time", "--json", TAILSIGHT_STORE=store)
    assert read.returncode == 0, read.stderr
    assert tokens["read"] not in read.stdout
