"""The Dockerfile and compose.yaml as text: no container engine is needed, and none was at hand."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from deploy.words import (
    DEPLOY,
    ROOT,
    files_of_deploy,
    parsed,
    sources_of_the_wheel,
    variables_in,
    variables_of_the_code,
)

from tailsight_collector.settings import DEFAULT_GRPC_PORT, DEFAULT_HTTP_PORT, DEFAULT_SQL_PORT
from tailsight_dashboard.launch import DEFAULT_PORT as DASHBOARD_PORT
from tailsight_storage import ServerDsn, parse_dsn

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = ("collector-a", "collector-b", "dashboard")


def stages() -> dict[str, list[str]]:
    """The instructions of each stage, a line each."""
    found: dict[str, list[str]] = {}
    for line in re.sub(r"\s*\\\n\s*", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)).splitlines():
        if match := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            found[match[2]] = current = [f"FROM {match[1]}"]
        elif line:
            current.append(line)
    return found


def said(stage: str, instruction: str) -> list[str]:
    """What an instruction says in a stage, and in those that it is made of."""
    lines = stages()[stage]
    base = lines[0].removeprefix("FROM ")
    above = said(base, instruction) if base in stages() else []
    return above + [line.partition(" ")[2] for line in lines if line.split()[0] == instruction]


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    result = subprocess.run([hadolint, DEPLOY / "Dockerfile"], check=False, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("stage", ["collector", "dashboard"])
def test_an_image_runs_as_nobody_in_particular_by_commands_that_exist(stage):
    assert said(stage, "USER")[-1] == "10001:10001"
    assert json.loads(said(stage, "ENTRYPOINT")[-1]) == ["tailsight"], "exec form, so that SIGTERM reaches it"
    arguments = json.loads(said(stage, "CMD")[-1])
    assert parsed(arguments).info_name == stage
    assert said(stage, "HEALTHCHECK")
    assert not said(stage, "ADD")


def test_the_last_stage_is_the_collector():
    assert list(stages())[-1] == "collector"


def test_only_the_build_has_a_compiler_and_every_base_is_pinned():
    assert "gcc" in DOCKERFILE
    for name, lines in stages().items():
        assert any("gcc" in line for line in lines) == (name == "wheel")
        base = lines[0].removeprefix("FROM ")
        assert base in stages() or re.fullmatch(r"python:3\.1[1-3]-slim-bookworm", base)


def test_what_is_copied_is_there_and_is_all_that_the_wheel_is_made_of():
    sources = sources_of_the_wheel()
    assert all((ROOT / source).exists() for source in sources)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {package.split("/")[0] for package in wheel["packages"]}
    needed |= {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    needed.add(wheel["hooks"]["custom"]["path"])
    assert set(sources) == needed
    taken = {
        line.removeprefix("!")
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert taken == needed, "what the context leaves out cannot be copied"
    for stage in ("collector", "dashboard"):
        assert f"[{stage}]" in said(f"install-{stage}", "RUN")[0]
        assert stage in project["project"]["optional-dependencies"]


def test_an_image_exposes_the_ports_that_its_command_listens_on():
    ports = {DEFAULT_GRPC_PORT, DEFAULT_HTTP_PORT, DEFAULT_SQL_PORT}
    assert {int(port) for port in said("collector", "EXPOSE")[0].split()} == ports
    assert said("dashboard", "EXPOSE") == [str(DASHBOARD_PORT)]


def health_check(stage: str, url: str) -> int:
    """Run an image's check, asking another address."""
    command = json.loads(said(stage, "HEALTHCHECK")[-1].partition("CMD ")[2])
    asked = re.search(r"http://[^']+", command[2])
    assert asked
    command[2] = command[2].replace(asked[0], f"{url}{urlsplit(asked[0]).path}")
    return subprocess.run([sys.executable, *command[1:]], check=False, capture_output=True, timeout=30).returncode


def test_the_health_check_tells_a_collector_that_runs_from_none(collector):
    assert f"http://127.0.0.1:{DEFAULT_HTTP_PORT}/healthz" in said("collector", "HEALTHCHECK")[-1]
    assert health_check("collector", collector.otlp_url) == 0
    assert health_check("collector", "http://127.0.0.1:9") != 0


def test_the_health_check_of_the_dashboard_asks_its_port():
    assert f"http://127.0.0.1:{DASHBOARD_PORT}/_stcore/health" in said("dashboard", "HEALTHCHECK")[-1]


def test_compose_is_what_the_specification_allows():
    compose_spec = pytest.importorskip("compose_spec", reason="compose-spec is not installed")
    parsed_by_others = compose_spec.PyCompose.from_json(json.dumps(COMPOSE))
    parsed_by_others.validate()
    assert set(parsed_by_others.service_names()) == {"clickhouse", *OURS}


@pytest.mark.parametrize("name", OURS)
def test_a_service_starts_a_stage_of_the_dockerfile_with_a_command_that_exists(name):
    service = SERVICES[name]
    build = service["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()
    assert build["target"] in stages()
    assert parsed(service["command"]).info_name == build["target"]
    assert service["read_only"]
    assert service["tmpfs"] == ["/tmp"], "without a /tmp that can be written nothing starts"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", ["clickhouse", *OURS])
def test_a_service_is_limited_and_comes_back(name):
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()


def test_what_is_published_is_this_machines_own_and_has_a_listener():
    listeners = {DEFAULT_GRPC_PORT, DEFAULT_HTTP_PORT, DASHBOARD_PORT}
    published = [port.split(":") for service in SERVICES.values() for port in service.get("ports", [])]
    assert {address for address, _, _ in published} == {"127.0.0.1"}
    assert {int(inside) for _, _, inside in published} == listeners
    outside = [int(port) for _, port, _ in published]
    assert len(outside) == len(set(outside))
    assert "ports" not in SERVICES["clickhouse"]


def test_services_wait_for_what_they_need_to_be_healthy():
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            has_check = "healthcheck" in SERVICES[needed] or bool(
                said(SERVICES[needed]["build"]["target"], "HEALTHCHECK")
            )
            assert has_check, f"{name} waits for {needed}, which nobody looks at"


def test_each_collector_has_a_journal_of_its_own():
    data = said("collector", "ENV")[-1].partition("TAILSIGHT_DATA=")[2]
    assert data in said("collector", "VOLUME")
    mounted = [
        volume.partition(":")[0]
        for name in ("collector-a", "collector-b")
        for volume in SERVICES[name]["volumes"]
        if volume.endswith(f":{data}")
    ]
    assert len(set(mounted)) == 2
    assert set(mounted) < set(COMPOSE["volumes"])


def test_what_is_mounted_is_in_the_folder_and_the_tokens_are_found_there():
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, target = volume.split(":")[:2]
            if not source.startswith("./"):
                assert source in COMPOSE["volumes"]
            elif source == "./tokens":  # whoever installs it makes that
                assert "mkdir tokens" in (DEPLOY / "compose.yaml").read_text()
                assert service["environment"]["TAILSIGHT_TOKENS"].startswith(f"{target}/")
            else:
                assert (DEPLOY / source).is_file()


def test_no_password_stands_in_the_file_and_those_that_it_takes_are_in_the_example():
    text = (DEPLOY / "compose.yaml").read_text()
    asked = set(re.findall(r"\$\{(\w+):\?", text))
    assert asked == set(re.findall(r"\$\{(\w+)", text)), "an unset one is an error, not an empty password"
    assert asked == set(re.findall(r"^(\w+)=$", (DEPLOY / "env.example").read_text(), flags=re.MULTILINE))
    for name in OURS:
        dsn = parse_dsn(SERVICES[name]["environment"]["TAILSIGHT_STORE"].replace(":?copy env.example to .env", ""))
        assert isinstance(dsn, ServerDsn)
        assert dsn.password.startswith("${")
        assert dsn.host in SERVICES
        assert (dsn.port, dsn.database) == (8123, "tailsight")


def test_the_users_of_the_store_exist_on_the_server():
    environment = SERVICES["clickhouse"]["environment"]
    users = ET.parse(DEPLOY / "clickhouse/users.d/tailsight-reader.xml").getroot().find("users")
    assert users is not None
    [reader] = users
    password = reader.find("password")
    assert password is not None
    assert password.get("from_env") in environment
    named = {parse_dsn(SERVICES[name]["environment"]["TAILSIGHT_STORE"].replace("?", "")).user for name in OURS}
    assert named == {environment["CLICKHOUSE_USER"], reader.tag}


def test_the_servers_settings_exist_and_are_those_of_the_decision(engine):
    [settings] = ET.parse(DEPLOY / "clickhouse/config.d/tailsight.xml").getroot()
    assert settings.tag == "merge_tree"
    wanted = {setting.tag: setting.text for setting in settings}
    known = {name for (name,) in engine.rows("SELECT name FROM system.merge_tree_settings")}
    assert set(wanted) <= known
    decision = (ROOT / "docs/decisions/0011-a-checkpoint-is-a-list-of-parts.md").read_text()
    assert all(f"`{name}" in decision for name in wanted)
    assert set(wanted.values()) == {"1"}


def test_the_servers_release_is_that_of_the_embedded_engine(engine):
    [(version,)] = engine.rows("SELECT version()")
    tag = SERVICES["clickhouse"]["image"].partition(":")[2]
    assert str(version).startswith(f"{tag}."), "what the tests ran with"


def test_every_variable_of_ours_is_read_by_somebody():
    named = {variable for path in files_of_deploy() for variable in variables_in(path.read_text())}
    assert named - variables_of_the_code() == {"TAILSIGHT_READER_PASSWORD"}, "that one is for ClickHouse"
