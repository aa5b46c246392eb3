"""`tailsight gate` as a process: what `record` wrote with the real SDK, exit codes, and Ctrl-C."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from testkit.gated import write_gated

from tailsight_cli.recording.run_file import read_header

PATIENCE_S = 60
BUSY = """
import sys, time
import tailsight

for _ in range(40):
    with tailsight.request("rank"):
        with tailsight.stage("compute"):
            end = time.perf_counter() + float(sys.argv[1])
            while time.perf_counter() < end:
                pass
"""
TAILSIGHT = [sys.executable, "-m", "tailsight_cli.main"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A working folder, and beside it the folder of temporary files."""
    for name in ("work", "temporary"):
        (tmp_path / name).mkdir()
    return tmp_path


def environment(place: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(place / "temporary")}


def run(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TAILSIGHT, *arguments],
        check=False, capture_output=True, text=True, timeout=PATIENCE_S, cwd=place / "work", env=environment(place),
    )  # fmt: skip


def test_two_builds_recorded_in_turns_are_told_apart(place):
    program = [sys.executable, "-c", BUSY]
    recorded = run(
        place, "record", "-o", "base.otlp.zst", "-o", "cand.otlp.zst", "--repeat", "3",
        "--", *program, "0.0005", "--", *program, "0.01",
    )  # fmt: skip
    assert recorded.returncode == 0, recorded.stderr
    assert recorded.stderr.splitlines()[-1] == "next  tailsight gate base.otlp.zst cand.otlp.zst"
    judged = run(place, "gate", "base.otlp.zst", "cand.otlp.zst", "--github")
    assert judged.returncode == 1, judged.stdout + judged.stderr
    assert judged.stdout.splitlines()[1].startswith("Regression: ")
    assert "::error title=Latency regression%3A " in judged.stdout
    assert list((place / "temporary").iterdir()) == []
    assert len(read_header(place / "work" / "base.otlp.zst").runs) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_gate_that_is_stopped_leaves_nothing_behind(place, number):
    for side, name in enumerate(("base", "cand")):
        write_gated(place / "work" / f"{name}.otlp.zst", side=side, runs=8, requests=5)
    with subprocess.Popen(
        [*TAILSIGHT, "gate", "base.otlp.zst", "cand.otlp.zst"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=place / "work", env=environment(place),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert process.stderr.readline() == "Reading base.otlp.zst …\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert list((place / "temporary").iterdir()) == []


def test_files_are_written_whoever_reads_what_is_printed(place):
    """`tailsight gate … | head`: the reader that leaves takes no report with it."""
    for side, name in enumerate(("base", "cand")):
        write_gated(place / "work" / f"{name}.otlp.zst", side=side, runs=2, requests=20)
    with subprocess.Popen(
        [*TAILSIGHT, "gate", "base.otlp.zst", "cand.otlp.zst", "--json", "--markdown", "gate.md", "--junit", "gate.xml"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=place / "work", env=environment(place),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.close()
        process.wait(timeout=PATIENCE_S)
    assert process.returncode == 128 + signal.SIGPIPE
    assert (place / "work" / "gate.md").read_text().endswith("</details>\n")
    assert (place / "work" / "gate.xml").read_text().endswith("</testsuites>\n")


def test_a_report_that_cannot_be_written_is_seen_all_the_same(place):
    for side, name in enumerate(("base", "cand")):
        write_gated(place / "work" / f"{name}.otlp.zst", side=side, runs=2, requests=20)
    judged = run(place, "gate", "base.otlp.zst", "cand.otlp.zst", "--markdown", "/dev/full")
    assert judged.returncode == 4
    assert judged.stderr.endswith("tailsight: No space left on device\n")
    assert "baseline   base.otlp.zst, 2 runs, 40 requests" in judged.stdout
