"""The HTTP clients behind one face, each with its hook as a user sets it up."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import httpx
import requests

import tailsight.integrations.aiohttp
import tailsight.integrations.httpx
import tailsight.integrations.requests

Answer = tuple[int, bytes]
Client = Callable[..., Answer]


def with_httpx(method: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    with tailsight.integrations.httpx.instrument(httpx.Client(follow_redirects=True)) as client:
        response = client.request(method, url, content=body, headers=headers)
        return response.status_code, response.content


def with_async_httpx(method: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    async def call() -> Answer:
        async with tailsight.integrations.httpx.instrument(httpx.AsyncClient(follow_redirects=True)) as client:
            content = in_async_parts(body) if isinstance(body, Iterator) else body
            response = await client.request(method, url, content=content, headers=headers)
            return response.status_code, response.content

    return asyncio.run(call())


def with_requests(method: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    with requests.Session() as session:
        tailsight.integrations.requests.instrument(session)
        response = session.request(method, url, data=body, headers=headers)
        return response.status_code, response.content


def with_aiohttp(method: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    async def call() -> Answer:
        config = tailsight.integrations.aiohttp.trace_config()
        async with aiohttp.ClientSession(trace_configs=[config]) as session:
            data = in_async_parts(body) if isinstance(body, Iterator) else body
            async with session.request(method, url, data=data, headers=headers) as response:
                return response.status, await response.read()

    return asyncio.run(call())


async def in_async_parts(parts: Iterator[bytes]) -> Any:
    for part in parts:
        yield part


CLIENTS = {
    "httpx": with_httpx,
    "httpx-async": with_async_httpx,
    "requests": with_requests,
    "aiohttp": with_aiohttp,
}
