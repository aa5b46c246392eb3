"""deploy/back-up.sh on a real data folder, and what a collector makes of the copy."""

import hashlib
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from testkit.otlp import request, span
from testkit.processes import CollectorProcess

from tailsight_analysis import connect
from tailsight_collector.keep.checkpoints import checkpoint_files

SCRIPT = Path(__file__).parents[2] / "deploy" / "back-up.sh"
pytestmark = pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock of util-linux")


def back_up(data: Path, target: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", SCRIPT, data, target], check=False, capture_output=True, text=True, timeout=60)


def send(collector: CollectorProcess, count: int) -> None:
    assert collector.post(request(span() for _ in range(count)).SerializeToString()).status_code == 200


def spans_in(collector: CollectorProcess) -> tuple[int, int]:
    """Count spans, and what the roll-up counts of them."""
    collector.wait_until_loaded()
    with connect(collector.store) as store:
        return tuple(
            int(str(store.rows(statement)[0][0]))
            for statement in ("SELECT count() FROM spans", "SELECT sum(spans) FROM stage_latency_1m")
        )


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_copy_holds_what_was_stored_and_what_waited_and_does_not_change_afterwards(tmp_path):
    data, copy = tmp_path / "data", tmp_path / "copies" / "first"
    collector = CollectorProcess(data)
    collector.start()
    send(collector, 100)
    assert spans_in(collector) == (100, 100)
    send(collector, 10)
    collector.kill()  # what was sent last may be in the journal alone
    result = back_up(data, copy)
    assert (result.returncode, result.stderr) == (0, "")
    before = fingerprint(copy)
    assert any(name.endswith(".bin") and (copy / name).stat().st_nlink > 1 for name in before), "the bulk is linked"

    collector.start()
    for _ in range(3):
        send(collector, 1000)
        collector.wait_until_loaded()
    assert spans_in(collector) == (3110, 3110)
    assert collector.stop() == 0
    assert fingerprint(copy) == before, "life went on in the original, and nothing of it shows in the copy"

    shutil.copytree(copy, tmp_path / "restored", symlinks=True)  # the engine minds: cp -a, not cp -rL
    with CollectorProcess(tmp_path / "restored") as restored:
        assert spans_in(restored) == (110, 110)
        send(restored, 5)
        assert spans_in(restored) == (115, 115)


@pytest.mark.parametrize("where", ["the same machine", "another machine"])
def test_a_copy_of_one_moment_holds_all_that_was_acknowledged_until_then(tmp_path, where):
    """What a snapshot of the file system is: the collector stands still in the middle of its work while it is made."""
    acknowledged = 0
    with CollectorProcess(tmp_path / "data", "--segment-age", "0.05") as collector:
        for _ in range(40):
            send(collector, 50)
            acknowledged += 50
        os.kill(collector.pid, signal.SIGSTOP)
        try:
            shutil.copytree(tmp_path / "data", tmp_path / "snapshot", symlinks=True)
        finally:
            os.kill(collector.pid, signal.SIGCONT)
    if where == "another machine":  # the engine's parts behind the last checkpoint are not believed there
        for file in checkpoint_files(tmp_path / "snapshot"):
            checkpoint = file.read()
            assert checkpoint is not None
            file.write(replace(checkpoint, boot="of another machine"))
    with CollectorProcess(tmp_path / "snapshot") as restored:
        assert spans_in(restored) == (acknowledged, acknowledged)


def test_a_running_collector_is_not_copied(tmp_path):
    with CollectorProcess(tmp_path / "data"):
        result = back_up(tmp_path / "data", tmp_path / "copy")
    assert result.returncode == 4
    assert "stop it first" in result.stderr
    assert not (tmp_path / "copy").exists()


def test_what_is_no_data_folder_and_what_is_there_already_is_refused(tmp_path):
    (tmp_path / "journal").mkdir()
    assert back_up(tmp_path, tmp_path / "copy").returncode == 2
    (tmp_path / "journal" / "lock").touch()
    assert back_up(tmp_path, tmp_path / "journal").returncode == 2
    assert back_up(tmp_path, tmp_path / "copy").returncode == 0, (
        "a collector with a server as its store: no clickhouse/"
    )
