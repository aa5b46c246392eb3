"""What people do wrong first, with a collector running: each gets one clear line and the right exit code."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[2] / "sample_traces" / "demo.otlp.zst"


def tailsight(*arguments, shell_tail=""):
    command = [sys.executable, "-m", "tailsight_cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def one_line(done, code, *words):
    assert done.returncode == code, done.stderr
    [line] = done.stderr.splitlines()
    for word in ("tailsight: ", *words):
        assert word in line
    return line


@pytest.mark.parametrize("command", [("breakdown", "--all-time"), ("import", SAMPLE)])
def test_the_folder_of_a_running_collector_is_said_to_be_in_use(collector, command):
    done = tailsight(*command, "--store", f"chdb://{collector.data}")
    one_line(done, 4, "in use by a running collector", "clickhouse://127.0.0.1:8123/tailsight", "--endpoint")


def test_the_address_that_up_prints_can_be_pasted_into_import(collector):
    done = tailsight("import", SAMPLE, "--run", "pasted", "--endpoint", f"{collector.otlp_url}/v1/traces")
    assert done.returncode == 0, done.stderr
    assert "imported 22,000 spans" in done.stdout


def test_import_to_the_wrong_port_says_which_is_right(collector):
    sql = "http://" + collector.store.removeprefix("clickhouse://").removesuffix("/tailsight")
    one_line(tailsight("import", SAMPLE, "--endpoint", sql), 4, "OTLP port")


@pytest.mark.parametrize("command", [("dashboard", "--port"), ("up", "--dashboard-port"), ("collector", "--http-port")])
def test_a_port_that_is_taken_is_named(tmp_path, command):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        folder = () if command[0] == "dashboard" else ("--data", tmp_path / "data")
        one_line(tailsight(*command, port, *folder), 2, f"{command[1]} {port}", "give another"[1:])


def test_an_address_of_another_machine_is_named(tmp_path):
    one_line(tailsight("collector", "--data", tmp_path, "--host", "192.0.2.1"), 2, "--host 192.0.2.1")


def test_a_reader_that_leaves_early_is_no_error(collector):
    program = f"{sys.executable} -m tailsight_cli.main breakdown --all-time --store {collector.store} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() in ("0", "3", "141")
    assert done.stderr.count("\n") <= 1


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("--since", "2001-01-01", "--until", "2001-01-02"), ("the store holds spans of",)),
        (("--run", "nosuch"), ("no span has run=nosuch", "there are:")),
        (("--all-time", "--service", "nosuch"), ("no span has service=nosuch", "demo-inference")),
    ],
)
def test_a_question_that_finds_nothing_says_what_there_is(tmp_path, asked, words):
    store = f"chdb://{tmp_path}/data"
    assert tailsight("import", SAMPLE, "--store", store).returncode == 0
    one_line(tailsight("breakdown", *asked, "--store", store), 3, *words)


def test_an_empty_store_says_how_to_send_data(tmp_path):
    store = f"chdb://{tmp_path}/data"
    empty = tmp_path / "empty.json"
    empty.write_text('{"resourceSpans": []}')
    assert tailsight("import", empty, "--store", store).returncode == 0
    one_line(tailsight("breakdown", "--all-time", "--store", store), 3, "store is empty", "tailsight demo")
