"""A composite action's bash steps, run as GitHub's runner runs them: expressions replaced, `bash -eo pipefail`, an environment."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


def run_step(
    action: Mapping[str, Any], name: str, *, inputs: Mapping[str, str], github: Mapping[str, str], temp: Path, folder: Path,
    path: str | None = None,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run the step of this name. `github` are the contexts that it asks for, like `github.token`."""
    (step,) = [step for step in action["runs"]["steps"] if step["name"] == name]
    known = {**github, **{f"inputs.{key}": value for key, value in inputs.items()}}

    def evaluated(text: str) -> str:
        return _EXPRESSION.sub(lambda found: known[found[1]], text)

    given = {key: evaluated(value) for key, value in step.get("env", {}).items()}
    script = temp / "step.sh"
    script.write_text(evaluated(step["run"]))
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
        check=False, capture_output=True, text=True, timeout=60, cwd=folder,
        env={
            **os.environ, **given, "RUNNER_TEMP": str(temp), "GITHUB_WORKSPACE": str(folder),
            "PATH": path or os.environ["PATH"],
        },
    )  # fmt: skip
