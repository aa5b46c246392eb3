"""A device at the edge: a real service with its sidecar, a collector that comes and goes, kill -9, and what is known at the end."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
from testkit.processes import CollectorProcess, eventually

from tailsight_analysis import Window, breakdown, connect

SERVICE = textwrap.dedent("""
    import os, signal, sys, time
    import tailsight

    tailsight.configure()

    def work(count):
        for n in range(count):
            with tailsight.request("frame"), tailsight.stage("compute") as s:
                s.set("n", n)

    for line in sys.stdin:
        order, _, argument = line.strip().partition(" ")
        if order == "work":
            work(int(argument))
        elif order == "flush":
            tailsight.flush(float(argument))
        elif order == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        print("done", flush=True)
""")


@pytest.fixture
def device(tmp_path):
    """Start services on one device: its name, its folders."""
    started = []

    def start(endpoint, **environ):
        process = subprocess.Popen(
            [sys.executable, "-c", SERVICE],
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith(("TAILSIGHT_", "OTEL_"))},
                "TAILSIGHT_ENDPOINT": endpoint,
                "TAILSIGHT_SERVICE": "camera",
                "TAILSIGHT_HOST": f"edge-{tmp_path.name[-8:]}",
                "TAILSIGHT_SEND_INTERVAL_S": "0.05",
                "TAILSIGHT_RETRY_INITIAL_S": "0.05",
                "TAILSIGHT_RETRY_MAX_S": "0.2",
                "TAILSIGHT_SPOOL_DIR": str(tmp_path / "spool"),
                "TAILSIGHT_RUNTIME_DIR": str(tmp_path / "run"),
                **environ,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)

        def tell(*orders):
            for order in orders:
                process.stdin.write(order + "\n")
                process.stdin.flush()
                if order != "die":
                    assert process.stdout.readline() == "done\n"

        return process, tell

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def senders(collector, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "tailsight_cli.main", "store", "senders", "--store", collector.store, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def test_nothing_is_lost_between_a_device_and_the_store_and_the_store_knows_it(tmp_path, device):
    with CollectorProcess(tmp_path) as collector:
        process, tell = device(collector.otlp_url)
        tell("work 2000", "flush 10")
        collector.kill()
        tell("work 1000", "flush 0.2")  # to the spool
        process.kill()  # a power cut of the service alone
        process.wait()
        eventually(lambda: not list((tmp_path / "run").glob("*")), "the sidecar has ended")
        assert list((tmp_path / "spool").glob("*/*.otlp")), "what the collector missed is on disk"
        collector.start()
        process, tell = device(collector.otlp_url)
        tell("work 500", "flush 10", "work 520", "die")
        process.wait()
        eventually(lambda: not list((tmp_path / "run").glob("*")), "the second sidecar has ended")
        collector.wait_until_loaded()
        with connect(collector.store) as store:
            assert store.rows("SELECT count() FROM spans") == [(2 * 4020,)]
        answer = senders(collector)
        assert f"edge-{tmp_path.name[-8:]}: 8,040 sent, 0 lost" in answer
        [found] = json.loads(senders(collector, "--json"))["devices"]
        assert (found["sent"], found["lost"], found["outstanding"]) == (8040, 0, 0)
        assert len(found["senders"]) == 2


def test_sampled_requests_are_weighted_back(tmp_path, device):
    with CollectorProcess(tmp_path) as collector:
        process, tell = device(collector.otlp_url, TAILSIGHT_SAMPLE_RATE="0.1")
        tell("work 5000", "flush 10")
        process.stdin.close()
        process.wait()
        collector.wait_until_loaded()
        with connect(collector.store) as store:
            [(kept, weight)] = store.rows("SELECT count(), sum(weight) FROM spans WHERE stage = ''")
            found = breakdown(store, Window.last())
        assert 300 < kept < 1500
        assert weight == pytest.approx(5000, rel=0.15)
        assert found.requests.count == pytest.approx(weight, abs=1)
        assert found.requests.stored == kept
        [sender] = json.loads(senders(collector, "--json"))["devices"][0]["senders"]
        assert sum(sender["kept_requests"].values()) + sum(sender["sampled_out_requests"].values()) == 5000


def test_the_state_of_the_machine_arrives(tmp_path, device):
    with CollectorProcess(tmp_path) as collector:
        process, tell = device(collector.otlp_url, TAILSIGHT_DEVICE_INTERVAL_S="0.05")
        tell("work 1", "flush 10")
        with connect(collector.store) as store:
            eventually(
                lambda: (
                    store.rows("SELECT uniqExact(metric) > 4 FROM hardware_samples WHERE service = 'camera'") == [(1,)]
                ),
                "samples of several metrics are stored",
            )
            [(host, pid)] = store.rows("SELECT DISTINCT host, pid FROM hardware_samples WHERE service = 'camera'")
    assert host == f"edge-{tmp_path.name[-8:]}"
    assert int(pid) == process.pid
