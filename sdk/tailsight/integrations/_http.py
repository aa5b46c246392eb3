"""What the hooks of all HTTP frameworks have in common: names, sizes, and what counts as an error."""

from collections.abc import MutableMapping
from typing import Any

import tailsight

from .. import attributes as keys
from .._guard import caught
from ._call import Call, client_span

_METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"))
_DEFAULT_PORTS = {"http": 80, "https": 443}


def method_names(method: str) -> tuple[str, str]:
    """Return the method's attribute and its part of a span's name. A client may send any word: names stay few."""
    known = method.upper()
    return (known, known) if known in _METHODS else ("_OTHER", "HTTP")


def size(content_length: object) -> int | None:
    """Read a Content-Length; None if there is none, or none that makes sense."""
    if isinstance(content_length, bytes):
        content_length = content_length.decode("latin-1")
    if isinstance(content_length, str) and content_length.isascii() and content_length.isdigit():
        return int(content_length[:18])
    return None


class ClientExchange(Call):
    """The client's half of one HTTP exchange, from before the connection until the body has been read."""

    __slots__ = ("complete", "request_bytes", "response_bytes", "status")

    _to_another_service = True

    def __init__(self) -> None:
        super().__init__(client_span("HTTP"))
        self.status: int | None = None
        self.request_bytes: int | None = None  # None: not known
        self.response_bytes: int | None = None
        self.complete = False

    def target(self, method: str, scheme: str, host: str | None, port: int | None, path: str, query: str) -> None:
        """Say what is asked of whom. Of the query nothing is recorded, not even by way of an exception's message."""
        try:
            attribute, name = method_names(method)
            port = port or _DEFAULT_PORTS.get(scheme)
            self._secret = "?" + query if query else ""
            self.span.update_name(f"{name} {host}:{port}" if host and port else f"{name} {host or ''}".strip())
            self.span.set(keys.HTTP_REQUEST_METHOD, attribute)
            self.span.set(keys.URL_PATH, path or "/")
            if host:
                self.span.set(keys.SERVER_ADDRESS, host)
            if port:
                self.span.set(keys.SERVER_PORT, port)
        except Exception as error:
            caught("describing an HTTP request", error)

    def send(self, headers: MutableMapping[str, Any]) -> None:
        """Write the trace context into the request's headers, over what may be there."""
        tailsight.inject(headers)

    def describe(self) -> None:
        """Set the outcome and the bytes."""
        set_outcome(self, self.status, 400, self.request_bytes, self.response_bytes)

    def close(self) -> None:
        """End because the response was closed."""
        if self.complete:
            self.end()
        else:
            self.abandon()


def set_outcome(
    call: Call, status: int | None, first_error: int, request_bytes: int | None, response_bytes: int | None
) -> None:
    """Set the outcome of an exchange. From `first_error` on a status is an error: a 404 is one for the client only."""
    if status is not None:
        call.span.set(keys.HTTP_RESPONSE_STATUS_CODE, status)
        if status >= first_error:
            call.fail(str(status))
    if request_bytes is not None:
        call.span.set(keys.HTTP_REQUEST_BODY_SIZE, request_bytes)
    if response_bytes is not None:
        call.span.set(keys.HTTP_RESPONSE_BODY_SIZE, response_bytes)
