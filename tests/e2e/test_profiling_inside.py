"""`tailsight.profiling.start()`: a real service, its real sidecar with a real py-spy, a real collector and its store."""

import json
import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path

import pytest
from testkit.processes import CollectorProcess, eventually

from tailsight_cli import main
from tailsight_cli.profiling import permission
from tailsight_storage import open_store

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        permission.yama_scope() > 1 and not permission.has_sys_ptrace(),
        reason="nobody may look into other processes here (kernel.yama.ptrace_scope)",
    ),
]

SERVICE = """
import random, sys, threading, time
import tailsight

RANDOM = random.Random(7)
IDLE = threading.Event()

def spin(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass

def split_words():
    spin(RANDOM.uniform(0.001, 0.005))

def multiply():
    spin(RANDOM.uniform(0.002, 0.008))

@tailsight.stage("preprocess")
def preprocess():
    split_words()

@tailsight.request
def handle():
    preprocess()
    with tailsight.stage("compute"):
        multiply()

def serve():
    while not IDLE.wait(RANDOM.uniform(0.01, 0.03)):
        handle()

for _ in range(2):
    threading.Thread(target=serve, daemon=True).start()
for line in sys.stdin:
    print(eval(line), flush=True)
tailsight.shutdown()
"""


@contextmanager
def service(collector, folder, name, **environ):
    """A service that does what is written to its input, and answers."""
    script = folder / "service.py"
    script.write_text(textwrap.dedent(SERVICE))
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TAILSIGHT_", "OTEL_"))}
    own = {
        "TAILSIGHT_SERVICE": name,
        "TAILSIGHT_ENDPOINT": collector.otlp_url,
        "TAILSIGHT_RUNTIME_DIR": str(folder / "run"),
        "TAILSIGHT_SPOOL_DIR": str(folder / "spool"),
        "TAILSIGHT_RETRY_MAX_S": "0.5",
        "TMPDIR": str(folder / "tmp"),
    }
    (folder / "tmp").mkdir()
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=kept | own | environ,
        ) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                process.stdin.close()
                process.wait(60)


def ask(process, expression):
    process.stdin.write(f"{expression}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def profile_of(collector, name):
    """The one profile of a service, once it is there."""
    said = f" of {name} on "
    eventually(
        lambda: any(said in line and "is joined" in line for line in list(collector.log)),
        "it is joined",
        patience_s=150,
    )
    question = "SELECT process, samples, joined, trusted, trigger, source FROM profiles WHERE service = {name:String}"
    with open_store(collector.store) as opened:
        [found] = opened.rows(question, name=name)
    return found


def spies_on(pid):
    """The running py-spies on a process."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdecimal() else []
        except OSError:
            continue
        if words[1:4] == [b"record", b"--pid", str(pid).encode()]:
            found.append(int(folder.name))
    return found


def record_until_the_end(process, meanwhile=lambda: None):
    """Await the end of the recording that the service asked for; then the service does nothing more."""
    eventually(lambda: spies_on(process.pid), "py-spy has begun", patience_s=60)
    meanwhile()
    eventually(lambda: not spies_on(process.pid), "py-spy has ended", patience_s=60)
    assert ask(process, "IDLE.set()") == "None"


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with CollectorProcess(tmp_path_factory.mktemp("inside") / "data") as running:
        yield running


def test_the_sidecar_records_and_the_flame_graph_of_a_stage_has_its_function(collector, tmp_path, capfd):
    with service(collector, tmp_path, "inside") as process:
        assert ask(process, "tailsight.profiling.start(duration_s=4, rate_hz=250)") == "True"
        record_until_the_end(process)
        pid, samples, joined, trusted, trigger, source = profile_of(collector, "inside")
        assert (pid, trusted, trigger) == (process.pid, True, "hand")
        assert source.startswith("py-spy ")
        assert samples > joined > 100
        assert ask(process, "tailsight.stats().internal_errors") == "0"
        assert list((tmp_path / "tmp").iterdir()) == []
    assert (tmp_path / "log").read_text() == ""
    for stage, own, other in (("compute", "multiply", "split_words"), ("preprocess", "split_words", "multiply")):
        code = main.run(["flame", "--store", collector.store, "--service", "inside", "--stage", stage, "--json"])
        out, err = capfd.readouterr()
        assert code == 0, err
        answer = json.loads(out)
        functions = {each["function"]: each for each in answer["functions"]}
        assert functions[own]["total_samples"] > 0.9 * answer["samples"], stage
        assert functions.get(other, {"total_samples": 0})["total_samples"] < 0.1 * answer["samples"], stage
    with open_store(collector.store) as opened:
        states = dict(
            opened.rows("SELECT state, sum(count) FROM profile_samples WHERE service = 'inside' GROUP BY state")
        )
    assert states["running"] > 10, "the kernel was asked beside it"
    eventually(lambda: not list((collector.data / "recordings").glob("*.json")), "what is joined is deleted")
    eventually(lambda: list((tmp_path / "run").iterdir()) == [], "nothing is left behind")


def test_a_collector_that_is_killed_in_the_midst_of_it_gets_the_recording_when_it_is_back(collector, tmp_path):
    with service(collector, tmp_path, "patient") as process:
        assert ask(process, "tailsight.profiling.start(duration_s=2)") == "True"
        record_until_the_end(process, collector.kill)
        collector.start()
        _, samples, _, _, trigger, _ = profile_of(collector, "patient")
        assert trigger == "hand"
        assert samples > 50
