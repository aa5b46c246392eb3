"""The life of an alert, by laws: whatever an evaluation finds, it begins once, ends once, and never rings in between."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailsight_collector.alerts.conditions import Condition
from tailsight_collector.alerts.machine import FIRING, GONE, MAX_ALERTS, NS_PER_S, RESOLVED, Alert, fingerprint, step
from tailsight_collector.alerts.settings import Schedule

START_NS = 1_700_000_000 * NS_PER_S


def schedule(**options) -> Schedule:
    return Schedule("rule", "slo", ("hook",), **{"for_s": 0.0, "resolve_after_s": 0.0, "repeat_s": 0.0, **options})


def condition(firing=True, value=1.0, **labels) -> Condition:
    return Condition(labels, firing, value, 0.5, "ms", "words", {"stage": ("compute",)})


def lived(looks, plan):
    """All events of a sequence of (seconds, conditions), and the alerts at its end."""
    alerts, events = {}, []
    for at_s, conditions in looks:
        after = step(alerts, conditions, plan, START_NS + round(at_s * NS_PER_S))
        alerts = after.alerts
        events += after.events
    return events, alerts


def told(events):
    return [(event.status, (event.at_ns - START_NS) / NS_PER_S) for event in events]


def test_it_begins_at_once_and_is_resolved_at_once_where_nothing_is_to_be_waited_for():
    events, alerts = lived([(0, [condition()]), (60, [condition()]), (120, [condition(False)]), (180, [])], schedule())
    assert told(events) == [(FIRING, 0), (RESOLVED, 120)]
    assert alerts == {}
    assert events[0].alert.id == events[1].alert.id
    assert events[0].id != events[1].id


def test_it_waits_for_as_long_as_is_asked():
    looks = [(0, [condition()]), (30, [condition()]), (60, [condition()])]
    assert told(lived(looks, schedule(for_s=60))[0]) == [(FIRING, 60)]
    looks[1] = (30, [condition(False)])
    events, alerts = lived(looks, schedule(for_s=60))
    assert events == []
    assert [alert.fired_ns for alert in alerts.values()] == [0]


def test_one_that_is_clear_for_a_moment_is_not_resolved():
    looks = [
        (0, [condition()]),
        (60, [condition(False)]),
        (120, [condition()]),
        (180, [condition(False)]),
        (479, []),
        (480, []),
    ]
    assert told(lived(looks, schedule(resolve_after_s=300))[0]) == [(FIRING, 0), (RESOLVED, 480)]


def test_it_is_told_of_again_after_a_while():
    looks = [(at, [condition()]) for at in range(0, 601, 60)]
    events, _ = lived(looks, schedule(repeat_s=240))
    assert told(events) == [(FIRING, 0), (FIRING, 240), (FIRING, 480)]
    assert [event.alert.told for event in events] == [1, 2, 3]
    assert len({event.id for event in events}) == 3


def test_what_is_no_longer_spoken_of_is_resolved_and_says_so():
    events, _ = lived([(0, [condition(stage="a"), condition(stage="b")]), (60, [condition(stage="a")])], schedule())
    assert [(event.status, event.alert.labels, event.alert.text) for event in events][2] == (
        RESOLVED,
        {"stage": "b"},
        GONE,
    )


def test_a_clock_that_was_set_back_stops_nothing():
    events, alerts = lived(
        [(0, [condition()]), (-86400, [condition(False)]), (-86340, [])], schedule(resolve_after_s=60)
    )
    assert told(events) == [(FIRING, 0), (RESOLVED, -86340)]
    assert alerts == {}
    again = [(0, [condition()]), (-86400, [condition()]), (-86100, [condition()])]
    assert told(lived(again, schedule(repeat_s=300))[0]) == [(FIRING, 0), (FIRING, -86100)]


def test_groups_without_number_are_left_out_and_counted():
    many = [condition(host=f"h{number}") for number in range(MAX_ALERTS + 7)]
    after = step({}, many, schedule(), START_NS)
    assert (len(after.alerts), len(after.events), after.left_out) == (MAX_ALERTS, MAX_ALERTS, 7)
    again = step(after.alerts, many, schedule(), START_NS + NS_PER_S)
    assert (again.events, again.left_out) == ((), 7)


def test_names_of_foreign_origin_are_one_harmless_line():
    foreign = Condition({}, True, 1.0, 0.5, "ms", "a\x1b[2J\nb\u2028c " + "d" * 2000)
    [event], _ = lived([(0, [foreign])], schedule())
    assert event.alert.text.startswith("a�[2J�b�c ddd")
    assert len(event.alert.text) == 1001


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": "1", "b": "2"}, {"b": "2", "a": "1"}, True),
        ({"a": "1"}, {"a": "2"}, False),
        ({"a": "1,b=2"}, {"a": "1", "b": "2"}, False),
        ({}, {"": ""}, False),
    ],
    ids=["order", "value", "joined", "empty"],
)
def test_groups_are_told_apart_by_their_labels(one, other, same):
    assert (fingerprint("rule", one) == fingerprint("rule", other)) is same
    assert fingerprint("rule", one) != fingerprint("other", one)


def test_an_alert_survives_being_written_down():
    _, alerts = lived([(0, [condition(stage="é")])], schedule())
    for alert in alerts.values():
        again = Alert.from_json(json.loads(json.dumps(alert.to_json())))
        assert again == alert
        assert again.fingerprint == alert.fingerprint


looks_of_groups = st.lists(
    st.tuples(
        st.floats(0.1, 100),
        st.dictionaries(st.sampled_from(["a", "b", "c"]), st.booleans()),
    ),
    max_size=30,
)


@given(
    looks_of_groups,
    st.sampled_from([0.0, 30.0, 120.0]),
    st.sampled_from([0.0, 30.0, 120.0]),
    st.sampled_from([0.0, 90.0]),
)
def test_the_laws_of_an_alert(steps, for_s, resolve_after_s, repeat_s):
    plan = schedule(for_s=for_s, resolve_after_s=resolve_after_s, repeat_s=repeat_s)
    looks, at_s = [], 0.0
    for pause_s, groups in steps:
        at_s += pause_s
        looks.append((at_s, [condition(firing, stage=name) for name, firing in groups.items()]))
    events, alerts = lived(looks, plan)
    assert len({event.id for event in events}) == len(events), "no message twice"
    for name in ("a", "b", "c"):
        mine = [event for event in events if event.alert.labels == {"stage": name}]
        is_open = any(alert.fired_ns for alert in alerts.values() if alert.labels == {"stage": name})
        begun = [event for event in mine if event.status == FIRING and event.alert.told == 1]
        resolved = [event for event in mine if event.status == RESOLVED]
        assert len(begun) - len(resolved) == is_open, "each begins once and is resolved once, or is open"
        assert not mine or mine[0].status == FIRING
        for before, after in pairwise(mine):
            assert after.alert.told == (1 if before.status == RESOLVED else before.alert.told + 1)
            assert not (before.status == RESOLVED and after.status == RESOLVED)
        firing_at = {at for at, found in looks if any(each.firing and each.labels == {"stage": name} for each in found)}
        for event in mine:
            at = (event.at_ns - START_NS) / NS_PER_S
            near = any(abs(at - moment) < 1e-6 for moment in firing_at)
            assert near is (event.status == FIRING), "it rings only while it holds, and ends only while it does not"
            assert event.alert.fired_ns - event.alert.since_ns >= for_s * NS_PER_S
        if not repeat_s:
            assert len(mine) == len(begun) + len(resolved)
