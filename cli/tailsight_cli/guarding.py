"""Options of who may send and read, for those commands that start a collector; and the token that a parent keeps."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote

import click

from tailsight_collector import SettingsError, Token
from tailsight_collector.guard.tokens import READ, TOKENS_ENV, digest_of, new_secret, parse_tokens

OWN_TOKEN_ENV = "TAILSIGHT_OWN_TOKEN"  # noqa: S105  the name of a variable
OWN_NAME = "tailsight-up"
_HEADERS_ENVS = ("TAILSIGHT_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")


def access_options(command: click.decorators.FC) -> click.decorators.FC:
    """Add --tokens and --insecure."""
    for option in (
        click.option(
            "--insecure",
            is_flag=True,
            help="Listen on an address that others reach without asking anybody for a token.",
        ),
        click.option(
            "--tokens",
            type=click.Path(path_type=Path, dir_okay=False),
            envvar=TOKENS_ENV,
            show_envvar=True,
            metavar="FILE",
            help="Who may send and who may read; `tailsight token create` writes it. Looked at every second.",
        ),
    ):
        command = option(command)
    return command


def tls_options(command: click.decorators.FC) -> click.decorators.FC:
    """Add --tls-cert, --tls-key and --tls-client-ca."""
    for name, text in (
        ("client-ca", "Let in only clients with a certificate of this CA, in PEM: both to send and to read."),
        ("key", "The certificate's key in PEM, without a password."),
        ("cert", "Speak TLS on all ports, with this certificate in PEM, those between it and its CA behind it."),
    ):
        command = click.option(
            f"--tls-{name}",
            type=click.Path(path_type=Path, dir_okay=False),
            envvar=f"TAILSIGHT_TLS_{name.replace('-', '_').upper()}",
            show_envvar=True,
            metavar="FILE",
            help=text,
        )(command)
    return command


def headers_from_environment() -> dict[str, str]:
    """Read the headers for a collector from where the SDK reads them; raises UsageError, which never shows a value."""
    for name in _HEADERS_ENVS:
        members = [member.partition("=") for member in os.environ.get(name, "").split(",") if member.strip()]
        if not all(equals and key.strip() for key, equals, _ in members):
            raise click.UsageError(f"{name} is not key=value,key=value (a space in a value is %20)")
        if members:
            return {unquote(key.strip()).lower(): unquote(value.strip()) for key, _, value in members}
    return {}


def own_token() -> tuple[str, str]:
    """Make a token for reading that is of this run: itself, and the line that a collector child knows it by."""
    secret = new_secret()
    return secret, str(Token(OWN_NAME, frozenset({READ}), digest_of(secret)))


def own_tokens_from_environment() -> tuple[Token, ...]:
    """Read what a parent process has said of its own token; a hash, so nothing that is worth stealing."""
    try:
        return parse_tokens(os.environ.get(OWN_TOKEN_ENV, ""), OWN_TOKEN_ENV)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
