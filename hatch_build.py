"""Compile the SDK's native hot path, where there is a C compiler. Where there is none, the package is pure Python.

TAILSIGHT_BUILD_NATIVE=1 makes a failure an error, 0 skips it. After a change in sdk/native: `python hatch_build.py`.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
SOURCES = ROOT / "sdk/native"
PACKAGE = ROOT / "sdk/tailsight"


def file_name() -> str:
    """Return what this Python imports as `_native`."""
    return "_native" + (sysconfig.get_config_var("EXT_SUFFIX") or ".so")


def build_tag() -> str:
    """Return what the compiled module says that it was made from. _accelerator.py takes no other."""
    texts = [path.read_bytes() for path in sorted(SOURCES.glob("*.[ch]"))]
    return hashlib.sha256(b"".join(texts)).hexdigest()[:12]


def compile_into(folder: Path, *options: str) -> Path:
    """Compile sdk/native with the compiler that made this Python, or CC. Raises OSError or CalledProcessError."""
    if sys.platform not in ("linux", "darwin") or sys.implementation.name != "cpython":
        raise OSError(f"not for {sys.implementation.name} on {sys.platform}")
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    shared = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
    folders = dict.fromkeys([sysconfig.get_path("include"), sysconfig.get_path("platinclude")])
    target = folder / file_name()
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.new")  # a running process may have the old one mapped
    command = [
        *compiler,
        *shared,
        *("-fPIC", "-O3", "-fwrapv", "-fvisibility=hidden", "-Wall", "-Wextra"),
        f"-DTAILSIGHT_BUILD={build_tag()}",
        *(f"-I{folder}" for folder in folders),
        *options,
        *map(str, sorted(SOURCES.glob("*.c"))),
        "-o",
        str(unfinished),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  the user's own compiler
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target


class NativeHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's own parameter, of no use here
    """Puts the compiled module into a wheel, or beside the sources of an editable installation."""

    PLUGIN_NAME = "custom"

    _folder: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, before the wheel is put together."""
        wanted = os.environ.get("TAILSIGHT_BUILD_NATIVE")
        if wanted == "0":
            return
        try:
            if version == "editable":
                compile_into(PACKAGE)
                return
            self._folder = tempfile.mkdtemp()
            built = compile_into(Path(self._folder))
        except (OSError, subprocess.CalledProcessError) as error:
            reason = why(error)
            if wanted == "1":
                raise RuntimeError(f"tailsight: the native hot path could not be compiled: {reason}") from error
            self.app.display_warning(
                f"tailsight: the native hot path could not be compiled, the pure Python one is used: {reason}"
            )
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"][str(built)] = f"tailsight/{built.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Clean up, when the wheel is done."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def why(error: OSError | subprocess.CalledProcessError) -> str:
    """Return one line: the first error of the compiler's, or how it ended."""
    if not isinstance(error, subprocess.CalledProcessError):
        return str(error)
    errors = [line for line in error.stderr.splitlines() if "error" in line]
    return errors[0] if errors else f"{error.cmd[0]} ended with {error.returncode}"


if __name__ == "__main__":
    print(compile_into(PACKAGE))  # noqa: T201  that is what it is asked for
