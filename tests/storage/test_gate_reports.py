"""Reports of gates: what is kept is checked, the same one is there once, and what is no report is said to be none."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from testkit.gate_reports import REPORTS, TITLE, UNLIKE, encoded

from tailsight_storage import InvalidReportError
from tailsight_storage.gate_reports import MAX_REPORT_BYTES, MOST_LISTED, keep_gate_report, read_gate_report

REGRESSION = encoded(REPORTS[2])
DEEP = b"[" * 100_000


def changed(path: str, value: object) -> bytes:
    """The report with another value at `comparisons.0.ratio`; `...` takes the key out."""
    report = json.loads(REGRESSION)
    *parents, last = [int(name) if name.isdecimal() else name for name in path.split(".")]
    place = report
    for name in parents:
        place = place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(report).encode()


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("verdict", "fine", "verdict is 'fine', not one of regression, pass, inconclusive"),
        ("verdict", ["pass"], "verdict is ['pass'], not one of"),
        ("verdict", ..., "verdict is missing"),
        ("judged", "yesterday", "judged = 'yesterday' is no time"),
        ("judged", "1970-01-01T00:00:00Z", "before 2000 or in the future"),
        ("judged", 17, "judged is 17, not a text"),
        ("comparisons", [], "the length of comparisons is 0"),
        ("comparisons", {}, "comparisons is {}, not a list"),
        ("comparisons.0", None, "comparisons[0] is None, not an object"),
        ("comparisons.0.ratio", "1.1", "comparisons[0].ratio is '1.1', not a number"),
        ("comparisons.0.ratio", True, "comparisons[0].ratio is True"),
        ("comparisons.0.ratio", 1e300, "comparisons[0].ratio is 1e+300"),
        ("comparisons.1.ci_low", -0.1, "comparisons[1].ci_low is -0.1"),
        ("comparisons.0.verdict", "worse", "comparisons[0].verdict is 'worse'"),
        ("comparisons.0.needed", {"requests": 1.5, "runs": None}, "comparisons[0].needed.requests is 1.5, not a count"),
        ("comparisons.6.candidate_interval_ms", [1], "candidate_interval_ms is 1, not between 2 and 2"),
        ("calibration.false_alarm_rate", 3, "calibration.false_alarm_rate is 3, not a share"),
        ("calibration.between_runs", {"p99": "x"}, "calibration.between_runs.p99 is 'x'"),
        ("settings.confidence", 1, "settings.confidence is 1"),
        ("reasons", ["a"] * 2001, "the length of reasons is 2001"),
        ("baseline.runs", [], "the length of baseline.runs is 0"),
        ("baseline.runs.0.requests", -1, "baseline.runs[0].requests is -1"),
        ("candidate.sources", "x", "candidate.sources is 'x', not a list"),
        ("candidate.branches", [1], "candidate.branches[0] is 1, not a text"),
        ("title", {"a": 1}, "title is {'a': 1}, not a text"),
        ("title", "\ud800", "lone surrogate"),
    ],
    ids=lambda value: None if not isinstance(value, str) else value[:24].encode("ascii", "replace").decode(),
)  # fmt: skip
def test_what_is_wrong_is_named(path, value, says):
    with pytest.raises(InvalidReportError) as caught:
        read_gate_report(changed(path, value))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (DEEP, "no JSON"),
        (b"{}", "verdict is missing"),
        (b"[]", "it is [], not an object"),
        (b'"pass"', "not an object"),
        (REGRESSION.replace(b'"ratio": 1.127', b'"ratio": NaN'), "NaN is no number"),
        (REGRESSION.replace(b'"ratio": 1.127', b'"ratio": 1e999'), "comparisons[0].ratio is inf"),
        (REGRESSION.replace(b'"ratio": 1.127', b'"ratio": ' + b"9" * 5000), "no JSON"),
        (REGRESSION + b" " * MAX_REPORT_BYTES, "more than 4,194,304"),
        (REGRESSION[:-5], "no JSON"),
    ],
    ids=["nothing", "no text", "deep", "empty", "a list", "a text", "nan", "infinite", "long", "large", "cut off"],
)
def test_what_is_no_report_is_refused(data, says):
    with pytest.raises(InvalidReportError) as caught:
        read_gate_report(data)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_report_from_tomorrow_is_a_clock_that_is_wrong():
    judged = json.loads(REGRESSION)["judged"]
    at = datetime.fromisoformat(judged)
    assert read_gate_report(REGRESSION, now=at - timedelta(hours=23))
    with pytest.raises(InvalidReportError, match="in the future"):
        read_gate_report(REGRESSION, now=at - timedelta(hours=25))


def test_the_id_is_of_the_content_and_not_of_how_it_is_written():
    plain = json.loads(REGRESSION)
    other = json.dumps(dict(reversed(plain.items())), indent=3).encode()
    assert read_gate_report(other).id == read_gate_report(REGRESSION).id == read_gate_report(b"\xef\xbb\xbf" + other).id
    assert read_gate_report(changed("title", "another")).id != read_gate_report(REGRESSION).id


def test_keys_of_a_newer_version_stay_in_it():
    row = read_gate_report(changed("forecast", {"p99": 1}))
    assert json.loads(row.columns["report"])["forecast"] == {"p99": 1}


def test_lists_that_are_long_are_short_in_the_columns():
    row = read_gate_report(changed("reasons", ["x" * 5000] * 100))
    assert len(row.columns["reasons"]) == MOST_LISTED
    assert {len(reason) for reason in row.columns["reasons"]} == {400}
    assert len(json.loads(row.columns["report"])["reasons"]) == 100


def test_a_report_is_stored_once_with_all_that_it_says(store):
    row = read_gate_report(REGRESSION)
    now = datetime(2026, 11, 22, 7, 10, 0, 123456, UTC)
    assert keep_gate_report(store, row, now) is True
    assert keep_gate_report(store, row) is False
    [kept] = store.rows(
        "SELECT toString(at), toString(kept_at), id, verdict, title, baseline_sources, baseline_commits, "
        "candidate_branches, baseline_runs, baseline_requests, regressions, improvements, inconclusive, passed, reasons, "
        "differences, false_alarm_rate, false_alarm_high, report FROM gate_reports"
    )
    assert kept[:-1] == (
        "2026-05-28 20:46:40.000", "2026-11-22 07:10:00.123", row.id, "regression", TITLE, ["base.otlp.zst"],
        ["0123456789ab"], ["faster"], 2, 0, 2, 1, 2, 2, ["compute on NVIDIA L4 p99 takes +12.7%"], [UNLIKE], 0.01, 0.05,
    )  # fmt: skip
    assert json.loads(kept[-1]) == json.loads(REGRESSION)


def test_texts_of_all_kinds_come_back_as_they_were(store):
    title = "'\"\\ \t\n\x00\x1f 😀 é \u2028 ]]> {x:String}"
    assert keep_gate_report(store, read_gate_report(changed("title", title)))
    [(kept,)] = store.rows("SELECT title FROM gate_reports")
    assert kept == title
