"""Forked children: what they recorded arrives however they end, and they close nothing but what is their parent's."""

import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest
from sdk.fake_collector import FakeCollector
from sdk.test_sidecar import configure, eventually, line_of, requests, rings, service, sidecars_of

import tailsight
from tailsight import _sidecar_start
from tailsight._ring import RingFile

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")

FORKED = """
def record(name, count=1):
    for _ in range(count):
        with tailsight.request(name), tailsight.stage("compute", name=name):
            pass

def fork(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(9)
    return child

def code_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


@pytest.fixture(autouse=True)
def sidecar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILSIGHT_TRANSPORT", "sidecar")


def run(collector: FakeCollector, script: str, **environ: str) -> str:
    """Run a script to its end; whoever sends last has ended when its rings are gone."""
    with service(collector, FORKED + textwrap.dedent(script), **environ) as process:
        said = process.communicate(timeout=60)[0]
        assert process.returncode == 0
    return said


def arrived(collector: FakeCollector) -> Counter[str]:
    return Counter(span.name for span in collector.spans)


ENDS = {
    "os._exit": "os._exit(0)",
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGTERM": "signal.raise_signal(15)",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_child_that_ends_right_after_it_recorded_loses_nothing(
    collector: FakeCollector, tmp_path: Path, end: str
) -> None:
    run(
        collector,
        f"""
        record("parent")
        def work():
            record("child")
            {ENDS[end]}
        for _ in range(3):
            code_of(fork(work))
        """,
    )
    assert eventually(lambda: not rings(tmp_path)), rings(tmp_path)
    assert arrived(collector) == {"parent": 2, "child": 6}
    pids = Counter(r.resource["process.pid"] for r in collector.received if r.spans)
    assert len(pids) == 4, "under each one's own name"


def test_what_a_child_left_is_sent_while_its_parent_goes_on(collector: FakeCollector, tmp_path: Path) -> None:
    configure(collector)
    requests(1)
    assert tailsight.flush()
    child = os.fork()
    if child == 0:
        requests(1, "child")
        os._exit(0)
    os.waitpid(child, 0)
    assert eventually(lambda: arrived(collector) == {"r": 1, "child": 1, "compute": 2})
    tailsight.shutdown()
    assert eventually(lambda: not rings(tmp_path)), rings(tmp_path)


def test_a_parent_that_records_nothing_has_its_childrens_spans_sent(collector: FakeCollector, tmp_path: Path) -> None:
    run(
        collector,
        """
        tailsight.configure()
        def work():
            record("child")
            os._exit(0)
        code_of(fork(work))
        """,
    )
    assert eventually(lambda: not rings(tmp_path)), rings(tmp_path)
    assert arrived(collector) == {"child": 2}


def test_a_fork_while_the_sidecar_starts_closes_no_descriptor_of_somebody_else(
    collector: FakeCollector, tmp_path: Path
) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text(f"open({str(tmp_path / 'begun')!r}, 'w').close()\nimport os\nos.read(0, 100_000)\nos.read(0, 1)\n")
    said = run(
        collector,
        f"""
        import pathlib, time
        from tailsight import _sidecar_start
        real, _sidecar_start.MAIN = _sidecar_start.MAIN, pathlib.Path({str(slow)!r})
        record("parent")
        while not os.path.exists({str(tmp_path / "begun")!r}):
            time.sleep(0.001)
        _sidecar_start.MAIN = real
        mine = [fd for _ in range(8) for fd in os.pipe()]  # among them the numbers of what the start has closed
        def work():
            try:
                for fd in mine:
                    os.fstat(fd)
            except OSError:
                os._exit(1)
            record("child")
            os._exit(0 if tailsight.flush(20) else 2)
        print(code_of(fork(work)))
        """,
        TAILSIGHT_FLUSH_TIMEOUT_S="0.2",
    )
    assert said == "0\n"
    assert arrived(collector)["child"] == 2
    # The parent's own wait in its ring: it left without a sidecar.
    configure(collector)
    requests(1, "next")
    assert eventually(lambda: arrived(collector)["parent"] == 2)
    tailsight.shutdown()


def test_a_child_of_a_parent_that_configured_twice_records(collector: FakeCollector, tmp_path: Path) -> None:
    said = run(
        collector,
        """
        tailsight.configure(service="first")
        record("before")
        tailsight.flush()
        tailsight.configure(service="second")
        record("parent")
        tailsight.flush()
        def work():
            record("child")
            print(tailsight.flush(20), tailsight.stats().sent, tailsight.stats().internal_errors, flush=True)
            os._exit(0)
        code_of(fork(work))
        """,
    )
    assert said == "True 2 0\n"
    assert eventually(lambda: not rings(tmp_path)), rings(tmp_path)
    assert arrived(collector) == {"before": 2, "parent": 2, "child": 2}


def test_many_forks_in_several_threads_lose_nothing(collector: FakeCollector, tmp_path: Path) -> None:
    run(
        collector,
        """
        def work():
            record("child", 3)
            os._exit(0)
        def forks():
            for _ in range(5):
                record("parent")
                assert code_of(fork(work)) == 0
        threads = [threading.Thread(target=forks) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        """,
        TAILSIGHT_FLUSH_TIMEOUT_S="30",
    )
    assert eventually(lambda: not rings(tmp_path)), rings(tmp_path)
    assert arrived(collector) == {"parent": 30, "child": 90}
    assert len({span.span_id for span in collector.spans}) == 120


def test_a_fork_of_a_fork(collector: FakeCollector, tmp_path: Path) -> None:
    run(
        collector,
        """
        record("parent")
        def grandchild():
            record("grandchild")
            os._exit(0)
        def child():
            record("child")
            code_of(fork(grandchild))
            record("child")
            os._exit(0)
        code_of(fork(child))
        """,
    )
    assert eventually(lambda: not rings(tmp_path)), rings(tmp_path)
    assert arrived(collector) == {"parent": 2, "child": 4, "grandchild": 2}


@pytest.mark.parametrize("parent_end", ["sys.exit()", "os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_child_that_outlives_its_parent(collector: FakeCollector, tmp_path: Path, parent_end: str) -> None:
    script = f"""
    record("parent")
    tailsight.flush()
    def work():
        sys.stdin.read(1)
        record("child")
        os._exit(0)
    fork(work)
    {parent_end}
    """
    with service(collector, FORKED + textwrap.dedent(script)) as process:
        assert process.wait(30) in (0, -9)
        assert eventually(lambda: not sidecars_of(process.pid)), "its sidecar ends with it, not with the child"
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("x")
        process.stdin.flush()
        assert process.stdout.read() == "", "both have ended"
    configure(collector)
    requests(1, "next")
    assert eventually(lambda: arrived(collector)["child"] == 2)
    tailsight.shutdown()
    assert eventually(lambda: not rings(tmp_path)), rings(tmp_path)
    assert arrived(collector) == {"parent": 2, "child": 2, "next": 1, "compute": 1}


def test_the_parents_exit_while_children_run(collector: FakeCollector, tmp_path: Path) -> None:
    script = """
    record("parent")
    def work():
        record("child")
        tailsight.flush()
        print("recorded", flush=True)
        sys.stdin.read(1)
        record("child")
        os._exit(0)
    fork(work)
    """
    with service(collector, FORKED + textwrap.dedent(script)) as process:
        assert line_of(process) == "recorded"
        assert process.wait(30) == 0
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
        assert eventually(lambda: not rings(tmp_path)), rings(tmp_path)
    assert arrived(collector) == {"parent": 2, "child": 4}


WORKERS = {
    "a pool that is terminated": "with context.Pool(2) as pool:\n        pool.map(work, range(3))",
    "os._exit": "each = [context.Process(target=leave, args=(n,)) for n in range(3)]\n"
    "    [one.start() for one in each]\n    [one.join() for one in each]",
}


@pytest.mark.parametrize(
    ("method", "workers", "records"),
    [
        ("fork", "a pool that is terminated", True),
        ("fork", "os._exit", False),
        ("forkserver", "a pool that is terminated", False),
        ("spawn", "os._exit", True),
    ],
)
def test_workers_that_are_not_asked_lose_nothing(
    collector: FakeCollector, tmp_path: Path, method: str, workers: str, records: bool
) -> None:
    script = tmp_path / "workers.py"
    script.write_text(
        textwrap.dedent(f"""
import multiprocessing, os, tailsight

def work(n):
    with tailsight.request("work"):
        pass

def leave(n):
    work(n)
    os._exit(0)

if __name__ == "__main__":
    tailsight.configure()
    if {records}:
        with tailsight.request("parent"):
            pass
    context = multiprocessing.get_context("{method}")
    {WORKERS[workers]}
""")
    )
    subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "TAILSIGHT_ENDPOINT": collector.url, "TAILSIGHT_FLUSH_TIMEOUT_S": "30"},
        timeout=60,
        check=True,
    )
    assert eventually(lambda: not rings(tmp_path)), rings(tmp_path)
    assert arrived(collector) == {"work": 3} | ({"parent": 1} if records else {})


def test_where_there_is_no_room_for_the_rings_they_go_elsewhere_with_what_is_in_them(
    collector: FakeCollector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = tmp_path / "run", tmp_path / "run" / "larger"
    monkeypatch.setattr(_sidecar_start, "runtime_folder", lambda chosen: [small, large])
    reserve = RingFile.reserve

    def no_room(self: RingFile) -> None:
        if self.path.parent == small:
            raise OSError(28, "No space left on device")
        reserve(self)

    monkeypatch.setattr(RingFile, "reserve", no_room)
    configure(collector)
    requests(500)
    assert tailsight.flush(20)
    assert tailsight.stats().transport == "sidecar"
    assert [path.parent for path in small.rglob("*.ring")] == [large]
    tailsight.shutdown()
    assert eventually(lambda: not list(small.rglob("*.ring")))
    assert arrived(collector) == {"r": 500, "compute": 500}


def test_where_there_is_no_room_anywhere_the_thread_sends_what_the_early_ring_holds(
    collector: FakeCollector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_room(self: RingFile) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RingFile, "reserve", no_room)
    configure(collector)
    requests(500)
    assert tailsight.flush(20)
    assert tailsight.stats().transport == "thread"
    assert arrived(collector) == {"r": 500, "compute": 500}
    assert rings(tmp_path) == []
    assert "no room" in caplog.text
    tailsight.shutdown()
