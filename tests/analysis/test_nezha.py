"""Faults injected into OnlineBoutique (Nezha): `compare` names the injected service first, and nothing where nothing is."""

import json

import numpy as np
import pytest
from testkit import nezha

from tailsight_analysis import Filters, Window, whole_time
from tailsight_analysis.compare import Side, compare

pytestmark = pytest.mark.skipif(not nezha.FOLDER.exists(), reason=f"{nezha.FOLDER} is not here")
BASELINE = "baseline_A"
NETWORK = "fault_13_38_network_delay_currencyservice"
CPU = "fault_15_57_cpu_consumed_shippingservice"


@pytest.fixture(scope="module")
def data(engine):
    engine.run("TRUNCATE TABLE spans")
    for name in (BASELINE, NETWORK, CPU):
        nezha.insert(engine, name, name)
    return engine


def side(store, run) -> Side:
    return Side(whole_time(store, run), Filters(run=(run,)))


@pytest.mark.parametrize("fault", [NETWORK, CPU])
def test_the_injected_service_is_named_first_and_alone(data, fault):
    truth = json.loads(nezha.TRUTH.read_text())["files"][fault]["truth"]["service"]
    found = compare(data, side(data, BASELINE), side(data, fault)).findings
    assert found.causes[0].service == truth
    assert {cause.service for cause in found.causes} == {truth}
    assert found.causes[0].p_value < 0.001


def test_delay_on_the_way_to_a_service_counts_for_it_and_not_for_its_callers(data):
    causes = compare(data, side(data, BASELINE), side(data, NETWORK)).findings.causes
    operations = {cause.name: cause for cause in causes}
    assert set(operations) == {
        "hipstershop.CurrencyService/Convert",
        "hipstershop.CurrencyService/GetSupportedCurrencies",
    }
    assert {cause.stage for cause in causes} == {"network"}
    # 0.8 calls a request, each half a second longer
    assert operations["hipstershop.CurrencyService/GetSupportedCurrencies"].delta.ms == pytest.approx(427, abs=40)


def test_two_halves_of_a_minute_without_fault_have_no_causes(data):
    whole = whole_time(data, BASELINE)
    filters = Filters(run=(BASELINE,))
    # by time the halves have about a hundred requests each
    starts = sorted(int(row[0]) for row in data.rows(
        "SELECT toUnixTimestamp64Nano(start_time) FROM spans WHERE run = {run:String} AND parent_span_id = toFixedString('', 8)",
        run=BASELINE,
    ))  # fmt: skip
    middle = starts[100]
    halves = [Side(Window(whole.since_ns, middle), filters), Side(Window(middle, whole.until_ns), filters)]
    assert compare(data, *halves).findings.causes == ()
    assert compare(data, *reversed(halves)).findings.causes == ()


def test_figures_of_the_requests_are_those_of_the_files(data):
    roots = data.rows(
        "SELECT run, duration_ns FROM spans WHERE parent_span_id = toFixedString('', 8) ORDER BY run, duration_ns"
    )
    found = compare(data, side(data, BASELINE), side(data, CPU)).findings.differences
    for run, field in ((BASELINE, "baseline_ms"), (CPU, "candidate_ms")):
        times = [duration / 1e6 for name, duration in roots if name == run]
        assert getattr(found["mean"], field) == pytest.approx(np.mean(times))
        assert getattr(found["p50"], field) == pytest.approx(np.quantile(times, 0.5))
        assert getattr(found["p99"], field) == pytest.approx(np.quantile(times, 0.99))
