"""Recordings that sidecars send: checked, kept in a bounded folder, and joined once their spans are there."""

import copy
import gzip
import json
import threading

import pytest
from testkit.ports import READER, SENDER, as_caller, write_tokens
from testkit.processes import CollectorProcess, eventually
from testkit.recorded import PATH, packed, recording, spans_of

from tailsight_collector.errors import BadRequestError, BusyError
from tailsight_collector.recordings import folder as folders
from tailsight_collector.recordings import joining
from tailsight_collector.recordings.folder import RecordingFolder
from tailsight_collector.recordings.joining import CannotJoinError, RecordingPlan, Recordings
from tailsight_collector.recordings.sent import MAX_RECORDING_BYTES, MAX_TRACE_BYTES, read_sent
from tailsight_storage import StoreUnavailableError, open_store

JSON = {"Content-Type": "application/json"}


def encoded(plain):
    return json.dumps(plain).encode()


def changed(path, value):
    """A recording with one value replaced, or taken out with None."""
    plain = copy.deepcopy(recording("s"))
    *outer, last = path
    place = plain
    for name in outer:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return plain


# --- what is sent -------------------------------------------------------------------------------------------------


def test_what_a_recording_says_is_read():
    sent = read_sent(encoded(recording("rank\u00a0ér", process=7, notes=["a note"])))
    assert (sent.about.service, sent.about.process, sent.about.notes) == ("rank\u00a0ér", 7, ("a note",))
    assert json.loads(sent.trace())[0]["ph"] == "B"
    states = sent.states()
    assert (len(states.times_ns), states.calls) == (500, ("running",))
    assert read_sent(encoded(changed(("states",), None))).states() is None
    assert sent.id == read_sent(encoded(sent.plain)).id


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("recording",), None, "expected an object with `recording`"),
        (("trace",), 3, "trace is no text"),
        (("recording", "spawn_ns"), "now", "recording.spawn_ns: expected a whole number"),
        (("recording", "spawn_ns"), True, "recording.spawn_ns: expected a whole number"),
        (("recording", "end_ns"), 5, "is not within an hour after its spawn_ns"),
        (("recording", "process"), -1, "recording.process: expected a whole number"),
        (("recording", "rate_hz"), 10**6, "recording.rate_hz: expected a whole number from 1 to 1000"),
        (("recording", "service"), "x" * 1001, "recording.service: expected a text of at most 1000"),
        (("recording", "service"), "a\nb", "recording.service: expected a text"),
        (("recording", "service"), "half \ud800", "recording.service: expected a text"),
        (("recording", "host"), None, "recording.host: expected a text"),
        (("recording", "idle"), 1, "recording.idle: expected true or false"),
        (("recording", "trigger"), "import", "recording.trigger: expected one of hand, schedule, tail"),
        (("recording", "notes"), ["x"] * 21, "recording.notes: expected 20 texts at most"),
        (("states", "order"), "odd", "states: expected an object whose order is little or big"),
        (("states", "calls"), [3], "states.calls: expected 65,536 texts at most"),
        (("states", "thread"), None, "states.thread is no text"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_is_refused_with_its_place(path, value, says):
    with pytest.raises(BadRequestError) as raised:
        read_sent(encoded(changed(path, value)))
    assert says in str(raised.value)


@pytest.mark.parametrize(
    "sent", [b"", b"{", b"[]", b"3", b"\xff", b"[" * 100_000], ids=["empty", "half", "list", "number", "bytes", "deep"]
)
def test_what_is_no_recording_at_all_is_refused(sent):
    with pytest.raises(BadRequestError):
        read_sent(sent)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("trace",), "no base64!", "trace cannot be unpacked"),
        (("trace",), packed(b"x")[:-8], "trace"),
        (("trace",), packed(bytes(MAX_TRACE_BYTES + 1)), "trace is larger than"),
        (("states", "time_ns"), packed(b"123"), "states.time_ns ends within a number"),
        (("states", "thread"), packed(bytes(8)), "the columns of states are not of one length"),
        (("states", "call"), packed(b"\x09" + bytes(7) + bytes(8 * 499)), "states.call names a call that is not in"),
    ],
    ids=["base64", "cut", "bomb", "odd", "lengths", "numbers"],
)
def test_what_cannot_be_unpacked_is_found_out_when_it_is_joined(path, value, says):
    sent = read_sent(encoded(changed(path, value)))
    with pytest.raises(BadRequestError) as raised:
        (sent.trace(), sent.states())
    assert says in str(raised.value)


# --- the folder ---------------------------------------------------------------------------------------------------


def test_the_same_recording_is_kept_once_also_after_it_was_joined(tmp_path):
    kept = RecordingFolder(tmp_path / "recordings")
    data = encoded(recording("s"))
    first, new = kept.keep(data)
    assert new
    assert kept.keep(data) == (first, False)
    [waiting] = kept.waiting()
    assert (waiting.id, waiting.path.read_bytes()) == (first, data)
    kept.done(waiting)
    assert kept.waiting() == []
    assert kept.keep(data) == (first, False)
    assert RecordingFolder(tmp_path / "recordings").keep(data) == (first, False)


def test_the_folder_is_bounded_in_number_and_in_bytes(tmp_path, monkeypatch):
    kept = RecordingFolder(tmp_path / "recordings")
    sent = [encoded(recording("s", process=number)) for number in range(1, 5)]
    monkeypatch.setattr(folders, "MAX_WAITING", 2)
    kept.keep(sent[0])
    kept.keep(sent[1])
    with pytest.raises(BusyError, match="2 recordings wait"):
        kept.keep(sent[2])
    kept.done(kept.waiting()[0])
    kept.keep(sent[2])
    monkeypatch.setattr(folders, "MAX_WAITING", 64)
    monkeypatch.setattr(folders, "MAX_WAITING_BYTES", sum(len(data) for data in sent[1:]) - 1)
    with pytest.raises(BusyError):
        kept.keep(sent[3])


def test_marks_are_few_and_what_a_crash_left_half_written_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "MAX_MARKS", 2)
    kept = RecordingFolder(tmp_path / "recordings")
    for number in range(1, 6):
        kept.keep(encoded(recording("s", process=number)))
        kept.done(kept.waiting()[0])
    assert len(list((tmp_path / "recordings").iterdir())) == 2
    half = tmp_path / "recordings" / "abc.json.tmp"
    half.write_bytes(b"{")
    RecordingFolder(tmp_path / "recordings")
    assert not half.exists()


def test_a_disk_that_is_full_is_busy_and_not_a_defect(tmp_path, monkeypatch):
    kept = RecordingFolder(tmp_path / "recordings")

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "write_synced", full)
    with pytest.raises(BusyError, match="No space left on device"):
        kept.keep(encoded(recording("s")))


# --- waiting for the spans ----------------------------------------------------------------------------------------


class Plan:
    """What analysis would say; `happened` is set with each join."""

    def __init__(self, *arrivals, fails=None):
        self.arrivals, self.fails = list(arrivals), fails
        self.joined, self.looked, self.happened = [], 0, threading.Event()

    def arrived(self, store, about):
        self.looked += 1
        found = self.arrivals.pop(0) if len(self.arrivals) > 1 else self.arrivals[0]
        if isinstance(found, Exception):
            raise found
        return found

    def join(self, store, sent):
        self.joined.append(sent.about.process)
        if self.fails:
            self.happened.set()
            raise self.fails
        self.happened.set()
        return "all is well"

    def begin(self, engine, data):
        return Recordings(RecordingPlan(self.arrived, self.join), engine, data)


@pytest.fixture
def quick(monkeypatch):
    for name, value in {"LOOK_S": 0.01, "LATER_LOOK_S": 0.01, "STILL_S": 0.1}.items():
        monkeypatch.setattr(joining, name, value)


def settle(data):
    eventually(lambda: not list((data / "recordings").glob("*.json")), "nothing waits any more")


def test_a_recording_waits_until_spans_of_a_later_time_have_come(engine, tmp_path, quick):
    plan = Plan((0, False), StoreUnavailableError("away"), (5, False), (7, True))
    recordings = plan.begin(engine, tmp_path)
    try:
        recordings._keep(encoded(recording("s", process=3)))
        assert plan.happened.wait(60)
        settle(tmp_path)
    finally:
        assert recordings.close()
        assert recordings.documents.close()
    assert plan.joined == [3]
    assert plan.looked >= 4


def test_where_nothing_more_comes_it_is_joined_to_what_there_is(engine, tmp_path, quick, caplog):
    plan = Plan((5, False))
    recordings = plan.begin(engine, tmp_path)
    try:
        with caplog.at_level("INFO"):
            recordings._keep(encoded(recording("s")))
            settle(tmp_path)
    finally:
        assert recordings.close()
        assert recordings.documents.close()
    assert "a recording of process 31 of s on h is joined: all is well" in caplog.text


@pytest.mark.parametrize(
    ("fails", "says"),
    [(CannotJoinError("too few"), "is left out: too few"), (RuntimeError("odd"), "an unexpected error in joining")],
    ids=["refused", "defect"],
)
def test_what_cannot_be_joined_is_said_and_let_go_and_the_next_one_is_joined(
    engine, tmp_path, quick, caplog, fails, says
):
    plan = Plan((5, True), fails=fails)
    recordings = plan.begin(engine, tmp_path)
    try:
        recordings._keep(encoded(recording("s", process=1)))
        settle(tmp_path)
        recordings._keep(encoded(recording("s", process=2)))
        settle(tmp_path)
    finally:
        assert recordings.close()
        assert recordings.documents.close()
    assert plan.joined == [1, 2]
    assert says in caplog.text


def test_without_any_span_it_is_given_up_in_the_end(engine, tmp_path, quick, caplog, monkeypatch):
    monkeypatch.setattr(joining, "GIVE_UP_S", 0.2)
    plan = Plan((0, False))
    recordings = plan.begin(engine, tmp_path)
    try:
        recordings._keep(encoded(recording("s")))
        settle(tmp_path)
    finally:
        assert recordings.close()
        assert recordings.documents.close()
    assert plan.joined == []
    assert "no span came of the time in which it was taken" in caplog.text


def test_a_join_that_does_not_end_keeps_nobody_from_ending(engine, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(joining, "_END_PATIENCE_S", 0.2)
    plan, goes_on = Plan((5, True)), threading.Event()

    def join(store, sent):
        plan.happened.set()
        goes_on.wait(60)
        return "late"

    plan.join = join
    recordings = plan.begin(engine, tmp_path)
    recordings._keep(encoded(recording("s")))
    assert plan.happened.wait(60)
    assert recordings.close() is False, "the engine is in use"
    goes_on.set()
    eventually(recordings.close, "it has ended")
    assert recordings.documents.close()


# --- a real collector ---------------------------------------------------------------------------------------------


def profiles_in(store, service):
    with open_store(store) as opened:
        question = "SELECT samples, trusted, joined FROM profiles WHERE service = {name:String}"
        eventually(lambda: opened.rows(question, name=service), "the profile is there", patience_s=120)
        return opened.rows(question, name=service)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    data = tmp_path_factory.mktemp("recordings")
    tokens = write_tokens(data / "tokens.txt")
    with CollectorProcess(data / "data", "--tokens", str(tokens), token=SENDER) as collector:
        yield collector


@pytest.mark.parametrize(
    ("sent", "headers", "status", "says"),
    [
        (b"{}", JSON, 400, "expected an object with `recording`"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "is no recording's; send application/json"),
        (gzip.compress(b"{}"), {**JSON, "Content-Encoding": "gzip"}, 415, "without Content-Encoding"),
        (b" " * (MAX_RECORDING_BYTES + 1), JSON, 413, "the recording is larger than"),
        (b"{}", {**JSON, "Authorization": "Bearer wrong"}, 401, ""),
    ],
    ids=["empty", "kind", "packed", "large", "token"],
)
def test_what_is_no_recording_is_refused_at_the_route(running, sent, headers, status, says):
    answer = running.post(sent, headers, path=PATH)
    assert answer.status_code == status
    assert says in answer.text


def test_a_recording_that_came_before_its_spans_survives_kill_9_and_is_joined_once(running):
    sent = recording("ranker")
    first = running.post(encoded(sent), JSON, path=PATH)
    assert (first.status_code, first.json()["new"]) == (200, True)
    running.kill()
    assert list((running.data / "recordings").glob("*.json"))
    running.start()
    assert running.post(encoded(sent), JSON, path=PATH).json() == {"id": first.json()["id"], "new": False}
    assert running.post(spans_of(sent)).status_code == 200
    eventually(lambda: not list((running.data / "recordings").glob("*.json")), "it is joined", patience_s=120)
    assert running.post(encoded(sent), JSON, path=PATH).json()["new"] is False
    assert "a recording of process 31 of ranker on h is joined" in "".join(running.log)
    [(samples, trusted, joined)] = profiles_in(as_caller(READER, running.store), "ranker")
    assert trusted
    assert samples >= joined > 0.5 * samples > 100
