"""ASGI, the server's side: `app = tailsight.integrations.asgi.TailsightMiddleware(app)`, for FastAPI as well."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import tailsight

from .. import attributes as keys
from .._guard import caught
from ._call import Call
from ._http import method_names, set_outcome, size

__all__ = ["TailsightMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class TailsightMiddleware:
    """Record each HTTP request as a request, which continues the caller's trace.

    It ends when the application hands over the end of its response. Websockets and the lifespan pass through untouched.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        served = _Served(scope, receive, send)
        if not served.begin().active:
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, served.receive, served.send)
        except BaseException as error:
            served.failed(error)
            raise
        finally:
            served.returned()


class _Served(Call):
    """One request that is being served."""

    __slots__ = (
        "_announced",
        "_answered",
        "_gone",
        "_receive",
        "_received",
        "_received_all",
        "_scope",
        "_send",
        "_send_error",
        "_sent",
        "_status",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Iterable[tuple[bytes, bytes]] = scope.get("headers") or ()
        super().__init__(tailsight.request(None, context=tailsight.extract(headers)))
        self._scope = scope
        self._receive = receive
        self._send = send
        self._announced = _content_length(headers)
        self._received = 0
        self._received_all = False
        self._sent: int | None = 0  # None: not known, because the server sends a file itself
        self._status: int | None = None
        self._answered = False
        self._gone = False  # the client, before it had its answer
        self._send_error: BaseException | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        kind = message["type"]
        if kind == "http.request":
            self._received += len(message.get("body") or b"")
            self._received_all = not message.get("more_body", False)
        elif kind == "http.disconnect" and not self._answered:
            self._gone = True
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self._status = message.get("status")
        elif kind == "http.response.body":
            if self._sent is not None:
                self._sent += len(message.get("body") or b"")
            if not message.get("more_body", False):
                self._end_of_answer()
        elif kind in ("http.response.pathsend", "http.response.zerocopysend"):
            self._sent = None
            if not message.get("more_body", False):
                self._end_of_answer()
        try:
            await self._send(message)
        except OSError as error:  # how a server says that the client is gone
            self._gone = True
            self._send_error = error
            raise

    def _end_of_answer(self) -> None:
        """End before the last part is sent: bringing it to the client is the network's time.

        After a failure the exception is still to come, because Starlette answers first and raises then. The span stays
        current, so that work in the background belongs to its trace.
        """
        self._answered = True
        if self._status is None or self._status < 500:
            self.describe()
            self.span.end()

    def failed(self, error: BaseException) -> None:
        """End because the application raised."""
        if self._gone and _is_disconnect(error, self._send_error):
            self.abandon()
        else:
            self.end(error)

    def returned(self) -> None:
        """End, if that has not happened yet: the application is done."""
        if self._gone and not self._answered:
            self.abandon()
        else:
            self.end()

    def describe(self) -> None:
        if not self.span.is_recording():
            return
        try:
            scope = self._scope
            attribute, name = method_names(scope["method"])
            self.span.set(keys.HTTP_REQUEST_METHOD, attribute)
            self.span.set(keys.URL_PATH, scope["path"])
            route = _route(scope)
            if route:
                self.span.set(keys.HTTP_ROUTE, route)
            self.span.update_name(f"{name} {route}" if route else name)
            server = scope.get("server")
            if server:
                self.span.set(keys.SERVER_ADDRESS, server[0])
                if server[1] is not None:
                    self.span.set(keys.SERVER_PORT, server[1])
            unread = not self._received_all and self._announced is not None
            set_outcome(self, self._status, 500, self._announced if unread else self._received, self._sent)
        except Exception as error:
            caught("describing an ASGI request", error)


def _content_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    try:
        return next((size(value) for name, value in headers if name.lower() == b"content-length"), None)
    except Exception as error:
        caught("reading an ASGI request's headers", error)
        return None


def _route(scope: Scope) -> str | None:
    """Return the pattern of the route that Starlette or FastAPI chose, such as /users/{id}; None if it is not known.

    Below a Mount it is not: there Starlette keeps the mount's actual path only, and a route is no place for values.
    """
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) and path and "app_root_path" not in scope else None


def _is_disconnect(error: BaseException, send_error: BaseException | None) -> bool:
    """Tell whether an application raised because its client is gone."""
    if type(error).__name__ == "ClientDisconnect":  # Starlette's
        return True
    return send_error is not None and send_error in (error, error.__cause__, error.__context__)
