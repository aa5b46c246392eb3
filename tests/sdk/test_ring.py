"""The shared memory: what one process writes another reads, whole and once, whatever happens in between."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailsight import _ring
from tailsight._ring import EARLY_BYTES, MIN_RING_BYTES, RINGS, RingFile, RingReader, RingWriter, Word, ring_bytes

SMALL = RINGS * MIN_RING_BYTES


@pytest.fixture
def ring(tmp_path: Path) -> RingFile:
    return RingFile.create(tmp_path / "a.ring", SMALL, python=1)


def read(reader: RingReader) -> list[bytes]:
    reader.look()
    return list(reader.take())


def test_another_mapping_of_the_file_reads_what_was_pushed(ring: RingFile) -> None:
    writer, reader = RingWriter(ring), RingReader(RingFile.attach(ring.path))
    records = [bytes([n]) * n for n in range(1, 200)]
    assert all(writer.push(record) for record in records)
    assert sorted(read(reader)) == sorted(records)
    assert read(reader) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20_000), st.booleans(), st.booleans()), max_size=120))
def test_a_full_ring_refuses_and_everything_taken_was_pushed(
    tmp_path: Path, steps: list[tuple[int, bool, bool]]
) -> None:
    path = tmp_path / f"{os.urandom(4).hex()}.ring"
    ring = RingFile.create(path, SMALL, python=1)
    writer, reader = RingWriter(ring), RingReader(RingFile.attach(path))
    pushed: list[bytes] = []
    taken: list[bytes] = []
    for number, (size, drain, commit) in enumerate(steps):
        record = number.to_bytes(4, "big") + b"x" * size
        if writer.push(record):
            pushed.append(record)
        if drain:
            taken += read(reader)
        if commit:
            reader.commit()
    taken += read(reader)
    assert sorted(taken) == sorted(pushed)
    reader.commit()
    assert writer.waiting_bytes() == 0
    assert reader.damaged == 0
    path.unlink()


def test_room_comes_back_with_commit_and_not_before(ring: RingFile) -> None:
    writer, reader = RingWriter(ring), RingReader(ring)
    record = b"x" * 1000
    fitted = 0
    while writer.push(record):
        fitted += 1
    assert fitted >= RINGS * (MIN_RING_BYTES // 1008 - 1)
    assert len(read(reader)) == fitted
    assert not writer.push(record), "a crash of the reader would lose what it has not dealt with"
    reader.commit()
    assert writer.push(record)


def test_what_was_not_committed_is_read_again_by_the_next_reader(ring: RingFile) -> None:
    writer = RingWriter(ring)
    writer.push(b"one")
    first = RingReader(RingFile.attach(ring.path))
    assert read(first) == [b"one"]
    writer.push(b"two")
    assert read(RingReader(RingFile.attach(ring.path))) == [b"one", b"two"]


def test_a_record_larger_than_a_ring_is_refused(ring: RingFile) -> None:
    writer = RingWriter(ring)
    assert not writer.push(b"x" * MIN_RING_BYTES)
    assert writer.push(b"x" * (MIN_RING_BYTES - 8))
    assert [len(record) for record in read(RingReader(ring))] == [MIN_RING_BYTES - 8]


def test_threads_that_push_at_once_lose_nothing(tmp_path: Path) -> None:
    ring = RingFile.create(tmp_path / "b.ring", 8 * 1024 * 1024, python=1)
    writer = RingWriter(ring)
    begin = threading.Barrier(8)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(number: int) -> None:
        begin.wait()
        for turn in range(500):
            assert writer.push(b"%d-%d-" % (number, turn) + b"y" * (turn % 97))

    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    records = read(RingReader(ring))
    assert len({record.rsplit(b"-", 1)[0] for record in records}) == len(records) == 4000


def test_a_push_in_the_midst_of_a_push_takes_another_ring(ring: RingFile, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = RingWriter(ring)
    write: Callable[..., int] = RingWriter._write
    nested = [b"from a signal handler"]

    def interrupted(self: RingWriter, half: _ring._Half, packed: bytes) -> int:
        if nested:
            assert writer.push(nested.pop())
        return write(self, half, packed)

    monkeypatch.setattr(RingWriter, "_write", interrupted)
    assert writer.push(b"outer")
    assert sorted(read(RingReader(ring))) == [b"from a signal handler", b"outer"]


def test_a_killed_writer_leaves_only_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "killed.ring"
    script = f"""
import sys
from pathlib import Path
from tailsight._ring import RingFile, RingWriter
writer = RingWriter(RingFile.create(Path({str(path)!r}), {4 * 1024 * 1024}, python=1))
print(flush=True)
n = 0
while True:
    writer.push(n.to_bytes(8, "big") * (1 + n % 200))
    n += 1
"""
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        reader = RingReader(RingFile.attach(path))
        seen: list[bytes] = []
        rounds = random.randrange(1, 50)
        while len(seen) < rounds * 20:
            seen += read(reader)
            reader.commit()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        seen += read(reader)
        for record in seen:
            number = int.from_bytes(record[:8], "big")
            assert record == number.to_bytes(8, "big") * (1 + number % 200)
        numbers = sorted(int.from_bytes(record[:8], "big") for record in seen)
        assert len(set(numbers)) == len(numbers)
        assert reader.damaged == 0
        path.unlink()


def test_a_damaged_length_costs_its_ring_and_nothing_else(ring: RingFile) -> None:
    writer = RingWriter(ring)
    writer.push(b"good")
    ring.memory[ring.halves()[-1].base : ring.halves()[-1].base + 8] = (2**40).to_bytes(8, sys.byteorder)
    reader = RingReader(ring)
    assert read(reader) == []
    assert reader.damaged == 1
    writer.push(b"after")
    assert read(reader) == [b"after"]


def test_only_ring_files_are_attached(tmp_path: Path) -> None:
    other = tmp_path / "c.ring"
    other.write_bytes(b"\0" * 100_000)
    with pytest.raises(ValueError, match="not a ring file"):
        RingFile.attach(other)
    other.write_bytes(b"short")
    with pytest.raises(ValueError, match="too short"):
        RingFile.attach(other)
    link = tmp_path / "d.ring"
    link.symlink_to(other)
    with pytest.raises(OSError, match="symbolic"):
        RingFile.attach(link)
    with pytest.raises(FileExistsError):
        RingFile.create(other, SMALL, python=1)
    assert other.read_bytes() == b"short"


def test_a_folder_without_room_is_an_error_at_once_and_no_signal_later(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"space|large|Invalid"):
        RingFile.create(tmp_path / "huge.ring", 2**60, python=1)
    assert not (tmp_path / "huge.ring").exists()


def test_the_file_is_for_this_user_only_and_describes_the_service(ring: RingFile) -> None:
    assert ring.path.stat().st_mode & 0o777 == 0o600
    assert ring.description() == {}
    ring.describe({"endpoint": "http://c"})
    assert RingFile.attach(ring.path).description() == {"endpoint": "http://c"}
    ring.describe({"x": "y" * 100_000})
    assert ring.description() == {}, "what does not fit is left out"


def test_no_two_words_share_a_place() -> None:
    tables = (Word.DROPPED, Word.KEPT, Word.SAMPLED_OUT, Word.DROPPED_THERE)
    places = [word for word in Word if word not in tables]
    for table in tables:
        places += range(table, table + _ring.MAX_REASONS)  # type: ignore[arg-type]
    assert len(places) == len(set(places))
    assert max(places) < _ring._FIRST_RING_WORD


@pytest.mark.parametrize(("wanted", "size"), [(0, MIN_RING_BYTES), (16 * 2**20, 2 * 2**20), (17 * 2**20, 2 * 2**20)])
def test_the_rings_fit_into_what_was_allowed(wanted: int, size: int) -> None:
    assert ring_bytes(wanted) == size


def test_an_early_ring_takes_what_fits_and_the_whole_ones_go_on_where_it_ends(tmp_path: Path) -> None:
    ring = RingFile.create(tmp_path / "early.ring", 8 * 1024 * 1024, python=1, early=True)
    assert ring.path.stat().st_blocks * 512 < 256 * 1024
    early = RingWriter(ring, early=True)
    record = b"x" * 1000
    taken = 0
    while early.push(record):
        taken += 1
    assert 60 <= taken <= EARLY_BYTES // 1000
    ring.reserve()
    assert ring.path.stat().st_blocks * 512 >= 8 * 1024 * 1024
    whole = RingWriter(ring, beside=True)
    assert whole.push(b"beside")
    whole.succeed(early)
    assert early.push(b"") == 0, "it takes no more"
    for number in range(RINGS):  # the last one used is used again: the room of one must be gone first
        assert whole.push(b"%d" % number)
    while whole.push(record):
        taken += 1
    assert taken > 7 * 1024
    assert Counter(read(RingReader(RingFile.attach(ring.path)))) == {
        record: taken,
        b"beside": 1,
        **{b"%d" % number: 1 for number in range(RINGS)},
    }


def test_an_early_push_that_was_cut_short_keeps_its_ring_from_being_written(ring: RingFile) -> None:
    early = RingWriter(ring, early=True)
    assert early.push(b"one")
    early._free.pop()  # as a push that a signal handler ended
    whole = RingWriter(ring, beside=True)
    whole.succeed(early)
    assert len(whole._free) == RINGS - 1
    assert whole.push(b"two")
    assert sorted(read(RingReader(RingFile.attach(ring.path)))) == [b"one", b"two"]
