"""Gate reports as they are asked for: the latest first, one by its id, and all that the gate had said."""

import json

import pytest
from testkit.gate_reports import FIRST_NS, MINUTE_NS, REPORTS, TITLE, encoded, made

from tailsight_analysis import QuestionError, StorageError
from tailsight_analysis.gate_reports import gate_report, gate_reports
from tailsight_analysis.gating.kept import kept_report
from tailsight_storage.gate_reports import keep_gate_report, read_gate_report


@pytest.fixture
def ids(store):
    rows = [read_gate_report(encoded(report)) for report in REPORTS]
    for row in rows:
        keep_gate_report(store, row)
    return [row.id for row in rows]


def test_reports_are_listed_the_latest_first(store, ids):
    listed = gate_reports(store)
    assert [each.id for each in listed] == ids[::-1]
    assert [each.verdict for each in listed] == ["regression", "inconclusive", "pass"]
    latest = listed[0]
    assert latest.at_ns == FIRST_NS + 20 * MINUTE_NS
    assert latest.title == TITLE
    assert (latest.baseline.branches, latest.baseline.commits) == (("main",), ("0123456789ab",))
    assert (latest.candidate.sources, latest.candidate.runs) == (("cand.otlp.zst",), 2)
    assert (latest.regressions, latest.improvements, latest.inconclusive, latest.passed) == (2, 1, 2, 2)
    assert (latest.false_alarm_rate, latest.false_alarm_interval) == (0.01, (0.001, 0.05))
    assert (listed[1].false_alarm_rate, listed[1].false_alarm_interval) == (None, None)
    assert [each.id for each in gate_reports(store, 1)] == ids[:-2:-1]


def test_a_report_says_what_the_gate_said(store, ids):
    for report_id, report in zip(ids, REPORTS, strict=True):
        kept = gate_report(store, report_id)
        assert kept.judgement == report.judgement
        assert kept.at_ns == report.judged_ns
        assert kept.notes == report.notes
        assert kept.confidence == report.config.settings.confidence
        assert kept.plain == report.to_json()
    assert (kept.machine, kept.calibrated) == ("AMD EPYC 9575F, 2 cores", "2026-05-01T21:00:00Z")


def test_a_report_that_two_wrote_at_once_is_there_once(store, ids):
    row = read_gate_report(encoded(REPORTS[0]))
    store.insert_rows("gate_reports", [{**row.columns, "kept_at": "2026-11-22 07:10:00.000"}])
    assert [each.id for each in gate_reports(store)] == ids[::-1]
    assert gate_report(store, ids[0]).id == ids[0]


def test_the_first_digits_are_enough_where_they_are_of_one(store, ids):
    assert gate_report(store, f" {ids[1][:6].upper()} ").id == ids[1]
    number = 0
    while True:  # until two begin alike
        row = read_gate_report(encoded(made("pass", REPORTS[0].judgement.comparisons, (), minutes=number)))
        keep_gate_report(store, row)
        if row.id[0] == ids[0][0] and row.id != ids[0]:
            break
        number += 1
    with pytest.raises(QuestionError, match=f"both begin with '{row.id[0]}'"):
        gate_report(store, row.id[0])


@pytest.mark.parametrize("wanted", ["", " ", "zz", "%", "0" * 40])
def test_a_report_that_is_not_there_is_said(store, ids, wanted):
    assert wanted not in ids
    with pytest.raises(QuestionError, match="no gate report"):
        gate_report(store, wanted)


@pytest.mark.parametrize("report", ["", "{}", "[]", '{"judged": "2026-11-22", "verdict": "pass"}', "[" * 100_000])
def test_a_row_that_somebody_else_wrote_is_one_line(store, report):
    row = read_gate_report(encoded(REPORTS[0]))
    store.insert_rows("gate_reports", [{**row.columns, "report": report, "kept_at": "2026-11-22 07:10:00.000"}])
    with pytest.raises(StorageError, match="cannot be read") as caught:
        gate_report(store, row.id)
    assert "\n" not in str(caught.value)


def test_a_report_of_a_version_without_margins_has_tolerances_for_them():
    plain = REPORTS[2].to_json()
    for row in plain["comparisons"]:
        del row["margin"], row["decides"]
    old = kept_report("1", json.loads(json.dumps(plain))).judgement.comparisons[0]
    assert (old.margin, old.decides) == (old.tolerance, True)


def test_a_store_of_an_older_collector_has_none(engine):
    engine.run("RENAME TABLE gate_reports TO gate_reports_away")
    try:
        assert gate_reports(engine) == ()
        with pytest.raises(QuestionError, match="no gate report"):
            gate_report(engine, "1")
    finally:
        engine.run("RENAME TABLE gate_reports_away TO gate_reports")
