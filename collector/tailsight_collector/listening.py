"""The sockets of a collector's HTTP ports: bound before anything is served, so that an error names the option."""

from __future__ import annotations

import errno
import socket
import ssl

from tailsight_collector.errors import SettingsError

BACKLOG = 2048


def listen(host: str, port: int, option: str) -> socket.socket:
    """Bind an address; raises SettingsError, which names the option."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise SettingsError(f"--host {host} is no address of this machine: {error.strerror}") from None
        raise SettingsError(
            f"{option} {port} on {host} cannot be used: {error.strerror}; is a collector running there already? "
            f"Give another {option}, or 0 for any"
        ) from None
    bound.setblocking(False)
    return bound


def url_of(bound: socket.socket, tls: ssl.SSLContext | None) -> str:
    """Say where a bound socket is reached."""
    host, port = bound.getsockname()[:2]
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
