"""The wheel as the Dockerfile builds it: what is not in it is not in the image either."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from deploy.words import ROOT, sources_of_the_wheel

PACKAGES = ("storage/tailsight_storage", "collector/tailsight_collector", "analysis/tailsight_analysis")
DATA = (".sql", ".proto", ".type")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build it as the first stage of the Dockerfile does, of no more than it copies, with this environment's hatchling."""
    context, folder = tmp_path_factory.mktemp("context"), tmp_path_factory.mktemp("wheel")
    for source in sources_of_the_wheel():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, context / source, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(ROOT / source, context)
    result = subprocess.run(
        [
            sys.executable,
            *["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"],
            folder,
            context,
        ],
        env={**os.environ, "TAILSIGHT_BUILD_NATIVE": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if result.returncode and not os.environ.get("TAILSIGHT_TEST_REQUIRE_NATIVE"):
        pytest.skip(f"it cannot be compiled here: {result.stderr.strip().splitlines()[-1]}")
    assert result.returncode == 0, result.stderr
    [built] = folder.glob("*.whl")
    return built


def test_the_wheel_holds_both_compiled_modules_once(wheel):
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    compiled = sorted(name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so"))
    assert compiled == [f"tailsight/_native{suffix}", f"tailsight_storage/_otlp{suffix}"]
    assert "none-any" not in wheel.name


def test_the_wheel_holds_every_statement_schema_and_type(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to((ROOT / package).parent))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in DATA
    }
    assert len(wanted) > 20
    assert wanted <= names


def test_the_wheel_holds_every_module_and_no_tests(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    folders = [*PACKAGES, "sdk/tailsight", "dashboard/tailsight_dashboard", "cli/tailsight_cli"]
    wanted = {
        str(path.relative_to((ROOT / folder).parent)) for folder in folders for path in (ROOT / folder).rglob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == wanted
    assert {f"{Path(folder).name}/py.typed" for folder in folders} <= names


def test_the_wheels_modules_are_the_ones_that_its_python_takes(wheel, tmp_path):
    """A module of other sources than those beside it would be refused, and pure Python used without a word."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = "from tailsight_storage import decoder; print(decoder.__file__); print(decoder.why_not or 'taken')"
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TAILSIGHT_NATIVE": "1", "PYTHONPATH": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    path, taken = result.stdout.splitlines()
    assert Path(path).is_relative_to(tmp_path)
    assert taken == "taken"
