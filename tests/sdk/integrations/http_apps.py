"""The same small service for ASGI and for WSGI, each behind tailsight's middleware."""

import gzip
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

import tailsight
import tailsight.integrations.asgi
import tailsight.integrations.wsgi

ZIPPED = gzip.compress(b"a" * 10_000)
PARTS = [bytes([65 + i]) * 1000 for i in range(5)]


async def echo(request: Request) -> Response:
    with tailsight.stage("compute"):
        return Response(await request.body())


async def parts(request: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        for part in PARTS:
            with tailsight.stage("compute"):
                pass
            yield part

    return StreamingResponse(body())


async def zipped(request: Request) -> Response:
    return Response(ZIPPED, headers={"content-encoding": "gzip"})


async def boom(request: Request) -> Response:
    raise LookupError("no such model")


async def status(request: Request) -> Response:
    return Response(b"as you wish", status_code=int(request.path_params["code"]))


async def moved(request: Request) -> Response:
    return RedirectResponse("/echo", status_code=307)


ROUTES = [
    Route("/echo", echo, methods=["GET", "POST"]),
    Route("/parts", parts),
    Route("/zipped", zipped),
    Route("/boom", boom),
    Route("/status/{code}", status),
    Route("/moved", moved, methods=["GET", "POST"]),
]


def asgi_app() -> Any:
    return tailsight.integrations.asgi.TailsightMiddleware(Starlette(routes=ROUTES))


def _wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/echo":
        with tailsight.stage("compute"):
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("200 OK", [])
        return [body]
    if path == "/parts":
        start_response("200 OK", [])
        return _wsgi_parts()
    if path == "/zipped":
        start_response("200 OK", [("Content-Encoding", "gzip"), ("Content-Length", str(len(ZIPPED)))])
        return iter([ZIPPED])
    if path == "/boom":
        raise LookupError("no such model")
    if path == "/moved":
        start_response("307 Temporary Redirect", [("Location", "/echo")])
        return [b""]
    start_response(f"{path.rpartition('/')[2]} As You Wish", [])
    return [b"as you wish"]


def _wsgi_parts() -> Iterator[bytes]:
    for part in PARTS:
        with tailsight.stage("compute"):
            pass
        yield part


def wsgi_app() -> Any:
    return tailsight.integrations.wsgi.TailsightMiddleware(_wsgi)
