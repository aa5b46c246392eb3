"""The pytest plugin: `--tailsight-record FILE` keeps the spans of tests marked with `@pytest.mark.tailsight`.

pytest loads this module wherever tailsight is installed, so it imports nothing but pytest before it is asked for.
Without the option, and outside `tailsight record`, it adds the option and the marker and no more.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

OPTION = "--tailsight-record"
MARKER = "tailsight"
_RECORDING_ENV = "TAILSIGHT_RECORDING"  # environment.py's; importing that would import the SDK
_WORKER_ENV = "PYTEST_XDIST_WORKER"
_NEEDED = ("zstandard", "google.protobuf", "opentelemetry.proto")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    group = parser.getgroup("tailsight", "latency of marked tests")
    group.addoption(
        OPTION, metavar="FILE", default=None,
        help="keep the spans of tests marked with @pytest.mark.tailsight in this run file, NAME.otlp.zst",
    )  # fmt: skip
    group.addoption("--tailsight-run", metavar="NAME", default=None, help="the run's name; by default the file's")


def pytest_configure(config: pytest.Config) -> None:
    """Register our marker."""
    config.addinivalue_line(
        "markers", f"{MARKER}(rounds=1): record this test with {OPTION}, its body so many times, each as a request"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Begin before anything of the user's is imported: what configures the SDK there must find our environment."""
    asked = early_config.known_args_namespace
    wanted: str | None = getattr(asked, "tailsight_record", None)
    recorded_into = os.environ.get(_RECORDING_ENV)
    is_worker = _WORKER_ENV in os.environ
    if wanted and recorded_into and not is_worker:
        raise pytest.UsageError(
            f"{OPTION} inside `tailsight record`: use one of them; this session is recorded already"
        )
    if getattr(asked, "collectonly", False):
        return
    if wanted and not is_worker:
        _check(Path(wanted))
        from tailsight_cli.recording.pytest_session import Session

        try:
            session = Session(Path(wanted), getattr(asked, "tailsight_run", None))
        except OSError as error:
            raise pytest.UsageError(f"{OPTION}: no temporary folder can be made: {error}") from None
        early_config.pluginmanager.register(session, "tailsight-session")
    elif recorded_into and Path(recorded_into).is_dir():
        from tailsight_cli.recording.pytest_bodies import Bodies

        early_config.pluginmanager.register(Bodies(Path(recorded_into)), "tailsight-bodies")


def _check(out: Path) -> None:
    for module in _NEEDED:
        if not _is_there(module):
            raise pytest.UsageError(f"{OPTION} needs {module}: pip install 'tailsight[collector]'")
    if not out.name.endswith(".otlp.zst"):
        raise pytest.UsageError(f"{OPTION} {out} must end with .otlp.zst")
    if out.is_dir():
        raise pytest.UsageError(f"{OPTION} {out} is a folder")
    if not out.absolute().parent.is_dir():
        raise pytest.UsageError(f"{OPTION} {out}: there is no folder {out.absolute().parent}")


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its package is not there
        return False
