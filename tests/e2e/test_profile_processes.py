"""`tailsight profile` with real processes that are no simple loop: threads at the GIL, forked workers, ends that come early."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from testkit.processes import CollectorProcess, eventually

from tailsight_cli import main
from tailsight_cli.profiling import permission
from tailsight_storage import open_store

pytestmark = pytest.mark.skipif(
    not permission.has_sys_ptrace() and permission.yama_scope() > 0,
    reason="this user may not look into other processes (kernel.yama.ptrace_scope)",
)
SERVICE = Path(__file__).parents[1] / "testkit" / "profiled_threads.py"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("TAILSIGHT_", "OTEL_"))}


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with CollectorProcess(tmp_path_factory.mktemp("processes") / "data") as running:
        yield running


@contextmanager
def service(collector, kind):
    command = [sys.executable, str(SERVICE), kind, kind, collector.otlp_url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.stdin.close()
            process.wait(60)


def rows(collector, sql, **parameters):
    with open_store(collector.store) as opened:
        return opened.rows(sql, **parameters)


def has_spans(collector, name, processes=1):
    sql = "SELECT uniqExact(resource['process.pid']) FROM spans WHERE service = {name:String}"
    eventually(lambda: rows(collector, sql, name=name)[0][0] >= processes, f"spans of {name} are there")


@contextmanager
def profile(collector, *arguments, **environment):
    command = [sys.executable, "-m", "tailsight_cli.main", "profile", *arguments]
    with subprocess.Popen(
        [*command, "--store", collector.store, "--endpoint", collector.otlp_url, "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT | environment,
    ) as process:  # fmt: skip
        yield process


def test_threads_that_wait_for_the_gil_have_its_colour_in_the_page(collector, tmp_path, capfd):
    with service(collector, "gil") as process:
        has_spans(collector, "gil")
        with profile(collector, "--pid", str(process.pid), "--duration", "3s", "--rate", "200") as command:
            out, err = command.communicate(timeout=120)
    assert command.returncode == 0, err
    [answer] = json.loads(out)["profiles"]
    assert answer["trusted"] is True
    states = dict(
        rows(
            collector,
            "SELECT state, sum(count) FROM profile_samples WHERE profile = {id:String} AND stage = 'compute' GROUP BY state",
            id=answer["id"],
        )
    )
    # two of three wait for it at a time, where all three are in a stage; on a busy machine some states are not known
    known = sum(states.values()) - states.get("unknown", 0)
    assert known >= 50, states
    assert states["gil"] >= 0.2 * known, states
    assert states["running"] >= 0.1 * known, states
    page = tmp_path / "gil.html"
    arguments = ["flame", "--store", collector.store, "--service", "gil", "--stage", "compute"]
    assert main.run([*arguments, "-o", str(page)]) == 0
    assert f"Written to {page}" in capfd.readouterr().out
    text = page.read_text()
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    _, _, running, gil, waiting, unknown = data["root"][3]
    assert (running, gil) == (states["running"], states["gil"])
    assert data["root"][3][0] == running + gil + waiting + unknown == sum(states.values())
    assert main.run([*arguments, "--json"]) == 0
    functions = {each["function"]: each for each in json.loads(capfd.readouterr().out)["functions"]}
    assert functions["spin"]["gil_samples"] > 0.8 * gil


def test_each_forked_worker_is_recorded_and_joined_to_its_own_spans(collector):
    with service(collector, "workers") as process:
        has_spans(collector, "workers", 2)
        with profile(collector, "--service", "workers", "--duration", "3s", "--rate", "200") as command:
            out, err = command.communicate(timeout=120)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert command.returncode == 0, err
    answers = json.loads(out)["profiles"]
    assert len(answers) == 2
    assert {str(each["process"]) for each in answers} <= set(children)
    for each in answers:
        assert each["trusted"] is True
        assert each["agreement"] > 0.9
        assert each["joined"] > 100


@pytest.mark.long
def test_a_process_that_ends_meanwhile_is_kept_as_far_as_it_came(collector, tmp_path):
    with (
        service(collector, "ends") as process,
        profile(
            collector, "--pid", str(process.pid), "--duration", "5m", "--rate", "200", TMPDIR=str(tmp_path)
        ) as command,
    ):
        has_begun(tmp_path)
        before = spans_of(collector, "ends")
        eventually(lambda: spans_of(collector, "ends") > before + 600, "it has worked for a while")
        process.stdin.close()
        out, err = command.communicate(timeout=120)
    assert command.returncode == 0, err
    [answer] = json.loads(out)["profiles"]
    assert answer["trusted"] is True
    assert 300 < answer["duration_ms"] < 100_000
    assert answer["joined"] > 50
    assert list(tmp_path.iterdir()) == []


def has_begun(folder):
    eventually(lambda: any("Sampling" in log.read_text() for log in folder.glob("*/*.log")), "py-spy has begun")


def spans_of(collector, name):
    return rows(collector, "SELECT count() FROM spans WHERE service = {name:String}", name=name)[0][0]


@contextmanager
def small_disk(folder, size):
    """Let a folder be of so many bytes."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"may not mount here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk_is_said_and_no_half_of_a_recording_kept(collector, tmp_path):
    with small_disk(tmp_path, "32k"), service(collector, "full") as process:
        has_spans(collector, "full")
        with profile(
            collector, "--pid", str(process.pid), "--duration", "2s", "--rate", "500", TMPDIR=str(tmp_path)
        ) as command:
            out, err = command.communicate(timeout=120)
        assert list(tmp_path.iterdir()) == []
    assert (command.returncode, out) == (4, "")
    assert f"no space is left in {tmp_path}; name another folder with TMPDIR" in err.splitlines()[-1]
    assert rows(collector, "SELECT count() FROM profiles WHERE service = 'full'") == [(0,)]


def spies_of(pid):
    """The py-spy processes that look at a process."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
        except OSError:
            continue
        if words and words[0].endswith(b"py-spy") and str(pid).encode() in words:
            found.append(int(entry.name))
    return found


def test_of_two_profilers_one_that_is_killed_takes_nothing_from_the_other(collector, tmp_path):
    with service(collector, "workers") as process:
        has_spans(collector, "workers", 2)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        with profile(collector, "--service", "workers", "--duration", "5m", TMPDIR=str(tmp_path)) as command:
            eventually(lambda: len(list(tmp_path.glob("*/*.log"))) == 2, "both are there")
            eventually(
                lambda: all("Sampling" in log.read_text() for log in tmp_path.glob("*/*.log")), "both have begun"
            )
            before = spans_of(collector, "workers")
            eventually(lambda: spans_of(collector, "workers") > before + 150, "they have worked for a while")
            killed = children[0]
            [spy] = spies_of(int(killed))
            os.kill(spy, signal.SIGKILL)
            eventually(lambda: not spies_of(int(killed)), "it has ended")
            command.send_signal(signal.SIGINT)
            out, err = command.communicate(timeout=120)
    assert re.search(rf"py-spy on process {killed} (was killed \(SIGKILL\)|ended) and left no samples", err), err
    assert [str(each["process"]) for each in json.loads(out)["profiles"]] == [children[1]]
    assert command.returncode in (0, 3), err  # as long as it is, the clock is found or not
    assert list(tmp_path.iterdir()) == []


def test_a_schedule_records_again_and_again(collector):
    with service(collector, "often") as process:
        has_spans(collector, "often")
        with profile(
            collector, "--pid", str(process.pid), "--every", "2s", "--rounds", "2", "--duration", "1s", "--rate", "500"
        ) as command:
            out, err = command.communicate(timeout=150)
    assert command.returncode in (0, 3), err  # as short as they are, the clock is found or not
    answers = json.loads(out)["profiles"]
    assert [each["trigger"] for each in answers] == ["schedule", "schedule"]
    assert len({each["id"] for each in answers}) == 2
    assert "Waiting for the next recording, 1 to come" in err
