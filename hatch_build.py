"""Compile the native parts, where there is a C compiler: the SDK's hot path and the store's decoder of OTLP.

Where there is none, the package is pure Python. TAILSIGHT_BUILD_NATIVE=1 makes a failure an error, 0 skips it. After a
change in sdk/native or storage/native: `python hatch_build.py`.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent


@dataclass(frozen=True)
class NativeModule:
    """A folder of C files, and the module that is made of it."""

    name: str
    sources: Path
    package: Path

    @property
    def file_name(self) -> str:
        """What this Python imports under that name."""
        return self.name + (sysconfig.get_config_var("EXT_SUFFIX") or ".so")

    @property
    def build_tag(self) -> str:
        """What the compiled module says that it was made from. Its Python side takes no other."""
        texts = [path.read_bytes() for path in sorted(self.sources.glob("*.[ch]"))]
        return hashlib.sha256(b"".join(texts)).hexdigest()[:12]

    def compile_into(self, folder: Path, *options: str) -> Path:
        """Compile with the compiler that made this Python, or CC. Raises OSError or CalledProcessError."""
        if sys.platform not in ("linux", "darwin") or sys.implementation.name != "cpython":
            raise OSError(f"not for {sys.implementation.name} on {sys.platform}")
        compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
        shared = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
        folders = dict.fromkeys([sysconfig.get_path("include"), sysconfig.get_path("platinclude")])
        target = folder / self.file_name
        # not in place: a running process may have the old one mapped
        unfinished = target.with_name(f"{target.name}.{os.getpid()}.new")
        command = [
            *compiler,
            *shared,
            *("-fPIC", "-O3", "-fwrapv", "-fvisibility=hidden", "-Wall", "-Wextra"),
            f"-DTAILSIGHT_BUILD={self.build_tag}",
            *(f"-I{folder}" for folder in folders),
            *options,
            *map(str, sorted(self.sources.glob("*.c"))),
            "-o",
            str(unfinished),
        ]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  the user's own compiler
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
        return target


MODULES = (
    NativeModule("_native", ROOT / "sdk/native", ROOT / "sdk/tailsight"),
    NativeModule("_otlp", ROOT / "storage/native", ROOT / "storage/tailsight_storage"),
)


class NativeHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's own parameter, of no use here
    """Puts the compiled modules into a wheel, or beside the sources of an editable installation."""

    PLUGIN_NAME = "custom"

    _folder: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, before the wheel is put together."""
        wanted = os.environ.get("TAILSIGHT_BUILD_NATIVE")
        if wanted == "0":
            return
        try:
            if version == "editable":
                for module in MODULES:
                    module.compile_into(module.package)
                return
            self._folder = tempfile.mkdtemp()
            built = {module.compile_into(Path(self._folder)): module.package.name for module in MODULES}
        except (OSError, subprocess.CalledProcessError) as error:
            reason = why(error)
            if wanted == "1":
                raise RuntimeError(f"tailsight: the native parts could not be compiled: {reason}") from error
            self.app.display_warning(
                f"tailsight: the native parts could not be compiled, pure Python is used instead: {reason}"
            )
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"].update({str(path): f"{package}/{path.name}" for path, package in built.items()})

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
    for each in MODULES:
        print(each.compile_into(each.package), each.build_tag)  # noqa: T201  that is what it is asked for
