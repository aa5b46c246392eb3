"""What `tailsight profile` says where it cannot record, when it starts to, and how long it waits. Recordings: tests/e2e."""

import os
import subprocess
import time

import pytest
from analysis.brute_force import _varint
from testkit.otlp import request, span
from testkit.profiles import FRAMES

from tailsight_analysis.profiles import Frame, ProfileFile, WeighedStack
from tailsight_cli import main
from tailsight_cli._errors import CommandError
from tailsight_cli.profiling import permission, spy
from tailsight_cli.profiling.imported import profile_of_file
from tailsight_cli.profiling.permission import refusal, way_out
from tailsight_cli.profiling.putting_together import wait_for_spans
from tailsight_cli.profiling.tail_watch import TailNow, tail_now
from tailsight_storage.profiles import checked_profile, insert_profile


@pytest.fixture
def tailsight(capfd):
    def call(*arguments):
        return main.run(list(arguments)), *capfd.readouterr()

    return call


NOWHERE = ("--store", "clickhouse://127.0.0.1:9/tailsight")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name either --pid P or --service NAME"),
        (("--pid", "1", "--service", "x"), "name either --pid P or --service NAME"),
        (("--pid", "1", "--duration", "soon"), "--duration 'soon' is no time"),
        (("--pid", "1", "--duration", "2h"), "--duration '2h' is no time from 1s to 3600s"),
        (("--pid", "1", "--quantile", "p50"), "--quantile 'p50' is none from p60 on"),
        (("--pid", "1", "--rate", "100000"), "--rate"),
        (("--pid", "1", "--endpoint", "here"), "--endpoint 'here' is no address"),
    ],
    ids=["nobody", "both", "no time", "too long", "no tail", "too fast", "no address"],
)
def test_wrong_use_is_said_before_anything_is_begun(tailsight, arguments, says):
    code, out, err = tailsight("profile", *arguments, *NOWHERE)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1


def test_a_process_that_is_not_there_and_a_service_that_nobody_heard_of(tailsight, collector):
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    code, _, err = tailsight("profile", "--pid", str(ended.pid), "--store", collector.store)
    assert code == 2
    assert f"--pid {ended.pid}: there is no such process on this machine" in err
    code, _, err = tailsight("profile", "--service", "nobody", "--store", collector.store)
    assert code == 3
    assert "--service nobody: no process of it sent spans to this store in the last 15 minutes" in err


def test_a_process_without_python_is_said_to_have_none(tailsight, collector):
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            code, _, err = tailsight("profile", "--pid", str(other.pid), "--duration", "1s", "--store", collector.store)
        finally:
            other.kill()
    assert code == 2
    assert f"process {other.pid} runs no Python" in err


def test_without_py_spy_it_says_how_to_install_it(tailsight, monkeypatch, tmp_path):
    monkeypatch.setattr(spy.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(spy.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, err = tailsight("profile", "--pid", str(os.getpid()), *NOWHERE)
    assert code == 2
    assert "pip install 'tailsight[profile]'" in err


@pytest.mark.parametrize(
    ("container", "owner", "scope", "says"),
    [
        (True, 0, 0, "docker run --cap-add SYS_PTRACE"),
        (False, 1234, 1, "another user (uid 1234)"),
        (False, None, 1, "sudo sysctl kernel.yama.ptrace_scope=0"),
        (False, None, 2, "only who has CAP_SYS_PTRACE"),
        (False, None, 3, "until the next start of the machine"),
        (False, None, 0, "record as root"),
    ],
    ids=["container", "another user", "yama 1", "yama 2", "yama 3", "nothing known"],
)
def test_every_reason_has_its_way_out(monkeypatch, container, owner, scope, says):
    monkeypatch.setattr(permission, "has_sys_ptrace", lambda: False)
    monkeypatch.setattr(permission, "in_container", lambda: container)
    monkeypatch.setattr(permission, "_owner", lambda _: owner)
    monkeypatch.setattr(permission, "yama_scope", lambda: scope)
    assert says in way_out(os.getpid())
    words = "Error: Permission Denied: Try running again with elevated permissions\nReason: Operation not permitted (os error 1)"
    refused = refusal(os.getpid(), words)
    assert isinstance(refused, CommandError)
    assert says in str(refused)


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([(3, False), (7, False), (7, True)], 7),
        ([(0, False), (0, True), (0, True), (5, True), (5, True)], 5),
    ],
    ids=["no more came", "late ones"],
)
def test_spans_are_waited_for_until_later_ones_come_and_no_more_of_these(looks, expected):
    waiting = iter(looks)
    assert wait_for_spans(lambda: next(waiting), 30) == expected


def test_spans_are_not_waited_for_longer_than_allowed():
    assert wait_for_spans(lambda: (0, False), 0.0) == 0


def test_the_tail_of_the_last_minute_is_compared_with_that_of_the_hour_before(store):
    now_ns = 1_780_000_000 * 10**9
    spans = []
    for number in range(400):
        recent = number < 100
        start_ns = now_ns - ((30 + number % 20) if recent else (120 + number)) * 10**9
        length_ms = 90 if recent and number < 10 else 10
        spans.append(span(start_time_unix_nano=start_ns, end_time_unix_nano=start_ns + length_ms * 1_000_000))
    message = request(spans, {"service.name": "ranker"}).SerializeToString()
    store.insert_otlp_traces(_varint(len(message)) + message, "tails")
    now = tail_now(store, "ranker", now_ns)
    assert now == TailNow(90.0, 10.0)
    assert now.exceeds(1.5)
    assert not now.exceeds(9.5)
    assert tail_now(store, "nobody", now_ns) == TailNow(None, None)
    assert not TailNow(None, 10.0).exceeds(1.0)


def test_a_profile_of_another_tool_is_kept_as_samples_of_no_span(store):
    spin, main_ = Frame("spin", "app.py", 40), Frame("main", "app.py", 1)
    file = ProfileFile("pyinstrument", "x.json", "ms", (WeighedStack((main_, spin), 12.4), WeighedStack((main_,), 0.3)))
    plain = profile_of_file(file, service="ranker", run="a", stage="compute", started_ns=time.time_ns())
    assert insert_profile(store, checked_profile(plain))
    assert store.rows("SELECT stage, service, run, match, stack, count FROM profile_samples") == [
        ("compute", "ranker", "a", "none", [FRAMES[0], FRAMES[4]], 12)
    ]
    assert store.rows("SELECT trigger, source, rate_hz, samples, notes FROM profiles") == [
        (
            "import", "pyinstrument", 1000.0, 12,
            ["read from pyinstrument (x.json)", "left out as less than half a ms: 1 stacks"],
        )
    ]  # fmt: skip
    with pytest.raises(CommandError, match="counts bytes"):
        profile_of_file(ProfileFile("speedscope", "memory.json", "bytes", ()))


def test_a_folder_for_raw_files_that_cannot_be_is_said_before_anything_is_recorded(tailsight, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("")
    code, out, err = tailsight("profile", "--pid", "1", "--raw", str(taken / "below"), *NOWHERE)
    assert (code, out) == (2, "")
    assert f"--raw {taken / 'below'} is no folder that can be written to: Not a directory" in err


def test_a_schedule_needs_time_between_its_recordings(tailsight):
    code, _, err = tailsight("profile", "--pid", "1", "--every", "10s", "--duration", "30s", *NOWHERE)
    assert code == 2
    assert "--every 10s is not longer than --duration 30s" in err
