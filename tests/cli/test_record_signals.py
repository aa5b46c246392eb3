"""`tailsight record`, its command and the processes around it: who is told to end, who is killed, what is left."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from testkit.recordings import names_in

from tailsight_cli import main
from tailsight_cli.recording.run_file import read_header

PATIENCE_S = 60
WAITS = """
import os, signal, sys
import tailsight

def stop(number, frame):
    print("told", signal.Signals(number).name, flush=True)
    sys.exit(5)

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, stop)
with tailsight.request("rank"):
    pass
tailsight.flush()  # its sidecar works: a signal during its start would be said on stderr
print(os.getpid(), flush=True)
while True:
    signal.pause()
"""
DEAF = """
import os, signal
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
print(os.getpid(), flush=True)
while True:
    signal.pause()
"""
KILLED = """
import os, signal
import tailsight

with tailsight.request("done"):
    pass
tailsight.flush()
with tailsight.request("done"):
    pass
with tailsight.request("under way"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
KILLED_WITH_ITS_SIDECAR = """
import os, pathlib, signal
import tailsight

with tailsight.request("done"):
    pass
tailsight.flush()
for entry in pathlib.Path("/proc").iterdir():
    if entry.name.isdecimal():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\\0")
        except OSError:
            continue
        if f"for-process-{os.getpid()}".encode() in words:
            os.kill(int(entry.name), signal.SIGKILL)
for _ in range(3):
    with tailsight.request("left in the ring"):
        pass
os.kill(os.getpid(), signal.SIGKILL)
"""
LEAVES_ONE_BEHIND = """
import subprocess, sys
import tailsight

with tailsight.request("rank"):
    pass
server = subprocess.Popen(
    [sys.executable, "-c", "import os, signal\\nprint(os.getpid(), flush=True)\\nsignal.pause()"],
    start_new_session=True, stdout=subprocess.PIPE, text=True,
)
print(server.stdout.readline().strip())
"""


@contextmanager
def recording(folder: Path, program: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start `tailsight record`; gives it and its command's process id, once the command says that."""
    with subprocess.Popen(
        [sys.executable, "-m", "tailsight_cli.main", "record", "-o", "a.otlp.zst", "--", sys.executable, "-c", program],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        if not (said := process.stdout.readline()):
            pytest.fail(f"the recorder ended: {process.communicate()[1]}")
        pid = int(said)
        try:
            yield process, pid
        finally:
            process.kill()
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def await_end(pid: int) -> None:
    """Wait until a process that is no child of ours has ended; the test's time limit is the patience."""
    with suppress(ProcessLookupError), os.fdopen(os.pidfd_open(pid), "rb", 0) as ended:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        assert poll.poll(PATIENCE_S * 1000)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_is_passed_on_once_and_nothing_is_written(tmp_path, number):
    with recording(tmp_path, WAITS) as (process, pid):
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert out == f"told {number.name}\n"
        assert err == f"tailsight: stopped by signal {number.name}: nothing is written\n"
        assert process.returncode == 128 + number
        assert not Path(f"/proc/{pid}").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_second_signal_kills_a_command_that_does_not_listen(tmp_path):
    with recording(tmp_path, DEAF) as (process, pid):
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
        assert "nothing is written" in err
        assert not Path(f"/proc/{pid}").exists()
    assert list(tmp_path.iterdir()) == []


def test_the_command_does_not_outlive_its_recorder(tmp_path):
    with recording(tmp_path, DEAF) as (process, pid):
        process.kill()
        process.wait(PATIENCE_S)
        await_end(pid)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def tailsight(capfd, tmp_path, monkeypatch):
    """Run the command in this process, in a folder of its own; gives exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(program: str, *options: str) -> tuple[int, str, str]:
        code = main.run(["record", "-o", "a.otlp.zst", *options, "--", sys.executable, "-c", program])
        return code, *capfd.readouterr()

    return call


def test_what_a_killed_command_had_finished_is_kept_if_that_is_wanted(tailsight):
    code, _, err = tailsight(KILLED, "--keep-going")
    assert code == 128 + signal.SIGKILL
    assert "a: signal 9 ended the command: requests under way are missing" in err.splitlines()
    assert names_in(Path("a.otlp.zst")) == {"done": 2}


def test_a_killed_command_is_a_failed_one(tailsight):
    code, _, err = tailsight(KILLED)
    assert code == 128 + signal.SIGKILL
    assert "ended with 137 (a): nothing is written" in err
    assert list(Path().iterdir()) == []


def test_rings_whose_sidecar_was_killed_too_are_read_to_their_end(tailsight):
    code, _, _ = tailsight(KILLED_WITH_ITS_SIDECAR, "--keep-going")
    assert code == 128 + signal.SIGKILL
    assert names_in(Path("a.otlp.zst")) == {"done": 1, "left in the ring": 3}
    (run,) = read_header(Path("a.otlp.zst")).runs
    assert (run.lost.cut_off_senders, run.lost.missing_batches, run.lost.unread_rings) == (0, 0, 0)


def test_what_a_command_leaves_running_is_ended_and_said(tailsight):
    code, out, err = tailsight(LEAVES_ONE_BEHIND)
    assert code == 0
    assert not Path(f"/proc/{int(out)}").exists()
    assert err.splitlines()[0] == "a: 1 process that the command left running had to be ended"


def test_no_folder_of_a_recording_is_left(tailsight, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    rings = {path.name for path in Path("/dev/shm").glob("tailsight-record-*")}
    assert tailsight(KILLED)[0] == 128 + signal.SIGKILL
    assert list(temporary.iterdir()) == []
    assert {path.name for path in Path("/dev/shm").glob("tailsight-record-*")} <= rings
