"""WSGI, the server's side: `app = tailsight.integrations.wsgi.TailsightMiddleware(app)`. Also for Flask and Django."""

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any

import tailsight

from .. import attributes as keys
from .._guard import caught
from ._call import Call
from ._http import method_names, set_outcome, size

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["TailsightMiddleware"]


class TailsightMiddleware:
    """Record each request as a request, which continues the caller's trace.

    It ends when the application has handed over the last byte of its response, or the server closes the response.
    """

    def __init__(self, app: "WSGIApplication") -> None:
        self.app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Serve a request."""
        served = _Served(environ)
        if not served.begin().active:
            return self.app(environ, start_response)
        served.count_input()
        try:
            body = self.app(environ, served.start_response(start_response))
        except BaseException as error:
            served.end(error)
            raise
        served.pause()
        # Servers that see one part in all take its size as the Content-Length: they must see as much as before.
        if isinstance(body, Sized):
            return _SizedBody(body, served, len(body))
        return _Body(body, served)


class _Served(Call):
    """One request that is being served."""

    __slots__ = ("_environ", "_input", "length", "sent", "status")

    def __init__(self, environ: "WSGIEnvironment") -> None:
        super().__init__(tailsight.request(None, context=tailsight.extract(_headers(environ))))
        self._environ = environ
        self.status: int | None = None
        self.sent = 0
        self.length: int | None = None  # of the response, as the application announces it
        self._input: _CountedInput | None = None

    def count_input(self) -> None:
        """Count the body of a request that does not announce its size."""
        if self._environ.get("HTTP_TRANSFER_ENCODING") and "wsgi.input" in self._environ:
            self._input = self._environ["wsgi.input"] = _CountedInput(self._environ["wsgi.input"])

    def start_response(self, inner: "StartResponse") -> "StartResponse":
        """Make the function that the application gets under this name."""

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: "OptExcInfo | None" = None, /
        ) -> Callable[[bytes], object]:
            self._started(status, headers, exc_info)
            write = inner(status, headers) if exc_info is None else inner(status, headers, exc_info)

            def counted_write(data: bytes) -> object:
                result = write(data)
                self.sent += len(data)
                return result

            return counted_write

        return start_response

    def _started(self, status: str, headers: list[tuple[str, str]], exc_info: "OptExcInfo | None") -> None:
        try:
            code = status.split(" ", 1)[0]
            self.status = int(code) if code.isascii() and code.isdigit() else None
            self.length = next((size(value) for name, value in headers if name.lower() == "content-length"), None)
            if exc_info is not None and exc_info[1] is not None:
                self.span.record_exception(exc_info[1])
        except Exception as error:
            caught("starting a WSGI response", error)

    def describe(self) -> None:
        try:
            environ = self._environ
            attribute, name = method_names(environ.get("REQUEST_METHOD", ""))
            self.span.update_name(name)
            self.span.set(keys.HTTP_REQUEST_METHOD, attribute)
            self.span.set(keys.URL_PATH, environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "") or "/")
            if environ.get("SERVER_NAME"):
                self.span.set(keys.SERVER_ADDRESS, environ["SERVER_NAME"])
            port = size(str(environ.get("SERVER_PORT", "")))
            if port:
                self.span.set(keys.SERVER_PORT, port)
            received = size(environ.get("CONTENT_LENGTH")) or 0 if self._input is None else self._input.bytes
            set_outcome(self, self.status, 500, received, self.sent)
        except Exception as error:
            caught("describing a WSGI request", error)


class _Body:
    """A response's body on its way to the server. The request is current while the application makes a part of it."""

    def __init__(self, inner: Iterable[bytes], served: _Served) -> None:
        self._inner = inner
        self._parts: Iterator[bytes] | None = None
        self._served = served

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        served = self._served
        served.resume()
        try:
            if self._parts is None:
                self._parts = iter(self._inner)
            part = next(self._parts)
        except StopIteration:
            served.end()
            raise
        except BaseException as error:
            served.end(error)
            raise
        served.sent += len(part)
        if self._is_last():  # the client may have it all, and go on, before the server asks for more
            served.end()
        served.pause()
        return part

    def close(self) -> None:
        """Close the application's body. A request that is still open then was abandoned by its client."""
        self._served.resume()
        try:
            close = getattr(self._inner, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            self._served.end(error)
            raise
        finally:
            self._served.abandon()

    def _is_last(self) -> bool:
        return self._served.length is not None and self._served.sent >= self._served.length


class _SizedBody(_Body):
    """A body of a known number of parts."""

    def __init__(self, inner: Iterable[bytes], served: _Served, parts: int) -> None:
        super().__init__(inner, served)
        self._left = parts

    def __len__(self) -> int:
        return len(self._inner)  # type: ignore[arg-type]  # it is Sized, or it would not be here

    def _is_last(self) -> bool:
        self._left -= 1
        return self._left <= 0


class _CountedInput:
    """A request's body that came in chunks, counted as the application reads it."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.bytes = 0

    def read(self, *args: int) -> bytes:
        return self._counted(self._inner.read(*args))

    def readline(self, *args: int) -> bytes:
        return self._counted(self._inner.readline(*args))

    def readlines(self, *args: int) -> list[bytes]:
        return [self._counted(line) for line in self._inner.readlines(*args)]

    def __iter__(self) -> Iterator[bytes]:
        for line in self._inner:
            yield self._counted(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _counted(self, data: bytes) -> bytes:
        self.bytes += len(data)
        return data


def _headers(environ: "WSGIEnvironment") -> dict[str, object]:
    names = {"traceparent": "HTTP_TRACEPARENT", "tracestate": "HTTP_TRACESTATE"}
    return {name: environ[key] for name, key in names.items() if key in environ}
