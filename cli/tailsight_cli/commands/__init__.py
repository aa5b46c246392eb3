"""The commands: one table says their names, modules and extras; a module is imported when its command is used.

A command's module exposes `command`, a click command. To add one: its module beside this file, its line in COMMANDS.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import click

from tailsight_cli._errors import CommandError, missing_extra


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """Where a command lives. `extra` is the pip extra that brings what it imports."""

    module: str
    extra: str
    help: str


COMMANDS: dict[str, CommandSpec] = {
    "up": CommandSpec("tailsight_cli.commands.up", "all", "Start collector, store and dashboard together."),
    "demo": CommandSpec("tailsight_cli.commands.demo", "all", "Run a real sample pipeline and report on it."),
    "collector": CommandSpec("tailsight_cli.commands.collector", "collector", "Receive OTLP and store it."),
    "token": CommandSpec("tailsight_cli.commands.token", "collector", "Who may send to a collector, and read from it."),
    "dashboard": CommandSpec("tailsight_cli.commands.dashboard", "dashboard", "Serve the dashboard."),
    "import": CommandSpec("tailsight_cli.commands.import_", "collector", "Load recorded traces from files."),
    "export": CommandSpec(
        "tailsight_cli.commands.export", "collector", "Write spans as Perfetto, OTLP, Jaeger, Parquet."
    ),
    "sources": CommandSpec("tailsight_cli.commands.sources", "collector", "How spans of other tools become stages."),
    "breakdown": CommandSpec("tailsight_cli.commands.breakdown", "gate", "Latency per stage, hardware, version, …"),
    "tail": CommandSpec("tailsight_cli.commands.tail", "gate", "Why the slow requests are slow."),
    "variance": CommandSpec("tailsight_cli.commands.variance", "gate", "Which stages make requests differ."),
    "hardware": CommandSpec("tailsight_cli.commands.hardware", "gate", "Hardware types at the same work; costs."),
    "pareto": CommandSpec("tailsight_cli.commands.pareto", "gate", "Quality against latency, model by model."),
    "jitter": CommandSpec("tailsight_cli.commands.jitter", "gate", "How latencies vary: modes, periods, deadlines."),
    "queue": CommandSpec("tailsight_cli.commands.queue", "gate", "How busy queues are; waits with one more worker."),
    "trace": CommandSpec("tailsight_cli.commands.trace", "gate", "Where the time of one request went."),
    "whatif": CommandSpec("tailsight_cli.commands.whatif", "gate", "Which change would make requests faster."),
    "compare": CommandSpec("tailsight_cli.commands.compare", "gate", "What changed between two runs: mix or slowdown."),
    "regressions": CommandSpec(
        "tailsight_cli.commands.regressions", "gate", "Since which version or run what is slower."
    ),
    "changepoints": CommandSpec("tailsight_cli.commands.changepoints", "gate", "Where any series changes its level."),
    "record": CommandSpec("tailsight_cli.commands.record", "collector", "Keep a command's spans in a file."),
    "gate": CommandSpec("tailsight_cli.commands.gate", "collector", "Is the candidate slower? A verdict for CI."),
    "alerts": CommandSpec("tailsight_cli.commands.alerts", "collector", "Open alerts; a test message to webhooks."),
    "profile": CommandSpec("tailsight_cli.commands.profile", "collector", "Which code runs in which stage."),
    "flame": CommandSpec("tailsight_cli.commands.flame", "gate", "Flame graph of a stage; tail against typical."),
    "store": CommandSpec("tailsight_cli.commands.store", "gate", "What the store holds: what was sent, and lost."),
}
_OURS = ("tailsight", "tailsight_storage", "tailsight_collector", "tailsight_analysis", "tailsight_dashboard")


class LazyGroup(click.Group):
    """The group of COMMANDS: `--help` lists them without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the commands in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Import the command's module; a missing package becomes the name of the extra that brings it."""
        spec = COMMANDS.get(cmd_name)
        if spec is None:
            return None
        try:
            command = importlib.import_module(spec.module).command
        except ModuleNotFoundError as error:
            raise _not_installed(cmd_name, spec, error) from error
        if not isinstance(command, click.Command):
            raise TypeError(f"{spec.module}.command is not a click command")
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; packages that it imports only when it runs may be missing too."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            name = ctx.invoked_subcommand or ""
            if name not in COMMANDS:
                raise
            raise _not_installed(name, COMMANDS[name], error) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """List the commands with the table's descriptions."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, spec.help) for name, spec in COMMANDS.items()])


def _not_installed(name: str, spec: CommandSpec, error: ModuleNotFoundError) -> Exception:
    missing = error.name or ""
    if missing == spec.module:
        return CommandError(f"`tailsight {name}` is not part of this version of tailsight")
    if missing.split(".")[0] in _OURS or missing.startswith("tailsight_cli"):
        return error  # a defect of ours, not a missing extra
    return missing_extra(name, spec.extra, missing)
