"""A case: two runs, a cause in the candidate alone, and the truth, found by simulating the candidate without the cause."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from testkit.simulator.causes import MAKERS, Cause, Setting
from testkit.simulator.encode import Run
from testkit.simulator.engine import Effect, Outcome, Simulation
from testkit.simulator.labels import Column, distractors, genuine_keys, usual
from testkit.simulator.noise import Floats
from testkit.simulator.pipeline import Pipeline, random_pipeline, staffed, with_hosts
from testkit.simulator.traffic import Draws, Key, draw
from testkit.simulator.truth import Accepted, Truth, classes, excess, leading_stage, same_hosts, shares, shift

QUIET = ("mix_shift", "clock_skew", "nothing")  # kinds without a cause: whatever is named is false
KINDS = (*MAKERS, "two_causes", *QUIET)
PAIRED = ("slow_stage", "slow_hardware", "slow_version", "cache_misses", "network_delay", "thermal_throttling")
MOST_OF_A_BURST = 0.7  # of all waiting
MOST_SPANS = 56_000  # of both runs
MOST_ATTEMPTS = 300
FIRST_NS = 1_748_779_200_000_000_000  # 2025-06-01T12:00:00Z
LEAST_SHARE, LEAST_OF_TWO = 0.55, 0.3
LEAST_AFFECTED, MOST_AFFECTED = 0.01, 0.3
LEAST_SHIFT = 4.0  # standard errors by which a stage's mean must have moved to be asked for in a comparison


class NoCaseError(Exception):
    """No pipeline was found in which the cause could be made clear enough."""


@dataclass(frozen=True, slots=True)
class Case:
    """A case. `genuine` are keys that durations depend on by nature; to name one of them is not false."""

    name: str
    kind: str
    variant: str
    seed: int
    attempts: int
    quantile: float
    truths: tuple[Truth, ...]
    genuine: frozenset[str]
    baseline: Run
    candidate: Run
    injected: Outcome
    without: Outcome
    before: Outcome  # the baseline's

    @property
    def asks_tail(self) -> bool:
        """Whether the tail's question has a decidable answer: in a mix shift long inputs do make the tail."""
        return self.kind != "mix_shift"

    @property
    def asks_compare(self) -> bool:
        """Whether a cause is what has changed most between the runs, and by more than runs of this size differ anyhow."""
        if not self.truths:
            return True
        grown = {key: self.injected.own_ms[key].mean() - self.before.own_ms[key].mean() for key in self.before.own_ms}
        most = max(grown, key=lambda key: grown[key])
        return any(truth.key == most and truth.shift >= LEAST_SHIFT for truth in self.truths)


@dataclass(slots=True)
class _World:
    """What a case is made in, before anything is injected."""

    rng: np.random.Generator
    pipeline: Pipeline
    draws: Draws
    length_ms: float
    count: int


def make_case(kind: str, number: int, effect: float = 1.0) -> Case:
    """Make a case; the same for the same kind, number and `effect`, always. Raises NoCaseError.

    `effect` multiplies how much an affected request is meant to lose, and the least share of the excess with it.
    """
    seed = 1000 * KINDS.index(kind) + number
    for attempt in range(MOST_ATTEMPTS):
        rng = np.random.default_rng([seed, attempt])
        case = (
            _quiet(kind, number, seed, attempt, rng)
            if kind in QUIET
            else _caused(kind, number, seed, attempt, rng, effect)
        )
        if case:
            return case
    raise NoCaseError(f"{kind} {number}: none in {MOST_ATTEMPTS} attempts")


# --- cases with causes ------------------------------------------------------------------------------------------------


def _caused(kind: str, number: int, seed: int, attempt: int, rng: np.random.Generator, effect: float) -> Case | None:
    world = _world(kind, rng)
    plain = Simulation(world.pipeline, world.draws).run()
    quantile = float(rng.choice((0.95, 0.99))) if world.count >= 1400 else 0.95
    tail, typical = classes(plain.duration_ms, quantile)
    wanted_ms = excess(plain.duration_ms, tail, typical) * float(rng.uniform(1.3, 3.0)) * effect
    kinds = [kind] if kind != "two_causes" else [str(k) for k in rng.choice(PAIRED, 2, replace=False)]
    causes = []
    for each in kinds:
        cause = MAKERS[each](Setting(rng, world.pipeline, world.draws, plain, wanted_ms))
        if not cause:
            return None
        causes.append(cause)
    if len({cause.truth.key for cause in causes} | {cause.truth.stage for cause in causes}) < 2 * len(causes):
        return None
    draws, shown = world.draws, world.pipeline
    for cause in causes:
        draws = draws if cause.arrivals_ms is None else replace(draws, arrivals_ms=cause.arrivals_ms)
        if cause.pipeline:
            changed = cause.truth.key[0]
            shown = with_hosts(shown, changed, cause.pipeline.services[changed].hosts)
    injected = Simulation(world.pipeline, draws, _together(causes), _workers(causes), records=True).run()
    truths = tuple(_judged(cause, causes, injected, plain, draws, world, quantile) for cause in causes)
    if not _is_clear(truths, effect) or leading_stage(injected, quantile) not in {truth.stage for truth in truths}:
        return None
    columns = _columns(rng, world, draws, causes)
    before_draws = draw(rng, world.pipeline, world.count, world.length_ms)
    before = Simulation(world.pipeline, before_draws, records=True).run()
    truths = tuple(
        replace(truth, shift=shift(injected.own_ms[truth.key], before.own_ms[truth.key])) for truth in truths
    )
    return Case(
        name=f"{kind}-{number:02}", kind=kind, variant=" + ".join(truth.variant for truth in truths), seed=seed,
        attempts=attempt + 1, quantile=quantile, truths=truths, genuine=genuine_keys(world.pipeline),
        baseline=_run("baseline", FIRST_NS, world.pipeline, before_draws, before, _columns(rng, world, before_draws, (), like=columns), _unharmed(causes), seed * 2),
        candidate=_run("candidate", _after(world), shown, draws, injected, columns, tuple(causes), seed * 2 + 1),
        injected=injected, without=plain, before=before,
    )  # fmt: skip


def _judged(
    cause: Cause, causes: list[Cause], injected: Outcome, plain: Outcome, draws: Draws, world: _World, quantile: float
) -> Truth:
    """Take this one cause away, leave the others, and see what goes with it."""
    others = [each for each in causes if each is not cause]
    without = Simulation(world.pipeline, draws, _together(others)).run() if others else plain
    share, stage_share = shares(injected, without, cause.truth.key, quantile)
    more_ms = injected.duration_ms - without.duration_ms
    hit = more_ms > 0.25 * np.quantile(more_ms, 0.995)
    conditions = cause.truth.conditions
    if cause.truth.variant == "bursts":
        conditions += _overrun_host(cause.truth, injected, draws, world)
    return replace(cause.truth, conditions=conditions, share=share, stage_share=stage_share, affected=float(hit.mean()))


def _overrun_host(truth: Truth, injected: Outcome, draws: Draws, world: _World) -> tuple[Accepted, ...]:
    """Where a burst was too much for one host alone, it is right to name that host."""
    number = truth.key[0]
    waited_ms = np.bincount(draws.hosts[number], injected.own_ms[truth.key])
    if waited_ms.max() < MOST_OF_A_BURST * waited_ms.sum():
        return ()
    service = world.pipeline.services[number]
    return same_hosts(service, {int(waited_ms.argmax())}, truth.conditions[0].places)


def _is_clear(truths: tuple[Truth, ...], effect: float) -> bool:
    least = effect * (LEAST_SHARE if len(truths) == 1 else LEAST_OF_TWO)
    return (
        all(
            t.share >= least and t.stage_share >= least and LEAST_AFFECTED <= t.affected <= MOST_AFFECTED
            for t in truths
        )
        and sum(truth.share for truth in truths) >= effect * LEAST_SHARE
    )


# --- cases without ----------------------------------------------------------------------------------------------------


def _quiet(kind: str, number: int, seed: int, attempt: int, rng: np.random.Generator) -> Case | None:
    # a third of "nothing" has what nature has: long inputs, unequal hosts, queues; naming one of those is not false
    natural = kind == "mix_shift" or (kind == "nothing" and number % 3 == 0)
    world = _world(kind, rng, natural=natural)
    variant = "natural" if natural else "pure"
    pipeline, token_scale = world.pipeline, 1.0
    if kind == "mix_shift":
        heavy = [n for n, s in enumerate(pipeline.services) if s.station and any(g.tokens for g in s.station.stages())]
        if not heavy:
            return None
        variant, token_scale = "longer inputs", float(rng.uniform(1.4, 2.2))
        if number % 4 == 3:
            variant, token_scale = "other hardware", 1.0
            pipeline, world.pipeline = _moved_traffic(rng, world.pipeline, heavy[0])
    if kind == "clock_skew":
        pipeline = _skewed(rng, pipeline, 500.0)
        variant = str(rng.choice(("both runs", "candidate")))
    before_draws = draw(rng, world.pipeline, world.count, world.length_ms)
    draws = draw(rng, pipeline, world.count, world.length_ms, token_scale=token_scale)
    before, after = (
        Simulation(each, drawn, records=True).run()
        for each, drawn in ((world.pipeline, before_draws), (pipeline, draws))
    )
    if kind == "mix_shift" and after.duration_ms.mean() < 1.1 * before.duration_ms.mean():
        return None
    columns = _columns(rng, world, draws, ())
    shown = pipeline if variant == "both runs" else world.pipeline
    return Case(
        name=f"{kind}-{number:02}", kind=kind, variant=variant, seed=seed, attempts=attempt + 1,
        quantile=float(rng.choice((0.95, 0.99))) if world.count >= 1400 else 0.95, truths=(),
        genuine=genuine_keys(pipeline),
        baseline=_run("baseline", FIRST_NS, shown, before_draws, before, _columns(rng, world, before_draws, (), like=columns), (), seed * 2),
        candidate=_run("candidate", _after(world), pipeline, draws, after, columns, (), seed * 2 + 1),
        injected=after, without=after, before=before,
    )  # fmt: skip


def _moved_traffic(rng: np.random.Generator, pipeline: Pipeline, number: int) -> tuple[Pipeline, Pipeline]:
    """Give one hardware type twice the time, and most of the traffic afterwards: (after, before)."""
    hosts = pipeline.services[number].hosts
    slow = hosts[int(rng.integers(0, len(hosts)))].hardware
    made = []
    for wanted in (0.65, 0.2):
        share = sum(host.weight for host in hosts if host.hardware == slow)
        weights = [h.weight * (wanted / share if h.hardware == slow else (1 - wanted) / (1 - share)) for h in hosts]
        moved = tuple(
            replace(host, weight=weight, speed=host.speed * (2.0 if host.hardware == slow else 1.0))
            for host, weight in zip(hosts, weights, strict=True)
        )
        made.append(with_hosts(pipeline, number, moved))
    return made[0], made[1]


def _skewed(rng: np.random.Generator, pipeline: Pipeline, most_ms: float) -> Pipeline:
    for number, service in enumerate(pipeline.services):
        hosts = tuple(
            replace(host, clock_ms=float(rng.uniform(-1, 1) * most_ms * rng.random())) for host in service.hosts
        )
        pipeline = with_hosts(pipeline, number, hosts)
    return pipeline


# --- common -----------------------------------------------------------------------------------------------------------


def _world(kind: str, rng: np.random.Generator, *, natural: bool = True) -> _World:
    unbatched = str(rng.choice(("sequential", "parallel", "streaming")))
    shape = {
        "batch_size": "batched",
        "queue_build_up": unbatched,
        "thermal_throttling": unbatched,
        "lock_contention": "sequential",
    }.get(kind)
    pipeline = random_pipeline(
        rng, shape=shape, least_services=2 if kind in ("network_delay", "clock_skew") else 1, most_services=8,
        with_kernel=kind == "thermal_throttling", unlimited=kind == "mix_shift" or not natural,
    )  # fmt: skip
    if (kind == "mix_shift" and pipeline.shape == "batched") or not natural:
        pipeline = _plain(pipeline, still=not natural)
    count = int(min(3000, rng.uniform(0.8, 1) * MOST_SPANS / 2 / pipeline.spans_a_request()))
    if kind == "lock_contention" or pipeline.shape == "batched":
        rate_s = float(rng.uniform(80, 200))
    elif kind == "periodic_pause":
        rate_s = count / float(rng.uniform(120, 900))
    else:
        rate_s = count / float(rng.uniform(90, 600))
    load = {}
    if kind == "queue_build_up":
        load = {n: float(rng.uniform(0.3, 0.5)) for n, service in enumerate(pipeline.services) if service.station}
        pipeline = replace(pipeline, bursty=False)
    if kind == "lock_contention":
        load = {n: 0.08 for n, service in enumerate(pipeline.services) if service.station}
    # noise that is correlated for as long as a run lasts would be a difference between runs that nobody can tell from a cause
    pipeline = staffed(replace(pipeline, drift_s=min(pipeline.drift_s, count / rate_s / 60)), rate_s, load)
    if rng.random() < 0.33:
        pipeline = _skewed(rng, pipeline, 0.6)  # as good as NTP keeps them
    length_ms = count / rate_s * 1000
    return _World(rng, pipeline, draw(rng, pipeline, count, length_ms), length_ms, count)


def _plain(pipeline: Pipeline, *, still: bool) -> Pipeline:
    """Take out whatever a duration could truly depend on: batches; and with `still` lengths of inputs and kinds of hosts."""
    services = []
    for service in pipeline.services:
        station = service.station
        if station:
            station = replace(station, batching=None)
            if still:
                kernel = replace(station.kernel, tokens=0.0) if station.kernel else None
                station = replace(station, main=replace(station.main, tokens=0.0), kernel=kernel, decode=None)
        hosts = tuple(replace(host, speed=1.0) for host in service.hosts) if still else service.hosts
        services.append(replace(service, station=station, hosts=hosts))
    return replace(pipeline, services=tuple(services))


def _together(causes: list[Cause]) -> dict[Key, list[Effect]]:
    joined: dict[Key, list[Effect]] = {}
    for cause in causes:
        for key, effects in cause.effects.items():
            joined.setdefault(key, []).extend(effects)
    return joined


def _unharmed(causes: list[Cause]) -> tuple[Cause, ...]:
    """Let a baseline say of its devices what the candidate says, too: that nothing holds them back."""
    return tuple(Cause(each.truth, throttled=(*each.throttled[:2], ())) for each in causes if each.throttled)


def _workers(causes: list[Cause]) -> dict[tuple[int, int], int]:
    return {place: count for cause in causes for place, count in cause.workers.items()}


def _columns(
    rng: np.random.Generator,
    world: _World,
    draws: Draws,
    causes: list[Cause] | tuple[()],
    like: tuple[Column, ...] = (),
) -> tuple[Column, ...]:
    """Make what spans say. A baseline says things of the same kind as the candidate (`like`), and each in its usual shares."""
    if like:
        fixed = {"gen_ai.usage.input_tokens": draws.tokens, "gen_ai.usage.output_tokens": draws.output_tokens}
        made = []
        for column in like:
            values: Floats | None = fixed.get(column.key)
            if column.key == "http.request.body.size":
                values = draws.tokens * rng.uniform(3.8, 4.4, draws.count)
            said = [column.values[n] for n in rng.permutation(len(column.values))][: draws.count]
            made.append(replace(column, values=said if values is None else [int(value) for value in values]))
        return tuple(made)
    columns = {
        (column.place, column.key): column
        for column in (*distractors(rng, world.pipeline, draws), *usual(rng, world.pipeline, draws))
    }
    injected = {column.key: column for cause in causes for column in cause.columns}
    kept = [column for column in columns.values() if column.key not in injected]
    return (*kept, *injected.values())


def _run(
    name: str, begins_ns: int, pipeline: Pipeline, draws: Draws, outcome: Outcome, columns: tuple[Column, ...],
    causes: tuple[Cause, ...], seed: int,
) -> Run:  # fmt: skip
    return Run(name, begins_ns, pipeline, draws, outcome.spans, columns, causes, seed)


def _after(world: _World) -> int:
    """Begin the candidate run a while after the baseline run."""
    return FIRST_NS + round((world.length_ms * 1.3 + 120_000) * 1_000_000)
