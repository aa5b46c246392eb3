"""The courier: what is sent, what waits, and when it is tried again. The spool is the real one."""

from pathlib import Path

import pytest

from tailsight._answer import Answer, Unreachable
from tailsight._batches import NORMAL, Batch
from tailsight._courier import Courier
from tailsight._delivery import MAX_RETRY_AFTER_S, Delivery, RetryPolicy
from tailsight._spool import Spool
from tailsight._stats import Counters

OK = Answer(status="200", accepted=True)


def batch(number: int, spans: int = 2) -> Batch:
    return Batch(number, NORMAL, spans, b"batch %d" % number)


class Scripted:
    """A collector that does what it was told to, then says OK."""

    url = "http://scripted"

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)
        self.got: list[bytes] = []

    def post(self, body: bytes, *, timeout_s: float | None = None) -> Answer:
        answer = self.answers.pop(0) if self.answers else OK
        if isinstance(answer, Exception):
            raise answer
        self.got.append(body)
        return answer

    def close(self) -> None: ...


class Clock:
    def __init__(self) -> None:
        self.now = 0.0


def courier(
    tmp_path: Path, collector: Scripted, clock: Clock, *, max_s: float = 30, limit_bytes: int = 1000
) -> tuple[Courier, Counters]:
    counters = Counters()
    spool = Spool(
        tmp_path / "spool",
        "me",
        collector.url,
        limit_bytes=limit_bytes,
        memory_bytes=1000,
        lowest_value_first=False,
        now=lambda: clock.now,
    )
    policy = RetryPolicy(1, max_s, 300)
    made = Courier(
        collector, policy, counters, spool, timeout_s=10, now=lambda: clock.now, jitter=lambda: 0.0
    )  # fmt: skip
    return made, counters


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_could_not_be_sent_comes_first_and_in_order(tmp_path: Path, clock: Clock) -> None:
    collector = Scripted(Unreachable("away"), Unreachable("away"))
    sends, counters = courier(tmp_path, collector, clock)
    for number in (1, 2, 3):
        sends.deliver(batch(number))
    assert not sends.settled
    for _ in range(5):
        clock.now += 10
        sends.retry()
    assert collector.got == [b"batch 1", b"batch 2", b"batch 3"]
    assert sends.settled
    assert (counters.sent, counters.dropped) == (6, {})


def test_an_error_of_the_client_keeps_the_batch(tmp_path: Path, clock: Clock) -> None:
    collector = Scripted(ValueError("a defect"))
    sends, counters = courier(tmp_path, collector, clock)
    sends.deliver(batch(1))
    assert sends.away
    clock.now += 10
    sends.retry()
    assert collector.got == [b"batch 1"]
    assert (counters.sent, counters.failures) == (2, 1)


@pytest.mark.parametrize(
    ("said_s", "max_s", "waited_s"),
    [(99_999_999.0, 30, MAX_RETRY_AFTER_S), (99_999_999.0, 4000, 4000), (200.0, 30, 200), (0.0, 30, 0.5)],
)
def test_a_collector_is_not_believed_that_it_is_away_for_years(
    tmp_path: Path, clock: Clock, said_s: float, max_s: float, waited_s: float
) -> None:
    away = Answer(status="503", accepted=False, retryable=True, retry_after_s=said_s)
    sends, _ = courier(tmp_path, Scripted(away), clock, max_s=max_s)
    sends.deliver(batch(1))
    assert sends.next_attempt_at == waited_s

    waits: list[float] = []

    class Patience:
        def now(self) -> float:
            return 0.0

        def deadline(self) -> None:
            return None

        def wait(self, seconds: float, *, also_at_exit: bool) -> bool:
            waits.append(seconds)
            return True

    policy = RetryPolicy(1, max_s, 10_000)
    assert Delivery(Scripted(away), policy, Counters(), Patience(), jitter=lambda: 0.0).deliver(b"", 1)
    assert waits == [waited_s]


def test_batches_whose_files_vanished_are_counted(tmp_path: Path, clock: Clock) -> None:
    collector = Scripted(Unreachable("away"))
    sends, counters = courier(tmp_path, collector, clock)
    for number, spans in ((1, 3), (2, 5), (3, 7)):
        sends.deliver(batch(number, spans))
    files = sorted((tmp_path / "spool" / "me").glob("*.otlp"))
    files[0].unlink()
    files[1].write_bytes(b"")
    clock.now += 100
    sends.retry()
    assert collector.got == [b"batch 3"]
    assert counters.dropped == {"spool_full": 8}
    assert counters.sent == 7
    assert sends.settled


def test_what_has_to_make_room_is_counted(tmp_path: Path, clock: Clock) -> None:
    collector = Scripted(*[Unreachable("away")] * 10)
    sends, counters = courier(tmp_path, collector, clock, limit_bytes=16)
    for number in (1, 2, 3, 4):
        sends.deliver(batch(number))
    assert len(sends.spool) == 2
    assert counters.dropped == {"spool_full": 4}


def test_what_was_taken_over_and_had_to_make_room_is_counted(tmp_path: Path, clock: Clock) -> None:
    dead, _ = courier(tmp_path, Scripted(*[Unreachable("away")] * 10), clock)
    for number in (1, 2, 3, 4):
        dead.deliver(batch(number))
    assert dead.spool.close() == 0
    (tmp_path / "spool" / "me").rename(tmp_path / "spool" / "dead")
    sends, counters = courier(tmp_path, Scripted(Unreachable("away")), clock, limit_bytes=16)
    sends.spool.take_over()
    assert counters.dropped == {"spool_full": 4}
