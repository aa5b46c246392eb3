"""The variance ledger adds up, whatever the traces are like, and says what numpy says."""

import json

import numpy as np
import pytest
from analysis import brute_force
from analysis.brute_force import Span, window
from scipy.signal import lfilter

from tailsight_analysis import Filters, NoSpansError, NotEnoughDataError, variance
from tailsight_analysis.statistics.linearised import blocks_in_time
from tailsight_analysis.statistics.variance_parts import share_of_slowest, variance_parts
from tailsight_analysis.variance import OTHER_STAGES

WIDE = window(0, 10_000_000)


def sequential(random, requests: int, stages=("queue", "compute"), **fields) -> tuple[list[Span], np.ndarray]:
    """Requests whose stages follow each other, with 5 ticks of no stage; and the ticks of each stage."""
    spans, ticks = [], random.integers(20, 200, (requests, len(stages)))
    for trace, row in enumerate(ticks, 1):
        start = at = trace * 1000
        spans.append(Span(trace, 1, 0, start, int(row.sum()) + 5, **fields))
        for number, (stage, length) in enumerate(zip(stages, row, strict=True), 2):
            spans.append(Span(trace, number, 1, at, int(length), stage=stage, **fields))
            at += int(length)
    return spans, ticks


def shares(ledger) -> dict[str, float]:
    return {stage.stage: stage.share for stage in ledger.stages}


def test_terms_are_numpys_covariances_and_add_up(store):
    random = np.random.default_rng(1)
    spans, ticks = sequential(random, 60, ("a", "b", "c"))
    brute_force.insert(store, spans)
    result = variance(store, WIDE)
    ms = ticks / 1000
    covariance = np.cov(ms.T, ddof=0)
    total = result.total
    assert total.variance_ms2 == pytest.approx(ms.sum(axis=1).var())
    assert total.mean_ms == pytest.approx(ms.sum(axis=1).mean() + 0.005)
    terms = {term.stages: term.ms2 for term in total.terms}
    for one, name in enumerate("abc"):
        assert terms[name,] == pytest.approx(covariance[one, one])
        assert shares(total)[name] == pytest.approx(covariance[one].sum() / covariance.sum())
    assert terms["a", "b"] == pytest.approx(2 * covariance[0, 1])
    correlation = {term.stages: term.correlation for term in total.terms}
    assert correlation["a", "c"] == pytest.approx(np.corrcoef(ms.T)[0, 2])
    assert correlation["a",] is None
    assert sum(term.share for term in total.terms) == pytest.approx(1)
    assert sum(terms.values()) == pytest.approx(total.variance_ms2)
    assert shares(total)[""] == pytest.approx(0, abs=1e-12)


def test_stages_that_move_together_or_against_each_other_share_their_covariance():
    random = np.random.default_rng(2)
    common, noise = random.normal(size=(2, 100_000))
    block = blocks_in_time(np.arange(100_000))
    together = variance_parts(np.stack((common, 2 * common, noise), axis=1), np.ones(100_000), block)
    # Var = 1 + 4 + 1 + 2·2 = 10
    assert together.share == pytest.approx([0.3, 0.6, 0.1], abs=0.01)
    against = variance_parts(np.stack((common, -0.5 * common), axis=1), np.ones(100_000), block)
    assert against.share == pytest.approx([2, -1], abs=0.02)


def test_hardware_follows_the_law_of_total_variance(store):
    random = np.random.default_rng(3)
    spans, durations, types = [], [], []
    for trace in range(1, 121):
        kind = ("L4", "H100", "T4")[trace % 3]
        length = int(random.integers(50, 100)) * (3 if kind == "L4" else 1)
        # the entry span lies on other hardware, but does little of it
        spans.append(Span(trace, 1, 0, trace * 1000, length + 4, hardware="CPU"))
        spans.append(Span(trace, 2, 1, trace * 1000 + 2, length, stage="compute", hardware=kind))
        durations.append((length + 4) / 1000)
        types.append(kind)
    brute_force.insert(store, spans)
    result = variance(store, WIDE)
    durations, types = np.array(durations), np.array(types)
    assert {part.hardware for part in result.hardware} == {"L4", "H100", "T4"}
    for part in result.hardware:
        own = durations[types == part.hardware]
        assert part.within_share == pytest.approx(own.var() / durations.var() / 3)
        assert part.between_share == pytest.approx((own.mean() - durations.mean()) ** 2 / durations.var() / 3)
        assert part.ledger.variance_ms2 == pytest.approx(own.var())
        assert shares(part.ledger)["compute"] == pytest.approx(1)
    assert sum(part.within_share for part in result.hardware) + result.between_share == pytest.approx(1)
    low, high = result.between_interval
    assert 0 < low < result.between_share < high


def test_weighted_requests_count_as_often_as_they_stand_for(store):
    random = np.random.default_rng(4)
    spans, ticks = sequential(random, 40)
    weights = [1 if trace % 4 == 0 else 7 for trace in range(1, 41)]
    spans = [Span(**{name: getattr(span, name) for name in ("trace", "id", "parent", "start", "duration", "stage")},
                  weight=weights[span.trace - 1] if span.parent == 0 else 1) for span in spans]  # fmt: skip
    brute_force.insert(store, spans)
    result = variance(store, WIDE)
    repeated = np.repeat(ticks / 1000, weights, axis=0)
    covariance = np.cov(repeated.T, ddof=0)
    assert result.weighted
    assert (result.requests, result.stored) == (sum(weights), 40)
    assert result.total.variance_ms2 == pytest.approx(covariance.sum())
    assert shares(result.total)["queue"] == pytest.approx(covariance[0].sum() / covariance.sum())


def test_messy_traces_add_up_too(store):
    random = np.random.default_rng(5)
    spans = []
    for trace in range(1, 60):
        start = trace * 500
        spans += [Span(trace, 1, 0 if trace % 5 else 99, start, int(random.integers(50, 300)))]
        if trace % 7 == 0:
            spans.append(Span(trace, 20, 0, start + 3, 77, stage="root too"))
        for number in range(2, 8):  # missing parents, cycles, children that overflow, parallel ones, other hosts
            spans.append(
                Span(
                    trace, number, int(random.integers(1, 9)), start + int(random.integers(-50, 200)),
                    int(random.integers(0, 200)), stage=str(random.choice(["a", "b", ""])),
                    host=str(random.choice(["h1", "h2"])), hardware=str(random.choice(["", "L4", "T4"])),
                )
            )  # fmt: skip
    brute_force.insert(store, [*spans, *spans[:40]])
    result = variance(store, WIDE)
    entries = brute_force.requests(spans, 0, 10_000_000, Filters())
    assert result.requests == len(entries)
    assert result.total.variance_ms2 == pytest.approx(np.var([entry.duration / 1000 for entry in entries]))
    assert sum(term.share for term in result.total.terms) == pytest.approx(1)
    assert sum(stage.share for stage in result.total.stages) == pytest.approx(1)
    json.dumps(result.to_json(), allow_nan=False)


def test_equal_requests_do_not_vary(store):
    brute_force.insert(
        store, [Span(n, i, i - 1, n * 100, 20 // i, stage="ab"[i - 1]) for n in range(1, 13) for i in (1, 2)]
    )
    result = variance(store, WIDE)
    assert result.total.sd_ms == 0
    assert result.total.terms == ()
    assert all(stage.share == 0 for stage in result.total.stages)
    json.dumps(result.to_json(), allow_nan=False)


def test_many_stages_are_put_together_and_still_add_up(store):
    random = np.random.default_rng(6)
    spans, ticks = sequential(random, 30, tuple(f"s{n:02}" for n in range(60)))
    brute_force.insert(store, spans)
    total = variance(store, WIDE).total
    assert len(total.stages) == 40
    assert OTHER_STAGES in shares(total)
    assert sum(shares(total).values()) == pytest.approx(1)
    assert total.variance_ms2 == pytest.approx((ticks.sum(axis=1) / 1000).var())


OUTLIER = np.append(np.zeros(199), 5.0)
DRAWN = np.random.default_rng(1).uniform(0.1, 0.7, 200)


@pytest.mark.parametrize(
    ("parts", "variance"),
    [
        pytest.param((1 + OUTLIER, 2 + OUTLIER), np.var(2 * OUTLIER), id="one block has all of it"),
        pytest.param((DRAWN, 1 - DRAWN + OUTLIER), np.var(OUTLIER), id="and parts make up for each other"),
        pytest.param((DRAWN, DRAWN / 3, 1 - DRAWN - DRAWN / 3), 0.0, id="nothing has, but for rounding"),
    ],
)
def test_where_no_more_than_one_block_varies_shares_have_no_interval(parts, variance):
    found = variance_parts(np.stack(parts, axis=1), np.ones(200), blocks_in_time(np.arange(200)))
    assert found.variance == pytest.approx(variance, rel=1e-12, abs=0)
    assert found.share.sum() == pytest.approx(1 if variance else 0)
    assert found.share_interval is found.cell_interval is None


def test_too_few_requests_say_how_many_are_missing(store):
    with pytest.raises(NoSpansError):
        variance(store, WIDE)
    brute_force.insert(store, [Span(n, 1, duration=n) for n in range(1, 8)])
    with pytest.raises(NotEnoughDataError, match="3 more are needed") as error:
        variance(store, WIDE)
    assert error.value.missing == 3


def test_the_slowest_hundredth_has_its_share_of_the_variance():
    values = np.append(np.zeros(198), [100.0, 100.0])
    share, slowest = share_of_slowest(values, np.ones(200))
    assert slowest.sum() == 2
    assert share == pytest.approx(2 * 99**2 / (2 * 99**2 + 198))
    few, chosen = share_of_slowest(np.arange(50.0), np.ones(50))
    assert (few, chosen.any()) == (0, False)


def noise(random, count: int, phi: float) -> np.ndarray:
    return lfilter([np.sqrt(1 - phi**2)], [1, -phi], random.normal(size=count + 300))[300:]


@pytest.mark.parametrize(("phi", "least"), [(0.0, 0.93), (0.9, 0.93)])
def test_intervals_of_shares_cover_the_truth(phi, least):
    """Log-normal stages of which two have a common part; with φ = 0.9 that part lasts for some requests."""
    share = (np.array([[0.16, 0], [0, 0.09]]) ** 0.5).diagonal()
    one, other, joint = (
        (np.exp(s * t) - 1) for s, t in ((share[0], share[0]), (share[1], share[1]), (0.36 * share[0], share[1]))
    )
    scale = np.exp([share[0] ** 2 / 2, share[1] ** 2 / 2]) * [1, 2]
    covariance = np.array([[one, joint], [joint, other]]) * np.outer(scale, scale)
    truth = covariance.sum(axis=1) / covariance.sum()
    random, hits = np.random.default_rng(8), []
    for _ in range(250):
        common = noise(random, 1000, phi)
        first = np.exp(share[0] * (0.6 * common + 0.8 * random.normal(size=1000)))
        second = 2 * np.exp(share[1] * (0.6 * common + 0.8 * random.normal(size=1000)))
        parts = variance_parts(np.stack((first, second), axis=1), np.ones(1000), blocks_in_time(np.arange(1000)))
        low, high = parts.share_interval
        hits.append((low <= truth) & (truth <= high))
        assert (parts.cell_interval[0] <= parts.covariance / parts.variance).all()
    assert np.mean(hits) >= least
    assert np.mean(hits) <= 0.99
