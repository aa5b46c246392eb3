"""Profiling from the sidecar: a real sidecar beside a real service, with a real py-spy; a collector that only listens."""

import contextlib
import dataclasses
import inspect
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sdk.fake_collector import FakeCollector, Reply
from sdk.fake_grpc_collector import fake_grpc_collector

import tailsight
from tailsight import _profile_asking, _profile_recording, _profile_words
from tailsight._options import resolve
from tailsight._profile_ask import Ask, heard, line_for, of_option, read_ask
from tailsight._profile_asking import Asking, Lasts
from tailsight._profile_sending import Sender
from tailsight._profile_states import ThreadStates
from tailsight._profile_words import find_py_spy
from tailsight._profiler import Profiler
from tailsight._recorder import current
from tailsight._ring import RingFile, RingWriter
from tailsight._sidecar_config import Config
from tailsight._sidecar_loop import Loop
from tailsight._sidecar_start import PYTHON
from tailsight.testing import capture
from tailsight_collector.recordings.sent import Sent, read_sent

pytestmark = pytest.mark.skipif(
    _profile_words.yama_scope() > 1 and not _profile_words.has_sys_ptrace(),
    reason="nobody may look into other processes here (kernel.yama.ptrace_scope)",
)
PATH = "/tailsight/recordings"
DOCUMENT = Path(__file__).parents[2] / "docs" / "profiles.md"
SERVICE = """
import ctypes, os, signal, sys, threading, time
import tailsight

def work():
    while True:
        with tailsight.request("r"), tailsight.stage("compute"):
            sum(range(2_000))
        time.sleep(0.005)

"""
AT_WORK = "\nthreading.Thread(target=work, daemon=True).start()\n"


def eventually(condition: Callable[[], Any], what: str, patience_s: float = 60) -> Any:
    until = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < until, f"{what}: not within {patience_s:g} s"
        time.sleep(0.01)
    return found


def running(*words: str) -> list[int]:
    """The processes whose command line has these words."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            line = (folder / "cmdline").read_bytes().decode(errors="replace") if folder.name.isdecimal() else ""
            if (
                all(word in line for word in words)
                and (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
            ):
                found.append(int(folder.name))
    return found


def spies_on(pid: int) -> list[int]:
    return running("py-spy", f"--pid\0{pid}\0")


def samples(pid: int) -> bool:
    """Whether a py-spy on a process is so far that it heeds SIGINT."""
    for spy in spies_on(pid):
        with contextlib.suppress(OSError):
            caught = (Path("/proc") / str(spy) / "status").read_text().partition("SigCgt:")[2].split()[0]
            return bool(int(caught, 16) >> (signal.SIGINT - 1) & 1)
    return False


def sidecars_of(pid: int) -> list[int]:
    return running(f"for-process-{pid}\0")


def recordings(collector: FakeCollector) -> list[Sent]:
    return [read_sent(received.body) for received in collector.received if received.path == PATH]


@contextlib.contextmanager
def service(
    collector: FakeCollector, folder: Path, script: str = "", *, before: str = "", **environ: str
) -> Iterator[subprocess.Popen[str]]:
    """A service at work, which then does what a test wants. It ends with its input."""
    (folder / "tmp").mkdir()
    text = (
        SERVICE
        + textwrap.dedent(before)
        + AT_WORK
        + textwrap.dedent(script)
        + "\nprint('ready', flush=True)\nsys.stdin.read()\n"
    )
    own = {
        "TAILSIGHT_TRANSPORT": "sidecar",
        "TAILSIGHT_ENDPOINT": collector.url,
        "TAILSIGHT_SERVICE": "ranker",
        "TAILSIGHT_SEND_INTERVAL_S": "0.05",
        "TMPDIR": str(folder / "tmp"),
    }
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **own, **environ},
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.stdin.close()
            process.wait(60)
    eventually(lambda: not sidecars_of(process.pid) and not spies_on(process.pid), "all processes have ended")
    eventually(lambda: not list((folder / "run").glob("*")), "the rings are removed")
    assert list((folder / "tmp").iterdir()) == []


def log_of(folder: Path) -> str:
    return (folder / "log").read_text()


# --- what may be asked for ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"rate_hz": 0}, "rate_hz=0: expected a whole number from 1 to 1000"),
        ({"rate_hz": 2.5}, "rate_hz=2.5: expected a whole number"),
        ({"duration_s": 0.2}, "duration_s=0.2: expected a number from 1 to 300"),
        ({"duration_s": "soon"}, "duration_s='soon': expected a number"),
        ({"every_s": 1}, "every_s=1: expected a number from 10 to"),
        ({"factor": 1}, "factor=1: expected a number from 1.01 to"),
        ({"max_per_hour": 1000}, "max_per_hour=1000: expected a whole number from 1 to 60"),
        ({"on_tail": "perhaps"}, "on_tail='perhaps': expected true or false"),
        ({"rate_hz": 1000, "duration_s": 100}, "is 100,000 samples, more than 60,000"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_makes_no_sense_is_one_line_in_the_log(
    given: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert tailsight.profiling.start(**given) is False
    (record,) = caplog.records
    assert says in record.getMessage()
    assert "profiling.start() is ignored" in record.getMessage()


def test_what_can_be_asked_for_is_said_alike_in_code_and_document() -> None:
    signature = inspect.signature(tailsight.profiling.start).parameters
    defaults = {field.name: field.default for field in dataclasses.fields(Ask)}
    assert {name: parameter.default for name, parameter in signature.items()} == defaults
    section = DOCUMENT.read_text().partition("## Inside the service")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    said = {}
    for names, values in rows[: len(defaults) - 2]:
        cells = [cell.strip() for cell in values.split(",")]
        said |= dict(zip(re.findall(r"`(\w+)`", names), cells, strict=True))
    shown = {
        name: "–" if value is None else f"{value:g}" if not isinstance(value, bool) else str(value).lower()
        for name, value in defaults.items()
    }
    assert said == shown


def test_the_option_says_when_and_how() -> None:
    text = resolve({}, {"TAILSIGHT_PROFILE": " on_tail, every_s=900 ,rate_hz=50"}).profile
    assert text == "on_tail=true,every_s=900,rate_hz=50"
    assert of_option(text) == Ask(on_tail=True, every_s=900.0, rate_hz=50)
    assert resolve({"profile": "every_s=60"}, {"TAILSIGHT_PROFILE": "on_tail"}).profile == "every_s=60"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rate_hz=50", "it says not when: name on_tail, or every_s=SECONDS"),
        ("on_tial", "there is no 'on_tial'; did you mean on_tail?"),
        ("on_tail,every_s=never", "every_s='never': expected a number"),
        ("on_tail=no", "it says not when"),
    ],
    ids=["no_time", "unknown", "no_number", "off"],
)
def test_a_wrong_option_is_logged_and_left_out(text: str, says: str, caplog: pytest.LogCaptureFixture) -> None:
    assert resolve({}, {"TAILSIGHT_PROFILE": text}).profile is None
    (record,) = caplog.records
    assert says in record.getMessage()


def test_what_is_asked_for_comes_over_as_it_was() -> None:
    for ask in (Ask(), Ask(every_s=60.0, on_tail=True, blocking=True, gil=False), None):
        assert heard(line_for(ask)) == ask
    for line in (b"{}", b"[1]", b'{"profile": 3}', b'{"profile": {"rate_hz": 1e9}}', b"\xff"):
        with pytest.raises(ValueError, match=r"."):
            heard(line)
    assert read_ask({}).to_json().keys() == set(Ask.__slots__)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"transport": "thread"}, "transport=thread has none"),
        ({"transport": "file"}, "transport=file sends nothing to a collector"),
        ({"enabled": False}, "tailsight is switched off"),
    ],
    ids=["thread", "file", "disabled"],
)
def test_without_a_sidecar_that_sends_it_says_so(
    options: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    tailsight.configure(**options)
    assert tailsight.profiling.start() is False
    (record,) = caplog.records
    assert says in record.getMessage()
    assert "`tailsight profile` records from outside" in record.getMessage()
    assert tailsight.profiling.stop() is False
    assert len(caplog.records) == 1


def test_the_option_without_a_sidecar_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    for service in ("a", "b"):
        tailsight.configure(service=service, transport="thread", profile="on_tail")
    (record,) = caplog.records
    assert "TAILSIGHT_PROFILE is ignored: the sidecar records" in record.getMessage()


# --- what a sidecar is told ---------------------------------------------------------------------------------------


def told(asking: Asking) -> list[Ask | None]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        asking.begin(ours, os.getpid())
        ours.close()
        with theirs.makefile("rb") as lines:
            return [heard(line) for line in lines]


def test_a_sidecar_that_takes_anothers_place_is_told_what_lasts_and_no_more() -> None:
    asking = Asking("every_s=900")
    assert asking.ask(line_for(Ask()), Lasts.ONCE, None, 0), "there is no sidecar yet"
    assert told(asking) == [Ask(every_s=900.0), Ask()]
    assert told(asking) == [Ask(every_s=900.0)]
    assert asking.ask(line_for(Ask(on_tail=True)), Lasts.FROM_NOW_ON, None, 0)
    assert told(asking) == [Ask(on_tail=True)]
    assert asking.ask(line_for(None), Lasts.NO_MORE, None, 0)
    assert told(asking) == []


def test_a_stop_before_the_sidecar_is_there_also_ends_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    permitted: list[int] = []
    monkeypatch.setattr(_profile_asking, "permit", permitted.append)
    asking = Asking("on_tail")
    assert asking.ask(line_for(None), Lasts.NO_MORE, None, 0)
    assert told(asking) == []
    assert permitted == [], "nobody need look into this process"


def test_the_process_may_permit_its_sidecar_where_the_kernel_knows_that_and_where_not() -> None:
    _profile_asking.permit(os.getpid())
    _profile_asking.permit(0)


# --- a real sidecar -----------------------------------------------------------------------------------------------


def test_a_recording_says_whose_it_is_and_goes_where_the_spans_go(collector: FakeCollector, tmp_path: Path) -> None:
    script = "tailsight.profiling.start(duration_s=1)"
    with service(collector, tmp_path, script, TAILSIGHT_HEADERS="authorization=Bearer%20abc") as process:
        [sent] = eventually(lambda: recordings(collector), "the recording has come")
        assert (sent.about.service, sent.about.process, sent.about.trigger) == ("ranker", process.pid, "hand")
        assert (sent.about.rate_hz, sent.about.idle, sent.about.blocking) == (100, True, False)
        assert sent.about.end_ns - sent.about.spawn_ns > 0.9e9
        assert b"work" in sent.trace()
        states = sent.states()
        assert states is not None
        assert "running" in states.calls
        assert len(states.numbers) > 50
        assert "rw-p" in states.maps
    [received] = [received for received in collector.received if received.path == PATH]
    assert received.headers["authorization"] == "Bearer abc"
    assert received.headers["content-type"] == "application/json"
    assert log_of(tmp_path) == ""


def test_a_recording_is_ended_by_stop_and_by_the_end_of_the_service_and_sent(
    collector: FakeCollector, tmp_path: Path
) -> None:
    script = """
    tailsight.profiling.start(duration_s=200)
    sys.stdin.readline()
    print(tailsight.profiling.stop(), flush=True)
    sys.stdin.readline()
    tailsight.profiling.start(duration_s=200)
    """
    with service(
        collector,
        tmp_path,
        script.replace("sys.stdin.readline()", "print('ready', flush=True); sys.stdin.readline()", 1),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        eventually(lambda: samples(process.pid), "py-spy has begun")
        process.stdin.write("stop\n")
        process.stdin.flush()
        assert process.stdout.readline() == "True\n"
        eventually(lambda: len(recordings(collector)) == 1, "what was seen is sent")
        process.stdin.write("again\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"
        eventually(lambda: samples(process.pid), "py-spy has begun again")
        began = time.monotonic()
    assert time.monotonic() - began < 60
    assert all(sent.about.end_ns - sent.about.spawn_ns < 100e9 for sent in recordings(collector))


@pytest.mark.parametrize("victim", ["service", "sidecar"])
def test_kill_9_leaves_no_py_spy_and_no_file(collector: FakeCollector, tmp_path: Path, victim: str) -> None:
    with service(collector, tmp_path, "tailsight.profiling.start(duration_s=200)") as process:
        eventually(lambda: samples(process.pid), "py-spy has begun")
        [sidecar] = sidecars_of(process.pid)
        os.kill(process.pid if victim == "service" else sidecar, signal.SIGKILL)
        eventually(lambda: not spies_on(process.pid), "py-spy has ended")
        if victim == "sidecar":
            eventually(lambda: sidecars_of(process.pid), "another sidecar takes its place")


def test_what_the_option_asks_for_is_done_by_the_sidecar_that_takes_anothers_place(
    collector: FakeCollector, tmp_path: Path
) -> None:
    with service(collector, tmp_path, TAILSIGHT_PROFILE="every_s=10,duration_s=1,rate_hz=50") as process:
        eventually(lambda: collector.spans, "the sidecar sends")
        [first] = sidecars_of(process.pid)
        os.kill(first, signal.SIGKILL)
        sent = eventually(lambda: recordings(collector), "a recording has come")[-1]
        assert (sent.about.trigger, sent.about.rate_hz, sent.about.process) == ("schedule", 50, process.pid)
        assert sidecars_of(process.pid) != [first]


def test_a_forked_child_does_not_do_what_its_parent_was_asked_for(collector: FakeCollector, tmp_path: Path) -> None:
    script = """
    tailsight.profiling.start(duration_s=1)
    if not os.fork():
        threading.Thread(target=work, daemon=True).start()
        sys.stdin.read()
        tailsight.shutdown()
        os._exit(0)
    """
    with service(collector, tmp_path, script) as process:
        eventually(lambda: recordings(collector), "the recording has come")
        eventually(
            lambda: len({span_pid(each) for each in collector.received if each.path == "/v1/traces"}) == 2, "both send"
        )
        assert {sent.about.process for sent in recordings(collector)} == {process.pid}
    assert len(recordings(collector)) == 1


def span_pid(received: Any) -> Any:
    return received.resource["process.pid"]


def test_a_backend_without_recordings_is_said_once_and_asked_no_more(collector: FakeCollector, tmp_path: Path) -> None:
    collector.metrics_reply = Reply(404)
    script = """
    for _ in range(2):
        tailsight.profiling.start(duration_s=1)
        print("ready", flush=True)
        sys.stdin.readline()
    """
    with service(collector, tmp_path, script) as process:
        assert process.stdin is not None
        eventually(lambda: "profiling" in log_of(tmp_path), "it is said")
        process.stdin.write("\n\n")
        process.stdin.flush()
        eventually(
            lambda: log_of(tmp_path).count("profiling: nothing is recorded") == 2, "who asks again is told again"
        )
    assert len([received for received in collector.received if received.path == PATH]) == 2, "it may be another by now"
    assert f"{collector.url}{PATH} takes no recordings (status 404)" in log_of(tmp_path)


def test_with_grpc_spans_go_on_and_recordings_go_by_http(collector: FakeCollector, tmp_path: Path) -> None:
    with fake_grpc_collector() as spans_go_here:
        environ = {"TAILSIGHT_PROTOCOL": "grpc", "TAILSIGHT_ENDPOINT": spans_go_here.url}
        with service(collector, tmp_path, "tailsight.profiling.start(duration_s=1)", **environ) as process:
            eventually(lambda: samples(process.pid), "py-spy has begun")
            eventually(lambda: not spies_on(process.pid), "py-spy has ended")
            before = len(spans_go_here.received)
            eventually(lambda: len(spans_go_here.received) > before + 3, "spans go on")
    assert "recordings does not answer: " in log_of(tmp_path), "there is no HTTP at the port of its gRPC"
    assert "with protocol=grpc recordings go by HTTP all the same" in log_of(tmp_path)
    assert log_of(tmp_path).rstrip("\n").isprintable()


def test_a_process_that_may_not_be_looked_into_is_said_with_the_way_out(
    collector: FakeCollector, tmp_path: Path
) -> None:
    """Really refused: it gives up being looked into, and its sidecar the capability to do so all the same."""
    before = """
    library = ctypes.CDLL(None)
    library.prctl(24, 19, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_SYS_PTRACE: for who has it
    library.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
    """
    with service(collector, tmp_path, "tailsight.profiling.start(duration_s=1)", before=before) as process:
        eventually(lambda: "profiling" in log_of(tmp_path), "it is said")
        assert f"this process ({process.pid}) may not be looked into: " in log_of(tmp_path)
    assert recordings(collector) == []
    assert len(log_of(tmp_path).splitlines()) == 1
    assert any(word in log_of(tmp_path) for word in ("PR_SET_DUMPABLE", "SYS_PTRACE", "ptrace_scope"))


def test_a_sidecar_hears_what_is_said_between_its_wakings_and_watches_every_request(
    collector: FakeCollector, tmp_path: Path
) -> None:
    settings = resolve({"endpoint": collector.url, "send_interval_s": 0.01}, {"TAILSIGHT_DEVICE_INTERVAL_S": "0"})
    file = RingFile.create(tmp_path / "1-a.ring", 2**20, python=PYTHON)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        loop = Loop(Config(settings, pid=os.getpid(), ring=file.path), file, theirs)
        writer = RingWriter(file)
        with capture():
            recorder = current.recorder
            assert recorder is not None
            recorder.push = lambda packed, spans: writer.push(packed)
            line = line_for(Ask(on_tail=True))
            ours.send(b"!!" + line[:20])
            loop._wait()
            ours.send(line[20:] + b"!!")
            loop._wait()
            for _ in range(7):
                with tailsight.request("r"), tailsight.stage("compute"):
                    pass
            loop.round()
            assert loop._profiler is not None
            assert loop._profiler._watch is not None
            assert sum(loop._profiler._watch._slot.values()) == 7
            ours.send(b"!" + line_for(None))
            loop._wait()
            assert loop._profiler._watch is None
        loop._finish()
        file.close()


# --- when, with a clock of the test's -----------------------------------------------------------------------------


class Watched:
    """A profiler on a real process, with a real py-spy, at a time that the test says."""

    def __init__(self, collector: FakeCollector, pid: int, folder: Path) -> None:
        self.at = 1000.0
        self.collector, self.pid, self.folder = collector, pid, folder
        settings = resolve({"service": "ranker", "endpoint": collector.url}, {})
        self.profiler = Profiler(settings, pid, folder, lambda: self.at)

    def requests(self, count: int, ms: float) -> None:
        for _ in range(count):
            self.profiler.observe(int(ms * 1e6))

    def later(self, seconds: float) -> None:
        """Let time pass, in steps as a sidecar takes them."""
        until = self.at + seconds
        while self.at < until:
            self.at = min(until, self.at + 5.0)
            self.profiler.step()

    def finish(self) -> None:
        """Await the recording that is in progress; the next step begins no other."""

        def is_over() -> bool:
            self.profiler.step()
            return not self.profiler.is_recording

        eventually(is_over, "the recording is over")

    def triggers(self) -> list[str]:
        return [sent.about.trigger for sent in recordings(self.collector)]


@pytest.fixture(scope="module")
def busy() -> Iterator[int]:
    # PR_SET_PTRACER_ANY: py-spy is no parent of it
    script = "import ctypes\nctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)\nimport sys, threading\ndef work():\n    while not threading.Event().wait(0.002): sum(range(500))\n"
    script += "threading.Thread(target=work, daemon=True).start(); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.pid
        process.stdin.close()


@pytest.fixture
def watched(collector: FakeCollector, busy: int, tmp_path: Path) -> Iterator[Watched]:
    made = Watched(collector, busy, tmp_path)
    yield made
    made.profiler.close()
    assert not spies_on(busy)


def test_a_tail_above_what_is_usual_starts_one_recording_and_then_there_is_a_pause(watched: Watched) -> None:
    watched.profiler.hear(Ask(on_tail=True, duration_s=1, pause_s=100))
    for _ in range(30):
        watched.requests(40, 10)
        watched.later(10)
    assert not watched.profiler.is_recording, "that is what is usual"
    watched.requests(10, 14)
    watched.later(10)
    assert not watched.profiler.is_recording, "less than half as much again"
    watched.requests(10, 30)
    watched.later(5)
    assert watched.profiler.is_recording
    watched.finish()
    watched.requests(10, 30)
    watched.later(60)
    assert not watched.profiler.is_recording, "the pause"
    assert watched.triggers() == ["tail"]
    watched.requests(40, 100)
    watched.later(45)
    assert watched.profiler.is_recording, "the pause is over"


def test_without_enough_requests_no_tail_is_exceeded(watched: Watched) -> None:
    watched.profiler.hear(Ask(on_tail=True, duration_s=1))
    watched.requests(100, 1)
    watched.later(70)
    watched.requests(19, 1000)
    watched.later(10)
    assert not watched.profiler.is_recording


def test_a_schedule_records_again_and_again_but_not_more_often_than_allowed(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.profiler.hear(Ask(every_s=100, duration_s=1, max_per_hour=2))
    watched.later(100)
    assert watched.profiler.is_recording, "the first one comes within the first period"
    watched.finish()
    watched.later(111)
    assert watched.profiler.is_recording
    watched.finish()
    watched.later(500)
    assert not watched.profiler.is_recording
    assert watched.triggers() == ["schedule", "schedule"]
    [record] = caplog.records
    assert "2 recordings began in the last hour, which is max_per_hour" in record.getMessage()
    watched.later(3600)
    assert watched.profiler.is_recording, "an hour later"


def test_services_of_one_machine_take_turns_but_for_who_is_asked_by_hand(
    watched: Watched, collector: FakeCollector, busy: int
) -> None:
    other = Watched(collector, busy, watched.folder)
    watched.profiler.hear(Ask(every_s=10, duration_s=200))
    watched.later(10)
    assert watched.profiler.is_recording
    other.profiler.hear(Ask(every_s=10, duration_s=200))
    other.later(30)
    assert not other.profiler.is_recording, "the other one records"
    watched.profiler.close()
    other.later(15)
    assert other.profiler.is_recording
    watched.profiler.hear(None)
    watched.profiler.hear(Ask(duration_s=200))
    watched.profiler.step()
    assert watched.profiler.is_recording, "by hand"
    other.profiler.close()


def test_one_recording_runs_at_a_time_and_who_asks_meanwhile_is_next(watched: Watched, busy: int) -> None:
    watched.profiler.hear(Ask(duration_s=200))
    watched.profiler.step()
    eventually(lambda: samples(busy), "py-spy has begun")
    watched.profiler.hear(Ask(duration_s=1, rate_hz=50))
    watched.profiler.step()
    assert len(spies_on(busy)) == 1
    watched.profiler._recording.stop()  # type: ignore[union-attr]

    def second_is_there() -> bool:
        watched.profiler.step()
        return len(watched.triggers()) == 2

    eventually(second_is_there, "both have come")
    assert [sent.about.rate_hz for sent in recordings(watched.collector)] == [100, 50]


def test_without_py_spy_it_says_how_to_install_it_and_gives_up(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert find_py_spy(), "here it is installed"
    monkeypatch.setattr("tailsight._profiler.find_py_spy", lambda: None)
    watched.profiler.hear(Ask(every_s=10))
    watched.later(100)
    [record] = caplog.records
    assert "pip install 'tailsight[profile]'" in record.getMessage()
    assert watched.profiler.pause_s is None, "there is nothing more to do"


def test_a_collector_that_is_busy_is_asked_again(watched: Watched) -> None:
    watched.collector.metrics_reply = Reply(503, {"Retry-After": "0"})
    watched.profiler.hear(Ask(duration_s=1))
    watched.profiler.step()
    eventually(watched.triggers, "the first attempt")
    assert watched.profiler.is_recording
    watched.collector.metrics_reply = Reply()
    watched.finish()
    assert len({sent.id for sent in recordings(watched.collector)}) == 1, "the same, so that it is joined once"


def test_a_refused_token_is_said_and_nothing_more_is_recorded(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.collector.metrics_reply = Reply(401)
    watched.profiler.hear(Ask(every_s=10, duration_s=1))
    watched.later(10)
    watched.finish()
    watched.later(100)
    assert not watched.profiler.is_recording
    [record] = caplog.records
    assert "asks for a token that may send (status 401)" in record.getMessage()


@pytest.mark.parametrize(
    ("limit", "value", "says"),
    [("MAX_TRACE_BYTES", 2000, "record for less time"), ("STOP_PATIENCE_S", -0.5, "py-spy did not end in time")],
    ids=["too_large", "too_long"],
)
def test_a_py_spy_that_writes_or_takes_too_much_is_ended(
    watched: Watched,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    limit: str,
    value: float,
    says: str,
) -> None:
    monkeypatch.setattr(_profile_recording, limit, value)
    watched.profiler.hear(Ask(duration_s=1))
    watched.profiler.step()
    watched.finish()
    assert watched.triggers() == []
    [record] = caplog.records
    assert says in record.getMessage()


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"endpoint": "https://c.example:9"}, f"https://c.example:9{PATH}"),
        ({"endpoint": "http://c.example/base"}, f"http://c.example/base{PATH}"),
        ({"endpoint": "http://c.example:4317", "protocol": "grpc"}, f"http://c.example:4318{PATH}"),
    ],
    ids=["port", "path", "grpc"],
)
def test_recordings_go_beside_the_spans(given: dict[str, Any], url: str) -> None:
    sender = Sender(resolve(given, {}))
    assert sender._collector is not None
    assert sender._collector.url == url


def test_an_address_of_another_kind_of_backend_is_named() -> None:
    sender = Sender(resolve({}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c.example/otlp"}))
    assert "TAILSIGHT_ENDPOINT is http://c.example/otlp" in sender.final
    sender.begin_anew()
    assert sender.send(b"", threading.Event()) == sender.final, "nor can it be sent"
    assert "transport=file sends nothing" in Sender(resolve({"transport": "file"}, {})).final


# --- what the threads are doing --------------------------------------------------------------------------------------


def test_looking_at_many_threads_costs_a_tenth_of_a_processor_at_most() -> None:
    end = threading.Event()
    threads = [threading.Thread(target=end.wait, daemon=True) for _ in range(150)]
    for thread in threads:
        thread.start()
    try:
        states = ThreadStates(os.getpid(), 1000, 10)
        began = time.perf_counter()
        pause_s = states.read()
        took_s = time.perf_counter() - began
    finally:
        end.set()
    assert states.why_not == ""
    assert len(set(states.columns["thread"])) > 150
    assert pause_s > 4 * took_s
    for thread in threads:
        thread.join()


def test_a_process_that_is_gone_has_no_states_and_it_says_why(busy: int) -> None:
    assert ThreadStates(2**22 + 1, 100, 10).why_not.startswith("who waits for the GIL is not known")
    states = ThreadStates(busy, 100, 10)
    assert 0 < states.read() <= 0.1
    assert ThreadStates(busy, 100, 10**6).read() > 1, "they are spread over all of the time"
    assert {"maps", "calls"} == states.plain().keys()


# --- words --------------------------------------------------------------------------------------------------------


def test_the_way_out_depends_on_what_forbids_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    yama, status = tmp_path / "ptrace_scope", tmp_path / "status"
    monkeypatch.setattr(_profile_words, "YAMA", yama)
    monkeypatch.setattr(_profile_words, "STATUS", status)
    status.write_text("Name:\tpython\nCapEff:\t0000000000000000\n")
    yama.write_text("3\n")
    assert "until the next start of the machine" in _profile_words.way_out({})
    yama.write_text("2\n")
    assert "`sudo sysctl kernel.yama.ptrace_scope=1`" in _profile_words.way_out({}) or Path("/.dockerenv").exists()
    yama.write_text("1\n")
    assert "--cap-add SYS_PTRACE" in _profile_words.way_out({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    status.write_text("Name:\tpython\nCapEff:\t0000000000080000\n")
    assert "seccomp" in _profile_words.way_out({})


@pytest.mark.parametrize(
    ("words", "says", "again"),
    [
        ("Error: Permission Denied: Try running again with sudo", "may not be looked into", True),
        ("Error: Failed to find python version from target process", "runs no Python that py-spy knows", True),
        ("Error: something odd\n\nStack backtrace:\n 0: x", "py-spy cannot record it: something odd", False),
        ("", "it said nothing", False),
    ],
    ids=["refused", "no_python", "odd", "silent"],
)
def test_py_spys_last_words_become_a_reason(words: str, says: str, again: bool) -> None:
    said, will_be_again = _profile_words.why_not(os.getpid(), words)
    assert says in said
    assert will_be_again is again
    assert "\n" not in said
