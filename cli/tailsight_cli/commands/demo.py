"""`tailsight demo`: the whole line on the sample pipeline."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import click

from tailsight_analysis import Filters, breakdown, connect, tail, whole_time
from tailsight_cli._collecting import collector_errors
from tailsight_cli.demo.pipeline import DEFAULT_REQUESTS, run_pipeline
from tailsight_cli.ports import any_free, is_free
from tailsight_cli.progress import counted, step
from tailsight_cli.render.breakdown import render_breakdown
from tailsight_cli.render.tail import render_tail
from tailsight_cli.render.text import console
from tailsight_cli.signals import sigterm_interrupts
from tailsight_cli.stack import Ports, Stack
from tailsight_collector.settings import DEFAULT_GRPC_PORT, DEFAULT_HOST, DEFAULT_HTTP_PORT, DEFAULT_SQL_PORT
from tailsight_dashboard.launch import DEFAULT_PORT

_HELP = f"""Run a real sample pipeline through collector, store and dashboard, and report on it.

A client process sends requests to an HTTP inference service with a bounded queue, a dynamic batcher and a numpy model.
With the dashboard it goes on until Ctrl-C, with a report after the first {DEFAULT_REQUESTS:,} requests and at the end.

\b
Examples:
  tailsight demo                          with the dashboard, until Ctrl-C
  tailsight demo --headless               {DEFAULT_REQUESTS:,} requests, one report, exit 0
  tailsight demo --data ./demo-data       keep what it recorded
"""
REPORT_QUANTILE = 0.99
REPORT_ATTRIBUTES = 8


@click.command("demo", help=_HELP)
@click.option("--headless", is_flag=True, help="Without the dashboard, for a bounded number of requests.")
@click.option(
    "--requests",
    type=click.IntRange(min=100),
    default=DEFAULT_REQUESTS,
    show_default=True,
    help="How many requests the first report covers; fewer than 100 have no tail to speak of.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the recorded spans in this folder.  [default: a temporary one]",
)
def command(headless: bool, requests: int, data: Path | None) -> None:
    """Run the demo."""
    run = f"demo-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    ports = Ports(
        http=_free_or_any(DEFAULT_HTTP_PORT),
        grpc=_free_or_any(DEFAULT_GRPC_PORT),
        sql=_free_or_any(DEFAULT_SQL_PORT),
        dashboard=_free_or_any(DEFAULT_PORT),
    )
    with ExitStack() as cleanup:
        cleanup.enter_context(collector_errors())
        cleanup.enter_context(sigterm_interrupts())
        folder = cleanup.enter_context(_folder(data))
        with step("starting the collector with an embedded ClickHouse …"):
            stack = cleanup.enter_context(Stack(ports, data=folder))
        if not headless:
            with step("starting the dashboard …"):
                stack.start_dashboard()
            click.echo(f"dashboard  {stack.dashboard_url}/?run={run}")
            click.echo(f"OTLP/HTTP  {stack.otlp_url}/v1/traces")
            click.echo(f"OTLP/gRPC  {stack.grpc_target}")
            click.echo(f"store      {stack.store}")
        _drive(stack, run, requests)
        _report(stack, run)
        if not headless:
            click.echo(f"\nThe pipeline goes on; look at {stack.dashboard_url}/?run={run}  Ctrl-C stops.")
            _drive_until_interrupted(stack, run)
            _report(stack, run)
    if data is not None:
        click.echo(f"\nrecorded in {data}; look at it again: tailsight up --data {data}")


def _drive(stack: Stack, run: str, requests: int) -> None:
    with counted("requests", requests) as show:
        run_pipeline(stack.otlp_url, requests=requests, run=run, on_progress=lambda now: show(now.done + now.errors))
    stack.wait_until_loaded()


def _drive_until_interrupted(stack: Stack, run: str) -> None:
    with counted("requests", None) as show, suppress(KeyboardInterrupt):
        run_pipeline(stack.otlp_url, requests=None, run=run, on_progress=lambda now: show(now.done + now.errors))
    stack.wait_until_loaded()


def _report(stack: Stack, run: str) -> None:
    out = console()
    with connect(stack.store) as store:
        window = whole_time(store, run)
        if window is None:
            return
        filters = Filters(run=(run,))
        out.print()
        out.print(render_tail(tail(store, window, filters, REPORT_QUANTILE, limit=REPORT_ATTRIBUTES)))
        out.print()
        out.print(render_breakdown(breakdown(store, window, filters)))


@contextmanager
def _folder(data: Path | None) -> Iterator[Path]:
    if data is not None:
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="tailsight-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _free_or_any(port: int) -> int:
    """Keep the well-known port if nobody has it, so that other shells find the demo; else let the system choose."""
    return port if is_free(DEFAULT_HOST, port) else any_free(DEFAULT_HOST)
