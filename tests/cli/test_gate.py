"""`tailsight gate` on run files: verdicts, exit codes, what it refuses, and what it leaves behind."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from testkit import otlp
from testkit.gated import on_another_machine, write_gated

from tailsight_cli import main
from tailsight_cli.recording.header import Lost
from tailsight_collector.keep.records import encode_varint

CONFIG = """
[gate]
tolerance = "8%"
"*.jitter" = "60%"
"""
ISSUE_KEYS = (
    "stage", "hardware", "metric", "baseline_ms", "candidate_ms", "ratio", "ci_low", "ci_high", "p_value", "verdict",
    "needed",
)  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of the same code (base, same), of slower code (slow), and single ones of both (one, other)."""
    folder = tmp_path_factory.mktemp("runs")
    write_gated(folder / "base.otlp.zst")
    write_gated(folder / "same.otlp.zst", side=1)
    write_gated(folder / "slow.otlp.zst", side=1, slower={"compute": 1.5})
    write_gated(folder / "one.otlp.zst", runs=1, requests=50, exit_code=3, lost=Lost(spans={"buffer_full": 7}))
    other = on_another_machine("EPYC 7")
    write_gated(folder / "other.otlp.zst", runs=1, requests=50, side=1, machine=other)
    write_gated(folder / "t4.otlp.zst", runs=1, requests=20, hardware="NVIDIA T4")
    return folder


@pytest.fixture
def tailsight(files, capfd, tmp_path, monkeypatch):
    """Run the gate in this process, in a folder of its own with the files; gives exit code, stdout, stderr."""
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    for folder in (work, temporary):
        folder.mkdir()
    for path in files.iterdir():
        (work / path.name).symlink_to(path)
    (work / "tailsight.toml").write_text(CONFIG)
    monkeypatch.chdir(work)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main.run(["gate", *arguments])
        assert list(temporary.iterdir()) == [], "nothing is left behind"
        return code, *capfd.readouterr()

    return call


def flat(text: str) -> str:
    return " ".join(text.split())


def test_the_same_code_passes_and_every_form_of_the_report_says_so(tailsight, tmp_path, monkeypatch):
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    code, out, err = tailsight(
        "base.otlp.zst", "same.otlp.zst", "--json", "--markdown", "c.md", "--junit", "g.xml", "--github"
    )
    assert code == 0
    answer = json.loads(out)
    assert answer["verdict"] == "pass"
    assert {row["verdict"] for row in answer["comparisons"]} <= {"pass", "improvement"}
    assert "::notice title=Latency%3A pass::Pass: all " in err
    assert Path("c.md").read_text().startswith("<!-- tailsight gate -->\n### ✅ Latency: pass\n")
    assert summary.read_text() == "before\n" + Path("c.md").read_text()
    assert 'failures="0"' in Path("g.xml").read_text()


def test_a_slower_stage_is_a_regression_and_json_has_the_keys_that_are_promised(tailsight):
    code, out, err = tailsight(
        "--baseline", "base.otlp.zst", "--candidate", "slow.otlp.zst", "--json", "--markdown", "c.md"
    )
    answer = json.loads(out)
    assert err.splitlines() == ["Reading base.otlp.zst …", "Reading slow.otlp.zst …", "Judging …"]
    assert "\nRegression: compute on NVIDIA L4 " in Path("c.md").read_text()
    assert code == answer["exit_code"] == 1
    assert {"verdict", "calibration", "comparisons", "reasons"} <= set(answer)
    assert answer["verdict"] == "regression"
    assert answer["calibration"] is None
    for row in answer["comparisons"]:
        assert set(ISSUE_KEYS) <= set(row)
    assert {(row["stage"], row["metric"]) for row in answer["comparisons"] if row["hardware"] in ("", "NVIDIA L4")} == {
        (stage, metric) for stage in ("", "preprocess", "compute") for metric in ("p50", "p95", "p99", "mean", "jitter")
    }
    slower = {row["stage"] for row in answer["comparisons"] if row["verdict"] == "regression"}
    assert slower == {"", "compute"}
    (p50,) = [row for row in answer["comparisons"] if (row["stage"], row["metric"]) == ("compute", "p50")]
    assert p50["ratio"] == pytest.approx(1.5, rel=0.05)
    assert p50["ci_low"] < 1.5 < p50["ci_high"]
    assert answer["settings"]["tolerances"] == {"*.jitter": 0.6}
    assert [run["run"] for run in answer["baseline"]["runs"]] == [f"base#{number}" for number in range(1, 5)]
    assert answer["candidate"]["commits"] == ["111111111111 (dirty)"]


def test_one_short_run_a_side_decides_nothing_and_what_is_unlike_is_said(tailsight):
    code, out, _ = tailsight("one.otlp.zst", "other.otlp.zst")
    assert code == 3
    text = flat(out)
    assert text.startswith("Inconclusive: ")
    assert "Not calibrated" in text
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "unlike machine: baseline AMD EPYC 9575F, 2 cores, candidate EPYC 7, 2 cores" in text
    assert "recorded on different machines" in text
    assert "run one ended with exit code 3" in text
    assert "run one is not complete: 7 spans were lost while recording" in text


def test_a_broken_limit_is_a_regression_and_markdown_on_stdout_is_all_of_it(tailsight):
    Path("tailsight.toml").write_text(
        '[gate]\ntolerance = "8%"\n"*.jitter" = "60%"\n"compute.p50" = "9ms"\nignore = ["preproces"]\n'
    )
    code, out, _ = tailsight("base.otlp.zst", "same.otlp.zst", "--markdown", "-")
    assert code == 1
    assert out.startswith(
        "<!-- tailsight gate -->\n### ❌ Latency: regression\n\nRegression: compute on NVIDIA L4 p50 is "
    )
    assert "above its limit of 9 ms" in out
    assert "The settings name the stage 'preproces', which no run has; did you mean 'preprocess'?" in out
    assert out.endswith("</details>\n")


def test_files_of_any_name_with_runs_of_one_name_are_kept_apart(tailsight, tmp_path):
    name = "[bold]\x1b[1m.otlp.zst"
    write_gated(tmp_path / "base.otlp.zst", side=1, slower={"preprocess": 1.01})
    shutil.move(tmp_path / "base.otlp.zst", name)
    code, out, err = tailsight(
        "--baseline", "base.otlp.zst", "--baseline", name, "--candidate", "same.otlp.zst", "--json"
    )
    assert code in (0, 3)
    assert len(json.loads(out)["baseline"]["runs"]) == 8
    assert {run["requests"] for run in json.loads(out)["baseline"]["runs"]} == {300}
    assert "Reading [bold]�[1m.otlp.zst …" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("base.otlp.zst", "copy.otlp.zst"), "run base#1: the same durations are in baseline and candidate"),
        (
            ("--baseline", "base.otlp.zst", "--baseline", "copy.otlp.zst", "--candidate", "same.otlp.zst"),
            "run base#1: the same durations are twice on one side",
        ),
        (("calibrate", "base.otlp.zst", "copy.otlp.zst"), "run base#1: the same durations are twice on one side"),
    ],
    ids=["both sides", "one side", "calibration"],
)
def test_a_copy_of_a_file_is_no_further_run(tailsight, files, arguments, message):
    """Eight runs of which four are copies would look half as uncertain as they are."""
    shutil.copy(files / "base.otlp.zst", "copy.otlp.zst")
    code, out, err = tailsight(*arguments)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]


def test_a_report_never_takes_the_place_of_a_recording(tailsight, files):
    before = (files / "base.otlp.zst").read_bytes()
    for arguments, message in (
        (("--markdown", "base.otlp.zst"), "base.otlp.zst is compared: a report in its place would destroy it"),
        (("--junit", "./slow.otlp.zst"), "slow.otlp.zst is compared"),
        (("--markdown", "gate", "--junit", "./gate"), "--markdown and --junit are both gate: name two files"),
    ):
        code, out, err = tailsight("base.otlp.zst", "slow.otlp.zst", *arguments)
        assert (code, out) == (2, "")
        assert message in err
    assert (files / "base.otlp.zst").read_bytes() == before


def test_what_names_of_stages_say_is_no_command_to_a_workflow(tailsight, tmp_path):
    for side in range(2):
        write_gated(
            tmp_path / f"evil{side}.otlp.zst",
            side=side,
            requests=60,
            hardware="::error::x",
            slower={"compute": 1 + side},
        )
    code, out, _ = tailsight(str(tmp_path / "evil0.otlp.zst"), str(tmp_path / "evil1.otlp.zst"), "--github")
    lines = out.splitlines()
    word = lines[0].removeprefix("::stop-commands::")
    assert len(word) == 32
    end = lines.index(f"::{word}::")
    assert "Regression: " in out
    assert any("::error::x" in line for line in lines[1:end])
    assert all(line.startswith("::error title=Latency regression") for line in lines[end + 1 :])
    assert code == 1


def test_what_took_no_time_and_now_does_is_slower(tailsight):
    """A stage of which most spans take 0 ms has no logarithm: what is less than a microsecond is taken for one."""
    at_ns = time.time_ns() - 3_600_000_000_000
    for name, least in (("never.otlp", 0), ("often.otlp", 2), ("rarely.otlp", 1)):
        spans = [
            otlp.span(
                start_time_unix_nano=at_ns + number * 10_000_000,
                end_time_unix_nano=at_ns + number * 10_000_000 + (1_000_000 + number if number % 3 < least else 0),
            )
            for number in range(200)
        ]
        message = otlp.request(spans).SerializeToString()
        Path(name).write_bytes(encode_varint(len(message)) + message)
    code, out, _ = tailsight("rarely.otlp", "often.otlp", "--json")
    rows = {row["metric"]: row for row in json.loads(out)["comparisons"]}
    assert (code, rows["p50"]["verdict"], rows["p50"]["baseline_ms"]) == (1, "regression", pytest.approx(0.001))
    code, out, _ = tailsight("rarely.otlp", "never.otlp", "--json")
    assert code == 3
    assert json.loads(out)["comparisons"]


def test_settings_that_ignore_everything_are_named_as_the_cause(tailsight):
    Path("tailsight.toml").write_text('[gate]\nignore = ["request", "preprocess", "compute"]\n')
    code, _, err = tailsight("base.otlp.zst", "same.otlp.zst")
    assert code == 3
    assert err.endswith("tailsight: the settings ignore all that baseline and candidate have in common\n")


def test_a_name_that_is_no_utf8_is_in_json_and_markdown_that_are(tailsight, files):
    name = os.fsdecode(b"\xff.otlp.zst")
    shutil.copy(files / "slow.otlp.zst", name)
    code, out, _ = tailsight("base.otlp.zst", name, "--json", "--markdown", "c.md")
    assert code == 1
    assert json.loads(out)["candidate"]["sources"] == ["�.otlp.zst"]
    assert "<code>�.otlp.zst</code>" in Path("c.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["base.otlp.zst"], 2, "1 sides: name two, BASE and CAND"),
        ([], 2, "no --baseline: name two sides"),
        (["--baseline", "base.otlp.zst"], 2, "no --candidate: a gate compares two sides"),
        (["base.otlp.zst", "--candidate", "slow.otlp.zst"], 2, "name the sides either as BASE CAND or with --baseline"),
        (["base.otlp.zst", "base.otlp.zst"], 2, "is baseline and candidate"),
        (["base.otlp.zst", "./base.otlp.zst"], 2, "is baseline and candidate"),
        (["base.otlp.zst", "missing.otlp.zst"], 4, "missing.otlp.zst does not exist"),
        (["base.otlp.zst", "."], 4, ". is a folder; name its files"),
        (["base.otlp.zst", "runn=b"], 4, "runn=b does not exist; parts of the store begin with service="),
        (["base.otlp.zst", "run="], 2, "run= has no value"),
        (["base.otlp.zst", "torn.otlp.zst"], 4, "the file is cut off"),
        (["base.otlp.zst", "damaged.otlp.zst"], 4, "the file is damaged"),
        (["base.otlp.zst", "text.otlp.zst"], 4, "text.otlp.zst"),
        (["base.otlp.zst", "slow.otlp.zst", "--tolerance", "5"], 2, '--tolerance = "5" has no unit'),
        (["base.otlp.zst", "slow.otlp.zst", "--json", "--markdown", "-"], 2, "both want stdout"),
        (["base.otlp.zst", "slow.otlp.zst", "--junit", "no/where.xml"], 4, "no/where.xml cannot be written"),
        (["base.otlp.zst", "slow.otlp.zst", "--service", "rankr"], 3, "has no request with service=rankr"),
        (
            ["one.otlp.zst", "t4.otlp.zst"],
            3,
            "they are rank, NVIDIA L4, and rank, NVIDIA T4 (hardware: baseline NVIDIA L4, candidate NVIDIA T4)",
        ),
        (["base.otlp.zst", ""], 2, "--candidate is empty: name a run file"),
        (["base.otlp.zst", "slow.otlp.zst", "--junit", "-"], 2, "only --markdown can go to stdout"),
        (["base.otlp.zst", "since=zz"], 2, "since='zz' is no time"),
        (["base.otlp.zst", "run=x", "--store", "chdb:///nowhere/at/all"], 4, "no store in this folder"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_what_it_cannot_do_it_says_in_one_line(tailsight, files, arguments, code, message):
    data = (files / "slow.otlp.zst").read_bytes()
    Path("torn.otlp.zst").write_bytes(data[: len(data) // 2])
    Path("damaged.otlp.zst").write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    Path("text.otlp.zst").write_text("no spans in here")
    found, out, err = tailsight(*arguments)
    assert (found, out) == (code, "")
    (line,) = [line for line in err.splitlines() if line.startswith("tailsight: ")]
    assert message in line
    assert "Traceback" not in err


def test_a_file_of_somebody_else_without_names_of_runs_is_one_run(tailsight):
    at_ns = time.time_ns() - 60_000_000_000
    for name, took_ns in (("old.otlp", 1_000_000), ("new.otlp", 5_000_000)):
        spans = [
            otlp.span(
                start_time_unix_nano=at_ns + number * 10_000_000,
                end_time_unix_nano=at_ns + number * 10_000_000 + took_ns + number,
            )
            for number in range(200)
        ]
        message = otlp.request(spans).SerializeToString()
        Path(name).write_bytes(encode_varint(len(message)) + message)
    code, out, _ = tailsight("old.otlp", "new.otlp", "--json")
    answer = json.loads(out)
    assert (code, answer["verdict"]) == (1, "regression")
    assert [(run["run"], run["requests"]) for run in answer["candidate"]["runs"]] == [("new.otlp", 200)]
