"""The machine fails under a collector: whatever happens, what was acknowledged is there once when it is over."""

import contextlib
import os
import shutil
import subprocess
import time
from collections import Counter

import pytest
from testkit.otlp import request, span
from testkit.processes import CollectorProcess, eventually

from tailsight_collector.keep.line import Line
from tailsight_collector.keep.records import encode_record
from tailsight_storage import open_store

MIB = 1024 * 1024
STAGED = {"tailsight.stage": "compute"}


@pytest.fixture
def mounted():
    """Small file systems of their own; skipped where we may not mount."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    there = []

    def mount(folder, size_bytes):
        folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"no small disk can be mounted here: {made.stderr.strip()}")
        there.append(folder)
        return folder

    yield mount
    for folder in reversed(there):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder, mode):
    subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)


@contextlib.contextmanager
def full(folder):
    """Leave no byte on a disk, and free it again."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (MIB, 4096):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    yield
    ballast.unlink()


def body(first, count=20, size=2000):
    spans = [
        span(name=f"span-{number}", attributes=STAGED | {"text": os.urandom(size // 2).hex()})
        for number in range(first, first + count)
    ]
    return request(spans, {"service.name": "survivor"}).SerializeToString()


def names(first, count=20):
    return [f"span-{number}" for number in range(first, first + count)]


def stored(collector):
    collector.wait_until_loaded()
    with open_store(collector.store) as store:
        rows = store.rows("SELECT name FROM spans WHERE service = 'survivor'")
        [(rolled_up,)] = store.rows("SELECT sum(spans) FROM stage_latency_1m WHERE service = 'survivor'")
        assert rolled_up == len(rows)
        return Counter(str(name) for (name,) in rows)


def refused(answer):
    """Whether the answer is the one that makes clients keep their data and come again."""
    return answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0


def test_a_full_journal_disk_makes_clients_keep_their_data_until_there_is_room(tmp_path, mounted):
    disk = mounted(tmp_path / "journal", 8 * MIB)
    with CollectorProcess(tmp_path) as collector:
        assert collector.post(body(0)).status_code == 200
        collector.wait_until_loaded()
        with full(disk):
            # what the present segment still has room for is taken, no more
            answers = [collector.post(body(100 * number)) for number in range(1, 6)]
            assert refused(answers[-1])
            assert refused(collector.post(body(9_000)))
        assert collector.post(body(10_000)).status_code == 200
        taken = [number for number, answer in enumerate(answers, 1) if answer.status_code == 200]
        wanted = [*names(0), *[name for number in taken for name in names(100 * number)], *names(10_000)]
        assert stored(collector) == Counter(wanted)
        assert collector.stop() == 0


@pytest.mark.parametrize("ending", ["room again", "kill -9 while it is full"])
def test_a_full_store_disk_makes_segments_wait(tmp_path, mounted, ending):
    disk = mounted(tmp_path / "clickhouse", 96 * MIB)
    with CollectorProcess(tmp_path) as collector:
        assert collector.post(body(0)).status_code == 200
        collector.wait_until_loaded()
        with full(disk):
            for number in range(1, 4):
                assert collector.post(body(100 * number)).status_code == 200
            eventually(lambda: collector.health()["status"] == "degraded", "health says that loading fails")
            assert collector.health()["loading"]["quarantined_records"] == 0
            if ending != "room again":
                collector.kill()
        if ending != "room again":
            collector.start()
        wanted = Counter(name for number in range(4) for name in names(100 * number))
        assert stored(collector) == wanted
        health = collector.health()
        assert (health["status"], health["loading"]["quarantined_records"]) == ("ok", 0)
        assert collector.post(body(400)).status_code == 200
        assert stored(collector) == wanted + Counter(names(400))


def test_one_full_disk_for_all_of_it(tmp_path, mounted):
    disk = mounted(tmp_path / "data", 128 * MIB)
    with CollectorProcess(disk) as collector:
        taken = []
        assert collector.post(body(0)).status_code == 200
        with full(disk):
            for number in range(1, 8):
                answer = collector.post(body(100 * number))
                assert answer.status_code == 200 or refused(answer)
                taken += [number] if answer.status_code == 200 else []
            assert refused(collector.post(body(900)))
        assert collector.post(body(1000)).status_code == 200
        wanted = Counter([*names(0), *[name for number in taken for name in names(100 * number)], *names(1000)])
        assert stored(collector) == wanted
        assert collector.stop() == 0
        collector.start()
        assert stored(collector) == wanted


def test_a_read_only_journal_disk_refuses_and_then_goes_on(tmp_path, mounted):
    disk = mounted(tmp_path / "journal", 8 * MIB)
    with CollectorProcess(tmp_path, "--segment-age", "0.05") as collector:
        assert collector.post(body(0)).status_code == 200
        collector.wait_until_loaded()
        eventually(lambda: remounted(disk, "ro"), "nobody writes, so that it can be made read-only")
        assert refused(collector.post(body(100)))
        remount(disk, "rw")
        assert collector.post(body(200)).status_code == 200
        assert stored(collector) == Counter([*names(0), *names(200)])


def remounted(folder, mode):
    """Try to remount: a disk that a file is being written on stays as it is."""
    return (
        subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=False, capture_output=True).returncode
        == 0
    )


def test_a_read_only_journal_disk_at_the_start_is_named(tmp_path, mounted):
    disk = mounted(tmp_path / "data", 8 * MIB)
    remount(disk, "ro")
    with (
        pytest.raises(AssertionError, match=r"journal .*Read-only file system; give a writable folder with --data"),
        CollectorProcess(disk),
    ):
        pass


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """One collector for whatever odd spans people send."""
    with CollectorProcess(tmp_path_factory.mktemp("odd")) as running:
        yield running


def rows(collector, statement):
    collector.wait_until_loaded()
    assert collector.health()["loading"]["quarantined_records"] == 0
    with open_store(collector.store) as store:
        return store.rows(statement)


def test_500_days_in_one_batch_are_one_partition(odd):
    day_ns = 86_400 * 10**9
    newest = span()
    spans = [
        span(name="day", start_time_unix_nano=newest["start_time_unix_nano"] - day * day_ns,
             end_time_unix_nano=newest["start_time_unix_nano"] - day * day_ns + 1000, attributes=STAGED)
        for day in range(500)
    ]  # fmt: skip
    assert odd.post(request(spans, {"service.name": "days"}).SerializeToString()).status_code == 200
    [(days, partitions)] = rows(
        odd, "SELECT uniqExact(toDate(start_time)), uniqExact(_partition_id) FROM spans WHERE service = 'days'"
    )
    assert days == 500
    assert partitions <= 2  # two at midnight
    [(rolled_up,)] = rows(odd, "SELECT sum(spans) FROM stage_latency_1m WHERE service = 'days'")
    assert rolled_up == 500


@pytest.mark.parametrize("requests", [1, 20])
def test_100_000_distinct_attribute_keys_are_kept(odd, requests):
    service = f"keys-{requests}"
    each = 100_000 // requests
    for part in range(requests):
        spans = [
            span(attributes={f"key-{number}": number for number in range(start, start + 100)})
            for start in range(part * each, (part + 1) * each, 100)
        ]
        assert odd.post(request(spans, {"service.name": service}).SerializeToString()).status_code == 200
    [(keys, total)] = rows(
        odd,
        "SELECT uniqExact(key), sum(toUInt64(value)) FROM spans "
        f"ARRAY JOIN mapKeys(attributes) AS key, mapValues(attributes) AS value WHERE service = '{service}'",
    )
    assert (keys, total) == (100_000, sum(range(100_000)))


def test_attribute_values_of_10_mb_are_kept_whole(odd):
    value = os.urandom(5 * 1000 * 1000).hex()
    spans = [span(name=f"big-{number}", attributes={"blob": value[: len(value) - number]}) for number in range(3)]
    assert odd.post(request(spans, {"service.name": "big"}).SerializeToString()).status_code == 200
    assert rows(odd, "SELECT length(attributes['blob']) FROM spans WHERE service = 'big' ORDER BY 1 DESC") == [
        (10_000_000,), (9_999_999,), (9_999_998,),
    ]  # fmt: skip


HOUR_S, DAY_S = 3600, 86_400


@pytest.mark.parametrize("step_s", [-HOUR_S, HOUR_S, -3 * DAY_S, 3 * DAY_S, 20 * DAY_S, -20 * DAY_S])
def test_a_clock_that_is_set_between_two_arrivals_loses_and_doubles_nothing(store, tmp_path, step_s):
    """Stamps, partitions and the order of segments follow the clock, and nothing else does."""
    now_ns = time.time_ns()
    for attempt in range(2):  # the second time as after a crash: everything is loaded again
        line = Line(tmp_path / f"journal-{attempt}", segment_bytes=1, segment_age_s=60, max_bytes=MIB)
        line.journal.folder.mkdir()
        for number, received_ns in enumerate((now_ns, now_ns + step_s * 10**9, now_ns + 10**9)):
            spans = [
                span(name=f"span-{number}", attributes=STAGED, trace_id=bytes([1 + number]) * 16, span_id=bytes([1]) * 8,
                     start_time_unix_nano=received_ns - 10**9, end_time_unix_nano=received_ns)
            ]  # fmt: skip
            record = encode_record(request(spans).SerializeToString(), received_ns)
            # names sort by the clock: after a step back the newest segment comes first
            stamp = received_ns // 10**9
            (line.journal.folder / f"{stamp}.000000000-0000000{number}.otlp").write_bytes(record)
        line.open()
        line.load_into(store.insert_otlp_traces)
        eventually(lambda line=line: line.numbers().journal_bytes == 0, "all is loaded")
        line.stop_taking()
        assert line.close(30)
        assert line.numbers().quarantined_records == 0
    assert store.rows("SELECT name, count() FROM spans GROUP BY name ORDER BY name") == [
        ("span-0", 1), ("span-1", 1), ("span-2", 1),
    ]  # fmt: skip
    assert store.rows("SELECT sum(spans) FROM stage_latency_1m") == [(3,)]


def test_a_clock_that_was_40_days_behind_makes_spans_as_old_as_it_said(store, tmp_path):
    """Retention counts from the arrival as the clock told it: the documentation says to set the clock first."""
    received_ns = time.time_ns() - 40 * DAY_S * 10**9
    spans = [span(start_time_unix_nano=received_ns - 10**9, end_time_unix_nano=received_ns)]
    store.insert_otlp_traces(encode_record(request(spans).SerializeToString(), received_ns), "behind")
    store.run("OPTIMIZE TABLE spans FINAL")
    assert store.rows("SELECT count() FROM spans") == [(0,)]
