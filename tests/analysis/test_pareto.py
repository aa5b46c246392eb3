"""Who is better at both quality and latency, and how sure that is."""

import json

import numpy as np
import pytest
from analysis import brute_force
from analysis.brute_force import Span, window

from tailsight_analysis import NotEnoughDataError, QuestionError, pareto
from tailsight_analysis.statistics.dominance import Certainty, Estimate, Rated, difference, dominates

WIDE = window(0, 400_000_000)
MODELS = {"large": (0.9, 4.0), "small": (0.8, 2.0), "old": (0.7, 5.0)}  # mean quality, and log of ticks over 100


def requests(random, count: int, models=MODELS, key: str = "eval.score", rated: float = 1.0) -> list[Span]:
    spans, names = [], list(models)
    for trace in range(1, count + 1):
        model = names[trace % len(names)]
        quality, size = models[model]
        ticks, score = round(100 * np.exp(size) * random.lognormal(0, 0.1)), quality + 0.05 * random.normal()
        given = ((key, f"{score:.4f}"),) if random.random() < rated else ()
        spans += [
            Span(trace, 1, 0, trace * 10_000, ticks, attributes=given),
            Span(
                trace, 2, 1, trace * 10_000, ticks - 10, stage="compute", model=model, version="2" if trace % 2 else "1"
            ),
        ]
    return spans


def variant(result, model: str):
    return next(each for each in result.variants if each.group["model"] == model)


def test_the_front_is_what_nothing_beats_at_both(store):
    spans = requests(np.random.default_rng(1), 1500)
    brute_force.insert(store, spans)
    result = pareto(store, WIDE)
    assert (result.quality_key, result.lower_is_better) == ("eval.score", False)
    assert [each.group["model"] for each in result.variants] == ["large", "small", "old"]
    assert [each.on_front for each in result.variants] == [True, True, False]
    old = variant(result, "old")
    assert {(each.by["model"], each.certainty) for each in old.dominated_by} == {
        ("large", Certainty.CERTAIN), ("small", Certainty.CERTAIN),
    }  # fmt: skip
    large = variant(result, "large")
    own = [span for span in spans if span.model == "large"]
    scores = [float(span.attributes[0][1]) for span in spans if span.attributes and span.trace % 3 == 0]
    assert large.quality.value == pytest.approx(np.mean(scores))
    assert large.quality.low < 0.9 < large.quality.high
    assert large.p50_ms.value == pytest.approx(np.median([(span.duration + 10) / 1000 for span in own]))
    assert large.p99_ms.low < large.p99_ms.value
    json.dumps(result.to_json(), allow_nan=False)


def test_what_lies_within_chance_is_open(store):
    """Two equal models: whichever looks better does not dominate."""
    named = 0
    random = np.random.default_rng(2)
    brute_force.insert(store, requests(random, 300, {"a": (0.8, 2.0), "b": (0.8, 2.0)}))
    result = pareto(store, WIDE)
    assert all(each.on_front for each in result.variants)
    for _ in range(300):
        rated = [Rated(*(_estimate(random.normal(size=50)) for _ in range(2))) for _ in range(2)]
        named += any(dominates(one, other) is Certainty.CERTAIN for one, other in (rated, rated[::-1]))
    assert named <= 6


def _estimate(values: np.ndarray) -> Estimate:
    half = 2 * values.std() / np.sqrt(len(values))
    return Estimate(values.mean(), values.mean() - half, values.mean() + half)


def test_dominance_asks_for_both():
    def rated(quality: float, latency: float, error: float = 0.1) -> Rated:
        return Rated(
            Estimate(quality, quality - error, quality + error), Estimate(latency, latency - error, latency + error)
        )

    assert dominates(rated(2, 1), rated(1, 2)) is Certainty.CERTAIN
    assert dominates(rated(2, 1.95), rated(1, 2)) is Certainty.PROBABLE
    assert dominates(rated(2, 2.05), rated(1, 2)) is None  # looks slower
    assert dominates(rated(1.05, 1.95), rated(1, 2)) is None  # both within chance
    assert dominates(rated(1, 1), rated(1, 1)) is None
    assert dominates(rated(1, 1), rated(2, 2), lower_quality_is_better=True) is Certainty.CERTAIN
    unknown = Rated(Estimate(2, None, None), Estimate(1, None, None))
    assert dominates(unknown, rated(1, 2)) is None


def test_differences_have_the_interval_of_both():
    result = difference(Estimate(5, 2, 9), Estimate(1, 0, 5))
    assert (result.value, result.low, result.high) == (4, pytest.approx(4 - 5), pytest.approx(4 + np.hypot(4, 1)))
    assert difference(Estimate(5, None, 9), Estimate(1, 0, 5)).low is None


def test_less_may_be_better(store):
    brute_force.insert(store, requests(np.random.default_rng(3), 600, key="asr.wer"))
    result = pareto(store, WIDE)
    assert (result.quality_key, result.lower_is_better) == ("asr.wer", True)
    assert [each.group["model"] for each in result.variants] == ["old", "small", "large"]
    assert {each.group["model"] for each in result.variants if each.on_front} == {"old", "small"}
    assert not pareto(store, WIDE, lower_is_better=False).lower_is_better


def test_variants_by_version_and_only_some_rated(store):
    brute_force.insert(store, requests(np.random.default_rng(4), 600, rated=0.2))
    result = pareto(store, WIDE, by=("model", "version"), latency="p50")
    assert len(result.variants) == 6
    assert result.latency == "p50_ms"
    assert all(0 < each.rated < each.sampled == 100 for each in result.variants)


def test_yes_and_no_are_numbers_and_a_key_may_be_given(store):
    spans = [
        Span(n, 1, 0, n * 100, 50, model="m", attributes=(("right", "true" if n % 4 else "false"), ("score", "3")))
        for n in range(1, 41)
    ]
    brute_force.insert(store, spans)
    assert pareto(store, WIDE).quality_key == "score"
    assert variant(pareto(store, WIDE, quality="right"), "m").quality.value == pytest.approx(0.75)


def test_costs_are_those_of_the_busy_time(store):
    spans = [
        Span(n, 2, 1, n * 1_000_000, 400_000, stage="compute", model="m", attributes=(("tailsight.batch.size", "4"),))
        for n in range(1, 41)
    ]
    spans += [Span(n, 1, 0, n * 1_000_000, 500_000, attributes=(("score", "3"),)) for n in range(1, 41)]
    brute_force.insert(store, spans)
    assert variant(pareto(store, WIDE, prices={"L4": 3.6}), "m").cost == pytest.approx(0.1 * 0.001)
    assert variant(pareto(store, WIDE), "m").cost is None


def test_waiting_costs_nothing(store):
    spans = [
        Span(n, at, 1, n * 1_000_000 + 1000 * at, 100_000 * at, stage=stage, model="m")
        for n in range(1, 41)
        for at, stage in ((2, "queue"), (3, "network"), (4, "compute"))
    ]
    spans += [Span(n, 1, 0, n * 1_000_000, 900_000, hardware="CPU", attributes=(("score", "3"),)) for n in range(1, 41)]
    brute_force.insert(store, spans)
    assert variant(pareto(store, WIDE, prices={"L4": 3.6}), "m").cost == pytest.approx(0.4 * 0.001)


def test_requests_that_stand_for_several_count_so_often(store):
    """Slow and good ones are all kept, of the others one in seven; every fifth names no model."""
    random, spans = np.random.default_rng(5), []
    for n in range(1, 201):
        slow = n % 4 == 0
        ticks, score = int(random.integers(200, 300)) * (3 if slow else 1), random.random() + slow
        spans.append(
            Span(n, 1, 0, n * 10_000, ticks, stage="compute", model="m" if n % 5 else "", weight=1 if slow else 7,
                 attributes=(("score", str(score)),))
        )  # fmt: skip
    brute_force.insert(store, spans)
    result = pareto(store, WIDE, prices={"L4": 3.6})
    own = [span for span in spans if span.model]
    weights = [span.weight for span in own]
    ms = np.repeat([span.duration / 1000 for span in own], weights)
    found = variant(result, "m")
    assert result.weighted
    assert (result.requests, result.stored) == (sum(span.weight for span in spans), 200)
    assert (found.requests, found.sampled) == (len(ms), len(own))
    assert (found.p50_ms.value, found.p99_ms.value) == pytest.approx(np.quantile(ms, [0.5, 0.99]))
    scores = np.repeat([float(span.attributes[0][1]) for span in own], weights)
    assert found.quality.value == pytest.approx(scores.mean())
    assert found.quality.low < scores.mean() < found.quality.high
    assert found.cost == pytest.approx(ms.mean() / 3_600_000 * 3.6)
    assert result.unnamed_share == pytest.approx(1 - len(ms) / result.requests)


def test_a_key_that_is_meant_for_it_comes_before_what_more_requests_carry(store):
    spans = [
        Span(n, 1, 0, n * 100, 50, model="m",
             attributes=(("my.rating", "3"), *((("eval.score", "0.5"),) if n % 4 == 0 else ())))
        for n in range(1, 81)
    ]  # fmt: skip
    brute_force.insert(store, spans)
    result = pareto(store, WIDE)
    assert (result.quality_key, result.candidates) == ("eval.score", ("my.rating",))


def test_what_is_missing_is_said(store):
    brute_force.insert(
        store, [Span(n, 1, 0, n * 100, 50, model="m", attributes=(("speed", "3"),)) for n in range(1, 41)]
    )
    with pytest.raises(NotEnoughDataError, match="carries a quality") as raised:
        pareto(store, WIDE)
    assert raised.value.choose == "quality"
    with pytest.raises(NotEnoughDataError, match="under right"):
        pareto(store, WIDE, quality="right")
    with pytest.raises(NotEnoughDataError, match="names a run"):
        pareto(store, WIDE, quality="speed", by=("run",))
    with pytest.raises(QuestionError, match="colour"):
        pareto(store, WIDE, by=("colour",))
    with pytest.raises(QuestionError, match="p95"):
        pareto(store, WIDE, latency="p95")
