"""`tailsight record`, its command and the processes around it: who is told to end, who is killed, what is left."""

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from testkit.recordings import names_in, python

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
AS_LEADER = """
import fcntl, sys, termios
from tailsight_cli import main

fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # our session's terminal, as a shell's
main.main()
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
SAYS_ITS_RINGS = """
import os, pathlib
import tailsight

with tailsight.request("rank"):
    pass
print(pathlib.Path(os.environ["TAILSIGHT_RUNTIME_DIR"]).parent)
"""
WANTS_THE_TERMINAL = """
import os, termios
import tailsight

with tailsight.request("rank"):
    pass
termios.tcsetattr(1, termios.TCSANOW, termios.tcgetattr(1))
try:
    os.open("/dev/tty", os.O_RDWR)
except OSError:
    print("there is none")
"""
LEAVES_SOME_THAT_END = """
import multiprocessing
import tailsight

def work():
    with tailsight.request("rank"):
        pass

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=work)
    child.start()
    child.join()
"""
LEAVES_THE_ENDED_BEHIND = """
import os, subprocess, sys
import tailsight

ENDED = "c = [subprocess.Popen(['true']) for _ in range(3)]\\n[os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOWAIT) for p in c]"
with tailsight.request("rank"):
    pass
server = subprocess.Popen(
    [sys.executable, "-c", f"import os, signal, subprocess\\n{ENDED}\\nprint(1, flush=True)\\nsignal.pause()"],
    start_new_session=True, stdout=subprocess.PIPE, text=True,
)
server.stdout.readline()
"""
LEAVES_ANOTHER_USERS = """
import subprocess
import tailsight

with tailsight.request("rank"):
    pass
other = subprocess.Popen(
    ["setpriv", "--reuid=65534", "--clear-groups", "sh", "-c", "echo $$; exec sleep 60"],
    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
)
print(other.stdout.readline().strip())
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
def tailsight(record):
    """Record a Python program; gives exit code, stdout, stderr."""
    return lambda program, *options: record("-o", "a.otlp.zst", *options, "--", *python(program))


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


@pytest.mark.parametrize(
    ("program", "lines"),
    [
        pytest.param(LEAVES_SOME_THAT_END, [], id="that end by themselves"),
        pytest.param(
            LEAVES_THE_ENDED_BEHIND,
            ["a: 1 process that the command left running had to be ended"],
            id="that have ended",
        ),
    ],
)
def test_processes_that_end_by_themselves_are_not_counted(record, program, lines):
    Path("program.py").write_text(program)
    code, _, err = record("-o", "a.otlp.zst", "--", sys.executable, "program.py")
    assert code == 0
    assert err.splitlines()[:-2] == lines


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs root, and setpriv")
def test_another_users_process_that_is_left_costs_no_recording(tmp_path):
    command = [
        sys.executable,
        "-m",
        "tailsight_cli.main",
        "record",
        "-o",
        "a.otlp.zst",
        "--",
        *python(LEAVES_ANOTHER_USERS),
    ]
    done = subprocess.run(
        ["setpriv", "--bounding-set=-kill", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    os.kill(int(done.stdout), signal.SIGKILL)
    assert (done.returncode, names_in(tmp_path / "a.otlp.zst")) == (0, {"rank": 1})


def test_a_command_that_asks_for_the_terminal_is_told_that_there_is_none(tmp_path):
    """In a background group of our own session it would be stopped, and the recorder would wait for ever."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", AS_LEADER, "record", "-o", "a.otlp.zst", "--", *python(WANTS_THE_TERMINAL)],
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            _, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert os.read(ours, 100) == b"there is none\r\n"
    os.close(ours)


def test_nohup_keeps_a_recording_from_ending_with_its_terminal(tmp_path):
    program = [sys.executable, "-c", WAITS]
    with subprocess.Popen(
        ["nohup", sys.executable, "-m", "tailsight_cli.main", "record", "-o", "a.otlp.zst", "--", *program],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline())
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert out == "told SIGTERM\n"
    assert err == "tailsight: stopped by signal SIGTERM: nothing is written\n"


def test_no_folder_of_a_recording_is_left(tailsight, tmp_path, monkeypatch):
    temporary, shared = tmp_path / "temporary", tmp_path / "shared"  # others on this machine record too
    for each in (temporary, shared):
        each.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr("tailsight_cli.recording.folders.SHARED_MEMORY", shared)
    assert tailsight(SAYS_ITS_RINGS)[1] == f"{shared}\n"
    assert tailsight(KILLED, "--force")[0] == 128 + signal.SIGKILL
    assert [*temporary.iterdir(), *shared.iterdir()] == []
