"""Which host names a request may be for: a web page in somebody's browser reaches the loopback address by its own."""

from __future__ import annotations

import ipaddress
import re

from starlette.requests import Request

from tailsight_collector.errors import ForbiddenError


def is_own_name(request: Request, host: str) -> bool:
    """Whether a request is for this machine's address, or for the name that the port listens on.

    A page that has made its own name lead here (DNS rebinding) is to its browser of the same origin as we are.
    """
    name = re.sub(r":\d+$", "", request.headers.get("host", "")).strip("[]")
    return name in ("", "localhost", host) or _is_address(name)


def check_own_name(request: Request, host: str) -> None:
    """Raise ForbiddenError where a request is for another name."""
    if not is_own_name(request, host):
        name = request.headers.get("host", "")[:80]
        raise ForbiddenError(
            f"requests for the name {name!r} are not answered while nobody is asked for a token: use the collector's "
            "address, or start it with --tokens"
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
