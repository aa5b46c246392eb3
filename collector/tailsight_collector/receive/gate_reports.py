"""Reports of gates, sent by `tailsight gate --keep`: `POST /tailsight/gate-reports`, beside OTLP."""

from __future__ import annotations

from tailsight_collector.receive.kept_documents import Kind
from tailsight_storage import Store
from tailsight_storage.gate_reports import MAX_REPORT_BYTES, keep_gate_report, read_gate_report

PATH = "/tailsight/gate-reports"


def _keep(store: Store, sent: bytes) -> tuple[str, bool]:
    row = read_gate_report(sent)
    return row.id, keep_gate_report(store, row)


GATE_REPORTS = Kind(PATH, "report", MAX_REPORT_BYTES, "gate_reports", _keep)
