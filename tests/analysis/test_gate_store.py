"""The gate over a store: the runs it finds, exact figures of each, the hardware's mix, and recorded faults."""

import itertools

import numpy as np
import pytest
from testkit import nezha
from testkit.otlp import request

from tailsight_analysis import Filters, NoSpansError, Side, Window, whole_time
from tailsight_analysis.gate import fetch_runs, gate
from tailsight_analysis.gating.estimates import estimate
from tailsight_analysis.gating.samples import REQUESTS, Series
from tailsight_analysis.gating.strata import standardise

MS = 1_000_000
BASE_NS = 1_780_000_000 * 10**9
_tokens = itertools.count()


def insert_run(store, run, first_ns, random, *, count=200, on_t4=0.0, factor=1.0, longer=None, key="tokens"):
    """Requests with one compute span each, that takes twice as long on a T4; returns durations of compute by type.

    With `longer`, that factor longer inputs than 300 tokens take as much longer, and compute says how long they were.
    """
    taken = {"L4": [], "T4": []}
    by_type = {"L4": [], "T4": []}
    roots = []
    for number in range(count):
        kind = "T4" if random.random() < on_t4 else "L4"
        compute = int(10 * MS * factor * (2 if kind == "T4" else 1) * np.exp(0.2 * random.standard_normal()))
        attributes = {"tailsight.stage": "compute"}
        if longer is not None:
            attributes[key] = max(1, round(300 * longer * np.exp(0.5 * random.standard_normal())))
            compute = compute * attributes[key] // 300
        start = first_ns + number * 20 * MS
        trace, root, child = random.bytes(16), random.bytes(8), random.bytes(8)
        times = {"trace_id": trace}
        roots.append(
            {
                **times,
                "span_id": root,
                "name": "GET /",
                "start_time_unix_nano": start,
                "end_time_unix_nano": start + compute + 2 * MS,
            }
        )
        by_type[kind].append(
            {
                **times,
                "span_id": child,
                "parent_span_id": root,
                "name": "forward",
                "attributes": attributes,
                "start_time_unix_nano": start + MS,
                "end_time_unix_nano": start + MS + compute,
            }
        )
        taken[kind].append(compute / MS)
    for spans, resource in (
        (roots, {"service.name": "api", "tailsight.run": run}),
        *(
            (
                spans,
                {"service.name": "model", "tailsight.run": run, "tailsight.hardware": kind},
            )
            for kind, spans in by_type.items()
            if spans
        ),
    ):
        message = request(spans, resource)
        data = message.SerializeToString()
        store.insert_otlp_traces(_delimited(data), f"gate-{next(_tokens)}")
    return taken


def _delimited(data: bytes) -> bytes:
    size, number = b"", len(data)
    while number > 127:
        size += bytes([number & 127 | 128])
        number >>= 7
    return size + bytes([number]) + data


def runs_of(store, *names) -> Side:
    window = whole_time(store)
    assert window is not None
    return Side(window, Filters(run=names))


def test_runs_of_a_window_are_told_apart_and_their_figures_are_exact(store):
    random = np.random.default_rng(1)
    taken = {run: insert_run(store, run, BASE_NS + at * 10**10, random)["L4"] for at, run in enumerate(("b1", "b2"))}
    insert_run(store, "other", BASE_NS, random)
    found = fetch_runs(store, runs_of(store, "b1", "b2"))
    assert [run.label for run in found] == ["b1", "b2"]
    assert found[0].start_ns == BASE_NS
    for run in standardise(found, found).baseline:
        metrics = np.exp(
            estimate(run, [(Series("compute", "L4"), name) for name in ("p50", "p95", "p99", "mean")]).values
        )
        values = np.array(taken[run.label])
        assert metrics == pytest.approx([*np.quantile(values, [0.5, 0.95, 0.99]), values.mean()], rel=1e-6)
        assert run.requests == 200


def test_a_slower_stage_is_found_in_a_store(store):
    random = np.random.default_rng(2)
    for at in range(6):
        slow = at % 4 in (1, 2)
        insert_run(store, f"{'c' if slow else 'b'}{at}", BASE_NS + at * 10**10, random, factor=1.3 if slow else 1.0)
    found = gate(store, [runs_of(store, "b0", "b3", "b4")], [runs_of(store, "c1", "c2", "c5")])
    assert found.verdict == "regression"
    assert (found.baseline_runs, found.candidate_runs) == (3, 3)
    slower = {(row.stage, row.hardware) for row in found.comparisons if row.verdict == "regression"}
    assert ("compute", "L4") in slower


def test_more_work_on_slower_hardware_is_said_and_is_no_regression(store):
    random = np.random.default_rng(3)
    for at in range(6):
        moved = at % 4 in (1, 2)
        insert_run(store, f"{'c' if moved else 'b'}{at}", BASE_NS + at * 10**10, random, on_t4=0.7 if moved else 0.3)
    found = gate(store, [runs_of(store, "b0", "b3", "b4")], [runs_of(store, "c1", "c2", "c5")])
    assert found.verdict != "regression"
    assert any(each.startswith("request: the mix moved") for each in found.differences)
    mean = next(row for row in found.comparisons if row.metric == "mean" and not row.stage)
    assert mean.ratio == pytest.approx(1.0, abs=0.1)


def test_a_part_without_requests_is_named(store):
    with pytest.raises(NoSpansError, match="no requests in"):
        gate(store, [Side(Window(BASE_NS, BASE_NS + 10**9))], [Side(Window(BASE_NS, BASE_NS + 10**9))])


@pytest.mark.skipif(not nezha.FOLDER.exists(), reason="../shared/data is not here")
def test_recorded_faults_are_regressions_and_the_fault_free_minute_is_none(store):
    for run, name in (
        ("free", "baseline_A"),
        ("delay", "fault_13_38_network_delay_currencyservice"),
        ("cpu", "fault_15_57_cpu_consumed_shippingservice"),
    ):
        nezha.insert(store, name, run)

    def side(run, service=(), half=None):
        window = whole_time(store, run)
        middle = (window.since_ns + window.until_ns) // 2
        if half is not None:
            window = Window(window.since_ns, middle) if half == 0 else Window(middle, window.until_ns)
        return [Side(window, Filters(run=(run,), service=service))]

    assert gate(store, side("free"), side("delay")).verdict == "regression"
    assert gate(store, side("free", ("shippingservice",)), side("cpu", ("shippingservice",))).verdict == "regression"
    assert gate(store, side("free", ("currencyservice",)), side("cpu", ("currencyservice",))).verdict == "inconclusive"
    assert gate(store, side("free", half=0), side("free", half=1)).verdict == "inconclusive"


def test_requests_without_stages_are_compared(store):
    random = np.random.default_rng(4)
    insert_run(store, "only", BASE_NS, random)
    found = fetch_runs(store, Side(whole_time(store), Filters(service=("api",))))
    assert set(found[0].series) == {REQUESTS}


def test_longer_inputs_in_a_store_are_said_and_are_no_regression(store):
    """Only a stage says how long they are: what a trace says anywhere, holds for its request and all of its stages."""
    random = np.random.default_rng(5)
    for at in range(6):
        changed = at % 4 in (1, 2)
        insert_run(
            store, f"{'c' if changed else 'b'}{at}", BASE_NS + at * 10**11, random,
            longer=1.5 if changed else 1.0, count=600,
        )  # fmt: skip
    sides = [runs_of(store, "b0", "b3", "b4")], [runs_of(store, "c1", "c2", "c5")]
    runs = fetch_runs(store, *sides[0])
    assert {run.lengths.key for run in runs} == {"tokens"}
    for run in runs:
        for series in (REQUESTS, Series("compute", "L4")):
            ((kind, cells),) = run.series[series].items()
            steps = run.lengths.steps[series][kind]
            assert len(steps) == len(cells.value) == 600
            took_per_token = cells.value / 2 ** (steps / 8)
            assert np.std(np.log(took_per_token)) < 0.3 < np.std(np.log(cells.value))
    found = gate(store, *sides)
    assert found.verdict != "regression"
    assert found.differences[0].startswith("request: inputs are longer (tokens, mean ")
    mean = next(row for row in found.comparisons if row.metric == "mean" and row.stage == "compute")
    assert mean.ratio == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("said", "key"), [(0.5, "input_tokens"), (0.1, "")], ids=["half of the traces", "a tenth: too few"]
)
def test_the_key_of_lengths_is_one_that_enough_traces_carry(store, said, key):
    random = np.random.default_rng(6)
    insert_run(store, "only", BASE_NS, random, count=round(400 * said), longer=1.0, key="input_tokens")
    insert_run(store, "only", BASE_NS + 1, random, count=round(400 * (1 - said)))
    (run,) = fetch_runs(store, runs_of(store, "only"))
    assert (run.lengths.key if run.lengths else "") == key


def test_runs_that_lie_far_apart_are_all_fetched(store):
    random = np.random.default_rng(7)
    starts = {f"r{number}": BASE_NS + number * 5 * 3_600 * 10**9 for number in range(3)}
    taken = {run: insert_run(store, run, start, random, count=50)["L4"] for run, start in starts.items()}
    found = fetch_runs(store, runs_of(store, *starts))
    assert [(run.label, run.start_ns) for run in found] == list(starts.items())
    for run in found:
        assert sorted(run.series[Series("compute", "L4")]["forward"].value) == pytest.approx(sorted(taken[run.label]))
