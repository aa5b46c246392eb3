"""`tailsight token`: make, list and revoke the tokens of a collector's file."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from rich.table import Table

from tailsight_cli._collecting import collector_errors
from tailsight_cli.options import parse_length_s
from tailsight_cli.render.text import console
from tailsight_collector.guard.tokens import (
    READ,
    SCOPES,
    TOKENS_ENV,
    Token,
    add_token,
    checked_name,
    digest_of,
    moment_of,
    new_secret,
    read_tokens,
    revoke_token,
)

DEFAULT_FILE = Path("tailsight-tokens.txt")
_HELP = """Make, list and revoke the tokens with which clients send to a collector and read from it.

A file holds their hashes, a line a token; give it to the collector with --tokens. A running collector notices a change
within a second, so that a revoked token ends without a restart. Lines may be edited by hand: limits, end, scopes.

\b
Examples:
  tailsight token create --name edge-7 --scope ingest
  tailsight token create --name grafana --scope read --expires 90d
  tailsight token create --name ci --scope ingest --scope read --requests-per-s 20 --bytes-per-s 5000000
  tailsight token list
  tailsight token revoke edge-7
"""


def _file_option(command: click.decorators.FC) -> click.decorators.FC:
    return click.option(
        "--file",
        "file",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar=TOKENS_ENV,
        show_envvar=True,
        default=DEFAULT_FILE,
        show_default=True,
        help="The collector's file of tokens.",
    )(command)


def _name(_ctx: click.Context, _parameter: click.Parameter, text: str) -> str:
    try:
        return checked_name(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _expires(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> datetime | None:
    if text is None:
        return None
    if (length_s := parse_length_s(text)) is not None:
        return datetime.now(UTC) + timedelta(seconds=length_s)
    try:
        return moment_of(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}, or 90d from now") from None


@click.group("token", help=_HELP)
def command() -> None:
    """Tell click that this is a group."""


@command.command("create")
@click.option("--name", required=True, callback=_name, help="Whose it is: unique in the file, and shown in messages.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    required=True,
    help="What it is for: to send, to read; give it twice for both.",
)
@click.option("--requests-per-s", type=click.FloatRange(0, min_open=True), help="Most requests a second.")
@click.option("--bytes-per-s", type=click.FloatRange(0, min_open=True), help="Most bytes a second, in and out.")
@click.option("--expires", callback=_expires, metavar="TIME", help="When it ends: 90d from now, or 2027-01-31.")
@_file_option
def create(
    name: str,
    scopes: tuple[str, ...],
    requests_per_s: float | None,
    bytes_per_s: float | None,
    expires: datetime | None,
    file: Path,
) -> None:
    """Make a token, print it once, and append its hash to the file.

    The token alone goes to stdout; it is written down nowhere, so keep it where its owner finds it.
    """
    secret = new_secret()
    token = Token(name, frozenset(scopes), digest_of(secret), requests_per_s, bytes_per_s, expires)
    with collector_errors():
        add_token(file, token)
    click.echo(secret)
    click.echo(f"{name} may {' and '.join(sorted(scopes))}; its hash is in {file}. Its owner says:", err=True)
    if READ in scopes:
        click.echo("  TAILSIGHT_STORE=clickhouse://any:TOKEN@HOST:8123/tailsight", err=True)
    if scopes != (READ,):
        click.echo("  OTEL_EXPORTER_OTLP_HEADERS='Authorization=Bearer%20TOKEN'", err=True)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON with stable keys.")
@_file_option
def list_(as_json: bool, file: Path) -> None:
    """List the tokens of the file, without their hashes."""
    with collector_errors():
        tokens = read_tokens(file)
    rows = [
        {
            "name": token.name,
            "scopes": sorted(token.scopes),
            "requests_per_s": token.requests_per_s,
            "bytes_per_s": token.bytes_per_s,
            "expires": f"{token.expires:%Y-%m-%dT%H:%M:%SZ}" if token.expires else None,
            "expired": bool(token.expires and token.expires <= datetime.now(UTC)),
        }
        for token in tokens
    ]
    if as_json:
        click.echo(json.dumps({"file": str(file), "tokens": rows}, indent=2))
    elif not rows:
        click.echo(f"{file} holds no token; make one: tailsight token create --name NAME --scope ingest --file {file}")
    else:
        table = Table(box=None, pad_edge=False)
        for heading in ("name", "may", "requests/s", "bytes/s", "ends"):
            table.add_column(heading, justify="right" if heading.endswith("/s") else "left")
        for token, row in zip(tokens, rows, strict=True):
            limits = [f"{limit:g}" if limit else "–" for limit in (token.requests_per_s, token.bytes_per_s)]
            ends = f"{row['expires'] or 'never'}{' (has ended)' if row['expired'] else ''}"
            table.add_row(token.name, " and ".join(sorted(token.scopes)), *limits, ends)
        console().print(table)


@command.command("revoke")
@click.argument("name")
@_file_option
def revoke(name: str, file: Path) -> None:
    """Take a token out of the file; a running collector refuses it a second later."""
    with collector_errors():
        revoke_token(file, name)
    click.echo(f"{name} is revoked: whoever uses it is refused within a second")
