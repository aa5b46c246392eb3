"""One call of `tailsight profile`: rounds of recording, each joined and kept; one, or one whenever the tail rises."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tailsight_analysis import NotEnoughDataError, QuestionError, Window
from tailsight_analysis.profiles import UnreadableProfileError
from tailsight_cli._errors import NOT_ENOUGH_DATA, UNREADABLE, CommandError
from tailsight_cli.profiling.keeping import ProfilePlace
from tailsight_cli.profiling.putting_together import PutTogether, put_together
from tailsight_cli.profiling.recording import Recorded, record_round
from tailsight_cli.profiling.spy import SpyOptions
from tailsight_cli.profiling.tail_watch import tail_now
from tailsight_cli.profiling.target import LATELY_S, Target, named_in_spans, target_of_pid, targets_of_service
from tailsight_storage import Store, StoreUnavailableError

PATIENCE_S = 30.0
LOOK_EVERY_S = 5.0
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What each recording is to be like. `raw`: a folder that py-spy's own files are copied to."""

    duration_s: float
    options: SpyOptions
    gil: bool
    quantile: float
    raw: Path | None


@dataclass(frozen=True, slots=True)
class Watch:
    """When recordings start: so often, so far apart, for so long in all; by the tail, above `factor` times usual."""

    factor: float
    rounds: int
    pause_s: float
    watch_s: float


class Session:
    """Rounds of recording. `kept` has what they gave, by id; `failure` why the last one gave nothing."""

    def __init__(
        self, store: Store, place: ProfilePlace, asked: Asked, pid: int | None, service: str, say: Say
    ) -> None:
        self._store, self._place, self._asked, self._say = store, place, asked, say
        self._pid, self._service = pid, service
        self._targets: list[Target] = []
        self.kept: list[tuple[str, PutTogether]] = []
        self.failure = ""

    def find(self) -> None:
        """Find the processes; raises CommandError where there are none."""
        if self._pid is not None:
            self._targets = [target_of_pid(self._pid)]
        else:
            self._targets = targets_of_service(self._store, self._service)

    def record(self, trigger: str) -> bool:
        """Record one round, join it and keep it; tells whether Ctrl-C ended it.

        Raises CommandError, AnalysisError or StorageError where nothing came of it.
        """
        who = ", ".join(str(target.pid) for target in self._targets)
        self._say(f"Recording process {who} for {self._asked.duration_s:g} s")
        try:
            folder = Path(tempfile.mkdtemp(prefix="tailsight-profile-"))
        except OSError as error:
            raise CommandError(
                f"no folder for the recording can be made: {error.strerror}; name one with TMPDIR"
            ) from error
        try:
            recorded, was_interrupted, failures = record_round(
                self._targets, folder, self._asked.duration_s, self._asked.options, gil=self._asked.gil
            )
            for failure in failures:
                self._say(str(failure))
            self._keep_raw(recorded)
            self._keep(recorded, trigger)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return was_interrupted

    def record_tails(self, watch: Watch) -> None:
        """Record whenever the tail is exceeded. A round that fails is said, and the watch goes on; Ctrl-C ends it."""
        service = self._service or self._service_of_pid()
        until_s, next_s, left = time.monotonic() + watch.watch_s, 0.0, watch.rounds
        self._say(f"Watching the p99 of {service}")
        try:
            while left and time.monotonic() < until_s:
                if time.monotonic() >= next_s and self._is_exceeded(service, watch.factor):
                    next_s = time.monotonic() + watch.pause_s
                    left -= 1
                    if self._try_to_record("tail"):
                        return
                elif left:
                    time.sleep(min(LOOK_EVERY_S, max(0.0, until_s - time.monotonic())))
        except KeyboardInterrupt:
            if not self.kept:
                raise

    def record_schedule(self, watch: Watch) -> None:
        """Record again and again. A round that fails is said, and the next one comes; Ctrl-C ends it."""
        until_s = time.monotonic() + watch.watch_s
        try:
            for left in range(watch.rounds - 1, -1, -1):
                next_s = time.monotonic() + watch.pause_s
                if self._try_to_record("schedule") or not left or next_s >= until_s:
                    return
                self._say(f"Waiting for the next recording, {left} to come")
                time.sleep(max(0.0, next_s - time.monotonic()))
        except KeyboardInterrupt:
            if not self.kept:
                raise

    def _is_exceeded(self, service: str, factor: float) -> bool:
        try:
            now = tail_now(self._store, service)
        except StoreUnavailableError as error:  # it may be back before the watch is over
            self._say(str(error))
            return False
        if now.exceeds(factor):
            self._say(f"The p99 is {now.recent_ms:.1f} ms, usually {now.usual_ms:.1f} ms")
            return True
        return False

    def _try_to_record(self, trigger: str) -> bool:
        try:
            self.find()  # a service may have started anew
            return self.record(trigger)
        except (CommandError, NotEnoughDataError, StoreUnavailableError) as error:
            self.failure = str(error)
            self._say(self.failure)
            return False

    def _service_of_pid(self) -> str:
        named = named_in_spans(self._store, self._targets[0], Window.last(LATELY_S))
        if not named.service:
            raise CommandError(
                f"--on-tail: process {self._pid} sent no spans to this store in the last {LATELY_S // 60} minutes, so "
                "it has no tail to watch",
                NOT_ENOUGH_DATA,
            )
        return named.service

    def _keep_raw(self, recorded: list[Recorded]) -> None:
        """Copy py-spy's files; where that fails, the recording is kept all the same."""
        if self._asked.raw is None:
            return
        for each in recorded:
            path = self._asked.raw / f"{each.target.pid}-{each.file.spawn_ns}.chrometrace.json"
            try:
                shutil.copyfile(each.file.path, path)
            except OSError as error:
                path.unlink(missing_ok=True)
                self._say(f"--raw {self._asked.raw}: {path.name} cannot be written: {error.strerror}")

    def _keep(self, recorded: list[Recorded], trigger: str) -> None:
        """Join and send each; one that cannot be joined is an error only where none can."""
        failed: Exception | None = None
        before = len(self.kept)
        for each in recorded:
            self._say(f"Joining the samples of process {each.target.pid} to its spans")
            try:
                together = put_together(
                    self._store,
                    each,
                    self._asked.options,
                    trigger,
                    quantile=self._asked.quantile,
                    patience_s=PATIENCE_S,
                )
            except (NotEnoughDataError, QuestionError) as error:
                failed = error
            except UnreadableProfileError as error:
                failed = CommandError(f"py-spy's file of process {each.target.pid}: {error}", UNREADABLE)
            else:
                self.kept.append((self._place.keep(together.plain), together))
                continue
            self._say(str(failed))
        if failed and len(self.kept) == before:
            raise failed
