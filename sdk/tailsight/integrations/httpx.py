"""httpx, as a client: `client = tailsight.integrations.httpx.instrument(httpx.Client())`."""

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self, TypeVar

import httpx

from .._guard import caught
from ._http import ClientExchange, size

__all__ = ["AsyncTailsightTransport", "TailsightTransport", "instrument"]

Client = TypeVar("Client", httpx.Client, httpx.AsyncClient)


def instrument(client: Client) -> Client:
    """Record each exchange of this client as a stage `network`, and return the client. A second time does nothing."""
    try:
        # What httpx.Client(verify=…, proxy=…, limits=…) configured stays: its transports are wrapped, not replaced.
        if isinstance(client, httpx.AsyncClient):
            client._transport = _wrapped_async(client._transport)
            client._mounts = {key: inner and _wrapped_async(inner) for key, inner in client._mounts.items()}
        else:
            client._transport = _wrapped(client._transport)
            client._mounts = {key: inner and _wrapped(inner) for key, inner in client._mounts.items()}
    except Exception as error:
        caught("instrumenting an httpx client", error)
    return client


class TailsightTransport(httpx.BaseTransport):
    """A transport that records what passes through another: `httpx.Client(transport=TailsightTransport(…))`."""

    def __init__(self, transport: httpx.BaseTransport | None = None) -> None:
        self.transport = httpx.HTTPTransport() if transport is None else transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. The stage ends when the response is read to its end, or closed."""
        exchange, body = _begin(request)
        sent = _SentBody(body) if isinstance(body, httpx.SyncByteStream) else None
        if sent is not None:
            request.stream = sent
        try:
            response = self.transport.handle_request(request)
        except BaseException as error:
            _count_sent(exchange, sent)
            exchange.end(error)
            raise
        finally:
            if sent is not None:
                request.stream = sent.inner
        _count_sent(exchange, sent)
        _headers_came(exchange, response)
        if isinstance(response.stream, httpx.SyncByteStream):
            response.stream = _ReceivedBody(response.stream, exchange)
        return response

    def close(self) -> None:
        """Close the transport behind."""
        self.transport.close()

    def __enter__(self) -> Self:
        self.transport.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.transport.__exit__(exc_type, exc_value, traceback)


class AsyncTailsightTransport(httpx.AsyncBaseTransport):
    """A transport that records what passes through another, for httpx.AsyncClient."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.transport = httpx.AsyncHTTPTransport() if transport is None else transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. The stage ends when the response is read to its end, or closed."""
        exchange, body = _begin(request)
        sent = _AsyncSentBody(body) if isinstance(body, httpx.AsyncByteStream) else None
        if sent is not None:
            request.stream = sent
        try:
            response = await self.transport.handle_async_request(request)
        except BaseException as error:
            _count_sent(exchange, sent)
            exchange.end(error)
            raise
        finally:
            if sent is not None:
                request.stream = sent.inner
        _count_sent(exchange, sent)
        _headers_came(exchange, response)
        if isinstance(response.stream, httpx.AsyncByteStream):
            response.stream = _AsyncReceivedBody(response.stream, exchange)
        return response

    async def aclose(self) -> None:
        """Close the transport behind."""
        await self.transport.aclose()

    async def __aenter__(self) -> Self:
        await self.transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.transport.__aexit__(exc_type, exc_value, traceback)


def _wrapped(transport: httpx.BaseTransport) -> httpx.BaseTransport:
    return transport if isinstance(transport, TailsightTransport) else TailsightTransport(transport)


def _wrapped_async(transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
    return transport if isinstance(transport, AsyncTailsightTransport) else AsyncTailsightTransport(transport)


def _begin(request: httpx.Request) -> tuple[ClientExchange, object]:
    """Begin an exchange. Return with it the body whose bytes must be counted, None if their number is known."""
    exchange = ClientExchange().begin()
    try:
        exchange.send(request.headers)
        url = request.url
        path, _, query = url.raw_path.decode("ascii").partition("?")
        exchange.target(request.method, url.scheme, url.host, url.port, path, query)
        exchange.request_bytes = size(request.headers.get("content-length"))
        if exchange.request_bytes is None:
            if "transfer-encoding" in request.headers:
                return exchange, request.stream
            exchange.request_bytes = 0
    except Exception as error:
        caught("beginning an httpx exchange", error)
    return exchange, None


def _count_sent(exchange: ClientExchange, sent: "_SentBody | _AsyncSentBody | None") -> None:
    if sent is not None:
        exchange.request_bytes = sent.bytes


def _headers_came(exchange: ClientExchange, response: httpx.Response) -> None:
    exchange.status = response.status_code
    exchange.response_bytes = 0
    exchange.pause()


class _SentBody(httpx.SyncByteStream):
    """A request's body of unknown length, counted."""

    def __init__(self, inner: httpx.SyncByteStream) -> None:
        self.inner = inner
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        self.bytes = 0  # a transport that tries again begins again
        for chunk in self.inner:
            self.bytes += len(chunk)
            yield chunk

    def close(self) -> None:
        self.inner.close()


class _AsyncSentBody(httpx.AsyncByteStream):
    """A request's body of unknown length, counted."""

    def __init__(self, inner: httpx.AsyncByteStream) -> None:
        self.inner = inner
        self.bytes = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.bytes = 0
        async for chunk in self.inner:
            self.bytes += len(chunk)
            yield chunk

    async def aclose(self) -> None:
        await self.inner.aclose()


class _ReceivedBody(httpx.SyncByteStream):
    """A response's body as it comes from the connection: its end is the end of the exchange."""

    def __init__(self, inner: httpx.SyncByteStream, exchange: ClientExchange) -> None:
        self._inner = inner
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        exchange = self._exchange
        try:
            for chunk in self._inner:
                exchange.response_bytes = (exchange.response_bytes or 0) + len(chunk)
                yield chunk
        except GeneratorExit:
            exchange.abandon()
            raise
        except BaseException as error:
            exchange.end(error)
            raise
        exchange.complete = True
        exchange.end()

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._exchange.close()


class _AsyncReceivedBody(httpx.AsyncByteStream):
    """A response's body as it comes from the connection: its end is the end of the exchange."""

    def __init__(self, inner: httpx.AsyncByteStream, exchange: ClientExchange) -> None:
        self._inner = inner
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        exchange = self._exchange
        try:
            async for chunk in self._inner:
                exchange.response_bytes = (exchange.response_bytes or 0) + len(chunk)
                yield chunk
        except GeneratorExit:
            exchange.abandon()
            raise
        except BaseException as error:
            exchange.end(error)
            raise
        exchange.complete = True
        exchange.end()

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._exchange.close()
