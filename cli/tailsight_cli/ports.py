"""Is a port free? Asked before something is started that would say it badly."""

from __future__ import annotations

import errno
import socket

from tailsight_cli._errors import CommandError

_TAKEN = (errno.EADDRINUSE, errno.EACCES)


def is_free(host: str, port: int) -> bool:
    """Whether this process could listen there; raises OSError where the address is none of this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise
    return True


def any_free(host: str) -> int:
    """Return a port that is free now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        number: int = probe.getsockname()[1]
        return number


def require_free(host: str, port: int, option: str) -> None:
    """Raise a CommandError (wrong use) that names the option where the port is taken."""
    try:
        free = is_free(host, port)
    except OSError as error:
        raise CommandError(f"--host {host} is no address of this machine: {error.strerror}") from None
    if not free:
        raise CommandError(
            f"{option} {port} on {host} cannot be used: something else listens there; give another {option}"
        )
