"""What the files of deploy/ and the documents say: the `tailsight` commands in them, and the variables that they name."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from tailsight._options import Settings
from tailsight_cli.commands import COMMANDS
from tailsight_cli.main import program

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
_END_OF_COMMAND = ("|", "||", "&&", ";", ">", ">>", "<", "&")
_INLINE = re.compile(r"`([^`\n]+)`")
_VARIABLE = re.compile(r"\bTAILSIGHT_[A-Z_]*[A-Z]\b")
_SOURCES = ("sdk", "storage", "collector", "analysis", "dashboard", "cli")


def files_of_deploy() -> list[Path]:
    """What is in the folder; not what somebody who uses it has put there, passwords and tokens."""
    return [
        path
        for path in sorted(DEPLOY.rglob("*"))
        if path.is_file() and path.name != ".env" and DEPLOY / "tokens" not in path.parents
    ]


def sources_of_the_wheel() -> list[str]:
    """What the first stage of the Dockerfile copies."""
    stage = (DEPLOY / "Dockerfile").read_text().partition(" AS wheel\n")[2].partition("\nFROM ")[0]
    return [word for line in re.findall(r"^COPY (.+)$", stage, flags=re.MULTILINE) for word in line.split()[:-1]]


def parsed(arguments: Sequence[str]) -> click.Context:
    """Read a command line as `tailsight` does, without running it; raises click's errors."""
    command: click.Command = program()
    context, name, rest = None, "tailsight", list(arguments)
    while True:
        context = command.make_context(name, rest, parent=context)
        if not isinstance(command, click.Group):
            return context
        if command.invoke_without_command and not context._protected_args:
            return context
        found, command_found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert command_found is not None
        name, command = found or "", command_found


def commands_in(text: str) -> list[list[str]]:
    """Find the `tailsight …` command lines of a document: in its indented blocks, and between back-quotes."""
    lines = text.replace("\\\n", " ").splitlines()
    blocks = [line for line in lines if line.startswith("    ")]
    inline = [match[1] for line in lines if not line.startswith("    ") for match in _INLINE.finditer(line)]
    # `tailsight up` in a sentence is a command too; `tailsight-collector` and `tailsight.run` are not
    return [words for text in (*blocks, *inline) for words in _commands_of(text)]


def _commands_of(text: str) -> Iterator[list[str]]:
    try:
        words = shlex.split(text, comments=True)
    except ValueError:  # a sentence with an apostrophe
        return
    starts = [number for number, word in enumerate(words) if word.rpartition("/")[2] == "tailsight"]
    for start in starts:
        rest = words[start + 1 :]
        end = next((number for number, word in enumerate(rest) if word in _END_OF_COMMAND), len(rest))
        if end and rest[0] in COMMANDS and "…" not in rest:
            yield rest[:end]


def variables_in(text: str) -> set[str]:
    """The variables of ours that a text names."""
    return set(_VARIABLE.findall(text))


def variables_of_the_code() -> set[str]:
    """Those that some module of ours, or an option, reads."""
    quoted = re.compile(r'"(TAILSIGHT_[A-Z_]*[A-Z])"')
    texts = [path.read_text() for folder in _SOURCES for path in (ROOT / folder).rglob("*.py")]
    texts.append((ROOT / "hatch_build.py").read_text())
    found = {match for text in texts for match in quoted.findall(text)} | {
        match for text in texts for match in re.findall(r'environ\.get\("(TAILSIGHT_[A-Z_]*[A-Z])"', text)
    }
    found |= {f"TAILSIGHT_{field.name.upper()}" for field in dataclasses.fields(Settings)}  # the SDK's
    return found | {variable for option in options_of("collector") if (variable := option.envvar)}


def options_of(name: str) -> list[click.Option]:
    """The options of a command that are for users."""
    command = parsed([name]).command
    return [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
