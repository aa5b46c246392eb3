"""The systemd units as text, and by systemd's own check where it is installed."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from deploy.words import DEPLOY, parsed

from tailsight_collector.server import DRAIN_TIMEOUT_S

COLLECTOR, DASHBOARD = "tailsight-collector.service", "tailsight-dashboard.service"
DROP_IN = "tailsight-collector-network.conf"


def directives(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / name).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("name", [COLLECTOR, DASHBOARD, DROP_IN])
def test_a_unit_starts_a_command_that_exists(name):
    program, *arguments = shlex.split(directives(name)["ExecStart"][-1])
    assert program == "/opt/tailsight/bin/tailsight"
    context = parsed(arguments)
    assert context.info_name == name.split("-")[1].partition(".")[0]
    if name != DASHBOARD:
        assert str(context.params["data"]) == "/var/lib/tailsight"


def test_the_data_folder_is_the_units_own():
    unit = directives(COLLECTOR)
    assert unit["StateDirectory"] == ["tailsight"]
    assert unit["StateDirectoryMode"] == ["0700"]


def test_a_collector_has_time_to_load_what_it_acknowledged():
    assert float(directives(COLLECTOR)["TimeoutStopSec"][0]) > DRAIN_TIMEOUT_S + 5


def test_an_option_that_cannot_be_used_is_not_tried_again():
    for name in (COLLECTOR, DASHBOARD):
        assert directives(name)["Restart"] == ["on-failure"]
        assert directives(name)["RestartPreventExitStatus"] == ["2"]


@pytest.mark.parametrize("name", [COLLECTOR, DASHBOARD])
def test_a_unit_may_do_little(name):
    unit = directives(name)
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["NoNewPrivileges"] == unit["PrivateTmp"] == unit["ProtectHome"] == ["yes"]
    assert unit["CapabilityBoundingSet"] == [""]
    assert unit["SystemCallFilter"] == ["@system-service", "~@privileged"]
    assert "DynamicUser" in unit or "User" in unit


def test_the_collector_is_not_kept_from_what_the_engine_needs():
    unit = directives(COLLECTOR)
    assert "MemoryDenyWriteExecute" not in unit, "chDB compiles, and ends at its start with CANNOT_MPROTECT"
    assert "ProcSubset" not in unit, "/proc/sys/kernel/random/boot_id tells of power cuts"
    assert unit["PrivateTmp"] == ["yes"], "chDB makes a folder in /tmp at its start"


def test_tokens_are_read_where_they_change_and_keys_from_credentials():
    unit = directives(DROP_IN)
    credentials = {value.partition(":")[0] for value in unit["LoadCredential"]}
    environment = dict(word.partition("=")[::2] for value in unit["Environment"] for word in value.split())
    used = {value.removeprefix("%d/") for value in environment.values() if value.startswith("%d/")}
    assert used == credentials
    assert environment["TAILSIGHT_TOKENS"] == "/etc/tailsight/tokens.txt"
    context = parsed(shlex.split(unit["ExecStart"][-1])[1:])
    named = {option.envvar for option in context.command.params}
    assert set(environment) <= named


def test_systemd_itself_finds_no_fault(tmp_path):
    analyze = shutil.which("systemd-analyze")
    system = Path("/usr/lib/systemd/system")
    if analyze is None or not system.is_dir():
        pytest.skip("systemd is not installed")
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    shutil.copytree(system, tmp_path / "usr/lib/systemd/system", symlinks=True)
    program = tmp_path / "opt/tailsight/bin/tailsight"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in (COLLECTOR, DASHBOARD):
        shutil.copy(DEPLOY / name, units)
    (units / f"{COLLECTOR}.d").mkdir()
    shutil.copy(DEPLOY / DROP_IN, units / f"{COLLECTOR}.d" / "network.conf")
    result = subprocess.run(
        [analyze, "verify", f"--root={tmp_path}", COLLECTOR, DASHBOARD],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = [line for line in result.stderr.splitlines() if "tailsight" in line]
    assert said == []
    assert result.returncode == 0


def test_the_user_of_the_units_is_made_by_the_sysusers_file():
    made = re.findall(r"^u (\S+) ", (DEPLOY / "tailsight.sysusers").read_text(), flags=re.MULTILINE)
    assert made == directives(COLLECTOR)["User"] == directives(COLLECTOR)["Group"]
