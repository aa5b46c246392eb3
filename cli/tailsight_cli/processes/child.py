"""A child process: its lines become events, its last words are kept, and it never outlives its parent."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

STOP_PATIENCE_S = 10.0
"""Seconds between SIGTERM and SIGKILL: enough to finish requests and to flush spans to a collector that is away."""

READER_PATIENCE_S = 5.0
"""Seconds for what a child wrote to arrive after its end; a grandchild may hold its pipes open."""

_LAST_WORDS = 20


class ProcessError(Exception):
    """A child process could not start, or broke down. Its text is one line for the user.

    `exit_code` is the child's own, where it ended by itself; None where it did not.
    """

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Event:
    """A line that a child wrote, or its end."""

    child: "Child"
    facts: dict[str, Any] | None  # None: stdout ended, and with it the child


class Child:
    """A Python module that runs as a process of its own, and takes --until-stdin-closes."""

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        events: "queue.Queue[Event]",
        *,
        on_words: Callable[[str], None] | None = None,
        stop_patience_s: float = STOP_PATIENCE_S,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it. `on_words` gets each line of its stderr; `environment` replaces this process's own."""
        self.name = name
        self._on_words = on_words
        self._stop_patience_s = stop_patience_s
        self._events = events
        self._stderr: deque[str] = deque(maxlen=_LAST_WORDS)
        self._process = subprocess.Popen(  # noqa: S603  our own module
            [sys.executable, "-m", module, *arguments, "--until-stdin-closes"],
            stdin=subprocess.PIPE,  # never written to: it closes when this process dies, and the child notices
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**(os.environ if environment is None else environment), "PYTHONUNBUFFERED": "1"},
            text=True,
            errors="replace",  # one odd byte must not end the reading
            # Ctrl-C in the terminal is the parent's to handle: the client must stop before the service does.
            start_new_session=True,
        )
        assert self._process.stdout is not None  # noqa: S101  for mypy: they are pipes
        assert self._process.stderr is not None  # noqa: S101
        self._readers = [
            threading.Thread(target=self._read_facts, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_words, args=(self._process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self._process.poll() is not None

    def ask_to_stop(self) -> None:
        """Send SIGTERM, if it still runs, and return at once."""
        if self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> None:
        """Ask it to end, and see that it does. A second time does nothing."""
        self.ask_to_stop()
        self._reap()

    def outcome(self) -> int:
        """Return the exit status of a child whose stdout has ended. Negative: the signal that ended it."""
        self._reap()
        return self._process.returncode

    def last_words(self) -> str:
        """Return the last line that it wrote to stderr."""
        if self.has_ended:  # what it wrote last may be on its way
            self._readers[1].join(READER_PATIENCE_S)
        return next((line for line in reversed(tuple(self._stderr)) if line), "it said nothing on stderr")

    def _reap(self) -> None:
        try:
            self._process.wait(self._stop_patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join(READER_PATIENCE_S)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _read_facts(self, stdout: IO[str]) -> None:
        for line in stdout:
            try:
                facts = json.loads(line)
            except ValueError:
                continue  # something else in the process printed: not for us
            if isinstance(facts, dict):
                self._events.put(Event(self, facts))
        self._events.put(Event(self, None))

    def _read_words(self, stderr: IO[str]) -> None:
        for line in stderr:
            self._stderr.append(line.strip())
            if self._on_words is not None:
                try:
                    self._on_words(line.rstrip())
                except OSError:  # nobody reads ours any more; the child must not block on its own
                    self._on_words = None
