import shlex
from pathlib import Path

from tailsight_cli.commands.collector import command

UNIT = Path(__file__).parents[2] / "deploy" / "tailsight-collector.service"


def test_the_systemd_unit_uses_options_that_exist():
    [line] = [line for line in UNIT.read_text().splitlines() if line.startswith("ExecStart=")]
    program, name, *arguments = shlex.split(line.removeprefix("ExecStart="))
    assert (Path(program).name, name) == ("tailsight", "collector")
    context = command.make_context("collector", arguments)
    assert str(context.params["data"]) == "/var/lib/tailsight"
