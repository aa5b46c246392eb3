"""What the database refuses, and `tailsight store quarantine` as people use it."""

import json
import threading

import pytest
from testkit.metrics import metric, metrics_request, point
from testkit.otlp import request, span

from tailsight_cli import main
from tailsight_collector.keep.journal import Journal
from tailsight_collector.keep.loader import Loader
from tailsight_collector.keep.quarantine import Quarantine
from tailsight_collector.keep.records import encode_record
from tailsight_storage import DataRefusedError

PATIENCE_S = 60
RECEIVED_NS = 1_700_000_000_000_000_000
MESSAGE = "store chdb:///x: Code: 33. DB::Exception: Cannot read all data. (CANNOT_READ_ALL_DATA)"


class FakeStore:
    """Keeps what it is given, once a token, and refuses what holds `refused`."""

    def __init__(self, refused=b"bad"):
        self.refused = refused
        self.kept: dict[str, bytes] = {}

    def insert(self, segment, token):
        if self.refused and self.refused in bytes(segment):
            raise DataRefusedError(MESSAGE, 33)
        if not token.endswith("/probe"):
            self.kept.setdefault(token, bytes(segment))


class Running:
    """A journal and a loader in a folder, as in a running collector."""

    def __init__(self, folder, store, monkeypatch):
        monkeypatch.setattr("tailsight_collector.keep.loader.LOOK_EVERY_S", 0.01)
        self.journal = Journal(
            folder,
            segment_bytes=1,
            segment_age_s=60,
            max_bytes=1 << 20,
            on_closed=self._offer,
        )
        left_over = self.journal.start()
        self.loader = Loader(store.insert, self.journal)
        for segment in left_over:
            self.loader.offer(segment)
        self.loader.start()

    def _offer(self, segment):
        self.loader.offer(segment)

    def take(self, *requests):
        for each in requests:
            self.journal.append(encode_record(each, RECEIVED_NS)).result(PATIENCE_S)
        self.wait(lambda: self.journal.stored_bytes == 0)

    def wait(self, holds):
        deadline = threading.Event()
        for _ in range(1000):
            if holds():
                return
            deadline.wait(0.01)
        raise AssertionError("not in time")

    def close(self):
        self.journal.close()
        assert self.loader.close(PATIENCE_S)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder with three refused records: two of spans, one of metrics; and nobody runs on it."""
    for folder, encoded in (
        (tmp_path / "journal", [request([span(name=f"bad-{n}")], {"service.name": f"s{n}"}) for n in (1, 2)]),
        (tmp_path / "journal/metrics", [metrics_request([metric("hw.bad", [point()])])]),
    ):
        running = Running(folder, FakeStore(), monkeypatch)
        running.take(*[each.SerializeToString() for each in encoded])
        running.close()
    return tmp_path


@pytest.fixture
def quarantine(capsys, data, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        code = main.run(["store", "quarantine", arguments[0], "--data", str(data), *arguments[1:]])
        return code, *capsys.readouterr()

    return call


def listed(quarantine):
    code, out, _ = quarantine("list", "--json")
    assert code == 0
    return json.loads(out)


def test_list_names_each_record_and_why(quarantine):
    found = listed(quarantine)
    assert [(each["signal"], each["kind"], each["waiting"], each["error"]) for each in found] == [
        ("traces", "record", False, MESSAGE), ("traces", "record", False, MESSAGE), ("metrics", "record", False, MESSAGE),
    ]  # fmt: skip
    code, out, err = quarantine("list")
    assert (code, err) == (0, "")
    assert [each["name"] in out for each in found] == [True] * 3
    assert out.count("Cannot read all data") == 3


def test_show_tells_what_a_record_holds(quarantine):
    first, _, of_metrics = (each["name"] for each in listed(quarantine))
    code, out, _ = quarantine("show", first, of_metrics, "--json")
    assert code == 0
    spans, metrics = json.loads(out)
    assert (spans["services"], spans["spans"], spans["names"]) == (["s1"], 1, ["bad-1"])
    assert spans["received_at"] == "2023-11-14T22:13:20+00:00"
    assert (metrics["metrics"], metrics["names"], metrics["error"]) == (1, ["hw.bad"], MESSAGE)
    code, out, _ = quarantine("show", first)
    assert "bad-1" in out
    assert MESSAGE in out


def test_retry_without_a_collector_waits_for_the_next_one(quarantine, data, monkeypatch):
    first, second, of_metrics = (each["name"] for each in listed(quarantine))
    assert quarantine("retry", first)[0] == 0
    assert [each["waiting"] for each in listed(quarantine)] == [True, False, False]
    store = FakeStore(refused=b"")
    running = Running(data / "journal", store, monkeypatch)
    running.wait(lambda: first in store.kept)
    running.close()
    assert list(store.kept) == [first]
    assert [each["name"] for each in listed(quarantine)] == [second, of_metrics]
    again = Running(data / "journal", store, monkeypatch)
    again.close()
    assert list(store.kept) == [first]


def test_retry_beside_a_running_collector_loads_exactly_once(quarantine, data, monkeypatch):
    store = FakeStore(refused=b"")
    running = Running(data / "journal", store, monkeypatch)
    code, out, _ = quarantine("retry", "--all", "--json")
    assert code == 0
    retried = json.loads(out)["retried"]
    assert len(retried) == 3
    running.wait(lambda: len(store.kept) == 2)
    assert running.loader.state.quarantined_records == 0
    quarantine("retry", "--all")
    running.close()
    assert sorted(store.kept) == sorted(retried[:2])
    assert [each["signal"] for each in listed(quarantine)] == ["metrics"]  # nobody loads metrics here
    assert listed(quarantine)[0]["waiting"]
    assert not list((data / "journal").glob("*.otlp"))


def test_what_is_refused_again_comes_back_under_its_name_with_the_new_message(quarantine, data, monkeypatch):
    before = listed(quarantine)
    running = Running(data / "journal", FakeStore(), monkeypatch)
    for path in (data / "journal/quarantine").glob("*.error"):
        path.write_text("an old message")
    quarantine("retry", before[0]["name"])
    running.wait(lambda: before[0]["name"] in [each["name"] for each in listed(quarantine) if not each["waiting"]])
    running.wait(lambda: running.journal.stored_bytes == 0)
    running.close()
    after = listed(quarantine)
    assert [each["name"] for each in after] == [each["name"] for each in before]
    assert after[0]["error"] == MESSAGE
    assert running.loader.state.quarantined_records == 2


def test_a_record_that_is_tried_again_twice_is_not_deleted_with_the_first(data):
    """Its file of the first time is kept until the next checkpoint, which deletes it by its name."""
    quarantine = Quarantine(data / "journal")
    journal = Journal(data / "journal", segment_bytes=1, segment_age_s=60, max_bytes=1 << 20, on_closed=lambda _: None)
    journal.start()
    entry = next(quarantine.entries())
    quarantine.retry(entry)
    [first] = quarantine.take_back(journal)
    record = first.path.read_bytes()
    quarantine.put(first.token, 0, record, "refused again")
    journal.confirm(first)
    quarantine.retry(next(quarantine.entries()))
    assert list(quarantine.take_back(journal)) == []
    journal.forget([first])
    [second] = quarantine.take_back(journal)
    assert second.path.read_bytes() == record
    assert journal.stored_bytes == len(record)
    journal.close()


def test_a_crash_while_a_record_is_taken_back_loads_it_once(data, monkeypatch):
    """It is a segment of the journal from the moment that it leaves the quarantine."""
    quarantine = Quarantine(data / "journal")
    entry = next(quarantine.entries())
    quarantine.retry(entry)
    journal = Journal(data / "journal", segment_bytes=1, segment_age_s=60, max_bytes=1 << 20, on_closed=lambda _: None)
    journal.start()
    [segment] = quarantine.take_back(journal)
    assert journal.stored_bytes == segment.size_bytes
    journal.close()  # and here everything ends
    store = FakeStore(refused=b"")
    running = Running(data / "journal", store, monkeypatch)
    running.wait(lambda: entry.name in store.kept)
    running.close()
    assert [each.name for each in quarantine.entries()] != [entry.name]
    assert len(quarantine) == 1


def test_drop_asks_first(quarantine, monkeypatch):
    names = [each["name"] for each in listed(quarantine)]
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda *_: "n")
    assert quarantine("drop", names[0])[0] == 130
    assert [each["name"] for each in listed(quarantine)] == names
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda *_: "y")
    assert quarantine("drop", names[0])[0] == 0
    assert [each["name"] for each in listed(quarantine)] == names[1:]
    assert quarantine("drop", "--all", "--yes")[:2] == (0, "2 records deleted\n")
    assert quarantine("list")[1].startswith("nothing is in quarantine in ")


def test_ctrl_c_at_the_question_deletes_nothing(quarantine, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("click.termui.visible_prompt_func", interrupt)
    assert quarantine("drop", "--all")[0] == 130
    assert len(listed(quarantine)) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("retry",), 2, "name the records, or say --all"),
        (("drop", "x", "--all"), 2, "--all leaves no choice of names"),
        (("show", "nobody"), 2, "nobody is not in quarantine in"),
    ],
)
def test_wrong_use_is_told_in_a_line(quarantine, arguments, code, message):
    got, out, err = quarantine(*arguments)
    assert (got, out) == (code, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_folder_without_a_journal_is_named(capsys, tmp_path):
    assert main.run(["store", "quarantine", "list", "--data", str(tmp_path / "nowhere")]) == 4
    assert "nowhere holds no journal" in capsys.readouterr().err


def test_damaged_bytes_can_be_looked_at_and_dropped_but_not_retried(quarantine, data, monkeypatch):
    quarantine("drop", "--all", "--yes")
    good = [encode_record(f"good-{number}".encode(), 1) for number in range(3)]
    torn = bytearray(b"".join(good))
    torn[len(good[0]) + 4] ^= 0xFF
    (data / "journal/20260101T000000.000000000-aaaaaaaa.otlp").write_bytes(torn)
    store = FakeStore()
    running = Running(data / "journal", store, monkeypatch)
    running.wait(lambda: running.journal.stored_bytes == 0)
    running.close()
    assert list(store.kept.values()) == [good[0] + good[2]]
    [entry] = listed(quarantine)
    assert entry["kind"] == "damaged"
    assert entry["bytes"] == len(good[1])
    assert "checksum" in entry["error"]
    code, _, err = quarantine("retry", entry["name"])
    assert code == 4
    assert "is damaged" in err
    assert (
        quarantine("retry", "--all")[1].splitlines()[1] == "1 damaged piece passed over: nothing in them can be loaded"
    )
    assert quarantine("drop", entry["name"], "--yes")[0] == 0


def test_a_message_cannot_play_with_the_terminal(quarantine, data):
    for path in (data / "journal/quarantine").glob("*.error"):
        path.write_text("\x1b[31mred [bold]markup[/bold]")
    out = quarantine("list")[1]
    assert "\x1b" not in out
    assert "[bold]markup[/bold]" in out


def test_help_has_examples(capsys):
    assert main.run(["store", "quarantine", "--help"]) == 0
    assert "tailsight store quarantine retry --all" in capsys.readouterr().out
