"""The pytest plugin in sessions of their own, as pytest finds it: by its entry point."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

INI = "[pytest]\naddopts = --strict-markers -p no:cacheprovider\nfilterwarnings = error\n"


def session(folder: Path, *options: str, test: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder."""
    (folder / "pytest.ini").write_text(INI)
    if test is not None:
        (folder / "test_it.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", *options]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "TAILSIGHT_"))}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
