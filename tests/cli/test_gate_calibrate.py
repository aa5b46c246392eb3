"""`tailsight gate calibrate`: what it prints, what it writes, and that the gate uses and shows it."""

import json
import tomllib
from pathlib import Path

import pytest
from testkit.gated import write_gated

from tailsight_cli import main
from tailsight_cli.gating.config import read_config


@pytest.fixture
def tailsight(capsys, tmp_path, monkeypatch):
    """Run `gate` in this process, in a folder of its own; gives exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main.run(["gate", *arguments])
        return code, *capsys.readouterr()

    return call


def test_runs_of_the_same_code_calibrate_the_gates_that_follow(tailsight):
    write_gated(Path("a.otlp.zst"), runs=2, requests=60)
    write_gated(Path("b.otlp.zst"), runs=2, requests=60, side=1)
    code, out, _ = tailsight("calibrate", "a.otlp.zst", "b.otlp.zst", "--write")
    assert code == 0
    text = " ".join(out.split())
    assert text.startswith("Calibrated with 4 runs of the same code: ")
    assert "smallest change found 95 % of the time" in text
    assert f"Written into {Path.cwd()}/tailsight.toml: " in out.replace("\n", "").replace(
        "Written into/", "Written into /"
    )
    assert all(len(line) <= 80 for line in out.splitlines())
    stored = read_config(Path("tailsight.toml")).calibration
    assert stored.machine == "AMD EPYC 9575F, 2 cores"
    assert stored.calibration.runs == 4
    written = tomllib.loads(Path("tailsight.toml").read_text())["gate"]["calibration"]

    code, out, _ = tailsight("a.otlp.zst", "b.otlp.zst", "--json")
    answer = json.loads(out)
    assert code in (0, 3)
    assert answer["calibration"]["runs"] == 4
    assert answer["calibration"]["between_runs"] == written["between_runs"]
    assert answer["calibrated"] == {"created": stored.created, "machine": stored.machine}
    assert answer["config"] == str(Path.cwd() / "tailsight.toml")


def test_without_write_nothing_is_written(tailsight):
    write_gated(Path("a.otlp.zst"), requests=60)
    code, out, _ = tailsight("calibrate", "a.otlp.zst", "--json")
    answer = json.loads(out)
    assert (code, answer["runs"], answer["written"]) == (0, 4, None)
    assert [path.name for path in Path().iterdir()] == ["a.otlp.zst"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "Missing argument 'RUN…'"),
        (("a.otlp.zst", "a.otlp.zst"), 2, "is twice on one side"),
        (("missing",), 4, "missing does not exist"),
        (("a.otlp.zst", "--config", "missing.toml"), 2, "--config missing.toml does not exist"),
        (("a.otlp.zst",), 3, "2 runs cannot show how much runs differ"),
    ],
    ids=["none", "twice", "no file", "no settings", "too few"],
)
def test_what_it_cannot_do_it_says(tailsight, arguments, code, message):
    write_gated(Path("a.otlp.zst"), runs=2, requests=20)
    found, out, err = tailsight("calibrate", *arguments)
    assert (found, out) == (code, "")
    assert message in err.splitlines()[-1]
