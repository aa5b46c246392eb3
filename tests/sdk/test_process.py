"""What happens when processes end, fork and spawn. Each test runs a real interpreter against a real server."""

import os
import subprocess
import sys
import textwrap
import time

import pytest
from sdk.fake_collector import FakeCollector, Received

import tailsight

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")


@pytest.fixture(autouse=True, params=["thread", "sidecar"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TAILSIGHT_TRANSPORT", request.param)
    return str(request.param)


def run(collector: FakeCollector | None, script: str, **environ: str) -> subprocess.CompletedProcess[str]:
    prelude = "import os, random, sys, threading\nimport tailsight\n"
    return subprocess.run(
        [sys.executable, "-c", prelude + textwrap.dedent(script)],
        env={
            **os.environ,
            **({"TAILSIGHT_ENDPOINT": collector.url} if collector else {}),
            "TAILSIGHT_SEND_INTERVAL_S": "60",
            "TAILSIGHT_SERVICE": "child",
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def names(collector: FakeCollector) -> list[str]:
    return sorted(span.name for span in collector.spans)


def test_what_is_pending_is_sent_at_exit_without_configure(collector: FakeCollector) -> None:
    done = run(
        collector,
        """
        with tailsight.request("r"), tailsight.stage("compute"):
            pass
        """,
    )
    assert names(collector) == ["compute", "r"]
    assert collector.received[0].resource["service.name"] == "child"
    assert done.stderr == ""


def test_spans_of_an_exit_handler_are_sent_too(collector: FakeCollector) -> None:
    run(
        collector,
        """
        import atexit
        tailsight.configure()
        def last():
            with tailsight.request("last"):
                pass
        atexit.register(last)
        """,
    )
    assert names(collector) == ["last"]


def test_an_uncaught_exception_still_sends(collector: FakeCollector) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run(
            collector,
            """
            with tailsight.request("r"):
                raise SystemExit(3)
            """,
        )
    assert failed.value.returncode == 3
    assert names(collector) == ["r"]


def test_without_a_collector_the_process_ends_at_once_and_says_so() -> None:
    began = time.monotonic()
    done = run(
        None,
        """
        with tailsight.request("r"):
            pass
        """,
        TAILSIGHT_ENDPOINT="http://127.0.0.1:9",
        TAILSIGHT_FLUSH_TIMEOUT_S="50",
    )
    lines = done.stderr.splitlines()
    assert 1 <= len(lines) <= 2, "the sender may or may not have tried before the end"
    for line in lines:
        assert line.startswith("tailsight: ")
        assert "http://127.0.0.1:9/v1/traces" in line
    assert time.monotonic() - began < 25


def test_a_forked_child_sends_its_own_spans_and_only_those(collector: FakeCollector) -> None:
    run(
        collector,
        """
        with tailsight.request("before"):
            with tailsight.stage("preprocess", name="parents"):
                pass
            child = os.fork()
            if child == 0:
                with tailsight.stage("compute", name="childs"):
                    pass
                tailsight.flush()
                os._exit(0)
            os.waitpid(child, 0)
        """,
    )
    assert names(collector) == ["before", "childs", "parents"]
    by_name = {span.name: span for span in collector.spans}
    assert by_name["childs"].trace_id == by_name["before"].trace_id
    assert by_name["childs"].parent_span_id == by_name["before"].span_id
    pids = {span.name: received.resource["process.pid"] for received in collector.received for span in received.spans}
    assert pids["childs"] != pids["before"] == pids["parents"]


def test_what_was_pending_at_a_fork_is_sent_once(collector: FakeCollector) -> None:
    run(
        collector,
        """
        for _ in range(50):
            with tailsight.request("parents"):
                pass
        child = os.fork()
        if child == 0:
            sys.exit()  # runs the exit handlers
        os.waitpid(child, 0)
        """,
    )
    assert names(collector) == ["parents"] * 50


def test_forked_children_have_different_ids_even_if_the_application_seeds_random(collector: FakeCollector) -> None:
    run(
        collector,
        """
        tailsight.configure()
        random.seed(1)
        children = []
        for _ in range(4):
            child = os.fork()
            if child == 0:
                random.seed(1)
                with tailsight.request("childs"):
                    pass
                tailsight.shutdown()
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        """,
    )
    assert len({span.trace_id for span in collector.spans}) == 4
    assert len({span.span_id for span in collector.spans}) == 4


def test_a_fork_while_the_sender_works_does_not_hang(collector: FakeCollector) -> None:
    run(
        collector,
        """
        def work():
            for _ in range(2000):
                with tailsight.request("threads"):
                    pass
        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(10):
            child = os.fork()
            if child == 0:
                with tailsight.request("childs"):
                    pass
                assert tailsight.flush(20)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        thread.join()
        """,
        TAILSIGHT_SEND_INTERVAL_S="0.001",
    )
    assert names(collector).count("childs") == 10
    assert names(collector).count("threads") == 2000


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_workers_send_at_their_end(collector: FakeCollector, method: str, tmp_path: object) -> None:
    script = f"{tmp_path}/workers.py"
    with open(script, "w", encoding="utf-8") as out:  # noqa: PTH123  a spawned child imports its parent's main file
        out.write(
            textwrap.dedent(f"""
            import multiprocessing, tailsight

            @tailsight.request
            def work():
                pass

            if __name__ == "__main__":
                tailsight.configure()
                context = multiprocessing.get_context("{method}")
                workers = [context.Process(target=work) for _ in range(2)]
                for worker in workers:
                    worker.start()
                for worker in workers:
                    worker.join()
            """)
        )
    subprocess.run(
        [sys.executable, script],
        env={**os.environ, "TAILSIGHT_ENDPOINT": collector.url, "TAILSIGHT_SEND_INTERVAL_S": "60"},
        timeout=60,
        check=True,
    )
    assert names(collector) == ["work", "work"]


def test_importing_starts_nothing_and_reads_nothing() -> None:
    done = run(None, "print(threading.active_count(), tailsight.stats().sent)", TAILSIGHT_TIMEOUT_S="nonsense")
    assert (done.stdout, done.stderr) == ("1 0\n", "")


def test_nothing_that_a_fork_could_interrupt_is_imported_later(collector: FakeCollector) -> None:
    """A child forked in the midst of another thread's import has a module that stays half imported."""
    done = run(
        collector,
        """
        before = set(sys.modules)
        with tailsight.request():
            pass
        tailsight.flush()
        print(sorted(set(sys.modules) - before))
        """,
    )
    assert done.stdout == "[]\n"


def test_the_sdk_brings_no_heavy_modules() -> None:
    heavy = ("numpy", "google.protobuf", "requests", "opentelemetry.sdk", "urllib3")
    done = run(None, f"print([name for name in {heavy} if name in sys.modules])")
    assert done.stdout == "[]\n"


def test_the_pid_is_the_senders_own(collector: FakeCollector) -> None:
    tailsight.configure(endpoint=collector.url)
    with tailsight.request():
        pass
    assert tailsight.flush()
    received: Received = collector.received[0]
    assert received.resource["process.pid"] == os.getpid()
