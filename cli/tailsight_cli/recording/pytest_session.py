"""In the process that pytest was started in: a recording for the whole session, and the run file at its end."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

import tailsight
from tailsight_cli.recording.environment import environment
from tailsight_cli.recording.folders import Folder, private_folder, recording_folder
from tailsight_cli.recording.git import describe_git
from tailsight_cli.recording.header import Run
from tailsight_cli.recording.order import SINGLE
from tailsight_cli.recording.packing import pack
from tailsight_cli.recording.pytest_bodies import FLUSH_S, Bodies
from tailsight_cli.recording.recorder import header_of
from tailsight_cli.recording.run_file import as_text, run_name, write_run_file
from tailsight_cli.recording.settling import settle

SOURCE = "pytest"
_WRITTEN_AFTER = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


class Session(Bodies):
    """The hooks of that process; it runs the tests itself, or has xdist's workers do it, which inherit what it sets."""

    def __init__(self, out: Path, run: str | None) -> None:
        self._out = out.absolute()
        self._run = as_text(run) if run else run_name(out)
        self._cleanup = ExitStack()
        self._folder: Folder = self._cleanup.enter_context(recording_folder())
        self._load_1m = os.getloadavg()[0]
        self._start_ns = time.time_ns()
        self._said = ""
        self._exitstatus: int = pytest.ExitCode.INTERRUPTED
        self._pid = os.getpid()
        super().__init__(self._folder.path)
        variables = environment(self._folder, self._run)
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        self._cleanup.callback(_restore, before)
        atexit.register(self._close)  # for a session that never began

    def pytest_sessionstart(self) -> None:
        """Remove what an earlier session left: it must not be taken for this one's."""
        try:
            self._out.unlink(missing_ok=True)
        except OSError as error:
            raise pytest.UsageError(f"{self._out} cannot be removed: {error.strerror}") from None

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Have this process's sidecar say its last word, so that it is known what is missing."""
        self._exitstatus = exitstatus
        tailsight.shutdown(FLUSH_S)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
    ) -> None:
        """Write the file, once all workers have ended, and say so."""
        if self._is_ours():
            terminalreporter.write_sep("-", "tailsight")
            terminalreporter.write_line(self._write(exitstatus, config))

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Write the file where there was no summary to do it in, and give everything back."""
        try:
            if self._is_ours() and not self._said and config.pluginmanager.get_plugin("terminalreporter") is None:
                self._write(self._exitstatus, config)
        finally:
            self._close()

    def _is_ours(self) -> bool:
        """Whether this process is the session's, and no child that a test forked, which came back to pytest."""
        return os.getpid() == self._pid

    def _close(self) -> None:
        if self._is_ours():
            self._cleanup.close()

    def _write(self, exitstatus: int, config: pytest.Config) -> str:
        try:
            self._said = self._written(exitstatus, config)
        except Exception as error:
            self._said = f"{self._out.name} could not be written: {type(error).__name__}: {error}"
        return self._said

    def _written(self, exitstatus: int, config: pytest.Config) -> str:
        if exitstatus not in _WRITTEN_AFTER:
            return f"{self._out.name} is not written: the session did not come to its end"
        unread_rings = settle(self._folder)
        with private_folder() as parts:
            packed = pack(self._folder, self._run, parts / "0.zst")
            if not packed.spans:
                return f"{self._out.name} is not written: no test ran that is marked with @pytest.mark.tailsight"
            run = Run(
                self._run, self._start_ns, time.time_ns(), int(exitstatus), packed.spans, packed.requests,
                self._load_1m, replace(packed.lost, unread_rings=unread_rings),
            )  # fmt: skip
            header = header_of(
                self._run,
                [(run, packed)],
                source=SOURCE,
                command=_command(config),
                order=SINGLE,
                git=describe_git(config.rootpath),
                created=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            )
            write_run_file(self._out, header, [packed.path])
        tests = len(packed.tests or ())
        lost = sum(packed.lost.spans.values())
        what = f"{tests} marked tests, {packed.requests:,} requests, {packed.spans:,} spans"
        return f"wrote {self._out.name}: {what}{f', {lost:,} spans were dropped' if lost else ''}"


def _command(config: pytest.Config) -> Sequence[str]:
    return ("pytest", *map(str, config.invocation_params.args))


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
