"""An objective's windows, counted with what earlier looks have read: always what counting everything anew would say."""

import math
import random

import pytest
from analysis import brute_force
from analysis.brute_force import BASE_NS, TICK_NS, Span

from tailsight_analysis import Filters
from tailsight_analysis.alerting.rules import evaluate, rule_of
from tailsight_analysis.alerting.tallies import MINUTE_NS, REACH, Asked, Counted, Tallies
from tailsight_storage import StoreUnavailableError

NS_PER_S = 10**9
MINUTE_TICKS = MINUTE_NS // TICK_NS
LENGTHS_S = (300.0, 3600.0, 10800.0)
LIMIT_TICKS = 25_000
ASKED = Asked(LENGTHS_S, Filters(), {"within_ns": LIMIT_TICKS * TICK_NS, "errors": 0})
START_MINUTE = 400


def requests_at(rng, first, count, begin_minute, end_minute, **more):
    return [
        Span(
            first + number, 1, 0, rng.randrange(begin_minute * MINUTE_TICKS, end_minute * MINUTE_TICKS),
            rng.choice([10_000, 40_000]), **{"service": "ranker", "stage": "", **more},
        )
        for number in range(count)
    ]  # fmt: skip


def truth(spans, until_ns, asked=ASKED):
    """Count by hand, from the first step of each window on."""
    found = {}
    for length_s in asked.lengths_s:
        since_ns = (until_ns - round(length_s * NS_PER_S)) // asked.step_ns * asked.step_ns
        within = [span for span in spans if since_ns <= BASE_NS + span.start * TICK_NS < until_ns]
        bad = [span for span in within if span.duration > LIMIT_TICKS]
        found[length_s] = Counted(
            math.fsum(span.weight for span in within), math.fsum(span.weight for span in bad), len(within)
        )
    return found


class Reads:
    """A store that remembers which stretches of spans were read, and is away where it is told to."""

    def __init__(self, store):
        self.store, self.minutes, self.asks_left = store, [], math.inf

    def ask(self, query, **parameters):
        if "step_ns" in parameters:
            if self.asks_left <= 0:
                raise StoreUnavailableError("the store is away")
            self.asks_left -= 1
            self.minutes.append((parameters["until_ns"] - parameters["since_ns"]) / MINUTE_NS)
        return self.store.ask(query, **parameters)


def at(minute, seconds=17):
    return BASE_NS + minute * MINUTE_NS + seconds * NS_PER_S


@pytest.mark.parametrize("weight", [1.0, 8.0], ids=["all", "sampled"])
def test_every_look_says_what_counting_anew_would_say(store, weight):
    """New spans, late ones, none for a while, a whole hour that arrives late, a clock that is set back."""
    rng = random.Random(5)
    tallies, reads, stored, number = Tallies(), Reads(store), [], 1
    more = {"weight": weight, "decided": weight > 1}
    steps = [
        (0, [(200, -180, 0)]), (1, [(30, 0, 1)]), (2, [(30, 1, 2), (3, -100, -99)]), (3, []), (9, [(40, 2, 9)]),
        (10, [(300, -70, -10)]), (40, []), (41, [(25, 9, 41)]), (38, []), (300, []), (301, [(10, 300, 301)]),
    ]  # fmt: skip
    for minute, arrived in steps:
        for count, begin, end in arrived:
            new = requests_at(rng, number, count, START_MINUTE + begin, START_MINUTE + end, **more)
            number += count
            brute_force.insert(store, new)
            stored += new
        until_ns = at(START_MINUTE + minute)
        assert tallies.windows(reads, ASKED, until_ns) == truth(stored, until_ns), minute
        assert Tallies().windows(store, ASKED, until_ns) == truth(stored, until_ns), minute


def test_only_what_is_new_is_read(store):
    rng = random.Random(6)
    tallies, reads = Tallies(), Reads(store)
    brute_force.insert(store, requests_at(rng, 1, 400, START_MINUTE - 180, START_MINUTE))
    tallies.windows(reads, ASKED, at(START_MINUTE))
    assert sum(reads.minutes) > 180
    for minute in range(1, 4):
        reads.minutes.clear()
        brute_force.insert(store, requests_at(rng, 1000 * minute, 20, START_MINUTE + minute - 1, START_MINUTE + minute))
        tallies.windows(reads, ASKED, at(START_MINUTE + minute))
        assert sum(reads.minutes) < 3 * REACH
    reads.minutes.clear()
    brute_force.insert(store, requests_at(rng, 9000, 1, START_MINUTE - 120, START_MINUTE - 119))
    for _ in range(2):  # what has changed is looked at twice
        tallies.windows(reads, ASKED, at(START_MINUTE + 3))
    assert 2 * 2 * REACH < sum(reads.minutes) < 2 * 5 * REACH
    reads.minutes.clear()
    tallies.windows(reads, ASKED, at(START_MINUTE + 3))
    assert sum(reads.minutes) < 2 * REACH


def test_what_was_read_before_the_store_went_away_is_not_read_again(store):
    rng = random.Random(7)
    asked = Asked((300.0, 16 * 3600.0), Filters(), ASKED.bad)
    minute = 16 * 60 + START_MINUTE
    spans = requests_at(rng, 1, 300, START_MINUTE, minute)
    brute_force.insert(store, spans)
    tallies, reads = Tallies(), Reads(store)
    reads.asks_left = 2
    with pytest.raises(StoreUnavailableError):
        tallies.windows(reads, asked, at(minute))
    assert sum(reads.minutes) > 600
    reads.asks_left, reads.minutes = math.inf, []
    assert tallies.windows(reads, asked, at(minute)) == truth(spans, at(minute), asked)
    assert sum(reads.minutes) < 16 * 60 - 600


@pytest.mark.parametrize(
    ("shortest_s", "step_s"), [(1, 1), (30, 1), (60, 2), (300, 10), (1800, 60), (21600, 60)], ids=str
)
def test_a_window_is_a_thirtieth_too_long_at_most(shortest_s, step_s):
    assert Asked((3e5, shortest_s), Filters(), {}).step_ns == step_s * NS_PER_S


def test_a_rule_with_filters_says_with_its_tallies_what_it_says_without(store):
    rng = random.Random(8)
    rule = rule_of("rule x", "slo", {"objective": 0.99, "within": "25ms", "service": "ranker", "stage": "compute"})
    tallies = Tallies()
    for minute in range(5):
        new = []
        for trace in range(30):
            number = 1 + 100 * minute + trace
            begin = rng.randrange((START_MINUTE + minute - 1) * MINUTE_TICKS, (START_MINUTE + minute) * MINUTE_TICKS)
            slow = rng.choice([10_000, 40_000])
            new.append(Span(number, 1, 0, begin, slow, service="gateway", stage=""))
            new.append(Span(number, 2, 1, begin + 5, slow, service="ranker", stage=""))
            new.append(Span(number, 3, 2, begin + 9, 5, service="ranker", stage=rng.choice(["compute", "queue"])))
        # the caller's spans come a minute later than those of its callees
        brute_force.insert(store, [span for span in new if span.service == "ranker"])
        now_ns = at(START_MINUTE + minute)
        assert evaluate(store, rule, now_ns, {}, tallies) == evaluate(store, rule, now_ns, {})
        brute_force.insert(store, [span for span in new if span.service == "gateway"])
    [found] = evaluate(store, rule, now_ns, {}, tallies).found
    assert found.firing
