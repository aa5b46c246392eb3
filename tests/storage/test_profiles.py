"""Profiles: what is kept is checked, the same one is there once, and what is no profile is said to be none."""

import copy
import json
from datetime import UTC, datetime

import pytest
from testkit.profiles import BASE_NS, FRAMES, small

from tailsight_storage import InvalidProfileError
from tailsight_storage.profile_shape import MAX_FRAME_LENGTH
from tailsight_storage.profiles import MAX_PROFILE_BYTES, checked_profile, encode_profile, insert_profile, read_profile


def changed(path: str, value: object) -> bytes:
    """The small profile with another value at `places.0.class`; `...` takes the key out."""
    plain = copy.deepcopy(small())
    *parents, last = [int(name) if name.isdecimal() else name for name in path.split(".")]
    spot = plain
    for name in parents:
        spot = spot[name]
    if value is ...:
        del spot[last]
    else:
        spot[last] = value
    return json.dumps(plain).encode()


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("profile", ..., "profile is missing"),
        ("profile.rate_hz", ..., "profile.rate_hz is missing"),
        ("profile.secret", 1, "profile.secret is unknown here"),
        ("profile.started_ns", 1.5, "profile.started_ns is 1.5, not a whole number"),
        ("profile.started_ns", 2**62, "profile.started_ns is"),
        ("profile.process", -1, "profile.process is -1"),
        ("profile.process", True, "profile.process is True"),
        ("profile.duration_ms", "2", "profile.duration_ms is '2', not a number"),
        ("profile.trigger", "moon", "profile.trigger is 'moon', not one of hand"),
        ("profile.agreement", 1.5, "profile.agreement is 1.5, not a number from 0 to 1"),
        ("profile.notes", ["x"] * 51, "profile.notes has 51 entries"),
        ("frames", {}, "frames is {}, not a list"),
        ("frames.0", "", "frames[0] is '', not a text of 1 to"),
        ("frames.0", "x" * (MAX_FRAME_LENGTH + 1), "frames[0] is 'xxx"),
        ("stacks.0", [99], "stacks[0] is 99, not a whole number from 0 to 4"),
        ("stacks.1", [-1], "stacks[1] is -1"),
        ("stacks.1", [0] * 1001, "stacks[1] has 1,001 entries"),
        ("places.0.trace_id", "zz", "places[0].trace_id is 'zz', not an id"),
        ("places.0.trace_id", "A" * 32, "places[0].trace_id is 'AAAA"),
        ("places.0.span_id", "0" * 17, "places[0].span_id is"),
        ("places.0.class", "slow", "places[0].class is 'slow'"),
        ("places.1.match", "guessed", "places[1].match is 'guessed', not one of exact"),
        ("places.1.also", ["1"], "places[1].also[0] is '1', not an id"),
        ("profile.trusted", 1, "profile.trusted is 1, not true or false"),
        ("requests.duration_ns.0", -1, "requests.duration_ns is -1"),
        ("requests.class", [], "the columns of requests have different lengths: [0, 2]"),
        ("requests.trace_id.1", 7, "requests.trace_id[1] is 7, not an id"),
        ("places.1.stage", None, "places[1].stage is None, not a text"),
        ("places.1.thread", 2**64, "places[1].thread is 18446744073709551616"),
        ("samples.time_ns", [BASE_NS], "different lengths: [1, 3]"),
        ("samples.time_ns.0", 5, "samples.time_ns is 5"),
        ("samples.place.0", 2, "samples.place is 2, not a whole number from 0 to 1"),
        ("samples.stack.2", 2, "samples.stack is 2"),
        ("samples.count.0", 0, "samples.count is 0, not a whole number from 1"),
        ("samples.count.0", 1.0, "samples.count is 1.0"),
        ("samples.state.0", "asleep", "samples.state[0] is 'asleep', not one of running"),
        ("frames.0", "\ud800", "lone surrogate"),
    ],
    ids=lambda value: None if not isinstance(value, str) else value[:24].encode("ascii", "replace").decode(),
)
def test_what_is_wrong_is_named(path, value, says):
    with pytest.raises(InvalidProfileError) as caught:
        read_profile(changed(path, value))
    assert says in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"{}", "frames is missing"),
        (b"[]", "it is [], not an object"),
        (encode_profile(small()).replace(b"2000.0", b"NaN"), "NaN is no number"),
        (encode_profile(small()).replace(b"2000.0", b"1e999"), "profile.duration_ms is inf"),
        (encode_profile(small()) + b" " * MAX_PROFILE_BYTES, "more than 33,554,432"),
        (encode_profile(small())[:-5], "no JSON"),
    ],
    ids=["nothing", "no text", "deep", "empty", "a list", "nan", "infinite", "large", "cut off"],
)
def test_what_is_no_profile_is_refused(data, says):
    with pytest.raises(InvalidProfileError) as caught:
        read_profile(data)
    assert says in str(caught.value)


def test_a_profile_is_stored_once_with_all_that_it_says(store):
    read = read_profile(encode_profile(small()))
    now = datetime(2026, 11, 22, 7, 10, 0, 123456, UTC)
    assert insert_profile(store, read, now) is True
    assert insert_profile(store, read) is False
    rows = store.rows(
        "SELECT toUnixTimestamp64Nano(time), profile, lower(hex(trace_id)), lower(hex(span_id)), stage, service, host, "
        "version, run, hardware, model, process, thread, class, state, match, also, stack, count, toString(received_at) "
        "FROM profile_samples ORDER BY time"
    )
    assert [row[0] for row in rows] == [BASE_NS, BASE_NS + 10_000_000, BASE_NS + 20_000_000]
    assert rows[1][1:] == (
        read.id, f"{2:032x}", f"{2:016x}", "compute", "ranker", "box", "1", "", "NVIDIA L4", "", 77, 140_615_117_436_608,
        "tail", "running", "exact", [], [FRAMES[number] for number in (0, 1, 3, 4)], 3, "2026-11-22 07:10:00.123",
    )  # fmt: skip
    assert store.rows("SELECT lower(hex(trace_id)), class, run, duration_ns FROM profile_requests ORDER BY class") == [
        (f"{2:032x}", "tail", "", 5_000_000),
        (f"{1:032x}", "typical", "", 5_000_000),
    ]
    [said] = store.rows(
        "SELECT toString(started_at), duration_ms, service, host, process, rate_hz, trigger, source, samples, joined, "
        "ambiguous, lost, offset_ms, agreement, by_chance, margin, trusted, notes FROM profiles"
    )
    assert said == (
        "2026-05-28 20:26:40.000", 2000.0, "ranker", "box", 77, 100.0, "hand", "py-spy 0.4.3", 6, 6, 0, 0, 3.5, 0.98, 0.4,
        0.2, True, [],
    )  # fmt: skip


def test_an_insert_that_was_cut_off_between_its_tables_leaves_nothing_twice(store):
    read = read_profile(encode_profile(small()))

    class CutOff:
        ask = store.ask

        def insert_once(self, table, rows, token):
            if table == "profiles":
                raise ConnectionResetError
            store.insert_once(table, rows, token)

    with pytest.raises(ConnectionResetError):
        insert_profile(CutOff(), read)
    assert store.rows("SELECT count() FROM profile_samples") == [(3,)]
    assert insert_profile(store, read) is True
    assert store.rows("SELECT count() FROM profile_samples") == [(3,)]
    assert store.rows("SELECT count() FROM profile_requests") == [(2,)]
    assert store.rows("SELECT count() FROM profiles") == [(1,)]


def test_what_was_in_no_stage_has_no_ids_and_no_fit_is_no_number(store):
    plain = small()
    plain["places"][0] |= {"trace_id": "", "span_id": "", "stage": "", "class": "", "match": "none"}
    plain["profile"] |= {"offset_ms": None, "agreement": None, "margin": None, "joined": 4}
    assert insert_profile(store, checked_profile(plain))
    assert store.rows("SELECT hex(trace_id), count FROM profile_samples WHERE stage = ''") == [("0" * 32, 2)]
    assert store.rows("SELECT offset_ms, agreement, margin FROM profiles") == [(None, None, None)]


def test_texts_of_all_kinds_come_back_as_they_were(store):
    plain = small()
    plain["frames"][0] = text = "'\"\\ \t\n\x00\x1f 😀 é \u2028 {x:String} (a.py:1)"
    assert insert_profile(store, checked_profile(plain))
    assert {row[0] for row in store.rows("SELECT stack[1] FROM profile_samples")} == {text}


def test_the_id_is_of_the_content_and_not_of_how_it_is_written():
    other = json.dumps(dict(reversed(small().items())), indent=3).encode()
    assert read_profile(other).id == read_profile(encode_profile(small())).id
    assert read_profile(changed("profile.rate_hz", 99)).id != read_profile(encode_profile(small())).id
