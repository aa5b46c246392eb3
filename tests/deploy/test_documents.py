"""What operations, collector, recording and gate documents say is so: commands, options, messages, metrics, links."""

import re
from pathlib import Path

import click
import pytest
import yaml
from deploy.words import (
    DEPLOY,
    ROOT,
    commands_in,
    files_of_deploy,
    options_of,
    parsed,
    variables_in,
    variables_of_the_code,
)

from tailsight_collector.receive.limits import HttpLimits
from tailsight_collector.settings import DEFAULT_DATA, DEFAULT_MAX_REQUEST_BYTES, DEFAULT_SEGMENT_BYTES
from tailsight_collector.watch.metrics import TABLE

OPERATIONS = ROOT / "docs" / "operations.md"
DOCUMENTS = [
    OPERATIONS,
    ROOT / "docs" / "collector.md",
    ROOT / "docs" / "record.md",
    ROOT / "docs" / "gate.md",
    ROOT / "docs" / "profiles.md",
    ROOT / "docs" / "sources.md",
    ROOT / "docs" / "export.md",
    DEPLOY / "README.md",
    ROOT / "README.md",
]
TEXT = OPERATIONS.read_text()
ALERTS = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus-rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
# What of an example is the reader's to put in, and files that click would look for.
_COMMANDS_THAT_NEED_MORE = (["import"], ["record"], ["store", "quarantine"], ["token"], ["store"])
_NO_COMMANDS = (["gate", "-->"],)  # the mark of a comment in HTML


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[1:]]


def metrics_in(expression: str) -> set[str]:
    """The metrics that an expression asks for, by the names of the table."""
    return {re.sub(r"_(total|bucket)$", "", name) for name in re.findall(r"\btailsight_\w+", expression)}


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_command_in_it_can_be_run_as_it_stands(document, tmp_path, monkeypatch):
    for folder in ("base", "candidate"):  # the worktrees of examples
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "candidate")
    left_out = (*_COMMANDS_THAT_NEED_MORE, *_NO_COMMANDS)
    found = [command for command in commands_in(document.read_text()) if command not in left_out]
    assert found
    for command in found:
        try:
            parsed(command)
        except click.ClickException as error:
            pytest.fail(f"tailsight {' '.join(command)}: {error.format_message()}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_link_in_it_leads_somewhere(document):
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (document.parent / path).resolve() if path else document
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), flags=re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, target


@pytest.mark.parametrize("document", DOCUMENTS[:-1], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_variable_in_it_is_read_by_somebody(document):
    own = {"TAILSIGHT_READER_PASSWORD"}  # of compose.yaml
    assert variables_in(document.read_text()) - own <= variables_of_the_code()


def test_the_settings_are_all_options_of_the_collector_with_their_defaults():
    table = {quoted(row[0])[0]: row for row in rows("Settings")}
    options = {option.opts[0]: option for option in options_of("collector")}
    assert list(table) == list(dict.fromkeys(table)), "none twice"
    assert set(table) == set(options) - {"--help"}
    for name, option in options.items():
        _, variable, default, _ = table[name]
        if name == "--store":  # it is not read by click: one that names this collector's own port is its readers'
            assert (variable, default) == ("`TAILSIGHT_STORE`", "embedded")
            continue
        assert quoted(variable) == ([option.envvar] if option.envvar else [])
        if name == "--data":
            assert quoted(default) == [f"./{DEFAULT_DATA}"]
        elif option.is_flag:
            assert default == "off"
        else:
            written = option.to_info_dict()["default"]
            assert quoted(default) == (
                [f"{written:g}" if isinstance(written, float) else str(written)] if written else []
            )


def test_the_limits_that_it_names_are_those_of_the_code():
    limits = HttpLimits()
    assert f"message size ({DEFAULT_MAX_REQUEST_BYTES >> 20} MiB)" in TEXT
    assert f"segment size ({DEFAULT_SEGMENT_BYTES >> 20} MiB)" in TEXT
    assert f"headers over {limits.header_bytes >> 10} KiB or {limits.headers} of them" in TEXT
    assert f"or over {limits.longest_body_s:g} s" in TEXT


def test_every_message_of_the_log_is_one_that_the_code_says():
    sources = [
        path.read_text() for folder in ("collector", "storage") for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    # texts that go over several lines are joined, and what is put in becomes one sign
    said = "\n".join(re.sub(r'"\s*\n\s*f?"', "", source) for source in sources)
    said = re.sub(r"%[sd]|\{[^{}]*\}", "…", said)
    table = rows("What the log says")
    assert len(table) > 15
    for row in table:
        for message in quoted(row[0]):
            assert message in said, message


def test_the_alerts_are_in_the_table_and_ask_for_metrics_that_there_are():
    names = {metric.name for metric in TABLE}
    for rule in ALERTS:
        assert metrics_in(rule["expr"]) <= names, rule["alert"]
    documented = {quoted(row[0])[0]: row[1] for row in rows("Alerts")}
    assert list(documented) == [rule["alert"] for rule in ALERTS]
    for rule in ALERTS:
        assert metrics_in(documented[rule["alert"]]) == metrics_in(rule["expr"]), rule["alert"]


def test_the_labels_that_the_alerts_name_are_those_of_the_metrics():
    for rule in ALERTS:
        asked = [metric for metric in TABLE if metric.name in metrics_in(rule["expr"])]
        labels = {"instance", "job", "le"}.union(*(metric.labels for metric in asked))
        named = {
            name.strip() for names in re.findall(r"\b(?:by|on) \(([^)]*)\)", rule["expr"]) for name in names.split(",")
        }
        named |= set(re.findall(r"(\w+)=~?\"", rule["expr"])) | set(
            re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])
        )
        assert named <= labels, rule["alert"]


def test_each_file_of_deploy_is_spoken_of():
    text = (DEPLOY / "README.md").read_text()
    files = {path.relative_to(DEPLOY).as_posix() for path in files_of_deploy()}
    unspoken = {name for name in files - {"README.md"} if Path(name).name not in text}
    assert not unspoken
