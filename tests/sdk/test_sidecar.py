"""The sidecar: a real process beside a real service, a real collector, and every way in which one of them dies."""

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from sdk.fake_collector import FakeCollector, Reply, attributes_of, fake_collector

import tailsight
from tailsight import _runtime, _sidecar, _sidecar_start
from tailsight import attributes as keys
from tailsight._options import resolve
from tailsight._sidecar import Sidecar

QUICK: dict[str, Any] = {"send_interval_s": 0.02, "retry_initial_s": 0.02, "retry_max_s": 0.05}


@pytest.fixture(autouse=True)
def sidecar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("TAILSIGHT_TRANSPORT", "sidecar")
    yield
    tailsight.shutdown(timeout=5)
    ended = eventually(lambda: not rings(tmp_path) and not sidecars_of(os.getpid()))
    assert ended, f"something is left behind: {rings(tmp_path)}"


def rings(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "run").glob("*"))


def eventually(condition: Callable[[], Any], timeout_s: float = 20) -> Any:
    """Poll for what another process does: there is no event of its that could be awaited."""
    until = time.monotonic() + timeout_s
    while not (found := condition()) and time.monotonic() < until:
        time.sleep(0.005)
    return found


def sidecars_of(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            ours = folder.name.isdecimal() and f"for-process-{pid}\0".encode() in (folder / "cmdline").read_bytes()
            if ours and (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(int(folder.name))
    return found


def configure(collector: FakeCollector, **options: Any) -> None:
    tailsight.configure(service="ranker", endpoint=collector.url, **(QUICK | options))


def requests(count: int, name: str = "r") -> None:
    for _ in range(count):
        with tailsight.request(name), tailsight.stage("compute") as s:
            s.set("tokens", 7)


def transport() -> Sidecar:
    found = _runtime._runtime.transport
    assert isinstance(found, Sidecar)
    return found


def numbers(collector: FakeCollector) -> list[tuple[str, int, int]]:
    """Return each batch's sender, number and spans, in the order of arrival."""
    found = []
    for received in collector.received:
        said = attributes_of(received.message.resource_spans[0].scope_spans[0].scope)
        assert said[keys.BATCH_SPANS] == len(received.spans)
        found.append((said[keys.SENDER_ID], said[keys.BATCH_NUMBER], len(received.spans)))
    return found


def said_last(collector: FakeCollector) -> dict[str, Any]:
    return attributes_of(collector.received[-1].message.resource_spans[0].scope_spans[0].scope)


@contextlib.contextmanager
def service(collector: FakeCollector, script: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Run a service that prints a line when it has done what the test is about."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import os, sys, signal, threading\nimport tailsight\n" + textwrap.dedent(script)],
        env={
            **os.environ,
            "TAILSIGHT_ENDPOINT": collector.url,
            "TAILSIGHT_SEND_INTERVAL_S": "0.02",
            "TAILSIGHT_RETRY_INITIAL_S": "0.02",
            "TAILSIGHT_RETRY_MAX_S": "0.05",
            **environ,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


# --- the ordinary case --------------------------------------------------------------------------------------------------


def test_spans_go_through_a_process_that_ends_with_the_service(collector: FakeCollector) -> None:
    configure(collector)
    requests(100)
    assert tailsight.flush()
    assert Counter(span.name for span in collector.spans) == {"r": 100, "compute": 100}
    assert tailsight.stats().sent == 200
    assert tailsight.stats().transport == "sidecar"
    assert len(sidecars_of(os.getpid())) == 1
    assert collector.received[0].resource["process.pid"] == os.getpid()
    tailsight.shutdown()
    assert eventually(lambda: not sidecars_of(os.getpid()))
    assert tailsight.stats().sent == 200, "what was counted there is not forgotten"
    assert tailsight.stats().internal_errors == 0


def test_batches_are_numbered_without_gaps_and_the_last_one_says_so(collector: FakeCollector) -> None:
    configure(collector)
    for _ in range(5):
        requests(10)
        assert tailsight.flush()
    tailsight.shutdown()
    found = numbers(collector)
    assert len({sender for sender, _, _ in found}) == 1
    assert re.fullmatch("[0-9a-f]{16}", found[0][0])
    assert [number for _, number, _ in found] == list(range(1, len(found) + 1))
    last = said_last(collector)
    assert last[keys.SENDER_LAST] is True
    assert last[keys.SENDER_SPANS] == last[keys.SENDER_RECORDED] == sum(spans for *_, spans in found) == 100


def test_nothing_is_started_for_nothing(collector: FakeCollector, tmp_path: Path) -> None:
    configure(collector)
    assert tailsight.flush()
    tailsight.shutdown()
    assert sidecars_of(os.getpid()) == []
    assert rings(tmp_path) == []
    assert collector.received == []


def test_the_sidecar_has_no_opentelemetry_in_it_and_knows_no_secret_on_its_command_line(
    collector: FakeCollector,
) -> None:
    configure(collector, headers={"authorization": "s3cret"})
    requests(1)
    assert tailsight.flush()
    (pid,) = sidecars_of(os.getpid())
    assert collector.received[0].headers["authorization"] == "s3cret"
    assert b"s3cret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    script = """
import sys, types
package = types.ModuleType("tailsight")
package.__path__ = [sys.argv[1]]
sys.modules["tailsight"] = package
import tailsight._sidecar_loop, tailsight._device
print([name for name in sys.modules if name.split(".")[0] in ("opentelemetry", "numpy", "asyncio", "google")])
"""
    light = subprocess.run(
        [sys.executable, "-I", "-c", script, str(Path(tailsight.__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert light.stdout == "[]\n"


def test_what_the_sidecar_says_right_after_its_first_word_is_left_for_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "hasty.py"
    script.write_text("import socket\nsocket.socket(fileno=0).send(b'ready\\n{\"level\": 30}\\n')\n")
    monkeypatch.setattr(_sidecar_start, "MAIN", script)
    file = _sidecar_start.make_rings(resolve({}))
    try:
        with _sidecar_start.start(resolve({}), file) as ours:
            assert ours.recv(64) == b'{"level": 30}\n'
    finally:
        file.close()
        file.path.unlink()


def test_errors_of_the_sidecar_reach_the_services_log(
    collector: FakeCollector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.replies = [Reply(400, body=b"no tenant")]
    configure(collector)
    with caplog.at_level(logging.WARNING, logger="tailsight"):
        requests(1)
        assert tailsight.flush()
        tailsight.shutdown()
    (line,) = [record.getMessage() for record in caplog.records]
    assert "refuses spans with status 400 (no tenant)" in line
    assert tailsight.stats().dropped == {"refused": 2}


def test_threads_and_bursts_lose_nothing(collector: FakeCollector) -> None:
    configure(collector, batch_bytes=20_000)
    threads = [threading.Thread(target=requests, args=(500, f"t{number}")) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tailsight.flush(30)
    assert Counter(span.name for span in collector.spans) == {f"t{n}": 500 for n in range(4)} | {"compute": 2000}
    assert len(collector.received) > 5


def test_device_state_goes_to_the_metrics_path(collector: FakeCollector) -> None:
    configure(collector, device_interval_s=0.02)
    requests(1)
    assert eventually(lambda: any(received.path == "/v1/metrics" for received in collector.received))


def test_a_backend_without_metrics_is_asked_once(collector: FakeCollector) -> None:
    collector.metrics_reply = Reply(404)
    configure(collector, device_interval_s=0.01)
    requests(1)
    assert eventually(lambda: any(received.path == "/v1/metrics" for received in collector.received))
    for _ in range(5):
        requests(1)
        assert tailsight.flush()
    assert [received.path for received in collector.received].count("/v1/metrics") == 1


def test_a_reconfiguration_sends_what_was_before_under_the_old_name(collector: FakeCollector) -> None:
    configure(collector)
    requests(3)
    tailsight.configure(service="other", endpoint=collector.url, **QUICK)
    requests(4)
    tailsight.shutdown()
    names = Counter(received.resource["service.name"] for received in collector.received for _ in received.spans)
    assert names == {"ranker": 6, "other": 8}
    assert tailsight.stats().sent == 14


# --- the service dies ---------------------------------------------------------------------------------------------------


def test_spans_of_a_service_that_was_killed_are_still_sent(collector: FakeCollector) -> None:
    with service(
        collector,
        """
        with tailsight.request("first"):
            pass
        tailsight.flush()
        for n in range(1000):
            with tailsight.request("r"), tailsight.stage("compute"):
                pass
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        TAILSIGHT_SEND_INTERVAL_S="3600",
    ) as process:
        process.wait()
        assert eventually(lambda: len(collector.spans) == 2001)
        assert eventually(lambda: not sidecars_of(process.pid))
    assert len({span.span_id for span in collector.spans}) == 2001
    assert said_last(collector)[keys.SENDER_LAST] is True


def test_a_service_killed_before_its_sidecar_began_is_finished_by_the_next(
    collector: FakeCollector, tmp_path: Path
) -> None:
    with service(
        collector,
        """
        from tailsight import _sidecar
        _sidecar.start = lambda settings, file: threading.Event().wait()
        for n in range(10):
            with tailsight.request("r"):
                pass
        print(flush=True)
        sys.stdin.readline()
        """,
        TAILSIGHT_SERVICE="victim",
        TAILSIGHT_RESOURCE_ATTRIBUTES="team=search",
    ) as process:
        line_of(process)
    assert rings(tmp_path)
    configure(collector)
    requests(1, "next")
    assert eventually(lambda: sum(span.name == "r" for span in collector.spans) == 10)
    (resource,) = [r.resource for r in collector.received if any(span.name == "r" for span in r.spans)]
    assert (resource["service.name"], resource["team"], resource["process.pid"]) == ("victim", "search", process.pid)


def test_another_tenants_rings_are_left_alone(collector: FakeCollector, tmp_path: Path) -> None:
    with service(
        collector,
        """
        from tailsight import _sidecar
        def start(settings, file):
            print(flush=True)
            sys.stdin.readline()
        _sidecar.start = start
        with tailsight.request("r"):
            pass
        sys.stdin.readline()
        """,
        TAILSIGHT_HEADERS="x-tenant=alice",
    ) as process:
        line_of(process)
    (left,) = (tmp_path / "run").glob("*.ring")
    assert b"alice" not in left.read_bytes()
    configure(collector, headers={"x-tenant": "bob"})
    requests(1, "bobs")
    assert tailsight.flush()
    tailsight.shutdown()
    assert {span.name for span in collector.spans} == {"bobs", "compute"}
    configure(collector, headers={"x-tenant": "alice"})
    requests(1, "alices")
    assert eventually(lambda: any(span.name == "r" for span in collector.spans))
    assert {r.headers["x-tenant"] for r in collector.received if any(span.name == "r" for span in r.spans)} == {"alice"}


def test_what_is_left_behind_goes_on_in_its_senders_name(collector: FakeCollector, tmp_path: Path) -> None:
    with service(
        collector,
        """
        with tailsight.request("first"):
            pass
        tailsight.flush()
        print(flush=True)
        sys.stdin.readline()
        for n in range(50):
            with tailsight.request("r"):
                pass
        print(flush=True)
        sys.stdin.readline()
        """,
    ) as process:
        line_of(process)
        (sidecar_pid,) = sidecars_of(process.pid)
        os.kill(sidecar_pid, signal.SIGSTOP)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        line_of(process)
        process.kill()
        os.kill(sidecar_pid, signal.SIGKILL)
        process.wait()
    (sender, first, _) = numbers(collector)[0]
    collector.replies = [Reply(200), Reply(503)]  # the next one's own batch, then what it finds: to the spool
    configure(collector)
    requests(1, "next")
    assert eventually(lambda: sum(span.name == "r" for span in collector.spans) >= 50)
    assert eventually(lambda: any(who == sender and spans == 0 for who, _, spans in numbers(collector)))
    theirs = [(number, spans) for who, number, spans in numbers(collector) if who == sender]
    assert sorted({number for number, _ in theirs}) == list(range(first, first + 3))
    tailsight.shutdown()


def test_a_service_that_leaves_through_the_back_door_loses_nothing(collector: FakeCollector) -> None:
    with service(
        collector,
        """
        with tailsight.request("first"):
            pass
        tailsight.flush()
        for n in range(50):
            with tailsight.request("r"):
                pass
        os._exit(0)
        """,
    ) as process:
        process.wait()
        assert eventually(lambda: Counter(span.name for span in collector.spans) == {"first": 1, "r": 50})


def test_a_service_and_its_sidecar_killed_together_are_finished_by_the_next(collector: FakeCollector) -> None:
    with service(
        collector,
        """
        with tailsight.request("first"):
            pass
        tailsight.flush()
        print(flush=True)
        sys.stdin.readline()
        for n in range(500):
            with tailsight.request("r"):
                pass
        print(flush=True)
        sys.stdin.readline()
        """,
        TAILSIGHT_SERVICE="victim",
    ) as process:
        line_of(process)
        (sidecar_pid,) = sidecars_of(process.pid)
        os.kill(sidecar_pid, signal.SIGSTOP)  # it must not get at what comes now
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        line_of(process)
        process.kill()
        os.kill(sidecar_pid, signal.SIGKILL)
        process.wait()
    assert Counter(span.name for span in collector.spans) == {"first": 1}
    configure(collector)
    requests(1, "next")
    assert eventually(lambda: sum(span.name == "r" for span in collector.spans) == 500)
    of = {
        received.resource["service.name"]
        for received in collector.received
        for span in received.spans
        if span.name == "r"
    }
    assert of == {"victim"}
    tailsight.shutdown()


def test_an_exit_does_not_wait_for_a_collector_that_never_was(tmp_path: Path) -> None:
    with fake_collector() as gone:
        pass
    began = time.monotonic()
    with service(gone, "with tailsight.request('r'): pass") as process:
        process.wait(20)
        assert process.returncode == 0
    assert time.monotonic() - began < 10


def test_ctrl_c_and_a_terminated_group_do_not_cost_spans(collector: FakeCollector) -> None:
    with service(
        collector,
        """
        import time
        with tailsight.request("first"):
            pass
        tailsight.flush()
        try:
            print(flush=True)
            sys.stdin.readline()
        except KeyboardInterrupt:
            with tailsight.request("last"):
                pass
        """,
    ) as process:
        line_of(process)
        (sidecar_pid,) = sidecars_of(process.pid)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(sidecar_pid, number)
        process.send_signal(signal.SIGINT)
        process.wait(20)
        assert eventually(lambda: sorted(span.name for span in collector.spans) == ["first", "last"])


# --- the sidecar dies ---------------------------------------------------------------------------------------------------


def test_a_sidecar_that_was_killed_is_started_again_and_nothing_is_lost(
    collector: FakeCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sidecar, "_LOOK_EVERY_NS", 1_000_000)
    configure(collector, send_interval_s=3600)
    requests(10)
    assert tailsight.flush()
    (first,) = sidecars_of(os.getpid())
    requests(10, "waiting in the ring")
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: not sidecars_of(os.getpid()))
    requests(10, "after")
    assert tailsight.flush(20)
    assert Counter(span.name for span in collector.spans) == {
        "r": 10,
        "waiting in the ring": 10,
        "after": 10,
        "compute": 30,
    }
    assert sidecars_of(os.getpid()) != [first]
    assert tailsight.stats().sent == 60
    assert len({sender for sender, _, _ in numbers(collector)}) == 1, "it goes on in the same name"
    assert [number for _, number, _ in numbers(collector)] == list(range(1, len(collector.received) + 1))


def test_a_sidecar_that_keeps_dying_is_replaced_by_a_thread(
    collector: FakeCollector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_sidecar, "_LOOK_EVERY_NS", 1_000_000)
    monkeypatch.setattr(_sidecar, "_MAX_STARTS", 0)
    configure(collector, send_interval_s=3600)
    requests(10)
    assert tailsight.flush()
    requests(10, "waiting in the ring")
    os.kill(sidecars_of(os.getpid())[0], signal.SIGKILL)
    assert eventually(lambda: not sidecars_of(os.getpid()))
    requests(10, "after")
    assert tailsight.flush(20)
    assert Counter(span.name for span in collector.spans) == {
        "r": 10,
        "waiting in the ring": 10,
        "after": 10,
        "compute": 30,
    }
    assert tailsight.stats().transport == "thread"
    assert "a thread inside this process encodes and sends instead" in caplog.text


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda m: m.setattr(sys, "executable", "/usr/sbin/uwsgi") or m.setattr(sys, "_base_executable", ""), "uwsgi"),
        (lambda m: m.setattr(sys, "frozen", True, raising=False), "frozen"),
        (lambda m: m.setattr(_sidecar_start, "MAIN", Path("/nowhere/main.py")), "not installed as files"),
        (lambda m: m.setenv("TAILSIGHT_RUNTIME_DIR", "/proc/nowhere"), "no folder for the shared memory"),
        (lambda m: m.setattr(_sidecar_start.subprocess, "Popen", _refuse), "no more processes"),
        (lambda m: m.setattr(_sidecar_start, "MAIN", Path(__file__).with_name("conftest.py")), "ModuleNotFoundError"),
    ],
    ids=["uwsgi", "frozen", "zipped", "no folder", "no process", "it fails at once"],
)
def test_where_no_process_can_be_started_a_thread_does_its_work_and_says_so_once(
    collector: FakeCollector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[pytest.MonkeyPatch], object],
    reason: str,
) -> None:
    spoil(monkeypatch)
    configure(collector)
    requests(10)
    assert tailsight.flush()
    requests(10)
    assert tailsight.flush()
    assert len(collector.spans) == 40
    assert tailsight.stats().transport == "thread"
    (line,) = [record.getMessage() for record in caplog.records]
    assert "no sidecar process can be started" in line
    assert reason in line
    assert tailsight.stats().internal_errors == 0


def _refuse(*args: Any, **options: Any) -> None:
    raise BlockingIOError(11, "no more processes")


def test_a_stopped_sidecar_fills_the_ring_and_the_service_never_waits(collector: FakeCollector) -> None:
    configure(collector, buffer_bytes=8 * 64 * 1024)
    requests(1)
    assert tailsight.flush()
    (pid,) = sidecars_of(os.getpid())
    os.kill(pid, signal.SIGSTOP)
    try:
        longest = 0.0
        for _ in range(6000):
            began = time.thread_time()
            requests(1)
            longest = max(longest, time.thread_time() - began)
        dropped = tailsight.stats().dropped["buffer_full"]
        assert 0 < dropped < 12_000
        assert longest < 1, "processor time: a push that waited would not show in it, one that worked would"
        assert tailsight.flush(0.05) is False
    finally:
        os.kill(pid, signal.SIGCONT)
    assert tailsight.flush(20)
    assert len(collector.spans) == 2 + 12_000 - dropped
    tailsight.shutdown()
    last = said_last(collector)
    assert last[keys.SENDER_RECORDED] == 12_002
    assert last[keys.SENDER_DROPPED] == {"buffer_full": dropped}
    assert last[keys.SENDER_SPANS] == 12_002 - dropped


# --- the collector is away ----------------------------------------------------------------------------------------------


def test_what_a_collector_that_is_away_misses_comes_later_in_order(collector: FakeCollector, tmp_path: Path) -> None:
    configure(collector)
    requests(5, "before")
    assert tailsight.flush()
    collector.replies = [Reply(503)] * 8
    for turn in range(4):
        requests(5, f"during {turn}")
        tailsight.flush(0.05)
    assert eventually(lambda: len(collector.spans) >= 50 and tailsight.flush(1))
    arrived = {}
    for received, (_, number, _) in zip(collector.received, numbers(collector), strict=True):
        arrived.setdefault(number, received)
    accepted = [number for _, number, _ in numbers(collector)[-4:]]
    assert accepted == sorted(accepted)
    assert tailsight.stats().sent == 50
    assert tailsight.stats().dropped == {}
    assert tailsight.stats().spooled_bytes == 0
    assert list((tmp_path / "spool").glob("*/*.otlp")) == []


def test_a_spool_survives_both_and_the_next_service_sends_it_with_its_numbers(tmp_path: Path) -> None:
    with fake_collector() as first:
        port = int(first.url.rpartition(":")[2])
        with service(
            first,
            """
            with tailsight.request("arrived"):
                pass
            tailsight.flush()
            print(flush=True)
            sys.stdin.readline()
            for n in range(20):
                with tailsight.request("kept"):
                    pass
            print(tailsight.flush(0.3), flush=True)
            """,
        ) as process:
            line_of(process)
            first.close()
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            assert line_of(process) == "False"
            process.wait(20)
            assert eventually(lambda: not sidecars_of(process.pid))
        sender, before, _ = numbers(first)[0]
        files = sorted((tmp_path / "spool" / sender).glob("*.otlp"))
        assert files, "the batches are on disk"
        assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    with fake_collector(port) as second:
        configure(second)
        requests(1, "next")
        assert eventually(lambda: sum(span.name == "kept" for span in second.spans) == 20)
        of_the_dead = [(number, spans) for who, number, spans in numbers(second) if who == sender]
        assert [number for number, _ in of_the_dead] == list(range(before + 1, before + 1 + len(of_the_dead)))
        tailsight.shutdown()
    assert list((tmp_path / "spool").glob("*/*.otlp")) == []


def test_a_full_spool_drops_the_oldest_and_the_numbers_tell(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with fake_collector() as gone:
        port = int(gone.url.rpartition(":")[2])
    tailsight.configure(service="x", endpoint=gone.url, spool_bytes=20_000, **(QUICK | {"retry_max_s": 0.2}))
    for turn in range(40):
        requests(10, f"turn {turn:02}")
        tailsight.flush(0.03)
    assert eventually(lambda: tailsight.stats().dropped.get("spool_full", 0) > 0)
    with fake_collector(port) as back:
        assert tailsight.flush(20)
        names = sorted({span.name for span in back.spans} - {"compute"})
        assert names[-1] == "turn 39", "the newest are kept"
        assert "turn 00" not in names
        dropped = tailsight.stats().dropped["spool_full"]
        assert len(back.spans) + dropped == 800
        tailsight.shutdown()
        last = said_last(back)
        assert last[keys.SENDER_RECORDED] == last[keys.SENDER_SPANS] == 800
        arrived = {number for _, number, _ in numbers(back)}
        missing = set(range(1, last[keys.BATCH_NUMBER] + 1)) - arrived
        assert missing
        assert max(missing) < min(arrived), "the oldest are the ones that are missing"


def test_lowest_value_first_keeps_errors(tmp_path: Path) -> None:
    with fake_collector() as gone:
        port = int(gone.url.rpartition(":")[2])
    options = QUICK | {"retry_max_s": 0.2, "spool_bytes": 130_000, "spool_policy": "lowest-value-first"}
    tailsight.configure(service="x", endpoint=gone.url, **options)
    for turn in range(40):
        requests(10, "ordinary")
        with contextlib.suppress(ValueError), tailsight.request(f"failed {turn:02}"):
            raise ValueError("x")
        tailsight.flush(0.03)
    assert eventually(lambda: tailsight.stats().dropped.get("spool_full", 0) > 0)
    with fake_collector(port) as back:
        assert tailsight.flush(20)
        failed = {span.name for span in back.spans if span.name.startswith("failed")}
        assert len(failed) >= 39, "only the first batch, sent before the collector was known to be away, was not sorted"
        assert sum(span.name == "ordinary" for span in back.spans) < 400


def test_without_a_disk_batches_wait_in_memory(collector: FakeCollector, caplog: pytest.LogCaptureFixture) -> None:
    collector.replies = [Reply(503)] * 3
    configure(collector, spool_dir="/proc/nowhere")
    requests(10)
    assert tailsight.flush(20)
    assert len(collector.spans) >= 20
    assert tailsight.stats().sent == 20
    tailsight.shutdown()
    assert "wait in memory instead" in caplog.text


def test_retry_after_is_honoured(collector: FakeCollector) -> None:
    collector.replies = [Reply(429, {"Retry-After": "1"})]
    configure(collector)
    requests(1)
    assert tailsight.flush(20)
    first, second = collector.received[:2]
    assert second.at - first.at >= 1
    assert first.body == second.body


def test_a_collector_that_hangs_does_not_fill_the_rings(collector: FakeCollector) -> None:
    collector.gate = threading.Event()
    configure(collector, timeout_s=0.2, buffer_bytes=8 * 64 * 1024)
    for _ in range(40):
        requests(100)
        tailsight.flush(0.1)
    assert tailsight.stats().dropped == {}
    assert tailsight.stats().spooled_bytes > 100_000
    collector.gate.set()
    assert eventually(lambda: tailsight.flush(1))
    assert len({span.span_id for span in collector.spans}) == 8000


# --- a file instead of a collector --------------------------------------------------------------------------------------


@pytest.mark.parametrize("process", [True, False])
def test_the_file_transport_writes_what_import_reads(
    tmp_path: Path, process: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not process:
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    tailsight.configure(service="x", transport="file", file=f"{tmp_path}/out/run-{{pid}}.otlp", **QUICK)
    requests(30)
    assert tailsight.flush()
    assert tailsight.stats().transport == ("file" if process else "thread")
    tailsight.shutdown()
    content = (tmp_path / "out" / f"run-{os.getpid()}.otlp").read_bytes()
    spans = 0
    while content:
        size = shift = at = 0
        while True:
            byte = content[at]
            size |= (byte & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if byte < 128:
                break
        message = ExportTraceServiceRequest.FromString(content[at : at + size])
        spans += sum(len(scope.spans) for resource in message.resource_spans for scope in resource.scope_spans)
        content = content[at + size :]
    assert spans == 60
