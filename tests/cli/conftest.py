"""`tailsight record` as tests call it."""

from collections.abc import Callable

import pytest

from tailsight_cli import main


@pytest.fixture
def record(capfd, tmp_path, monkeypatch) -> Callable[..., tuple[int, str, str]]:
    """Run it in this process, in a folder of its own; gives exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main.run(["record", *arguments])
        return code, *capfd.readouterr()

    return call
