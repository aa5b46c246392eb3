"""What started us has closed a stream, as `tailsight … >&-` does: the command works, and ends as it would."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"], ids=["out", "err", "in", "all"])
def test_a_closed_stream_is_no_defect(tmp_path, closed):
    series = tmp_path / "series.csv"
    series.write_text("value\n" + "\n".join(["1", "1.1", "0.9"] * 8) + "\n")
    command = f'"{sys.executable}" -m tailsight_cli.main changepoints "{series}" {closed}'
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    ended = subprocess.run(
        ["sh", "-c", command.replace("series.csv", "none.csv")], capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == 4
