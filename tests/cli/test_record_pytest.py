"""The pytest plugin: what becomes of the tests that are marked."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from testkit.pytest_sessions import INI, session
from testkit.recordings import RecordedSpan, spans_in

from tailsight_cli import main
from tailsight_cli.recording.run_file import read_header

TESTS = """
import threading
import unittest

import pytest
import tailsight

@tailsight.request("handle")
def handle():
    with tailsight.stage("compute"):
        pass

@pytest.fixture
def prepared():
    handle()

@pytest.mark.tailsight
def test_plain(prepared):
    with tailsight.stage("compute"):
        pass

@pytest.mark.tailsight(rounds=5)
def test_rounds():
    with tailsight.stage("compute"):
        pass

@pytest.mark.tailsight
def test_own_requests():
    for _ in range(3):
        handle()
    with tailsight.stage("beside"):
        pass

@pytest.mark.tailsight
def test_thread():
    thread = threading.Thread(target=handle)
    thread.start()
    thread.join()

@pytest.mark.tailsight
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_async():
    with tailsight.stage("compute"):
        pass

@pytest.mark.tailsight
def test_fails():
    assert 1 == 2

@pytest.mark.tailsight
class TestMethods(unittest.TestCase):
    def test_method(self):
        handle()

def test_unmarked():
    handle()
"""
BENCHMARKS = """
import pytest
import tailsight

@pytest.mark.tailsight
def test_calls(benchmark):
    assert benchmark.pedantic(lambda: 42, rounds=7) == 42

@pytest.mark.tailsight
def test_own_requests(benchmark):
    benchmark.pedantic(tailsight.request("handle")(lambda: 42), rounds=4)

def test_unmarked(benchmark):
    benchmark.pedantic(tailsight.request("handle")(lambda: 42), rounds=3)
"""
FORKS = """
import atexit, multiprocessing, os, subprocess, sys
import pytest, tailsight

def work():
    with tailsight.request("handle"):
        pass

@pytest.mark.tailsight
@pytest.mark.parametrize("kind", ["fork", "spawn"])
def test_multiprocessing(kind):
    process = multiprocessing.get_context(kind).Process(target=work)
    process.start()
    process.join()

@pytest.mark.tailsight
def test_program():
    subprocess.run([sys.executable, "-c", "import tailsight\\nwith tailsight.request('handle'): pass"], check=True)

@pytest.mark.tailsight
def test_a_child_that_runs_the_handlers_of_the_interpreters_end():
    if not (pid := os.fork()):
        atexit._run_exitfuncs()
        os._exit(0)
    os.waitpid(pid, 0)

def test_unmarked():
    test_program()
"""


def by_test(spans: list[RecordedSpan]) -> dict[str, Counter[tuple[str, bool]]]:
    found: dict[str, Counter[tuple[str, bool]]] = {}
    for span in spans:
        found.setdefault(span.attributes["test.name"].removeprefix("test_it.py::"), Counter())[
            span.name, span.is_root
        ] += 1
    return found


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A session over TESTS: its file, and what it said."""
    folder = tmp_path_factory.mktemp("session")
    done = session(folder, "--tailsight-record", "a.otlp.zst", "--tailsight-run", "mine", test=TESTS)
    return folder / "a.otlp.zst", done


def test_each_marked_test_is_a_request_unless_it_makes_requests_itself(recorded):
    path, _ = recorded
    stage, request = ("compute", False), ("handle", True)
    assert by_test(list(spans_in(path))) == {
        "test_plain": {("test_it.py::test_plain", True): 1, stage: 1},
        "test_rounds": {("test_it.py::test_rounds", True): 5, stage: 5},
        "test_own_requests": {request: 3, stage: 3, ("beside", True): 1},
        "test_thread": {request: 1, stage: 1},
        "test_async[asyncio]": {("test_it.py::test_async[asyncio]", True): 1, stage: 1},
        "test_fails": {("test_it.py::test_fails", True): 1},
        "TestMethods::test_method": {request: 1, stage: 1},
    }
    assert not [span for span in spans_in(path) if "tailsight.test.body" in span.attributes]


def test_the_session_is_one_run_and_its_header_says_how_it_ended(recorded):
    path, done = recorded
    header = read_header(path)
    (run,) = header.runs
    assert (header.source, header.command[0], run.run, run.exit_code) == ("pytest", "pytest", "mine", 1)
    assert (run.spans, run.requests, run.lost.anything) == (26, 14, False)
    assert {span.resource["tailsight.run"] for span in spans_in(path)} == {"mine"}
    assert "wrote a.otlp.zst: 7 marked tests, 14 requests, 26 spans" in done.stdout.splitlines()


def test_a_failing_test_fails_as_it_would_without_the_plugin(recorded, tmp_path):
    _, done = recorded
    plain = session(tmp_path, test=TESTS)
    assert (done.returncode, plain.returncode) == (1, 1)
    assert (
        done.stdout[done.stdout.index("= FAILURES") :].split("- tailsight -")[0].splitlines()[:8]
        == (plain.stdout[plain.stdout.index("= FAILURES") :].splitlines()[:8])
    )


def test_beside_pytest_benchmark_each_measured_call_is_a_request(tmp_path):
    done = session(tmp_path, "--tailsight-record", "a.otlp.zst", "--benchmark-json", "b.json", test=BENCHMARKS)
    assert done.returncode == 0, done.stdout
    assert by_test(list(spans_in(tmp_path / "a.otlp.zst"))) == {
        "test_calls": {("test_it.py::test_calls", True): 7},
        "test_own_requests": {("handle", True): 4},
    }
    benchmarks = json.loads((tmp_path / "b.json").read_text())["benchmarks"]
    assert {each["name"]: each["stats"]["rounds"] for each in benchmarks} == {
        "test_calls": 7,
        "test_own_requests": 4,
        "test_unmarked": 3,
    }


def test_inside_tailsight_record_marked_tests_are_recorded_run_by_run(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # ours may run in one, what we start does not
    (tmp_path / "pytest.ini").write_text(INI)
    (tmp_path / "test_it.py").write_text(TESTS.replace("def test_fails", "def fails"))
    pytest_itself = [sys.executable, "-m", "pytest", "-q"]
    assert main.run(["record", "-o", "a.otlp.zst", "--repeat", "2", "--", *pytest_itself]) == 0
    assert Counter(span.resource["tailsight.run"] for span in spans_in(Path("a.otlp.zst"))) == {"a#1": 25, "a#2": 25}
    assert main.run(["record", "-o", "b.otlp.zst", "--", *pytest_itself, "--tailsight-record", "c.otlp.zst"]) == 4
    assert "inside `tailsight record`: use one of them" in capfd.readouterr().err


def test_what_the_processes_of_a_marked_test_record_is_the_tests(tmp_path):
    done = session(tmp_path, "--tailsight-record", "a.otlp.zst", test=FORKS)
    assert "wrote a.otlp.zst: 4 marked tests, 4 requests, 4 spans" in done.stdout.splitlines(), done.stdout
    alone = "test_a_child_that_runs_the_handlers_of_the_interpreters_end"
    request = Counter({("handle", True): 1})
    assert by_test(list(spans_in(tmp_path / "a.otlp.zst"))) == {
        "test_multiprocessing[fork]": request,
        "test_multiprocessing[spawn]": request,
        "test_program": request,
        alone: {(f"test_it.py::{alone}", True): 1},
    }
