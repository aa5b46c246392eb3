"""A gate's report in its forms: order, words, and names that would like to be more than names."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from tailsight_analysis.gating.importance import by_importance
from tailsight_analysis.gating.result import Calibration, Compared, Judgement, Needed
from tailsight_analysis.gating.settings import GateSettings
from tailsight_analysis.gating.strata import StratifiedRun
from tailsight_cli.gating.config import GateConfig, StoredCalibration
from tailsight_cli.gating.report import GateReport, report
from tailsight_cli.gating.sampling import Side
from tailsight_cli.render.gate import render_gate
from tailsight_cli.render.gate_github import annotation, gate_annotations
from tailsight_cli.render.gate_json import strict_json
from tailsight_cli.render.gate_junit import gate_junit
from tailsight_cli.render.gate_markdown import MOST_CHARACTERS, gate_markdown, text
from tailsight_cli.render.gate_words import calibration_line, change, headline, remarks

HOSTILE = "</code><script>alert(1)</script>|`*_@team #1 https://x.y ::error::\x1b[31m\r\n\x00\ufffe]]>&amp;"
CALIBRATION = Calibration(20, 100, 0.01, (0.001, 0.05), 0.041)
SIDE = Side(("base.otlp.zst",), (StratifiedRun("base", 1, {}),))


def row(stage: str = "compute", metric: str = "p99", **fields: object) -> Compared:
    given = {
        "stage": stage, "hardware": "NVIDIA L4", "metric": metric, "baseline_ms": 10.2, "candidate_ms": 11.4,
        "ratio": 1.12, "ci_low": 1.08, "ci_high": 1.16, "p_value": 0.0004, "verdict": "regression", "needed": None,
        "tolerance": 0.05, "margin": 0.05,
    }  # fmt: skip
    return Compared(**{**given, **fields})


OPEN = row(metric="p50", ratio=1.02, ci_low=0.97, ci_high=1.09, verdict="inconclusive", needed=Needed(None, 12))
FINE = row("request", "mean", hardware="", ratio=1.01, ci_low=0.99, ci_high=1.03, verdict="pass")
FASTER = row("preprocess", ratio=0.8, ci_low=0.7, ci_high=0.9, verdict="improvement")


def made(*rows: Compared, verdict: str = "regression", calibrated: bool = False, side: Side = SIDE) -> GateReport:
    stored = StoredCalibration(CALIBRATION, "2026-11-22T21:00:00Z", "AMD EPYC") if calibrated else None
    judgement = Judgement(
        verdict, stored.calibration if stored else None, rows, ("12 more runs a side would decide",), (), 1, 1
    )
    return report(judgement, (side, SIDE), GateConfig(None, GateSettings(), None, stored), None)


def printed(said: GateReport, width: int = 80, **options: bool) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(render_gate(said, **options))
    return out.getvalue()


def test_the_worst_comes_first():
    worse = row("request", hardware="", ratio=1.4, ci_low=1.3, ci_high=1.5)
    assert by_importance([FINE, OPEN, FASTER, row(), worse]) == [worse, row(), OPEN, FASTER, FINE]


def test_of_what_is_open_the_likeliest_changes_are_shown():
    rows = [row(f"s{number:02}", verdict="inconclusive", p_value=1 - number / 100) for number in range(30)]
    said = made(*rows, verdict="inconclusive")
    assert [each.stage for each in said.shown()] == [f"s{number:02}" for number in range(29, 19, -1)]
    assert "20 more metrics are not decided" in printed(said)


def test_the_headline_says_what_where_by_how_much_and_how_sure():
    assert headline(made(row(), OPEN, FINE)) == (
        "Regression: compute on NVIDIA L4 p99 went from 10.2 to 11.4 ms, +12 % (+8.0 to +16 %; +5.0 % is allowed). "
        "All intervals hold together with 98 % confidence."
    )
    assert headline(made(OPEN, FINE, verdict="inconclusive")).startswith(
        "Inconclusive: 1 of 2 metrics that must pass are not decided, first of all compute on NVIDIA L4 p50 went from "
    )
    assert "nearest to it request mean" in headline(made(FINE, FASTER, verdict="pass"))
    assert "1 metric is faster." in headline(made(FINE, FASTER, verdict="pass"))


@pytest.mark.parametrize(
    ("ratio", "expected"), [(1.12, "+12 %"), (1.003, "+0.3 %"), (0.95, "−5.0 %"), (1.0001, "0 %"), (21.0, "+2,000 %")]
)
def test_changes_are_written_in_percent(ratio, expected):
    assert change(ratio) == expected


def test_what_passes_is_folded_and_shown_on_request():
    shown = printed(made(row(), OPEN, FINE))
    assert "p50" not in shown
    assert "1 metric is not decided; 1 metric passes, nearest to its margin: request mean" in " ".join(shown.split())
    assert {"p99", "p50", "mean"} <= set(printed(made(row(), OPEN, FINE), everything=True).split())
    assert "12 more runs" in printed(made(OPEN, FINE, verdict="inconclusive"), width=120)


def test_of_a_thousand_slower_metrics_the_worst_are_shown_and_the_others_counted():
    said = made(*(row(f"s{number:03}", ci_low=1.06 + number / 1000) for number in range(1000)), OPEN)
    shown = printed(said)
    assert [each.stage for each in said.shown()] == [f"s{number}" for number in range(999, 959, -1)]
    assert "960 more metrics are slower; 1 metric is not decided. --all shows them." in " ".join(shown.split())
    assert shown.count("regression ") < 50
    assert printed(said, everything=True).count("regression ") >= 1000


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_figure_is_cut_off(width):
    wide = row("compute-with-a-name", ci_low=1.0801, ci_high=11.0, verdict="inconclusive")
    lines = printed(made(wide, OPEN, verdict="inconclusive"), width).splitlines()
    (line,) = [line for line in lines if "p99" in line and "inconclusive" in line and "went" not in line]
    assert "+8.0 to +1,000 %" in line


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits_the_terminal_whatever_names_there_are(width):
    said = made(row(HOSTILE, hardware="x" * 200), OPEN, side=replace(SIDE, sources=(HOSTILE,)))
    out = printed(said, width, everything=True)
    assert all(len(line) <= width for line in out.splitlines())
    assert "\x1b" not in out
    assert "\x00" not in out


def test_every_report_says_whether_it_is_calibrated():
    line = calibration_line(made(row(), calibrated=True))
    assert line == (
        "Calibrated with 20 runs of the same code: 1 false alarm in 100 gates (1.0 %; 95 %: 0.1 % to 5.0 %); the smallest "
        "change found 95 % of the time: 4.1 % (AMD EPYC, 2026-11-22)."
    )
    for said, expected in ((made(row()), "Not calibrated"), (made(row(), calibrated=True), "Calibrated with 20 runs")):
        assert expected in printed(said)
        assert expected in gate_markdown(said)
        assert expected in gate_junit(said).decode()


@pytest.mark.parametrize(
    ("verdict", "asked", "code"),
    [
        ("pass", None, 0),
        ("pass", "fail", 0),
        ("regression", "pass", 1),
        ("inconclusive", None, 3),
        ("inconclusive", "pass", 0),
        ("inconclusive", "fail", 1),
    ],
)
def test_exit_codes(verdict, asked, code):
    judgement = Judgement(verdict, None, (OPEN,), (), (), 1, 1)
    said = report(judgement, (SIDE, SIDE), GateConfig(None, GateSettings()), asked)
    assert (said.exit_code, said.to_json()["exit_code"]) == (code, code)
    assert json.dumps(said.to_json())


def test_every_key_in_json_is_documented():
    """The judgement's own are in docs/analysis/gate.md."""
    page = (Path(__file__).parents[2] / "docs" / "gate.md").read_text()
    documented = set(re.findall(r"\w+", page))
    said = made(row(), calibrated=True)
    answer = said.to_json()
    own = set(answer) - set(said.judgement.to_json())
    inner = {key for name in own if isinstance(answer[name], dict) for key in answer[name]}
    assert (own | inner | set(answer["baseline"]["runs"][0])) - documented == set()


def test_rows_that_are_counted_already_are_not_counted_again():
    said = made(*(row(f"s{number}") for number in range(9)))
    said = replace(said, judgement=replace(said.judgement, reasons=("and 4 more metrics", "runs were not in turn")))
    assert remarks(said) == ["Runs were not in turn."]


def test_json_has_only_what_every_reader_of_json_takes():
    text = strict_json({"a": [float("nan"), 1.5], "b": {"c": float("inf")}, "name": "\udcff.zst"})
    assert json.loads(text, parse_constant=pytest.fail) == {"a": [None, 1.5], "b": {"c": None}, "name": "�.zst"}
    assert text.encode()


# --- Markdown -----------------------------------------------------------------------------------------------------------


def test_markdown_is_short_and_folds_the_rest():
    said = gate_markdown(made(row(), OPEN, FINE))
    above, _, below = said.partition("<details>")
    assert above.count("| ❌ regression |") == 1
    assert "| ❔ inconclusive |" not in above
    assert "| ❔ inconclusive |" in below
    assert said.count("<details>") == said.count("</details>") == 2
    assert len(gate_markdown(made(*[row(f"{HOSTILE}{number}") for number in range(900)]))) < 65_536


def test_a_comment_has_room_for_whatever_there_is_to_say():
    """GitHub refuses a comment of more than 65,536 characters, and then nobody reads any of it."""
    name = "|`*_@#[]<>&" * 30
    rows = [
        row(f"{name[:110]}{number}", hardware=name, verdict=verdict)
        for number in range(300)
        for verdict in ("regression", "inconclusive", "pass")
    ]
    many = tuple(f"{name}{number}" for number in range(300))
    said = made(*rows, side=replace(SIDE, sources=many, commits=many))
    said = replace(said, notes=many, judgement=replace(said.judgement, differences=many, reasons=many))
    markdown = gate_markdown(said)
    assert 20_000 < len(markdown) < MOST_CHARACTERS
    assert markdown.count("<details>") == markdown.count("</details>") == 2
    assert re.search(r"^and \d+ more: `--json` has all.$", markdown, re.MULTILINE)
    assert re.search(r"^> and \d+ more: ", markdown, re.MULTILINE)
    assert re.search(r"^- and \d+ more: ", markdown, re.MULTILINE)


def test_names_in_markdown_are_only_names():
    said = gate_markdown(made(row(HOSTILE), side=replace(SIDE, sources=(HOSTILE,))))
    assert "<script" not in said
    assert "@team" not in said
    assert "#1" not in re.sub(r"&#\d+;", "", said)
    assert "https://" not in said
    assert "\x1b" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("| ❌")]
    assert line.count("|") == 10
    assert text("a|b_c\n<d> & www.e") == "a&#124;b&#95;c &lt;d&gt; &amp; www&#46;e"


# --- JUnit --------------------------------------------------------------------------------------------------------------


def test_junit_has_a_case_a_comparison():
    suite = ET.fromstring(gate_junit(made(row(), OPEN, FINE, FASTER))).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "1")
    kinds = {
        (case.get("classname"), case.get("name")): [child.tag for child in case if child.tag != "system-out"]
        for case in suite.iter("testcase")
    }
    assert kinds == {
        ("compute on NVIDIA L4", "p99"): ["failure"],
        ("compute on NVIDIA L4", "p50"): ["skipped"],
        ("preprocess on NVIDIA L4", "p99"): [],
        ("request", "mean"): [],
    }
    (skipped,) = suite.iter("skipped")
    assert skipped.get("message", "").endswith("12 more runs would decide")


def test_junit_is_xml_whatever_names_there_are():
    said = made(row(HOSTILE, hardware=HOSTILE), side=replace(SIDE, sources=(HOSTILE,)))
    (case,) = ET.fromstring(gate_junit(said)).iter("testcase")
    assert case.get("classname", "").startswith("</code><script>alert(1)</script>|`*_@team #1 https://x.y ::error::")


# --- GitHub -------------------------------------------------------------------------------------------------------------


def test_annotations_are_escaped_as_github_asks_for():
    assert annotation("error", "a:b,c%\n", "50 %: a, b\r\n::error::") == (
        "::error title=a%3Ab%2Cc%25%0A::50 %25: a, b%0D%0A::error::"
    )
    (line,) = gate_annotations(made(row(HOSTILE)))
    assert line.startswith("::error title=Latency regression%3A </code><script>")
    assert "\n" not in line
    assert "\x1b" not in line


def test_there_are_as_many_annotations_as_github_shows():
    assert len(gate_annotations(made(*[row(f"s{number}") for number in range(10)]))) == 10
    lines = gate_annotations(made(*[row(f"s{number}") for number in range(30)]))
    assert len(lines) == 10
    assert lines[-1] == "::error title=Latency regression::21 more metrics are slower: the report has them all"


@pytest.mark.parametrize(("verdict", "kind"), [("inconclusive", "warning"), ("pass", "notice")])
def test_other_verdicts_are_one_annotation(verdict, kind):
    (line,) = gate_annotations(made(OPEN, FINE, verdict=verdict))
    assert line.startswith(f"::{kind} title=Latency%3A {verdict}::")
