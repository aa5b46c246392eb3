"""`tailsight up` and `tailsight demo` as a user runs them: started, looked at, interrupted, killed."""

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import httpx
import psutil
import pytest
from testkit.processes import STOP_PATIENCE_S, eventually

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TAILSIGHT_")}


@contextmanager
def running(*arguments, stderr=subprocess.DEVNULL):
    process = subprocess.Popen(
        [sys.executable, "-m", "tailsight_cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=ENVIRONMENT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def read_until(process, pattern):
    """The process's output up to a line that matches."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if match := re.search(pattern, line):
            return match, "".join(lines)
    raise AssertionError(f"no {pattern!r} in: {''.join(lines)}")


@pytest.fixture
def up_options(tmp_path):
    ports = {
        "--http-port": free_port(),
        "--grpc-port": free_port(),
        "--sql-port": free_port(),
        "--dashboard-port": free_port(),
    }
    return ["up", "--data", str(tmp_path), *(str(part) for pair in ports.items() for part in pair)]


def family_of(process):
    return psutil.Process(process.pid).children(recursive=True)


def all_gone(family):
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in family)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_up_serves_and_leaves_nothing_behind_however_it_ends(up_options, number):
    with running(*up_options) as process:
        dashboard, _ = read_until(process, r"dashboard  (http\S+)")
        otlp, _ = read_until(process, r"OTLP/HTTP  (http\S+)/v1/traces")
        read_until(process, r"Ctrl-C")
        assert httpx.get(dashboard[1]).status_code == 200
        assert httpx.get(f"{otlp[1]}/healthz").json()["status"] == "ok"
        family = family_of(process)
        assert len(family) >= 2
        process.send_signal(number)
        process.wait(STOP_PATIENCE_S)
        eventually(lambda: all_gone(family), "collector and dashboard have ended")


def test_up_says_where_everything_is_and_no_child_repeats_it(up_options):
    """The dashboard's web server would say its address once more, in words and with a time of its own."""
    with running(*up_options, stderr=subprocess.PIPE) as process:
        read_until(process, r"Ctrl-C")
        dashboard = f"http://127.0.0.1:{up_options[up_options.index('--dashboard-port') + 1]}"
        assert httpx.get(dashboard).status_code == 200
        process.send_signal(signal.SIGTERM)
        with process.stderr:
            said = process.stderr.read()
        process.wait(STOP_PATIENCE_S)
    assert said.strip() == ""


def test_up_says_when_its_port_is_taken(up_options):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        up_options[up_options.index("--http-port") + 1] = str(taken.getsockname()[1])
        with running(*up_options, stderr=subprocess.PIPE) as process:
            with process.stderr:
                message = process.stderr.read()
            assert process.wait(STOP_PATIENCE_S) == 2
    [line] = message.splitlines()
    assert "--http-port" in line


def test_the_headless_demo_reports_and_exits_0():
    done = subprocess.run(
        [sys.executable, "-m", "tailsight_cli.main", "demo", "--headless", "--requests", "300"],
        capture_output=True, text=True, timeout=120, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "of 300" in done.stdout
    for stage in ("preprocess", "serialize", "network", "queue", "compute", "postprocess", "unaccounted"):
        assert re.search(rf"^{stage}\s+\d", done.stdout, re.MULTILINE), stage
    assert "Traceback" not in done.stderr


def test_the_demo_goes_on_until_ctrl_c(tmp_path):
    with running("demo", "--requests", "100", "--data", str(tmp_path / "kept")) as process:
        dashboard, _ = read_until(process, r"dashboard  (http\S+?)/\?run=")
        read_until(process, r"The pipeline goes on")
        assert httpx.get(dashboard[1]).status_code == 200
        family = family_of(process)
        eventually(lambda: len(family_of(process)) >= 4, "collector, dashboard, service and client run")
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(STOP_PATIENCE_S) == 0
        assert "Why slow requests are slow" in rest
        assert "tailsight up --data" in rest
        eventually(lambda: all_gone(family), "nothing is left running")
