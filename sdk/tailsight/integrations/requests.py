"""requests, as a client: `session = tailsight.integrations.requests.instrument(requests.Session())`."""

import io
import sys
import weakref
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3.exceptions import HTTPError

from .._guard import caught
from ._http import ClientExchange, size

__all__ = ["TailsightAdapter", "instrument"]


def instrument(session: requests.Session) -> requests.Session:
    """Record each exchange of this session as a stage `network`, and return it. A second time does nothing.

    The adapters that are mounted now are wrapped, so what they are configured with stays. One that is mounted later
    must be wrapped by hand: `session.mount(prefix, TailsightAdapter(adapter))`.
    """
    try:
        for prefix, adapter in list(session.adapters.items()):
            if not isinstance(adapter, TailsightAdapter):
                session.adapters[prefix] = TailsightAdapter(adapter)  # not mount(): that would change their order
    except Exception as error:
        caught("instrumenting a requests session", error)
    return session


class TailsightAdapter(BaseAdapter):
    """An adapter that records what passes through another."""

    def __init__(self, adapter: BaseAdapter | None = None) -> None:
        super().__init__()
        self.adapter = HTTPAdapter() if adapter is None else adapter

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request. The stage ends when the response is read to its end, or closed."""
        exchange, sent = _begin(request)
        body = request.body
        if sent is not None:
            request.body = sent
        try:
            response = self.adapter.send(request, *args, **kwargs)
        except BaseException as error:
            exchange.end(error)
            raise
        finally:
            if sent is not None:
                exchange.request_bytes = sent.bytes
                request.body = body
        _headers_came(exchange, response)
        return response

    def close(self) -> None:
        """Close the adapter behind."""
        self.adapter.close()

    def __getattr__(self, name: str) -> Any:
        """Be asked for what the adapter behind has: poolmanager, max_retries and so on."""
        if name == "adapter":  # being unpickled
            raise AttributeError(name)
        return getattr(self.adapter, name)


def _begin(request: requests.PreparedRequest) -> tuple[ClientExchange, "_SentBody | None"]:
    """Begin an exchange. Return with it the body whose bytes must be counted, None if their number is known."""
    exchange = ClientExchange().begin()
    try:
        exchange.send(request.headers)
        url = urlsplit(str(request.url))
        exchange.target(str(request.method), url.scheme, url.hostname, url.port, url.path, url.query)
        exchange.request_bytes = size(request.headers.get("Content-Length"))
        if exchange.request_bytes is None:
            body: Any = request.body
            if isinstance(body, str | bytes | None):
                exchange.request_bytes = len(body.encode() if isinstance(body, str) else body or b"")
            elif not isinstance(body, io.TextIOBase):  # urllib3 must recognize text, to encode it
                return exchange, _SentBody(body)
    except Exception as error:
        caught("beginning a requests exchange", error)
    return exchange, None


def _headers_came(exchange: ClientExchange, response: requests.Response) -> None:
    """Let the exchange end with the response's body."""
    try:
        exchange.pause()
        exchange.status = response.status_code
        raw = response.raw
        # Without a connection (another kind of adapter) there is nothing to be read any more.
        if getattr(raw, "_original_response", None) is None:
            exchange.end()
            return
        _Watch(raw, exchange)
    except Exception as error:
        caught("watching a requests response", error)
        exchange.end()


class _Watch:
    """Notice that urllib3's response is done: it gives its connection back, at the end of the body or when closed.

    Its methods stand in the way of urllib3's own. Refers to the response weakly: the response refers to it.
    """

    def __init__(self, raw: Any, exchange: ClientExchange) -> None:
        self._raw = weakref.ref(raw)
        self._exchange = exchange
        self._reading = 0
        self._released = False
        self._in_chunks = 0
        raw.read, raw.close, raw.release_conn = self.read, self.close, self.release_conn
        if getattr(raw, "chunked", False):
            raw._handle_chunk = self._handle_chunk

    def read(self, *args: Any, **kwargs: Any) -> Any:
        raw: Any = self._raw()
        self._reading += 1  # urllib3 gives the connection back in the middle of this, and counts at the end
        try:
            return type(raw).read(raw, *args, **kwargs)
        finally:
            self._reading -= 1
            if self._released:
                self._finish(raw)

    def _handle_chunk(self, amt: int | None) -> Any:
        raw: Any = self._raw()
        data = type(raw)._handle_chunk(raw, amt)
        self._in_chunks += len(data)
        return data

    def close(self) -> None:
        raw: Any = self._raw()
        if raw is None:  # it is being collected
            return
        if not raw.isclosed():
            self._count(raw)
            self._exchange.abandon()
        type(raw).close(raw)

    def release_conn(self) -> None:
        raw: Any = self._raw()
        type(raw).release_conn(raw)
        self._released = True
        self._finish(raw)

    def _finish(self, raw: Any) -> None:
        if self._reading:
            return
        try:
            self._count(raw)
            # urllib3 gives a connection back in a `finally`: what is being raised through it is how the body ended.
            error = sys.exc_info()[1]
            if error is not None and (isinstance(error, HTTPError) or not isinstance(error, Exception)):
                self._exchange.end(error)
            elif raw.isclosed():
                self._exchange.end()
            else:  # given back unread
                self._exchange.abandon()
        except Exception as error:
            caught("ending a requests exchange", error)
            self._exchange.end()

    def _count(self, raw: Any) -> None:
        try:
            self._exchange.response_bytes = self._in_chunks or raw.tell()
        except Exception as error:
            caught("counting a response's bytes", error)


class _SentBody:
    """A request's body of unknown length, counted: an iterable, or a file that cannot tell its size."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.bytes = 0

    def __iter__(self) -> Iterator[Any]:
        for chunk in self._inner:
            self._count(chunk)
            yield chunk

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)  # a body without read() must not seem to have one
        return self._read if name == "read" else value

    def _read(self, *args: Any) -> Any:
        chunk = self._inner.read(*args)
        self._count(chunk)
        return chunk

    def _count(self, chunk: Any) -> None:
        try:
            self.bytes += len(chunk.encode() if isinstance(chunk, str) else chunk)
        except Exception as error:
            caught("counting a request's bytes", error)
