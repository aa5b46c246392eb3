"""Gate reports whose content is known, made by the gate's own writer."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import replace

from tailsight_analysis.gating.result import Calibration, Compared, Judgement, Needed
from tailsight_analysis.gating.settings import GateSettings
from tailsight_analysis.gating.strata import StratifiedRun
from tailsight_cli.gating.config import GateConfig, StoredCalibration
from tailsight_cli.gating.report import GateReport, report
from tailsight_cli.gating.sampling import Side

L4, H100 = "NVIDIA L4", "NVIDIA H100 80GB HBM3"
MINUTE_NS = 60 * 10**9
FIRST_NS = 1_780_000_000 * 10**9  # 2026-05-28 20:26:40 UTC
TITLE = "acme/ranker #17 <b>*new*</b>"
UNLIKE = "hardware: baseline NVIDIA L4, candidate NVIDIA L4 and NVIDIA T4"
CALIBRATION = Calibration(20, 100, 0.01, (0.001, 0.05), 0.041)
RUNS = 2
PATH = "/tailsight/gate-reports"


def compared(stage: str = "compute", metric: str = "p99", hardware: str = L4, **fields: object) -> Compared:
    base = Compared(
        stage=stage, hardware=hardware, metric=metric, baseline_ms=10.2, candidate_ms=11.5, ratio=1.127, ci_low=1.081,
        ci_high=1.163, p_value=0.0004, verdict="regression", needed=None, tolerance=0.05, margin=0.1, decides=False,
    )  # fmt: skip
    return replace(base, **fields)


def request(metric: str, **fields: object) -> Compared:
    return compared("", metric, "", **{"decides": True, "margin": 0.05, **fields})


FINE = {"ratio": 1.004, "ci_low": 0.99, "ci_high": 1.02, "verdict": "pass", "p_value": 1.0}
OPEN = {"ratio": 1.02, "ci_low": 0.93, "ci_high": 1.14, "verdict": "inconclusive", "p_value": 0.8}
FASTER = {"ratio": 0.8, "ci_low": 0.74, "ci_high": 0.86, "verdict": "improvement", "p_value": 1.0}
UNKNOWN = {**OPEN, "ci_low": None, "ci_high": None, "p_value": None}
REGRESSION = (
    compared(),
    request("p50", ratio=1.09, ci_low=1.06, ci_high=1.12),
    request("p99", **{**OPEN, "margin": 0.1}, needed=Needed(None, 12)),
    request("mean", **UNKNOWN),
    compared("compute", "p50", H100, **FASTER),
    compared("preprocess", "p50", L4, **FINE),
    compared("postprocess", "p99", H100, **FINE, limit_ms=25.0, candidate_interval_ms=(11.0, 12.0)),
)
PASS = tuple(request(metric, **FINE) for metric in ("p50", "p95", "p99", "mean"))
INCONCLUSIVE = (request("p99", **OPEN, needed=Needed(None, 12)), request("p50", **FINE))


def side(name: str, *, commit: str = "", branch: str = "") -> Side:
    runs = tuple(StratifiedRun(f"{name}#{number}", FIRST_NS, {}) for number in range(1, RUNS + 1))
    return Side((f"{name}.otlp.zst",), runs, commits=(commit,) if commit else (), branches=(branch,) if branch else ())


def made(
    verdict: str, rows: tuple[Compared, ...], reasons: tuple[str, ...], *, minutes: int, calibrated: bool = False,
    unlike: tuple[str, ...] = (), title: str = "", needed: Needed | None = None,
) -> GateReport:  # fmt: skip
    """Make a report; `minutes` after the first."""
    stored = StoredCalibration(CALIBRATION, "2026-05-01T21:00:00Z", "AMD EPYC 9575F, 2 cores") if calibrated else None
    judgement = Judgement(verdict, CALIBRATION if calibrated else None, rows, reasons, unlike, 2, 2, needed)
    sides = (
        side("base", commit="0123456789ab", branch="main"),
        side("cand", commit="fedcba987654 (dirty)", branch="faster"),
    )
    config = GateConfig(None, GateSettings(), None, stored)
    return report(judgement, sides, config, None, judged_ns=FIRST_NS + minutes * MINUTE_NS, title=title)


REPORTS = (
    made("pass", PASS, ("all 4 metrics that must pass are shown to lie within their margins",), minutes=0),
    made(
        "inconclusive", INCONCLUSIVE, ("1 of 2 metrics that must pass are not decided", "12 more runs a side would do"),
        minutes=10, needed=Needed(None, 12),
    ),
    made(
        "regression", REGRESSION, ("compute on NVIDIA L4 p99 takes +12.7%",), minutes=20, calibrated=True,
        unlike=(UNLIKE,), title=TITLE,
    ),
)  # fmt: skip


def encoded(of: GateReport) -> bytes:
    return json.dumps(of.to_json(), ensure_ascii=False).encode()


def send_reports(otlp_url: str) -> list[str]:
    """Send them as `tailsight gate --keep` does; returns their ids."""
    ids = []
    for each in REPORTS:
        asked = urllib.request.Request(f"{otlp_url}{PATH}", encoded(each), {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            ids.append(json.load(answer)["id"])
    return ids
