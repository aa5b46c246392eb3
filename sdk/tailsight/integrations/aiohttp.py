"""aiohttp, as a client: `aiohttp.ClientSession(trace_configs=[tailsight.integrations.aiohttp.trace_config()])`."""

from types import SimpleNamespace
from typing import cast

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from .._guard import caught
from ._http import ClientExchange, size

__all__ = ["trace_config"]


def trace_config() -> aiohttp.TraceConfig:
    """Return a trace configuration that records each exchange of a session as a stage `network`."""
    config = aiohttp.TraceConfig()
    config.on_request_start.append(_on_request_start)
    config.on_request_chunk_sent.append(_on_request_chunk_sent)
    config.on_request_redirect.append(_on_request_redirect)
    config.on_request_end.append(_on_request_end)
    config.on_request_exception.append(_on_request_exception)
    return config


async def _on_request_start(
    session: aiohttp.ClientSession,  # noqa: ARG001  aiohttp's signature, here and below
    context: SimpleNamespace,
    params: aiohttp.TraceRequestStartParams,
) -> None:
    _begin(context, params.method, params.url, params.headers)


async def _on_request_chunk_sent(
    session: aiohttp.ClientSession,  # noqa: ARG001
    context: SimpleNamespace,
    params: aiohttp.TraceRequestChunkSentParams,
) -> None:
    exchange = _exchange(context)
    if exchange is not None:
        exchange.request_bytes = (exchange.request_bytes or 0) + len(params.chunk)


async def _on_request_redirect(
    session: aiohttp.ClientSession,  # noqa: ARG001
    context: SimpleNamespace,
    params: aiohttp.TraceRequestRedirectParams,
) -> None:
    """End the exchange that was answered with a redirect, and begin the next one: aiohttp has no signal for that."""
    exchange = _exchange(context)
    if exchange is not None:
        exchange.status = params.response.status
        exchange.end()
    _begin(context, params.method, params.url, params.headers)


async def _on_request_end(
    session: aiohttp.ClientSession,  # noqa: ARG001
    context: SimpleNamespace,
    params: aiohttp.TraceRequestEndParams,
) -> None:
    exchange = _exchange(context)
    if exchange is None:
        return
    try:
        response = params.response
        _describe(exchange, response.method, response.url)  # after a redirect only now it is known what was asked
        exchange.status = response.status
        connection = response.connection
        # No connection: the body has come already. An upgraded one is the protocol's that follows.
        if connection is None or response.status == 101:
            _body_ended(exchange, response)
        else:
            connection.add_callback(lambda: _body_ended(exchange, response))
    except Exception as error:
        caught("ending an aiohttp exchange", error)
        exchange.end()


async def _on_request_exception(
    session: aiohttp.ClientSession,  # noqa: ARG001
    context: SimpleNamespace,
    params: aiohttp.TraceRequestExceptionParams,
) -> None:
    exchange = _exchange(context)
    if exchange is None:
        return
    _describe(exchange, params.method, params.url)
    error = params.exception
    # raise_for_status=True. With a cause it is aiohttp that could not read the answer, and the status is made up.
    if isinstance(error, aiohttp.ClientResponseError) and error.status and error.__cause__ is None:
        exchange.status = error.status
    exchange.end(error)


def _exchange(context: SimpleNamespace) -> ClientExchange | None:
    return cast("ClientExchange | None", getattr(context, "tailsight", None))


def _begin(context: SimpleNamespace, method: str, url: URL, headers: "CIMultiDict[str]") -> None:
    exchange = ClientExchange().begin()
    context.tailsight = exchange
    exchange.request_bytes = 0
    exchange.send(headers)
    exchange.pause()  # these hooks are no block: nothing of aiohttp's own work is measured inside
    _describe(exchange, method, url)


def _describe(exchange: ClientExchange, method: str, url: URL) -> None:
    try:
        exchange.target(method, url.scheme, url.host, url.port, url.raw_path, url.raw_query_string)
    except Exception as error:
        caught("describing an aiohttp request", error)


def _body_ended(exchange: ClientExchange, response: aiohttp.ClientResponse) -> None:
    """End: aiohttp gave the connection back, at the end of the body or because the response was closed."""
    try:
        body = response.content
        complete = body.is_eof()
        exchange.complete = complete
        exchange.response_bytes = _received(response, complete)
        error = None if complete else body.exception()
        # Closing a response early makes this very error, for whoever is still reading.
        if error is not None and type(error) is not aiohttp.ClientConnectionError:
            exchange.end(error)
        else:
            exchange.close()
    except Exception as error:
        caught("ending an aiohttp exchange", error)
        exchange.end()


def _received(response: aiohttp.ClientResponse, complete: bool) -> int | None:
    """Return the body's bytes as they were sent. aiohttp counts them after decompression."""
    if "Content-Encoding" not in response.headers:
        return response.content.total_bytes
    return size(response.headers.get("Content-Length")) if complete else None
