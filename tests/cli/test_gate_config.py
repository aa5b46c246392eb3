"""The gate's settings: where they are found, what is refused and with which words, and a calibration written into them."""

import stat
import tomllib
from pathlib import Path

import pytest

from tailsight_analysis.gating.result import Calibration
from tailsight_analysis.gating.settings import GateSettings
from tailsight_cli import main
from tailsight_cli._errors import CommandError
from tailsight_cli.gating.config import StoredCalibration, find_config, read_config
from tailsight_cli.gating.writing import BEGIN, END, check_place, file_to_write, write_calibration

FULL = """
[{table}]
tolerance = "5%"
confidence = 0.99
metrics = ["p50", "p99"]
ignore = ["warmup"]
on_inconclusive = "fail"
tail_margin = 3
decided_by = "all"
"compute.p99" = "8%"
"gpt.decode.p50" = 0.1
"*.jitter" = "20 %"
"request.p99" = ["3%", "25ms"]
preprocess.mean = "1.5s"
"""
FIGURES = "runs = 20\ngates = 10\nfalse_alarm_rate = 0.0\nfalse_alarm_interval = [0.0, 0.5]\n"
CALIBRATION = Calibration(
    runs=20,
    gates=100,
    false_alarm_rate=0.01,
    false_alarm_interval=(0.001, 0.05),
    smallest_change=0.0412345678,
    between_runs={"p99": 0.031, 'compute|NVIDIA "L4"\\\x7f|p99': 0.02},
)
STORED = StoredCalibration(CALIBRATION, "2026-11-22T21:00:00Z", "AMD EPYC, 2 cores")


@pytest.mark.parametrize(("name", "table"), [("tailsight.toml", "gate"), ("pyproject.toml", "tool.tailsight.gate")])
def test_every_setting_is_read_from_either_file(tmp_path, name, table):
    path = tmp_path / name
    path.write_text(FULL.format(table=table))
    config = read_config(path)
    settings = config.settings
    assert (settings.tolerance, settings.confidence) == (0.05, 0.99)
    assert settings.metrics == ("p50", "p99")
    assert settings.ignored_stages == ("warmup",)
    assert config.on_inconclusive == "fail"
    assert (settings.tail_margin, settings.decided_by) == (3.0, "all")
    assert settings.tolerances == {
        ("compute", "p99"): 0.08,
        ("gpt.decode", "p50"): 0.1,
        ("*", "jitter"): 0.2,
        ("request", "p99"): 0.03,
    }
    assert settings.limits_ms == {("request", "p99"): 25.0, ("preprocess", "mean"): 1500.0}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('tolerence = "5%"', "unknown key 'tolerence'; did you mean 'tolerance'?"),
        ('on_inconclusiv = "pass"', "unknown key 'on_inconclusiv'; did you mean 'on_inconclusive'?"),
        ('compute = "8%"', "unknown key 'compute'; a stage is written with a metric, like \"compute.p99\""),
        ('"compute.p98" = "8%"', "no metric 'p98' in 'compute.p98'; did you mean 'p99'?"),
        ('"compute.jiter" = "8%"', "did you mean 'jitter'?"),
        ('".p99" = "8%"', '\'.p99\' names no stage: write "request.p99", or "*.p99" for all'),
        ('"compute.p99" = "8"', '\'compute.p99\' = "8" has no unit: write "8%" or "8ms"'),
        ('"compute.p99" = 8', '\'compute.p99\' = 8 has no unit: write "8%" or "8ms"; 0.05 is 5 %'),
        ('"compute.p99" = "8mss"', "has the unknown unit 'mss'; did you mean 'ms'?"),
        ('"compute.p99" = "-8%"', "is neither a share nor a time"),
        ('"compute.p99" = "0ms"', "a limit must be above 0"),
        ('"compute.p99" = true', "'compute.p99' = true is neither a share nor a time"),
        ('"compute.p99" = nan', "= nan: a share or a time is from 0 to a billion"),
        (f'"compute.p99" = {"9" * 400}', "9…: a share or a time is from 0 to a billion"),
        (f'"compute.p99" = "{"9" * 400}ms"', '9…": a share or a time is from 0 to a billion'),
        (f"tolerance = {'9' * 5000}", "is no valid TOML: Exceeds the limit"),
        (f"x = {'[' * 3000}", "is no valid TOML: maximum recursion depth exceeded"),
        ("tolerance = -0.05", "tolerance = -0.05: a share or a time is from 0"),
        ('"compute.p99" = []', "is an empty list"),
        ("confidence = 1", "confidence = 1: nothing is that sure; 0.98 is usual"),
        ('confidence = "100 %"', "nothing is that sure"),
        ("tail_margin = 0.5", "tail_margin = 0.5 is no number from 1 to 100: 2 is twice the tolerance"),
        ('tail_margin = "10%"', 'tail_margin = "10%" is no number'),
        ('decided_by = "al"', "did you mean 'all'?"),
        ("decided_by = true", 'decided_by = true; use "request" or "all"'),
        (f"[gate.calibration]\n{FIGURES}between_runs = {{p99 = nan}}", "nan is no size of a difference"),
        (f"[gate.calibration]\n{FIGURES}smallest_change = inf\nbetween_runs = {{}}", "inf is no size of a difference"),
        (f"[gate.calibration]\n{FIGURES.replace('0.0', '7.0')}between_runs = {{}}", "7.0 is no share"),
        (f"[gate.calibration]\n{FIGURES.replace('20', '0')}between_runs = {{}}", "0 runs in 10 gates"),
        ('"compute.p99" = ["5%", "6%"]', "'compute.p99' has two tolerances"),
        ("compute.p99.x = 1", "write the stage's name in quotes"),
        ('tolerance = "25ms"', "is a time: wanted is a share"),
        ("tolerance = 5", "tolerance = 5 has no unit"),
        ('metrics = ["p98"]', "no metric 'p98' in metrics; did you mean 'p99'?"),
        ("metrics = []", "metrics is empty: name at least one of p50, p95, p99, mean, jitter"),
        ('ignore = "warmup"', "must be a list of names"),
        ('on_inconclusive = "pas"', "did you mean 'pass'?"),
        ("on_inconclusive = 3", 'use "pass" or "fail"'),
        ("confidence = 0.2", "confidence 0.2 is not between 0.5 and 1"),
        ("calibration = 3", "calibration = 3 is no table; `tailsight gate calibrate RUN RUN … --write` writes it anew"),
        ("[gate.calibration]\nrunns = 3", "unknown key 'runns' in calibration; did you mean 'runs'?"),
        ("[gate.calibration]\nruns = 3", "the calibration cannot be read (KeyError: 'false_alarm_interval')"),
        ("x = ", "is no valid TOML: "),
    ],
    ids=lambda value: value[:40],
)
def test_what_is_wrong_is_named_with_the_nearest_right_thing(tmp_path, monkeypatch, capsys, lines, message):
    (tmp_path / "tailsight.toml").write_text(f"[gate]\n{lines}\n")
    (tmp_path / "a.otlp.zst").write_bytes(b"")
    (tmp_path / "b.otlp.zst").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert main.run(["gate", "a.otlp.zst", "b.otlp.zst"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"tailsight: {tmp_path}/tailsight.toml")
    assert message in line


def test_the_nearest_file_with_settings_counts_and_others_are_passed_by(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert read_config(None).settings.tolerance == 0.05
    (inner / "pyproject.toml").write_text('[tool.tailwind]\nx = 1\n[project]\nname = "x"\n')
    (tmp_path / "pyproject.toml").write_text("[tool.tailsight.gate]\n")
    assert find_config(inner) == tmp_path / "pyproject.toml"
    (tmp_path / "a" / "tailsight.toml").write_text("[gate]\n")
    assert find_config(inner) == tmp_path / "a" / "tailsight.toml"
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.tailsight.gate]\n")
    with pytest.raises(CommandError, match=r"both .*a/tailsight\.toml and pyproject\.toml have settings"):
        find_config(inner)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tailsight.toml", "[gat]\n", r"unknown table \[gat\]; did you mean 'gate'\?"),
        (
            "pyproject.toml",
            "[tool.tailsight.gates]\n",
            r"unknown table \[tool\.tailsight\.gates\]; did you mean 'gate'\?",
        ),
        ("tailsight.toml", "gate = 5\n", "gate = 5 is no table"),
        (
            "pyproject.toml",
            '[tool.tailsigt.gate]\ntolerance = "1%"\n',
            r"unknown table \[tool\.tailsigt\]; did you mean 'tailsight'\?",
        ),
        ("tailsight.toml", "[tool.tailsight.gate]\n", r"settings of the gate are in the table \[gate\] of this file"),
        ("tailsight.toml", 'tolerance = "1%"\n', r"settings of the gate are in the table \[gate\] of this file"),
    ],
)
def test_a_table_of_a_wrong_name_is_found_out(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(CommandError, match=message):
        find_config(tmp_path)


# --- writing a calibration ---------------------------------------------------------------------------------------------

PROJECT = '# mine\r\n[project]\r\nname = "x"  # keep\r\n\r\n[tool.tailsight.gate]\r\ntolerance = "7%"\r\n'


def test_a_calibration_is_written_and_read_again_and_nothing_else_is_touched(tmp_path):
    path = tmp_path / "pyproject.toml"
    path.write_bytes(PROJECT.encode())
    path.chmod(0o640)
    write_calibration(path, STORED)
    text = path.read_bytes().decode()
    assert text.startswith(PROJECT)
    assert "\n" not in text.replace("\r\n", "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    config = read_config(path)
    assert config.settings.tolerance == 0.07
    found = config.calibration
    assert (found.created, found.machine) == (STORED.created, STORED.machine)
    assert found.calibration.between_runs == CALIBRATION.between_runs
    assert found.calibration.false_alarm_interval == (0.001, 0.05)
    assert found.calibration.smallest_change == pytest.approx(0.0412345678, rel=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"]


def test_a_second_calibration_takes_the_place_of_the_first(tmp_path):
    path = tmp_path / "tailsight.toml"
    write_calibration(path, STORED)
    path.write_text(f'# before\n{path.read_text()}\n[other]\nkey = "after"\n')
    again = StoredCalibration(Calibration(5, 16, 0.0, (0.0, 0.5), None))
    write_calibration(path, again)
    text = path.read_text()
    assert (text.count(BEGIN), text.count(END)) == (1, 1)
    assert text.startswith("# before\n")
    assert tomllib.loads(text)["other"] == {"key": "after"}
    assert read_config(path).calibration == again


@pytest.mark.parametrize(
    "text",
    [
        "[gate.calibration]\nruns = 3\n",
        'gate = { tolerance = "5%" }\n',
        f"[gate]\n{END}\n{BEGIN}\n[gate.calibration]\n",
    ],
    ids=["by hand", "inline", "marks the wrong way round"],
)
def test_a_file_without_a_place_for_it_stays_as_it_is(tmp_path, text):
    path = tmp_path / "tailsight.toml"
    path.write_text(text)
    with pytest.raises(CommandError, match="there is no place for"):
        write_calibration(path, STORED)
    assert path.read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["tailsight.toml"]


def test_a_link_to_the_settings_stays_a_link(tmp_path):
    real = tmp_path / "real.toml"
    real.write_text("[gate]\n")
    link = tmp_path / "tailsight.toml"
    link.symlink_to(real)
    write_calibration(link, STORED)
    assert link.is_symlink()
    assert BEGIN in real.read_text()


def test_it_is_written_where_the_settings_are_or_into_a_new_file(tmp_path):
    assert file_to_write(None, tmp_path) == tmp_path / "tailsight.toml"
    assert file_to_write(Path("/x/pyproject.toml"), tmp_path) == Path("/x/pyproject.toml")


def test_what_cannot_be_written_is_told_before_anything_is_measured(tmp_path):
    path = tmp_path / "tailsight.toml"
    check_place(path)
    path.write_text('gate = { tolerance = "5%" }\n')
    with pytest.raises(CommandError, match="there is no place for"):
        check_place(path)
    with pytest.raises(CommandError, match="cannot be written: there is no folder"):
        check_place(tmp_path / "missing" / "tailsight.toml")
    assert [each.name for each in tmp_path.iterdir()] == ["tailsight.toml"]


def test_a_file_gets_its_first_calibration_and_one_in_place_of_a_broken_one(tmp_path):
    path = tmp_path / "pyproject.toml"
    path.write_text('[project]\nname = "x"\n')
    assert read_config(path, to_calibrate=True).settings == GateSettings()
    write_calibration(path, STORED)
    path.write_text(path.read_text().replace("runs = 20", 'runs = "many"'))
    with pytest.raises(CommandError, match="the calibration cannot be read"):
        read_config(path)
    assert read_config(path, to_calibrate=True).calibration is None
    write_calibration(path, STORED)
    assert read_config(path).calibration is not None
