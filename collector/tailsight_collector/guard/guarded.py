"""The door of an HTTP port: who asks is found out before anything of a request but its head is looked at.

Every path needs a token unless the port says otherwise, so that a new route is closed until somebody opens it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailsight_collector.errors import AccessError, RateLimitError, UnauthenticatedError
from tailsight_collector.guard.access import NOBODY, Access, Caller

_CALLER = "tailsight.caller"
# A refused body up to this size is thrown away as it comes: a client that is cut off while it sends never reads why.
MAX_DISCARDED_BYTES = 64 * 1024 * 1024


def caller_of(request: Request) -> Caller:
    """Return who sent a request that came through a Guarded application."""
    caller: Caller = request.scope[_CALLER]
    return caller


class Guarded:
    """An ASGI application behind its door.

    `scopes_of` says which scopes, any of them, a path takes; none means that it is open, to NOBODY as well. `refuse`
    makes the answer of an error.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        *,
        scopes_of: Callable[[str], Sequence[str]],
        refuse: Callable[[Request, AccessError], Response],
        check: Callable[[Request], None] = lambda _: None,
        check_name: Callable[[Request], None] = lambda _: None,
    ) -> None:
        """`check` may refuse what carries a secret where it must not, by an UnauthenticatedError.

        `check_name` may refuse what is for another host's name, by a ForbiddenError.
        """
        self._app = app
        self._access = access
        self._scopes_of = scopes_of
        self._refuse = refuse
        self._check = check
        self._check_name = check_name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that may not be answered, and hand on any other with its Caller."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        # not request.url: that is made of the Host header too, and what stands there is the client's (Starlette < 1.1)
        scopes = self._scopes_of(scope["path"])
        length = _length_of(request)
        try:
            self._check_name(request)
            caller = self._caller(request, is_open=not scopes)
            if scopes:
                caller.require(*scopes)
                caller.admit(length or 0)
        except AccessError as error:
            answer = self._refuse(request, error)
            if isinstance(error, RateLimitError):
                answer.headers.setdefault("Retry-After", str(error.retry_after_whole_s))
            if not _is_short(request):
                answer.headers["Connection"] = "close"
            await answer(scope, receive, send)
            return
        scope[_CALLER] = caller
        if caller.bytes and scopes:
            counted = _Counted(caller, receive, send, counts_incoming=length is None)
            receive, send = counted.receive, counted.send
        await self._app(scope, receive, send)

    def _caller(self, request: Request, *, is_open: bool) -> Caller:
        try:
            if self._access.is_guarded:
                self._check(request)
            return self._access.caller(request.headers)
        except UnauthenticatedError:
            if is_open:
                return NOBODY
            raise


class _Counted:
    """Charges a caller for the bytes of one exchange: a body of unknown length as it comes, and the answer."""

    def __init__(self, caller: Caller, receive: Receive, send: Send, *, counts_incoming: bool) -> None:
        self._caller = caller
        self._receive = receive
        self._send = send
        self._counts_incoming = counts_incoming

    async def receive(self) -> Message:
        message = await self._receive()
        if self._counts_incoming and message["type"] == "http.request":
            self._caller.charge(len(message.get("body", b"")))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self._caller.charge(len(message.get("body", b"")))
        await self._send(message)


def _length_of(request: Request) -> int | None:
    """Return how long the body says it is; None where it does not say."""
    if "transfer-encoding" in request.headers:
        return None
    text = request.headers.get("content-length", "0")
    return int(text) if text.isdecimal() else None


def _is_short(request: Request) -> bool:
    length = _length_of(request)
    return length is not None and length <= MAX_DISCARDED_BYTES
