"""deploy/ci/ and docs/gate.md: the commands in them can be run, and what they name is there."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import yaml
from deploy.actions import run_step
from deploy.words import DEPLOY, ROOT, commands_in, options_of, parsed

from tailsight_cli.gating.config import read_config
from tailsight_cli.render.gate_markdown import MARK

ACTION = DEPLOY / "ci" / "github" / "action.yml"
TEMPLATE = DEPLOY / "ci" / "gitlab" / "tailsight-gate.yml"
SELF_GATE = DEPLOY / "ci" / "self_gate.sh"
DOCUMENT = ROOT / "docs" / "gate.md"
_CONDITION = re.compile(r"\$\{\{(.*?)\}\}")
_END = ("&&", "||", "|", ";", "if", "then")


def action() -> dict[str, dict]:
    return yaml.safe_load(ACTION.read_text())


def template() -> dict[str, dict]:
    return yaml.safe_load(TEMPLATE.read_text())[".tailsight-gate"]


def scripts(path: Path) -> list[str]:
    """The shell scripts of a file, one a step."""
    if path == ACTION:
        return [step["run"] for step in action()["runs"]["steps"] if "run" in step]
    if path == TEMPLATE:
        return [*template()["script"], *template()["after_script"]]
    return [path.read_text()]


def commands_of(path: Path) -> list[list[str]]:
    """The `tailsight` commands of the scripts, what the shell puts in replaced by something of its kind."""
    found = []
    for script in scripts(path):
        text = re.sub(r"\$\{?[A-Z_]*(REPEAT|WARMUP)\}?", "3", script.replace("\\\n", " "))
        text = re.sub(r"\$\{?[A-Z_]*ON_INCONCLUSIVE\}?", "pass", text)
        text = re.sub(r'"[^"\n]*/tailsight-base[^"\n]*"', str(ROOT), text)
        text = re.sub(r"\$\{?[A-Za-z_]+\}?", str(ROOT), text).replace(MARK, "")
        words = shlex.split(text.replace(";", " ; "), comments=True)
        starts = [number for number, word in enumerate(words) if word.rpartition("/")[2] == "tailsight"]
        for start in starts:
            rest = words[start + 1 :]
            end = next((number for number, word in enumerate(rest) if word in _END), len(rest))
            found.append(rest[:end])
    return found


@pytest.mark.parametrize("path", [ACTION, TEMPLATE, SELF_GATE], ids=lambda path: path.name)
def test_the_commands_are_what_the_command_line_takes(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = commands_of(path)
    assert [command[0] for command in found] == ["record", "gate"]
    for command in found:
        try:
            parsed(command)
        except click.ClickException as error:
            pytest.fail(f"tailsight {' '.join(command)}: {error.format_message()}")


@pytest.mark.parametrize("path", [ACTION, TEMPLATE, SELF_GATE], ids=lambda path: path.name)
def test_the_scripts_are_bash(path):
    for script in scripts(path):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=30)


def test_nothing_that_others_write_is_put_into_a_script():
    """`${{ … }}` in a script would be run as code: branch names and inputs come in as variables only."""
    for step in action()["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
        used = set(re.findall(r"\$([A-Z_]+)", step.get("run", "")))
        assert used <= set(step.get("env", {})) | {"RUNNER_TEMP", "GITHUB_WORKSPACE"}, step["name"]


def test_the_action_is_a_composite_action_that_uses_the_inputs_it_has():
    said = action()
    assert said["runs"]["using"] == "composite"
    used = {
        name
        for condition in _CONDITION.findall(ACTION.read_text()) + [step.get("if", "") for step in said["runs"]["steps"]]
        for name in re.findall(r"inputs\.([\w-]+)", condition)
    }
    assert used == set(said["inputs"])
    for step in said["runs"]["steps"]:
        assert step["name"]
        assert ("uses" in step) != ("shell" in step)
    for name, value in said["inputs"].items():
        assert value["description"], name
        assert value.get("required") or isinstance(value["default"], str), name


def test_the_action_finds_its_own_comment_by_the_mark_of_the_report():
    (comment,) = [step["run"] for step in action()["runs"]["steps"] if step["name"] == "Comment"]
    assert f'startswith("{MARK}")' in comment


# --- the action's steps, run ------------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    said = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]
    return subprocess.run(
        ["git", *said, *arguments], check=True, capture_output=True, text=True, timeout=60, cwd=folder
    ).stdout.strip()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A remote with three commits in `origin`, the folder of the runner's temporary files in `temp`."""
    for name in ("origin", "temp"):
        (tmp_path / name).mkdir()
    git(tmp_path / "origin", "init", "--quiet")
    git(tmp_path / "origin", "config", "uploadpack.allowAnySHA1InWant", "true")
    for number in range(3):
        (tmp_path / "origin" / "number").write_text(str(number))
        git(tmp_path / "origin", "add", ".")
        git(tmp_path / "origin", "commit", "--quiet", "-m", str(number))
    return tmp_path


def cloned(place: Path, *options: str) -> Path:
    folder = place / "work"
    git(place, "clone", "--quiet", *options, f"file://{place / 'origin'}", str(folder))
    return folder


def base_of(place: Path, base: str) -> subprocess.CompletedProcess[str]:
    return run_step(
        action(), "Check out the base", inputs={"base": base}, github={}, temp=place / "temp", folder=place / "work"
    )


@pytest.mark.parametrize(
    ("options", "commits"), [((), "3"), (("--depth=1",), "1")], ids=["whole clone", "shallow clone"]
)
def test_the_base_is_checked_out_again_and_again_and_the_clone_keeps_its_history(place, options, commits):
    first = git(place / "origin", "rev-parse", "HEAD~2")
    folder = cloned(place, *options)
    for base, expected in ((first, "0"), (first, "0"), ("main", "2")):
        done = base_of(place, base)
        assert done.returncode == 0, done.stderr
        assert (place / "temp" / "tailsight-base" / "number").read_text() == expected
    assert git(folder, "rev-list", "--count", "HEAD") == commits


def test_a_base_is_checked_out_where_an_earlier_job_of_this_runner_left_its_traces(place):
    first = git(place / "origin", "rev-parse", "HEAD~2")
    cloned(place)
    assert base_of(place, first).returncode == 0
    shutil.rmtree(place / "temp")  # as a runner does between jobs
    (place / "temp").mkdir()
    done = base_of(place, first)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("base", ["", "0" * 40], ids=["dispatched by hand", "first push of a branch"])
def test_an_event_without_a_base_is_told_so(place, base):
    cloned(place)
    done = base_of(place, base)
    assert done.returncode == 1
    assert done.stdout == (
        "::error title=Latency gate::No base to compare with: this event has none, name it with the input base.\n"
    )


def test_a_base_is_no_option_of_git(place):
    cloned(place)
    done = base_of(place, f"--upload-pack=touch {place}/owned;")
    assert done.returncode != 0
    assert not (place / "owned").exists()


@pytest.mark.parametrize(
    ("found", "code", "expected"),
    [
        ("", 0, ["POST repos/o/r/issues/7/comments"]),
        ("41\n42", 0, ["PATCH repos/o/r/issues/comments/41"]),
        ("", 1, []),
    ],
    ids=["first", "again", "a fork's token"],
)
def test_one_comment_is_kept_up_to_date_and_a_token_that_may_not_does_no_harm(place, found, code, expected):
    """With a `gh` that says what it was asked to do: there is no GitHub here."""
    cloned(place)
    (place / "temp" / "gate.md").write_text(f"{MARK}\nreport\n")
    (place / "bin").mkdir()
    (place / "bin" / "gh").write_text(
        "#!/bin/bash\n"
        f'[[ " $* " == *" --method "* ]] || {{ printf "{found}"; exit 0; }}\n'
        f'[ {code} = 0 ] || {{ echo "HTTP 403: Resource not accessible by integration" >&2; exit {code}; }}\n'
        f'echo "$4 $5" >> {place}/asked\n'
    )
    (place / "bin" / "gh").chmod(0o755)
    done = run_step(
        action(), "Comment", inputs={}, temp=place / "temp", folder=place / "work",
        path=f"{place / 'bin'}:{os.environ['PATH']}",
        github={
            "github.token": "secret", "github.repository": "o/r", "github.event.pull_request.number": "7",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    asked = place / "asked"
    assert (asked.read_text().splitlines() if asked.exists() else []) == expected
    assert ("::warning title=Latency gate::" in done.stdout) == (code != 0)


def test_the_template_uses_the_variables_that_it_has():
    said = template()
    used = set(re.findall(r"\$(GATE_[A-Z_]+)", " ".join(said["script"])))
    assert used == {name for name in said["variables"] if name.startswith("GATE_")}
    written = {word for command in commands_of(TEMPLATE) for word in command}
    assert {*said["artifacts"]["paths"], said["artifacts"]["reports"]["junit"]} <= written


def test_the_self_gate_prints_a_report_or_why_not_and_never_fails(tmp_path):
    """With a `tailsight` that fails, as on a machine where nothing works; the real one takes a minute."""
    (tmp_path / "tailsight").write_text("#!/bin/sh\necho no >&2\nexit 70\n")
    (tmp_path / "tailsight").chmod(0o755)
    done = subprocess.run(
        [SELF_GATE, tmp_path], check=False, capture_output=True, text=True, timeout=60,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout == "self-gate: not recorded (70), which stops nothing\n"
    assert [path.name for path in tmp_path.iterdir()] == ["tailsight"]


# --- docs/gate.md -------------------------------------------------------------------------------------------------------


def test_every_command_of_the_document_can_be_run_as_it_stands():
    placeholders = ({"BASE", "CAND"}, {"X"}, {"FILE"})
    found = [
        command
        for command in commands_in(DOCUMENT.read_text().replace(MARK, ""))
        if len(command) > 1 and not any(names & set(command) for names in placeholders)
    ]
    assert len(found) > 5
    for command in found:
        try:
            parsed(_here(command))
        except click.ClickException as error:
            pytest.fail(f"tailsight {' '.join(command)}: {error.format_message()}")


def _here(command: list[str]) -> list[str]:
    """A folder of an example is one that there is."""
    return ["." if word == "../base" else word for word in command]


def test_the_settings_in_the_document_are_read(tmp_path):
    (block,) = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    path = tmp_path / "pyproject.toml"
    path.write_text(block)
    config = read_config(path)
    assert config.settings.limits_ms == {("request", "p99"): 25.0}
    assert config.settings.tolerances[("*", "jitter")] == 0.2


def test_the_document_has_every_option_of_a_report():
    text = DOCUMENT.read_text()
    for option in options_of("gate"):
        assert option.opts[0] in text, option.opts


@pytest.mark.parametrize("path", [DOCUMENT, ROOT / "docs" / "record.md"], ids=lambda path: path.name)
def test_every_link_leads_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if not target.startswith("https://"):
            assert (path.parent / target).resolve().exists(), target
