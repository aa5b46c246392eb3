"""The commit that a command ran of."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tailsight_cli.recording.header import Git

_TIMEOUT_S = 10.0
# Where a CI system says the branch: what it has checked out is on none.
_BRANCH_ENVS = ("GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME")


def describe_git(folder: Path) -> Git | None:
    """Describe the commit that a folder has checked out; None where there is none, or no git to ask."""
    commit = _said(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    if not commit:
        return None
    branch = _said(folder, "branch", "--show-current")
    if not branch:
        branch = next((os.environ[name] for name in _BRANCH_ENVS if os.environ.get(name)), "")
    return Git(commit, branch, bool(_said(folder, "status", "--porcelain", "--untracked-files=no")))


def _said(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *arguments]
    try:
        answer = subprocess.run(  # noqa: S603  fixed arguments
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.decode(errors="replace").strip() if answer.returncode == 0 else ""
