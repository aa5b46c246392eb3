"""A gate's report as JUnit XML: a test case a comparison; a regression fails, what is not decided is skipped."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from tailsight_analysis.gating.importance import by_importance
from tailsight_analysis.gating.result import Compared
from tailsight_cli.gating.report import GateReport
from tailsight_cli.render import gate_words as words
from tailsight_cli.render.text import significant

SUITE = "tailsight gate"
# XML 1.0 has no way to write these, escaped or not
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def gate_junit(report: GateReport) -> bytes:
    """Write the file, in UTF-8."""
    rows = by_importance(report.judgement.comparisons)
    counts = {
        "tests": str(len(rows)),
        "failures": str(len(report.of_verdict("regression"))),
        "errors": "0",
        "skipped": str(len(report.of_verdict("inconclusive"))),
    }
    suites = ET.Element("testsuites", {"name": SUITE, **counts})
    suite = ET.SubElement(suites, "testsuite", {"name": SUITE, **counts})
    properties = ET.SubElement(suite, "properties")
    for key, value in (("verdict", report.judgement.verdict), ("calibration", words.calibration_line(report))):
        ET.SubElement(properties, "property", {"name": key, "value": xml_text(value)})
    for row in rows:
        _case(suite, row)
    said = [words.headline(report), *report.judgement.differences, *words.remarks(report)]
    ET.SubElement(suite, "system-out").text = xml_text("\n".join(said))
    ET.indent(suites)
    return bytes(ET.tostring(suites, encoding="utf-8", xml_declaration=True)) + b"\n"


def xml_text(text: str) -> str:
    """Leave out what XML cannot say; the writer escapes the rest."""
    return _NOT_XML.sub("�", text)


def _case(suite: ET.Element, row: Compared) -> None:
    name = {"classname": xml_text(words.name(row)), "name": row.metric}
    case = ET.SubElement(suite, "testcase", {**name, "time": "0"})
    said = xml_text(words.finding(row))
    if row.verdict == "regression":
        ET.SubElement(case, "failure", {"type": "regression", "message": said}).text = said
    elif row.verdict == "inconclusive":
        more = words.needed(row.needed)
        ET.SubElement(case, "skipped", {"message": f"not decided: {said}{f'; {more} would decide' if more else ''}"})
    figures = f"{significant(row.baseline_ms)} ms, then {significant(row.candidate_ms)} ms"
    ET.SubElement(case, "system-out").text = f"{row.verdict}: {figures}, {words.change(row.ratio)}"
