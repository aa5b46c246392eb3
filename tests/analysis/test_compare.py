"""Mix against slowdown: pure comparisons of simulated requests with known answers, then through a store, with messy traces."""

import time

import numpy as np
import pytest
from analysis import brute_force
from scipy.stats import kstest
from testkit.otlp import request

from tailsight_analysis import Filters, NoSpansError, NotEnoughDataError, Window
from tailsight_analysis.compare import Requests, Side, compare, compare_requests
from tailsight_analysis.comparison.asked import Asked, number_keys, says_how_much, says_what, text_keys
from tailsight_analysis.comparison.balance import balancing_weights
from tailsight_analysis.comparison.calls import Place
from tailsight_analysis.comparison.shift import block_counts, block_means, halvings, shift
from tailsight_analysis.comparison.sides import fetch_side, same_places

MS = 1_000_000
PRE, L4, T4, QUEUE, POST = range(5)
PLACES = [
    Place("api", "tokenize", "preprocess", "cpu"),
    Place("model", "forward", "compute", "L4"),
    Place("model", "forward", "compute", "T4"),
    Place("model", "wait", "queue", "L4"),
    Place("api", "reply", "", "cpu"),
]


def autocorrelated(random, count, columns, phi):
    noise = random.standard_normal((count, columns))
    for at in range(1, count):
        noise[at] = phi * noise[at - 1] + np.sqrt(1 - phi**2) * noise[at]
    return noise


def requests_of(times_ms, texts=None, numbers=None, weight=None) -> Requests:
    contribution = np.round(np.asarray(times_ms) * MS)
    count = len(contribution)
    return Requests(
        start_ns=np.arange(count) * 10 * MS,
        duration_ns=contribution.sum(axis=1).astype(np.int64),
        weight=np.ones(count) if weight is None else weight,
        contribution_ns=contribution,
        visits=(contribution > 0).astype(float),
        asked=Asked(texts or {}, numbers or {}),
    )


def pipeline(random, count, *, length=5.0, on_t4=0.3, slower=None, models=None) -> Requests:
    """Requests whose compute grows with the input's length, twice as fast on an L4 as on a T4."""
    tokens = np.round(np.exp(length + 0.6 * random.standard_normal(count)))
    is_t4 = random.random(count) < on_t4
    noise = autocorrelated(random, count, 4, 0.5)
    pre = (1 + 0.004 * tokens) * np.exp(0.2 * noise[:, 0])
    forward = (5 + 0.05 * tokens) * np.exp(0.25 * noise[:, 1]) * np.where(is_t4, 2, 1)
    forward *= {None: 1, "forward": 1.3}.get(slower, 1)
    if slower == "T4":
        forward[is_t4] *= 1.6
    if slower == "pause":
        forward += np.where(random.random(count) < 0.02, 200, 0)
    texts = {}
    if models is not None:
        big = random.random(count) < models
        forward *= np.where(big, 3, 1)
        texts["model"] = np.where(big, "big", "small").astype(object)
    times = np.stack(
        [pre, np.where(is_t4, 0, forward), np.where(is_t4, forward, 0), np.exp(0.5 + 0.8 * noise[:, 2]),
         np.exp(0.3 * noise[:, 3])], axis=1,
    )  # fmt: skip
    return requests_of(times, texts, {"api: tokens": tokens})


def test_parts_add_up_to_the_change():
    random = np.random.default_rng(1)
    baseline, candidate = pipeline(random, 800), pipeline(random, 900, length=5.5, on_t4=0.6, slower="forward")
    for name, each in compare_requests(baseline, candidate, PLACES).differences.items():
        assert each.delta.ms == pytest.approx(each.candidate_ms - each.baseline_ms), name
        assert each.workload.ms + each.hardware.ms + each.slowdown.ms == pytest.approx(each.delta.ms), name
        for part in (each.delta, each.workload, each.hardware, each.slowdown):
            assert part.low_ms <= part.high_ms


@pytest.mark.parametrize("change", ["length", "hardware", "both", "models"])
def test_a_mix_shift_is_no_slowdown(change):
    shifted = {
        "length": {"length": 5.5},
        "hardware": {"on_t4": 0.7},
        "both": {"length": 5.5, "on_t4": 0.6},
        "models": {"models": 0.6},
    }[change]
    common = {"models": 0.3} if change == "models" else {}
    causes, parts = 0, []
    for seed in range(6):
        random = np.random.default_rng(seed)
        found = compare_requests(pipeline(random, 1500, **common), pipeline(random, 1500, **common | shifted), PLACES)
        causes += len(found.causes)
        mean = found.differences["mean"]
        assert mean.slowdown.low_ms - 0.3 < 0 < mean.slowdown.high_ms + 0.3
        parts.append([mean.workload.ms, mean.hardware.ms, mean.slowdown.ms, mean.delta.ms])
    assert causes == 0
    workload, hardware, slowdown, delta = np.mean(parts, axis=0)
    assert abs(slowdown) < 0.08 * delta
    assert {"length": workload, "models": workload, "hardware": hardware}.get(change, delta) > 0.9 * delta
    if change == "both":
        assert min(workload, hardware) > 0.1 * delta


@pytest.mark.parametrize(
    ("slower", "place"),
    [("forward", ("model", "forward", "")), ("T4", ("model", "forward", "T4")), ("pause", ("model", "forward", ""))],
)
def test_a_slowdown_is_named_whether_or_not_the_mix_shifts_with_it(slower, place):
    named = where = 0
    for seed in range(4):
        random = np.random.default_rng(seed)
        shift_of_mix = {"length": 5.3, "on_t4": 0.45} if seed % 2 else {}
        found = compare_requests(pipeline(random, 3000), pipeline(random, 3000, slower=slower, **shift_of_mix), PLACES)
        if found.causes:
            first = found.causes[0]
            named += (first.service, first.name, first.hardware) == place
            where += first.where == "tail"
            assert first.delta.low_ms <= first.delta.ms <= first.delta.high_ms
            assert first.share > 0.85
        assert len({cause.name for cause in found.causes}) <= 1
    assert named >= 3
    assert where >= 3 if slower == "pause" else where <= 1


def test_a_slowdown_is_as_large_as_it_was_made():
    random = np.random.default_rng(3)
    baseline = pipeline(random, 8000)
    found = compare_requests(baseline, pipeline(random, 8000, length=5.3, slower="forward"), PLACES)
    forward = baseline.contribution_ns[:, L4 : T4 + 1].sum(axis=1).mean() / MS
    (cause,) = found.causes
    assert cause.delta.ms == pytest.approx(0.3 * forward, rel=0.12)
    assert cause.baseline_ms == pytest.approx(forward, rel=1e-6)
    assert cause.hardware_types == ("L4", "T4")
    assert cause.delta.low_ms < 0.3 * forward < cause.delta.high_ms


def test_what_became_faster_is_an_improvement_and_no_cause():
    random = np.random.default_rng(4)
    found = compare_requests(pipeline(random, 2000, slower="forward"), pipeline(random, 2000), PLACES)
    assert found.causes == ()
    assert [(each.name, each.share > 0.9) for each in found.improvements] == [("forward", True)]
    assert found.improvements[0].delta.ms < 0


def test_causes_come_by_their_share_and_shares_are_at_most_one():
    random = np.random.default_rng(5)
    candidate = pipeline(random, 3000, slower="forward")
    candidate.contribution_ns[:, PRE] *= 1.6
    candidate = requests_of(candidate.contribution_ns / MS, {}, candidate.asked.numbers)
    causes = compare_requests(pipeline(random, 3000), candidate, PLACES).causes
    assert [cause.name for cause in causes] == ["forward", "tokenize"]
    shares = [cause.share for cause in causes]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 1 + 1e-9


def nothing_changed(random, counts, columns, phi):
    """Two sides of one distribution: many operations, log-normal with outliers, some in a tenth of the requests."""
    mean, spread = random.normal(0, 1, columns), random.uniform(0.1, 1.2, columns)
    visits = random.choice([1.0, 0.5, 0.1], columns)
    sides = []
    for count in counts:
        times = np.exp(mean + spread * autocorrelated(random, count, columns, phi))
        times *= 1 + (random.random(times.shape) < 0.02) * random.pareto(1.5, times.shape) * 10
        sides.append(requests_of(times * (random.random(times.shape) < visits) + 1e-5))
    return sides


def test_where_nothing_changed_there_are_no_causes():
    places = [Place(f"s{number % 8}", f"op{number}", "", "") for number in range(200)]
    false = 0
    for seed in range(12):
        random = np.random.default_rng(seed)
        counts = [(300, 400), (200, 1500), (1500, 200)][seed % 3]
        false += bool(compare_requests(*nothing_changed(random, counts, 200, 0.9 * (seed % 2)), places).causes)
    assert false == 0


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, 0.99])
def test_p_values_of_blocks_are_uniform_or_larger(phi):
    random = np.random.default_rng(6)
    counts = (600, 2400)
    found = []
    for _ in range(5):
        sides = [np.exp(autocorrelated(random, count, 200, phi)) for count in counts]
        halved = halvings(*counts)
        means = [block_means(side, blocks << halved) for side, blocks in zip(sides, block_counts(*counts), strict=True)]
        found.append(shift(*means, halved))
    for p_values in (np.concatenate([each.p_more for each in found]), np.concatenate([each.p_less for each in found])):
        assert (p_values < 0.01).mean() < 0.02
        assert (p_values < 0.001).mean() < 0.004
        assert kstest(p_values, "uniform", alternative="greater").statistic < 0.1
    covered = np.concatenate([np.abs(each.difference) < 1.96 * each.error for each in found])
    assert covered.mean() > (0.9 if phi < 0.99 else 0.85)


def many_places(random, count, hook=None) -> Requests:
    """Thirty operations; a twentieth of the requests can be given half a p99 more of the sixth, by `hook`."""
    noise = autocorrelated(random, count, 30, 0.5)
    times = np.exp(np.linspace(-1, 1, 30) + np.linspace(0.2, 0.8, 30) * noise)
    if hook is not None:
        times[:, 5] += hook(random, count) * np.quantile(times.sum(axis=1), 0.99) * random.uniform(0.3, 1.4, count)
    return requests_of(times)


def in_stretches(number, length):
    def hook(random, count):
        at = np.zeros(count, dtype=bool)
        for start in random.integers(0, count, number):
            at[start : start + length] = True
        return at

    return hook


MANY = [Place(f"s{number % 6}", f"op{number}", "", "") for number in range(30)]


@pytest.mark.parametrize(
    ("hook", "least"),
    [(in_stretches(15, 35), 5), (lambda random, count: random.random(count) < 0.05, 6)],
    ids=["stretches", "single requests"],
)
def test_a_slowdown_in_a_few_requests_is_proven_and_no_other_place_is(hook, least):
    proven = 0
    for seed in range(6):
        random = np.random.default_rng(seed)
        found = compare_requests(many_places(random, 2000), many_places(random, 2000, hook), MANY)
        names = [cause.name for cause in found.causes]
        proven += names == ["op5"]
        assert set(names) <= {"op5"}
        assert found.improvements == ()
    assert proven >= least


def test_changes_too_small_to_matter_are_no_causes():
    """Both are beyond chance: 3 % of the slowdown, and under a millisecond in a few requests of twenty."""
    two = [Place("api", "large", "", ""), Place("api", "small", "", "")]

    def times(random, large, small):
        noise = random.standard_normal((2000, 2))
        return requests_of(np.stack((large + 0.3 * noise[:, 0], small + 0.05 * noise[:, 1]), axis=1))

    random = np.random.default_rng(1)
    found = compare_requests(times(random, 10, 10), times(random, 15, 10.15), two)
    assert [cause.name for cause in found.causes] == ["large"]
    for longer, named in ((0.8, []), (2.5, [("small", "tail")])):
        random = np.random.default_rng(1)
        few = 10 + longer * (random.random(2000) < 0.02)
        found = compare_requests(times(random, 10, 10), times(random, 10, few), two)
        assert [(cause.name, cause.where) for cause in found.causes] == named


def test_what_came_in_one_stretch_is_not_proven_and_is_the_first_suspect():
    def last(random, count):
        return np.arange(count) > 0.8 * count

    for seed in range(4):
        random = np.random.default_rng(seed)
        found = compare_requests(many_places(random, 2000), many_places(random, 2000, last), MANY)
        assert found.causes == ()
        first = found.suspects[0]
        assert first.name == "op5"
        assert 0.01 < first.p_value < 1
        assert first.share > 0.8
        assert first.time_share <= 0.3, "most of it came in the last fifth"
        assert len(found.suspects) <= 5
        greatest = [max(each.share, each.tail_share) for each in found.suspects]
        assert greatest == sorted(greatest, reverse=True)
        assert min(greatest) >= 0.1


def test_requests_that_did_not_become_slower_have_no_suspects():
    random = np.random.default_rng(21)
    slower = many_places(random, 2000, in_stretches(1, 300))
    found = compare_requests(slower, many_places(random, 2000), MANY)
    assert found.causes == found.suspects == ()
    once = many_places(random, 2000)
    assert compare_requests(once, once, MANY).suspects == ()


def test_places_below_a_slower_request_are_not_corrected_for_their_number():
    # as above, 200 operations: over all of them a p-value of one in a thousand would prove nothing
    places = [Place("s", f"op{number}", "", "") for number in range(201)]
    for seed in range(3):
        random = np.random.default_rng(seed)
        sides = nothing_changed(random, (1500, 1500), 200, 0.5)
        slow = in_stretches(14, 30)(random, 1500) * 300.0
        times = [np.column_stack((side.contribution_ns / MS, np.full(1500, 5.0))) for side in sides]
        times[1][:, 200] += slow
        found = compare_requests(*map(requests_of, times), places)
        assert {cause.name for cause in found.causes} <= {"op200"}
        first = (*found.causes, *found.suspects)[0]
        assert first.name == "op200"
        assert first.p_value < 0.05


def test_batches_that_grew_explain_no_slowdown(store):
    # batches from eight on take twice as long in the candidate, and it forms larger ones
    for run, seed in (("a", 1), ("b", 2)):
        random = np.random.default_rng(seed)
        spans = []
        for number in range(1, 401):
            size = int(random.integers(4, 10 if run == "a" else 14))
            work = int((4000 + 200 * size) * random.lognormal(0, 0.1) * (2 if run == "b" and size >= 8 else 1))
            about = {"host": "h", "hardware": "L4", "run": run}
            trace = seed * 1000 + number
            start = trace * 20_000
            sizes = (("tailsight.batch.size", str(size)), ("batch.items", str(size)))
            spans += [
                brute_force.Span(trace, 1, 0, start, work + 100, service="api", attributes=sizes, **about),
                brute_force.Span(trace, 2, 1, start, work, service="model", stage="compute", attributes=sizes, **about),
            ]
        brute_force.insert(store, spans)
    window = brute_force.window(-100, 100_000_000)
    found = compare(store, Side(window, Filters(run=("a",))), Side(window, Filters(run=("b",)))).findings
    assert not [name for name in found.covariates if "batch" in name]
    assert found.causes[0].service == "model"
    assert found.causes[0].delta.ms > 2.5


def test_intervals_of_the_change_cover_the_truth():
    # both sides are draws of one distribution but for 5 ms
    random = np.random.default_rng(7)
    covered = {"mean": 0, "p50": 0, "p99": 0}
    rounds = 40
    for _ in range(rounds):
        noise = [np.exp(3 + 0.5 * autocorrelated(random, 1500, 1, 0.7)) for _ in range(2)]
        found = compare_requests(requests_of(noise[0]), requests_of(noise[1] + 5), [Place("s", "work", "", "")])
        for name, each in found.differences.items():
            low, high = each.delta.low_ms, each.delta.high_ms
            covered[name] += (low is None or low <= 5) and (high is None or high >= 5)
    assert min(covered.values()) >= 0.9 * rounds, covered


def test_too_few_requests_leave_the_change_of_p99_open_above_and_below():
    random = np.random.default_rng(7)
    noise = [np.exp(3 + 0.5 * random.standard_normal((count, 1))) for count in (200, 1500)]
    found = compare_requests(requests_of(noise[0]), requests_of(noise[1]), [Place("s", "work", "", "")])
    p99 = found.differences["p99"].delta
    assert p99.low_ms is None  # nothing says how long the baseline's longest ones may be
    assert p99.high_ms is not None
    assert None not in (found.differences["p50"].delta.low_ms, found.differences["p50"].delta.high_ms)


def test_values_of_one_side_only_are_said_and_count_as_mix():
    random = np.random.default_rng(8)
    baseline, candidate = pipeline(random, 1500, models=0.3), pipeline(random, 1500, models=0.3)
    new = random.random(1500) < 0.2
    candidate.asked.texts["model"][new] = "huge"
    candidate.contribution_ns[new, L4] += 100 * MS
    candidate = requests_of(candidate.contribution_ns / MS, candidate.asked.texts, candidate.asked.numbers)
    found = compare_requests(baseline, candidate, PLACES)
    assert found.causes == ()
    (lacking,) = [each for each in found.not_comparable if each.covariate == "model"]
    assert (lacking.baseline_share, lacking.adjusted) == (0, True)
    assert lacking.candidate_share == pytest.approx(new.mean())
    mean = found.differences["mean"]
    assert mean.workload.ms == pytest.approx(20, abs=4)
    assert abs(mean.slowdown.ms) < 2


def test_another_model_altogether_is_not_adjusted_for_and_said():
    random = np.random.default_rng(9)
    sides = [pipeline(random, 600), pipeline(random, 600, slower="forward")]
    for model, each in zip(("one", "two"), sides, strict=True):
        each.asked.texts["model"] = np.full(600, model, dtype=object)
    found = compare_requests(*sides, PLACES)
    (lacking,) = found.not_comparable
    assert (lacking.covariate, lacking.candidate_share, lacking.adjusted) == ("model", 1.0, False)
    assert found.causes[0].name == "forward"


def test_lengths_without_overlap_are_all_mix():
    random = np.random.default_rng(10)
    found = compare_requests(pipeline(random, 600, length=3), pipeline(random, 600, length=9), PLACES)
    assert found.is_only_mix
    assert found.causes == found.improvements == ()
    mean = found.differences["mean"]
    assert mean.workload.ms == pytest.approx(mean.delta.ms)
    assert (mean.hardware.ms, mean.slowdown.ms) == (0, 0)


def test_work_that_moved_to_another_type_altogether_is_hardware_and_the_rest_is_still_compared():
    random = np.random.default_rng(11)
    baseline, candidate = pipeline(random, 2000, on_t4=0), pipeline(random, 2000, on_t4=1)
    candidate.contribution_ns[:, PRE] *= 2
    candidate = requests_of(candidate.contribution_ns / MS, {}, candidate.asked.numbers)
    found = compare_requests(baseline, candidate, PLACES)
    assert [cause.name for cause in found.causes] == ["tokenize"]
    assert any("forward" in each.covariate and each.candidate_share == 1 for each in found.not_comparable)
    forward = baseline.contribution_ns[:, L4].mean() / MS
    assert found.differences["mean"].hardware.ms == pytest.approx(forward, rel=0.1)


def test_requests_count_by_their_weights():
    # the same requests, once all of them, once those with slow waits kept and one in five of the rest
    random = np.random.default_rng(12)
    everyone = pipeline(random, 9000)
    slow = everyone.contribution_ns[:, QUEUE] > np.quantile(everyone.contribution_ns[:, QUEUE], 0.9)
    kept = slow | (random.random(9000) < 0.2)
    weight = np.where(slow, 1.0, 5.0)[kept]
    some = requests_of(
        everyone.contribution_ns[kept] / MS, {}, {"api: tokens": everyone.asked.numbers["api: tokens"][kept]}, weight
    )
    found = compare_requests(pipeline(random, 3000), some, PLACES)
    assert found.causes == found.improvements == ()
    assert found.differences["mean"].candidate_ms == pytest.approx(everyone.duration_ns.mean() / MS, rel=0.03)
    unweighted = compare_requests(pipeline(random, 3000), requests_of(everyone.contribution_ns[kept] / MS), PLACES)
    assert [cause.name for cause in unweighted.causes] == ["wait"], "without weights they do not say the same"


def test_balancing_makes_means_equal_and_leaves_equal_sides_alone():
    random = np.random.default_rng(13)
    target, other = random.normal(0.5, 1, (500, 3)), random.normal(0, 1, (900, 3))
    weight = balancing_weights(target, np.ones(500), other, np.ones(900))
    assert weight.sum() == pytest.approx(900)
    assert weight @ other / 900 == pytest.approx(target.mean(axis=0), abs=0.01)
    assert balancing_weights(target, np.ones(500), target, np.ones(500)) == pytest.approx(np.ones(500))


def test_only_what_is_settled_before_the_work_is_adjusted_for():
    inputs = ("tokens", "gen_ai.usage.input_tokens", "http.request.body.size", "promptLength")
    outcomes = (
        "gen_ai.usage.output_tokens", "http.response.body.size", "tailsight.queue.depth", "retry.count", "cache.size",
        "latency_ms", "total_tokens", "tailsight.stream.items", "wait.length", "queueLen",
        "tailsight.batch.size", "batchSize", "batch.items", "threads.size", "requests.inFlight.count", "pool.size",
        "hw.temperature.size", "retried.count", "lock.waiters.count",
    )  # fmt: skip
    assert all(says_how_much(key) for key in inputs)
    assert not any(says_how_much(key) for key in outcomes)
    assert all(says_what(key) for key in ("http.route", "tenant", "user.tier", "language", "priority"))
    assert not any(
        says_what(key)
        for key in (
            "cache.hit",
            "http.response.status_code",
            "error.type",
            "k8s.pod.name",
            "service.version",
            "throttled",
            "batch.kind",
            "hw.clock",
            "threads.active",
            "inFlight",
        )
    )
    rows = [
        {"key": "tokens", "spans": 10, "entries": 0, "entry_values": 0, "numbers": 10},
        {"key": "size", "spans": 10, "entries": 10, "entry_values": 2, "numbers": 0},
        {"key": "request.item", "spans": 10, "entries": 10, "entry_values": 51, "numbers": 0},
        {"key": "inner.color", "spans": 10, "entries": 0, "entry_values": 0, "numbers": 0},
    ]
    assert number_keys(rows) == {"tokens"}
    assert text_keys(rows, {"tokens"}) == {"size"}


# --- through a store ---------------------------------------------------------------------------------------------------

BASE_NS = (time.time_ns() // 10**9 - 7200) * 10**9


def store_run(store, run, seed, *, slower=1.0, delay_ms=0.0, length=5.0, count=300, broken=False, named="kind") -> None:
    """A gateway calls a model service; a traced database is called by the model service without answering spans."""
    random = np.random.default_rng(seed)
    spans = {"gateway": [], "model": []}
    for number in range(count):
        trace = (seed * 100_000 + number + 1).to_bytes(16, "big")
        start = BASE_NS + number * 5_000_000
        tokens = int(np.exp(length + 0.5 * random.standard_normal()))
        compute = int((2 + 0.02 * tokens) * slower * MS * random.lognormal(0, 0.1))
        way = int((1 + delay_ms) * MS * random.lognormal(0, 0.2))
        query = int(3 * MS * random.lognormal(0, 0.2))

        def span(name, number, parent, begin, length_ns, kind=1, trace=trace, **attributes):
            return {
                "trace_id": trace, "span_id": number.to_bytes(8, "big"),
                "parent_span_id": parent.to_bytes(8, "big") if parent else b"", "name": name, "kind": kind,
                "start_time_unix_nano": begin, "end_time_unix_nano": begin + length_ns, "attributes": attributes,
            }  # fmt: skip

        inner = compute + query
        call_name = {"kind": "POST", "name": "/pkg.Model/Predict", "other": "ask"}[named]
        spans["gateway"] += [
            span("handle", 1, 0, start, inner + way + MS, tokens=tokens, route="/ask"),
            span(call_name, 2, 1, start + MS, inner + way, 3 if named == "kind" else 1),
        ]
        if not (broken and number % 10 == 0):  # the callee's spans were lost: they have no parent, or are not there
            spans["model"] += [
                span("pkg.Model/Predict", 3, 2, start + MS + way // 2, inner, 2),
                span("forward", 4, 3, start + MS + way // 2, compute, **{"tailsight.stage": "compute"}),
                span("SELECT", 5, 3, start + MS + way // 2 + compute, query, 3, **{"peer.service": "db"}),
            ]
        if broken and number % 7 == 0:  # sent twice
            spans["gateway"].append(spans["gateway"][-1])
    record = b""
    for service, members in spans.items():
        resource = {"service.name": service, "tailsight.run": run, "host.name": service, "tailsight.hardware": "cpu"}
        message = request(members, resource).SerializeToString()
        record += _varint(len(message)) + message
    store.insert_otlp_traces(record, f"{run}-{time.time_ns()}")


def _varint(number: int) -> bytes:
    result = bytearray()
    while number > 127:
        result.append(number & 127 | 128)
        number >>= 7
    return bytes([*result, number])


def sides() -> tuple[Side, Side]:
    window = Window(BASE_NS, BASE_NS + 3_600_000_000_000)
    return Side(window, Filters(run=("a",))), Side(window, Filters(run=("b",)))


@pytest.mark.parametrize("named", ["kind", "name"])
def test_time_on_the_way_to_a_service_is_its_network(store, named):
    store_run(store, "a", 1, named=named)
    store_run(store, "b", 2, named=named, delay_ms=4)
    causes = compare(store, *sides()).findings.causes
    assert [(cause.service, cause.name, cause.stage) for cause in causes] == [
        ("model", "pkg.Model/Predict" if named == "kind" else "/pkg.Model/Predict", "network")
    ]
    assert causes[0].delta.ms == pytest.approx(4, rel=0.1)
    assert causes[0].baseline_calls == 1


def test_work_of_the_callee_is_not_its_network(store):
    store_run(store, "a", 1)
    store_run(store, "b", 2, slower=1.5)
    (cause,) = compare(store, *sides()).findings.causes
    assert (cause.service, cause.name, cause.stage, cause.hardware) == ("model", "forward", "compute", "cpu")


def test_lengths_of_inputs_are_read_from_spans_and_adjusted_for(store):
    store_run(store, "a", 1, count=600)
    store_run(store, "b", 2, length=5.5, count=600)
    result = compare(store, *sides())
    assert result.findings.causes == ()
    assert "gateway: tokens" in result.findings.covariates
    mean = result.findings.differences["mean"]
    assert mean.workload.ms == pytest.approx(mean.delta.ms, rel=0.15)
    assert mean.delta.ms > 1


def test_the_callee_that_recorded_nothing_is_named_by_the_call(store):
    store_run(store, "a", 1)
    store_run(store, "b", 2)
    fetched = [fetch_side(store, side, "side") for side in sides()]
    baseline, _, places = same_places(store, *fetched)
    assert Place("db", "SELECT", "network", "") in places
    assert not [place for place in places if (place.service, place.name) == ("model", "SELECT")]
    assert (baseline.contribution_ns.sum(axis=1) == baseline.duration_ns).all()


def test_a_span_that_shows_no_sign_of_asking_keeps_its_time(store):
    # as named="name", but the caller's span bears another name: its time is its own work, for all that is known
    store_run(store, "a", 1, named="other")
    store_run(store, "b", 2, named="other", delay_ms=4)
    (cause,) = compare(store, *sides()).findings.causes
    assert (cause.service, cause.name, cause.stage) == ("gateway", "ask", "")


def test_broken_traces_are_compared_and_lost_callees_stay_theirs(store):
    store_run(store, "a", 1, broken=True)
    store_run(store, "b", 2, broken=True, delay_ms=6)
    result = compare(store, *sides())
    first = result.findings.causes[0]
    assert (first.service, first.stage) == ("model", "network")
    assert all(cause.service == "model" for cause in result.findings.causes)
    mean = result.findings.differences["mean"]
    assert mean.workload.ms + mean.hardware.ms + mean.slowdown.ms == pytest.approx(mean.delta.ms)


def test_too_few_requests_say_how_many_more_and_none_at_all_which_side(store):
    store_run(store, "a", 1, count=150)
    baseline, candidate = sides()
    with pytest.raises(NoSpansError, match="candidate: no requests"):
        compare(store, baseline, candidate)
    store_run(store, "b", 2, count=40)
    with pytest.raises(NotEnoughDataError, match=r"candidate: 40 requests .* 60 more are needed") as raised:
        compare(store, baseline, candidate)
    assert raised.value.missing == 60


def test_the_answer_is_plain_data_with_stable_keys(store):
    store_run(store, "a", 1)
    store_run(store, "b", 2, slower=1.5)
    steps = []
    answer = compare(store, *sides(), steps.append).to_json()
    assert steps[0] == "Reading the baseline's requests"
    assert list(answer) == ["baseline", "candidate", "weighted", "request", "mix", "causes", "suspects", "improvements"]
    assert list(answer["request"]) == ["mean", "p50", "p99"]
    assert {"workload_ms", "hardware_ms", "slowdown_ms"} <= set(answer["mix"]["p99"])
    (cause,) = answer["causes"]
    assert {
        "service", "name", "stage", "hardware", "baseline_ms", "candidate_ms", "delta_ms", "share", "p_value"
    } <= set(cause)  # fmt: skip
    assert cause["delta_ms"] == pytest.approx(cause["candidate_ms"] - cause["baseline_ms"])
    assert answer["baseline"]["requests"] == answer["baseline"]["sampled_requests"] == 300


@pytest.mark.parametrize("longest", [0, 50], ids=["no time at all", "random"])
def test_any_forest_can_be_compared(store, longest):
    """Cycles, orphans, several roots, two spans with one id, children outside their parents, no durations."""
    random = np.random.default_rng(14)
    spans = [
        brute_force.Span(
            trace, int(random.integers(1, 7)), int(random.integers(0, 8)) if number else 0,
            trace * 100 + int(random.integers(-20, 60)), int(random.integers(0, longest + 1)),
            stage=("", "compute", "network")[random.integers(3)], service=("front", "back")[random.integers(2)],
            host=("h1", "h2")[random.integers(2)], hardware=("L4", "T4")[random.integers(2)],
            kind=int(random.integers(0, 6)), run="a" if trace % 2 else "b", weight=int(random.integers(1, 4)),
            attributes=(("tokens", str(int(random.integers(1, 9)))), ("route", "/a")),
        )
        for trace in range(1, 301)
        for number in range(int(random.integers(1, 8)))
    ]  # fmt: skip
    brute_force.insert(store, spans)
    window = brute_force.window(-100, 40_000)
    result = compare(store, Side(window, Filters(run=("a",))), Side(window, Filters(run=("b",))))
    assert result.findings.causes == ()
    assert result.weighted
    for each in result.findings.differences.values():
        assert each.workload.ms + each.hardware.ms + each.slowdown.ms == pytest.approx(each.delta.ms, abs=1e-9)
