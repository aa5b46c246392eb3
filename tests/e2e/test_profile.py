"""`tailsight profile` with a real py-spy on a real service, a real collector and its store."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from testkit.otlp import request, span
from testkit.processes import CollectorProcess, eventually

from tailsight_cli import main
from tailsight_cli.profiling import permission
from tailsight_storage import open_store

pytestmark = pytest.mark.skipif(
    not permission.has_sys_ptrace() and permission.yama_scope() > 0,
    reason="this user may not look into other processes (kernel.yama.ptrace_scope)",
)
SERVICE = Path(__file__).parents[1] / "testkit" / "profiled_service.py"
NAME = "profiled"
QUANTILE = "p90"  # one request in eight is slow
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("TAILSIGHT_", "OTEL_"))}


@contextmanager
def service(collector, name=NAME, run="a"):
    """A service that sends to a collector, once it has sent something."""
    command = [sys.executable, str(SERVICE), name, collector.otlp_url, run]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.stdin.close()
            process.wait(30)


def spans_in(store, name=NAME):
    with open_store(store) as opened:
        return int(opened.rows("SELECT count() FROM spans WHERE service = {name:String}", name=name)[0][0])


def start(*arguments):
    command = [sys.executable, "-m", "tailsight_cli.main", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with CollectorProcess(tmp_path_factory.mktemp("profiled") / "data") as collector, service(collector) as process:
        eventually(lambda: spans_in(collector.store) > 0, "the service's spans are there")
        yield collector, process


@pytest.fixture(scope="module")
def recorded(running, tmp_path_factory):
    """A profile of some seconds: what the command answered, the folder of raw files, and the store."""
    collector, process = running
    raw = tmp_path_factory.mktemp("raw")
    with start(
        "profile", "--pid", str(process.pid), "--duration", "10s", "--rate", "250", "--quantile", QUANTILE, "--json",
        "--raw", str(raw), "--store", collector.store, "--endpoint", collector.otlp_url,
    ) as command:  # fmt: skip
        out, err = command.communicate(timeout=90)
    assert command.returncode == 0, err
    [answer] = json.loads(out)["profiles"]
    return answer, raw, collector.store


def test_samples_of_a_running_service_are_joined_to_its_stages(recorded):
    answer, _, _ = recorded
    assert answer["service"] == NAME
    assert answer["trusted"] is True
    assert answer["agreement"] > 0.9
    assert answer["agreement"] > answer["by_chance"] + 0.3
    assert answer["joined"] > 150
    assert answer["requests"] > 30
    assert answer["threshold_ms"] > 60


def test_each_sample_of_a_stage_is_of_a_span_of_that_stage(recorded):
    answer, _, store = recorded
    with open_store(store) as opened:
        assert opened.rows(
            "SELECT countIf(spans.span_id = toFixedString('', 8)) FROM profile_samples AS s LEFT JOIN spans "
            "ON s.trace_id = spans.trace_id AND s.span_id = spans.span_id AND s.stage = spans.stage "
            "WHERE s.match = 'exact' AND s.profile = {id:String}",
            id=answer["id"],
        ) == [(0,)]
        rows = opened.rows(
            "SELECT stage, sum(count), sumIf(count, arrayExists(f -> startsWith(f, stage || ' ('), stack)) "
            "FROM profile_samples WHERE profile = {id:String} AND match = 'exact' AND stage IN ('compute', 'preprocess') "
            "GROUP BY stage ORDER BY stage",
            id=answer["id"],
        )
        said = opened.rows(
            "SELECT joined, trusted, trigger, rate_hz FROM profiles WHERE id = {id:String}", id=answer["id"]
        )
    assert [stage for stage, *_ in rows] == ["compute", "preprocess"]
    for stage, samples, with_its_function in rows:
        assert with_its_function >= 0.95 * samples, stage
    assert said == [(answer["joined"], True, "hand", 250.0)]


def test_the_slow_function_is_in_requests_of_the_tail_alone(recorded):
    answer, _, store = recorded
    with open_store(store) as opened:
        found = dict(
            opened.rows(
                "SELECT class, sum(count) FROM profile_samples WHERE profile = {id:String} AND match = 'exact' AND "
                "arrayExists(f -> startsWith(f, 'look_again ('), stack) GROUP BY class",
                id=answer["id"],
            )
        )
    assert found["tail"] > 10
    assert found.get("typical", 0) <= 0.03 * found["tail"]


def test_the_raw_files_are_kept_where_asked_and_nothing_else_is_left(recorded, tmp_path_factory):
    _, raw, _ = recorded
    [kept] = raw.iterdir()
    assert json.loads(kept.read_bytes())[0]["cat"] == "py-spy"


def test_ctrl_c_ends_a_recording_and_keeps_what_there_is(running, tmp_path):
    collector, _ = running
    arguments = (
        "profile",
        "--service",
        NAME,
        "--duration",
        "10m",
        "--store",
        collector.store,
        "--endpoint",
        collector.otlp_url,
    )
    command = [sys.executable, "-m", "tailsight_cli.main", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT | {"TMPDIR": str(tmp_path)}
    ) as process:
        eventually(
            lambda: any("Sampling process" in log.read_text() for log in tmp_path.glob("*/*.log")), "py-spy has begun"
        )
        before = spans_in(collector.store)
        eventually(lambda: spans_in(collector.store) > before + 500, "the service has worked for a while")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert f"of {NAME} on " in out
    assert "kept as " in out
    assert f"`tailsight flame --service {NAME}`" in " ".join(out.split())
    assert list(tmp_path.iterdir()) == []


def test_a_tail_above_the_usual_one_starts_a_recording_of_each_process_of_the_service(running):
    collector, _ = running
    now_ns = time.time_ns()
    usual = [
        span(start_time_unix_nano=now_ns - ago_s * 10**9, end_time_unix_nano=now_ns - ago_s * 10**9 + 1_000_000)
        for ago_s in range(300, 600)
    ]
    with service(collector, "watched"), service(collector, "watched", "b"):
        assert collector.post(request(usual, {"service.name": "watched"}).SerializeToString()).status_code == 200
        eventually(lambda: spans_in(collector.store, "watched") > 600, "there is a usual tail, and a recent one")
        with start(
            "profile", "--service", "watched", "--on-tail", "--rounds", "1", "--for", "3m", "--duration", "2s", "--json",
            "--quantile", QUANTILE, "--store", collector.store, "--endpoint", collector.otlp_url,
        ) as command:  # fmt: skip
            out, err = command.communicate(timeout=170)
    assert command.returncode in (0, 3), err
    assert "usually 1.0 ms" in err
    profiles = json.loads(out)["profiles"]
    assert len({each["process"] for each in profiles}) == 2
    assert {(each["service"], each["trigger"]) for each in profiles} == {("watched", "tail")}
    assert all(each["samples"] > 100 for each in profiles)


@pytest.mark.skipif(os.geteuid() != 0 or not permission.has_sys_ptrace(), reason="has no capability to give up")
def test_without_the_capability_a_process_may_not_be_looked_into_and_it_says_how(running):
    collector, process = running
    command = [
        "setpriv",
        "--bounding-set=-sys_ptrace",
        "--inh-caps=-sys_ptrace",
        sys.executable,
        "-m",
        "tailsight_cli.main",
    ]
    done = subprocess.run(
        [*command, "profile", "--pid", str(process.pid), "--duration", "1s", "--store", collector.store],
        capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    said = done.stderr.splitlines()[-1]
    assert f"process {process.pid} may not be looked into: " in said
    assert "SYS_PTRACE" in said


@pytest.fixture
def flame(capfd):
    def call(store, *arguments):
        return main.run(["flame", "--store", store, *arguments]), *capfd.readouterr()

    return call


def test_the_function_that_only_slow_requests_run_is_the_first_of_the_difference(recorded, flame):
    store = recorded[2]
    code, out, err = flame(store, "--service", NAME, "--stage", "compute", "--diff", "tail:typical", "--json")
    assert code == 0, err
    answer = json.loads(out)
    first = answer["functions"][0]
    assert first["function"] == "look_again"
    assert first["certain"] is True
    assert first["low_ms"] > 0
    assert first["b"]["samples"] <= 0.03 * first["a"]["samples"]
    assert "serve" in {each["function"] for each in answer["everywhere"]}
    assert answer["requests_a"] >= 10
    code, out, err = flame(store, "--service", NAME, "--stage", "compute", "--diff", "tail:typical")
    assert code == 0, err
    assert "tail requests take " in out


def test_a_flame_graph_of_a_stage_has_its_code_alone(recorded, flame):
    store = recorded[2]
    code, out, err = flame(store, "--service", NAME, "--stage", "preprocess", "--json")
    assert code == 0, err
    answer = json.loads(out)
    functions = {each["function"]: each for each in answer["functions"]}
    assert answer["functions"][0]["function"] in ("spin", "preprocess", "Random.uniform")
    assert functions["preprocess"]["total_samples"] > 0.95 * answer["samples"]
    assert functions.get("look_again", {"total_samples": 0})["total_samples"] < 0.03 * answer["samples"]
    assert all(each["trusted"] for each in answer["profiles"])
    code, out, err = flame(store, "--service", NAME, "--stage", "preprocess")
    assert code == 0, err
    assert "spin" in out
    assert f"{answer['samples']:,} samples of {answer['requests']:,} requests" in " ".join(out.split())


def test_too_few_samples_are_refused_with_how_many_are_missing(recorded, flame):
    store = recorded[2]
    code, out, err = flame(store, "--stage", "no such stage")
    assert (code, out) == (3, "")
    assert "0 samples of that are too few to say which code runs: 50 more are needed" in err
    code, _, err = flame(store, "--diff", "run=a:run=b", "--stage", "no such stage")
    assert code == 3
    assert "50 more are needed" in err


def test_wrong_use_of_flame_is_said(flame):
    for arguments, says in (
        (("--diff", "tail"), "--diff 'tail': name two sides"),
        (("--diff", "tail:run=a"), "name two sides"),
        (("--diff", "tail:tail"), "name two sides"),
        (("--diff", "tail:typical", "--class", "tail"), "leave out --class"),
        (("--diff", "run=a:run=b", "--run", "c"), "leave out --run"),
        (("-o", "x.pdf"), "the ending says what is written"),
        (("--diff", "tail:typical", "-o", "x.json"), "a difference is written as .html only"),
    ):
        code, out, err = flame("clickhouse://127.0.0.1:9/tailsight", *arguments)
        assert (code, out) == (2, ""), arguments
        assert says in err
        assert len(err.splitlines()) == 1
