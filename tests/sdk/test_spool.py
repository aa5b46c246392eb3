"""The spool: what is on disk stays there, whatever the disk and the folder's other guests do."""

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tailsight import _spool
from tailsight._batches import HIGH, NORMAL
from tailsight._destination import destination_mark, same_destination
from tailsight._spool import DISK_AGAIN_S, EXPIRE_AFTER_S, MAX_BATCH_BYTES, Spool

URL = "http://collector/v1/traces"


class Disk:
    """Takes so many further files, then fails as a full one does, halfway through a file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.takes = 10**9
        self.error = errno.ENOSPC
        self._write = _spool.write_file
        monkeypatch.setattr(_spool, "write_file", self.write)

    def write(self, path: Path, content: bytes, *, durable: bool = False) -> None:
        if self.takes <= 0:
            path.write_bytes(content[: len(content) // 2])
            raise OSError(self.error, os.strerror(self.error))
        self.takes -= 1
        self._write(path, content, durable=durable)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def make(root: Path, now: list[float]) -> Iterator[Any]:
    made: list[Spool] = []

    def spool(name: str = "me", url: str = URL, **options: Any) -> Spool:
        known: dict[str, Any] = {
            "limit_bytes": 1000,
            "memory_bytes": 300,
            "lowest_value_first": False,
            "now": lambda: now[0],
        }
        made.append(Spool(root, name, url, **(known | options)))
        return made[-1]

    yield spool
    for each in made:
        each.close()


def put(spool: Spool, *numbers: int, size: int = 100, priority: str = NORMAL) -> list[int]:
    """Put batches, and return the numbers of the ones that are gone."""
    return [
        gone.number
        for number in numbers
        for gone in spool.put(number, priority, 10, b"%03d" % number + b"x" * (size - 3))
    ]


def drain(spool: Spool) -> list[int]:
    found = []
    while (next_one := spool.oldest()) is not None:
        waiting, body = next_one
        assert int(body[:3]) == waiting.number
        found.append(waiting.number)
        spool.remove(waiting)
    return found


def left(make: Any, name: str, *numbers: int, **options: Any) -> None:
    """Leave batches behind, as a sender does that ends."""
    size = options.pop("size", 100)
    spool = make(name, **options)
    put(spool, *numbers, size=size)
    assert spool.close() == 0


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


# --- a disk that fails ------------------------------------------------------------------------------------------------


def test_a_full_disk_costs_nothing_that_is_on_it(make: Any, disk: Disk, root: Path, now: list[float]) -> None:
    spool = make()
    disk.takes = 6  # one of them says where the batches go
    assert put(spool, *range(1, 6)) == []
    assert spool.disk_bytes == 500
    assert put(spool, 6, 7, 8) == [], "memory takes 300 bytes meanwhile"
    assert (spool.disk_bytes, spool.memory_bytes, spool.bytes, spool.spans) == (500, 300, 800, 80)
    assert put(spool, 9) == [6], "the oldest in memory makes room, not what is safe on disk"
    assert not (root / "me" / "next").exists(), "half a file only takes room"
    assert drain(spool) == [1, 2, 3, 4, 5, 7, 8, 9]
    assert (spool.disk_bytes, spool.memory_bytes, spool.spans) == (0, 0, 0)


def test_the_disk_is_tried_again_and_then_takes_what_waited_in_memory(
    make: Any, disk: Disk, root: Path, now: list[float]
) -> None:
    spool = make()
    disk.takes = 2
    put(spool, 1, 2, 3)
    disk.takes = 100
    put(spool, 4)
    assert spool.memory_bytes == 300, "not at once: each failure may have taken long"
    now[0] += DISK_AGAIN_S
    assert put(spool, 5) == []
    assert (spool.disk_bytes, spool.memory_bytes) == (500, 0)
    assert len([name for name in files(root) if name.endswith(".otlp")]) == 5
    assert drain(spool) == [1, 2, 3, 4, 5]


def test_the_end_is_a_last_occasion_to_write(make: Any, disk: Disk, root: Path) -> None:
    spool = make()
    disk.takes = 2
    put(spool, 1, 2, 3)
    disk.takes = 100
    assert spool.close() == 0
    successor = make("successor")
    assert successor.take_over() == 3
    assert drain(successor) == [1, 2, 3]
    assert files(root) == []


def test_what_the_disk_never_took_is_lost_with_the_process(make: Any, disk: Disk) -> None:
    spool = make()
    disk.takes = 2
    put(spool, 1, 2, 3)
    assert spool.close() == 20


def test_a_full_disk_takes_a_batch_in_place_of_the_oldest_where_the_limit_is_reached(make: Any, disk: Disk) -> None:
    spool = make(limit_bytes=300)
    put(spool, 1, 2, 3)
    disk.takes = 0
    real = spool.remove

    def makes_room(waiting: Any) -> None:
        disk.takes += 1
        real(waiting)

    spool.remove = makes_room
    assert put(spool, 4) == [1]
    assert (spool.disk_bytes, spool.memory_bytes) == (300, 0)


def test_a_disk_that_fails_at_the_limit_keeps_what_it_has(make: Any, disk: Disk) -> None:
    spool = make(limit_bytes=300)
    put(spool, 1, 2, 3)
    disk.takes, disk.error = 0, errno.EIO
    assert put(spool, 4) == []
    assert drain(spool) == [1, 2, 3, 4]


def test_a_folder_that_cannot_be_made_is_no_error(make: Any, root: Path) -> None:
    root.write_text("a file")
    spool = make()
    assert put(spool, 1, 2, 3, 4) == [1]
    assert spool.take_over() == 0
    assert drain(spool) == [2, 3, 4]


# --- the limit --------------------------------------------------------------------------------------------------------


def test_a_batch_over_the_limit_drops_itself_alone(make: Any) -> None:
    spool = make()
    put(spool, 1, 2)
    assert put(spool, 3, size=1001) == [3]
    assert drain(spool) == [1, 2]


def test_the_lowest_value_goes_first(make: Any) -> None:
    spool = make(limit_bytes=300, lowest_value_first=True)
    put(spool, 1, priority=HIGH)
    put(spool, 2)
    put(spool, 3, priority=HIGH)
    assert put(spool, 4, priority=HIGH) == [2]
    assert put(spool, 5) == [5], "nothing of less value is there"
    assert put(spool, 6, priority=HIGH) == [1]


def test_all_senders_that_ended_share_one_limit(make: Any, root: Path) -> None:
    lost: list[int] = []
    for number in range(8):
        left(make, f"dead{number}", 1, 2, 3)
        os.utime(root / f"dead{number}" / "endpoint", (number, number))
    spool = make("zz")
    spool.on_lost = lost.append
    put(spool, 1, 2)
    spool.take_over()
    assert spool.disk_bytes <= 1000
    assert sum(path.stat().st_size for path in root.rglob("*.otlp")) == spool.disk_bytes
    assert spool.spans + sum(lost) == (8 * 3 + 2) * 10
    assert {waiting.folder.name for waiting in spool._waiting} == {"dead5", "dead6", "dead7", "zz"}, "the oldest went"
    assert drain(spool) == [2, 3, 1, 2, 3, 1, 2, 3, 1, 2], "one's own comes last"


def test_what_was_taken_over_makes_room_for_ones_own(make: Any) -> None:
    left(make, "dead", 11, 12, 13)
    spool = make(limit_bytes=400)
    assert spool.take_over() == 3
    assert put(spool, 1, 2) == [11]


def test_without_a_disk_nothing_is_written_or_taken_over(make: Any, root: Path) -> None:
    left(make, "dead", 1)
    before = files(root)
    spool = make(limit_bytes=0)
    assert put(spool, 2, 3, 4, 5) == [2]
    assert spool.take_over() == 0
    assert files(root) == before


# --- whose it is, and where it goes -----------------------------------------------------------------------------------


def test_another_tenants_batches_are_not_taken_over(make: Any) -> None:
    left(make, "dead", 1, headers={"authorization": "Bearer one"})
    assert make("b", headers={"authorization": "Bearer two"}).take_over() == 0
    assert make("c").take_over() == 0
    assert make("d", url=URL + "2", headers={"authorization": "Bearer one"}).take_over() == 0
    assert make("e", headers={"authorization": "Bearer one"}).take_over() == 1


def test_the_mark_of_a_destination_holds_no_secret_and_is_another_each_time() -> None:
    headers = {"authorization": "s3cret", "x-tenant": "one"}
    mark = destination_mark(URL, headers)
    assert "s3cret" not in mark
    assert mark != destination_mark(URL, headers)
    assert same_destination(mark, URL, dict(reversed(headers.items())))
    assert same_destination(destination_mark(URL, {}), URL, {})
    for other in ({}, {"authorization": "s3cret"}, headers | {"x-tenant": "two"}):
        assert not same_destination(mark, URL, other)
        assert not same_destination(destination_mark(URL, other), URL, headers)
    for odd in ("", URL, f"{URL}\n", f"{URL}\nzz {'0' * 64}", f"{URL}\nzz"):
        assert not same_destination(odd, URL, headers)
        assert not same_destination(odd, URL, {})


def foreign(path: Path) -> None:
    os.chown(path, 65534, 65534, follow_symlinks=False)


as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")


@as_root
@pytest.mark.parametrize("which", ["root", "folder", "endpoint", "batch"])
def test_what_belongs_to_somebody_else_is_left_alone(make: Any, root: Path, which: str) -> None:
    left(make, "dead", 1)
    batch = next((root / "dead").glob("*.otlp"))
    foreign({"root": root, "folder": root / "dead", "endpoint": root / "dead" / "endpoint", "batch": batch}[which])
    spool = make()
    assert spool.take_over() == 0
    assert spool.oldest() is None


@pytest.mark.parametrize("which", ["root", "folder"])
def test_what_others_can_write_is_left_alone(make: Any, root: Path, which: str) -> None:
    left(make, "dead", 1)
    (root if which == "root" else root / "dead").chmod(0o777)
    assert make().take_over() == 0


def test_a_folder_behind_a_link_is_left_alone(make: Any, root: Path, tmp_path: Path) -> None:
    left(make, "dead", 1)
    (root / "dead").rename(tmp_path / "elsewhere")
    (root / "dead").symlink_to(tmp_path / "elsewhere")
    assert make().take_over() == 0


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["endpoint", "lock", "000000000002-2-normal.otlp"])
@pytest.mark.parametrize("kind", ["fifo", "link", "folder", "large"])
def test_what_is_no_file_of_ours_is_passed_over_and_nobody_waits(
    make: Any, root: Path, tmp_path: Path, name: str, kind: str
) -> None:
    left(make, "dead", 1)
    odd = root / "dead" / name
    original = odd.read_bytes() if odd.exists() else b"secret"
    odd.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(odd)
    elif kind == "folder":
        odd.mkdir()
    elif kind == "large":
        odd.write_bytes(original)
        os.truncate(odd, MAX_BATCH_BYTES + 1)
    else:
        (tmp_path / "target").write_bytes(original)
        odd.symlink_to(tmp_path / "target")
    spool = make()
    taken = 1 if name.endswith(".otlp") or (name == "lock" and kind == "large") else 0
    assert spool.take_over() == taken
    assert drain(spool) == [1] * taken
    if kind == "link":
        assert (tmp_path / "target").read_bytes() == original
    left(make, "also dead", 7)
    assert spool.take_over() == 1, "the others are found all the same"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["fifo", "link", "folder", "large", "gone"])
def test_a_batch_that_became_something_else_is_lost_and_counted(
    make: Any, root: Path, tmp_path: Path, kind: str
) -> None:
    lost: list[int] = []
    spool = make()
    spool.on_lost = lost.append
    put(spool, 1, 2)
    first = min((root / "me").glob("*.otlp"))
    first.rename(tmp_path / "target")
    if kind == "fifo":
        os.mkfifo(first)
    elif kind == "folder":
        first.mkdir()
    elif kind == "large":
        first.touch()
        os.truncate(first, MAX_BATCH_BYTES + 1)
    elif kind == "link":
        first.symlink_to(tmp_path / "target")
    assert drain(spool) == [2]
    assert lost == [10]
    assert (spool.bytes, spool.spans) == (0, 0)


def test_too_many_open_files_are_no_reason_to_lose_a_batch(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = make()
    put(spool, 1)

    def fail(path: Path, *, at_most_bytes: int) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(_spool, "read_own", fail)
        assert spool.oldest() is None
    assert drain(spool) == [1]


def test_a_living_sender_keeps_its_folder(make: Any, root: Path) -> None:
    alive = make("alive")
    put(alive, 1)
    spool = make()
    assert spool.take_over() == 0
    old = time.time() - 2 * EXPIRE_AFTER_S
    for path in (root / "alive").iterdir():
        os.utime(path, (old, old))
    assert make("c", url="http://other").take_over() == 0
    assert drain(alive) == [1]


def test_a_folder_that_goes_away_meanwhile_is_no_error(make: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left(make, "dead", 1)
    real = _spool.same_destination

    def and_then_it_is_gone(*args: Any) -> bool:
        for path in (root / "dead").iterdir():
            path.unlink()
        (root / "dead").rmdir()
        return real(*args)

    monkeypatch.setattr(_spool, "same_destination", and_then_it_is_gone)
    spool = make()
    assert spool.take_over() == 0
    assert spool._locks == {}


def test_a_lock_that_its_owner_removed_meanwhile_is_none(
    make: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left(make, "dead", 1)

    def and_another_one_lies_there(fd: int, how: int) -> None:
        (root / "dead" / "lock").unlink()
        (root / "dead" / "lock").touch()

    spool = make()
    with monkeypatch.context() as patched:
        patched.setattr(_spool.fcntl, "flock", and_another_one_lies_there)
        assert spool.take_over() == 0
    assert spool._locks == {}
    assert spool.take_over() == 1


def test_more_folders_than_may_be_open_are_bounded_all_the_same(
    make: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_spool, "_MAX_FOLDERS", 5)
    for number in range(12):
        left(make, f"dead{number:02d}", 1, 2, 3)
    spool = make()
    spool.take_over()
    assert sum(path.stat().st_size for path in root.rglob("*.otlp")) == spool.disk_bytes <= 1000
    for number in range(3):
        left(make, f"small{number:02d}", 1, size=10)
    assert len(spool._locks) <= 5


# --- what nobody claims -----------------------------------------------------------------------------------------------


def test_what_nobody_claims_for_a_week_is_removed(make: Any, root: Path) -> None:
    for name, days in (("old", 8), ("young", 6), ("mixed", 8)):
        left(make, name, 1, 2, url="http://nobody")
        when = time.time() - days * 86_400
        for path in (root / name).iterdir():
            os.utime(path, (when, when))
    os.utime(next((root / "mixed").glob("*.otlp")))
    (root / "unknown").mkdir()
    os.utime(root / "unknown", (1, 1))
    (root / "a file").write_text("")
    make().take_over()
    assert sorted(path.name for path in root.iterdir()) == ["a file", "mixed", "young"]


def test_what_can_still_be_sent_is_sent_however_old_it_is(make: Any, root: Path) -> None:
    left(make, "dead", 1)
    for path in (root / "dead").iterdir():
        os.utime(path, (1, 1))
    spool = make()
    assert spool.take_over() == 1
    assert drain(spool) == [1]
