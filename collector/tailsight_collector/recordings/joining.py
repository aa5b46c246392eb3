"""Joining recordings to spans, in a thread: each once the spans of its time have come, or are long overdue.

How they are joined is the plan's, which comes from outside: the collector knows no statistics.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tailsight_collector.errors import BadRequestError, CollectorError
from tailsight_collector.query.sql_readers import reader_limits
from tailsight_collector.receive.kept_documents import KeptDocuments, Kind
from tailsight_collector.recordings.folder import RecordingFolder, Waiting
from tailsight_collector.recordings.sent import MAX_RECORDING_BYTES, About, Sent, read_sent
from tailsight_storage import ChdbDsn, StorageError, Store

log = logging.getLogger(__name__)

PATH = "/tailsight/recordings"
FOLDER = "recordings"
LOOK_S, LATER_LOOK_S = 1.0, 10.0
SOON_S = 30.0
STILL_S = 5.0
"""So long nothing came, and nothing more is expected."""
GIVE_UP_S = 600.0
MAX_QUESTION_S = 60
REST_FACTOR = 4.0
"""It rests so many times as long as a recording took of a processor: all together take a fifth of one at most."""
_END_PATIENCE_S = 5.0
_KILL_AGAIN_S = 0.3
_KILL = "KILL QUERY WHERE Settings['log_comment'] = {tag:String} ASYNC"
_NICE = 10


class CannotJoinError(CollectorError):
    """A recording cannot be joined, now or later."""


@dataclass(frozen=True, slots=True)
class RecordingPlan:
    """How recordings are joined.

    `arrived` counts a process' spans in the recording's time, and tells whether later ones came. `join` joins and
    stores, and says in a line what came of it. Both raise StorageError; `join` raises CannotJoinError too.
    """

    arrived: Callable[[Store, About], tuple[int, bool]]
    join: Callable[[Store, Sent], str]


@dataclass(slots=True)
class _Watched:
    """What is remembered of a recording between two looks, in monotonic seconds."""

    about: About
    next_look_s: float
    spans: int = -1
    still_since_s: float = field(default_factory=time.monotonic)


class Recordings:
    """Takes recordings at a route and joins them. Make it once the store is open; `close` it before the store."""

    def __init__(self, plan: RecordingPlan, store: Store, data: Path) -> None:
        """`store` is asked for connections; `data` is the folder of the collector. Raises OSError and StorageError."""
        self._plan = plan
        self._folder = RecordingFolder(data / FOLDER)
        self._is_embedded = isinstance(store.dsn, ChdbDsn)
        self._tag = f"tailsight-recordings-{secrets.token_hex(8)}"
        limits = {"max_execution_time": MAX_QUESTION_S, "max_threads": 1, "log_comment": self._tag}
        self._store = store.another(**({**reader_limits(), **limits} if self._is_embedded else {}))
        self._owner = store.another()
        self.documents = KeptDocuments(
            Kind(PATH, "recording", MAX_RECORDING_BYTES, "", lambda _, sent: self._keep(sent)), store.another()
        )
        self._watched: dict[str, _Watched] = {}
        self._ends, self._wakes = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="tailsight-recordings", daemon=True)
        self._thread.start()

    def close(self) -> bool:
        """End the thread and its query; what waits is joined after the next start. False where a query runs on."""
        self._ends.set()
        self._wakes.set()
        deadline_s = time.monotonic() + _END_PATIENCE_S
        self._thread.join(_KILL_AGAIN_S)
        while self._thread.is_alive():
            if time.monotonic() > deadline_s:
                return not self._is_embedded
            try:
                self._owner.run(_KILL, tag=self._tag)
            except StorageError:
                log.debug("the query of a recording is not ended yet")
            self._thread.join(_KILL_AGAIN_S)
        self._owner.close()
        self._store.close()
        return True

    def _keep(self, sent: bytes) -> tuple[str, bool]:
        kept = self._folder.keep(sent)
        self._wakes.set()
        return kept

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        _give_way()
        while not self._ends.is_set():
            self._wakes.clear()
            waiting = self._folder.waiting()
            for each in waiting:
                if self._ends.is_set():
                    return
                try:
                    self._look(each)
                except (StorageError, OSError) as error:
                    log.info("a recording waits: %s", error)
                    if watched := self._watched.get(each.id):
                        watched.next_look_s = time.monotonic() + LATER_LOOK_S
                except Exception:
                    log.exception("an unexpected error in joining a recording, which is left out")
                    self._done(each)
            self._wakes.wait(LOOK_S if waiting else None)

    def _look(self, waiting: Waiting) -> None:
        """Join a recording if its spans are there."""
        now_s = time.monotonic()
        watched = self._watched.get(waiting.id)
        if watched is None:
            watched = _Watched(read_sent(waiting.path.read_bytes()).about, now_s)
            self._watched[waiting.id] = watched
        if now_s < watched.next_look_s:
            return
        age_s = time.time() - waiting.since_s
        watched.next_look_s = now_s + (LOOK_S if age_s < SOON_S else LATER_LOOK_S)
        about = watched.about
        spans, later = self._plan.arrived(self._store, about)
        if spans != watched.spans:
            watched.spans, watched.still_since_s = spans, now_s
        if not spans and age_s < GIVE_UP_S:
            return
        if spans and not later and now_s - watched.still_since_s < STILL_S:
            return
        whose = f"process {about.process} of {about.service} on {about.host}"
        try:
            began_s = time.thread_time()
            said = self._joined(waiting, spans)
            took_s = time.thread_time() - began_s
            log.info("a recording of %s is joined: %s", whose, said)
            self._ends.wait(REST_FACTOR * took_s)
        except (CannotJoinError, BadRequestError) as error:
            log.warning("a recording of %s is left out: %s", whose, error)
        self._done(waiting)

    def _joined(self, waiting: Waiting, spans: int) -> str:
        if not spans:
            raise CannotJoinError(f"in {GIVE_UP_S / 60:g} minutes no span came of the time in which it was taken")
        return self._plan.join(self._store, read_sent(waiting.path.read_bytes()))

    def _done(self, waiting: Waiting) -> None:
        self._folder.done(waiting)
        self._watched.pop(waiting.id, None)


def _give_way() -> None:
    """Let those who load and answer go first, where the system can tell threads apart."""
    if sys.platform == "linux":
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        except OSError:
            log.debug("the thread that joins recordings stays as important as others")
