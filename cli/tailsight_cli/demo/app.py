"""The inference endpoint and its stages: preprocess → queue → compute → postprocess → serialize."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from opentelemetry.trace import StatusCode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import tailsight
from tailsight import attributes as keys

from .batcher import Batcher, Job, QueueFullError
from .gc_watch import GcWatch
from .model import Model, Prediction
from .names import HEALTH_PATH, INFER_PATH, MODEL_NAME
from .tokenizer import Document, DocumentCache, Token, Tokenizer

RETRY_AFTER_S = 1
DEFAULT_TOP_K = 8
_MAX_TOP_K = 100
_HIGHLIGHTS = 5
# Classes of input length, in tokens: an analysis compares values, and hardly two requests have the same length.
_LENGTH_CLASSES = (32, 64, 128, 256, 512)


class BadRequestError(Exception):
    """The body is not what the endpoint takes."""


@dataclass(frozen=True, slots=True)
class Query:
    """A request, tokenized."""

    document: Document
    tokens: list[Token]
    top_k: int


class Service:
    """What the endpoint needs: the model, the tokenizer's cache, the batcher."""

    def __init__(self, model: Model, **batching: Any) -> None:
        self._documents = DocumentCache(
            Tokenizer(vocabulary=model.config.vocabulary, max_tokens=model.config.max_tokens)
        )
        self._model = model
        self._batcher: Batcher[Query, Prediction] = Batcher(self._run, **batching)
        self._gc = GcWatch()

    def app(self) -> Starlette:
        """Return the ASGI application."""
        routes = [Route(INFER_PATH, self.infer, methods=["POST"]), Route(HEALTH_PATH, self.health)]
        return Starlette(routes=routes, lifespan=self._lifespan)

    async def health(self, _request: Request) -> Response:
        """Answer that the service is there."""
        return JSONResponse({"status": "ok", "model": MODEL_NAME})

    async def infer(self, request: Request) -> Response:
        """Answer a query."""
        # The request begins when its body is there. Waiting for bytes is the network's, and so the caller sees it.
        body = await request.body()
        with tailsight.request(f"POST {INFER_PATH}", context=tailsight.extract(request.scope["headers"])) as span:
            paused_ns, full_collections = self._gc.paused_ns, self._gc.full_collections
            status, answer, headers = 200, b"", {}
            try:
                answer = await self._answer(body, span)
            except BadRequestError as error:
                status, answer = 400, _error(error)
            except QueueFullError as error:
                status, answer, headers = 503, _error(error), {"retry-after": str(RETRY_AFTER_S)}
                span.set_status(StatusCode.ERROR, str(error))
            span.set("http.response.status_code", status)
            span.set("gc.pause_ms", round((self._gc.paused_ns - paused_ns) / 1e6, 3))
            span.set("gc.full", self._gc.full_collections > full_collections)
        return Response(answer, status, headers, media_type="application/json")

    async def _answer(self, body: bytes, span: tailsight.Span) -> bytes:
        with tailsight.stage("preprocess") as stage:
            query, cached = self._query(body)
            stage.set("cache.hit", cached)
            stage.set("truncated", query.document.truncated)
        span.set("tokens", len(query.tokens))
        span.set("tokens.class", length_class(len(query.tokens)))

        with tailsight.stage("queue") as stage:
            job: Job[Query, Prediction] = self._batcher.submit(query)
            stage.set(keys.QUEUE_DEPTH, job.depth)
            batch = await job.started
        with tailsight.stage("compute") as stage:
            longest = max(len(item.tokens) for item in batch.items)
            stage.set(keys.BATCH_SIZE, len(batch.items))
            stage.set("batch.longest", longest)  # tokens: what each input of the batch is padded to
            stage.set("batch.longest.class", length_class(longest))
            prediction = await job.finished

        with tailsight.stage("postprocess"):
            answer = _decode(query, prediction)
        with tailsight.stage("serialize") as stage:
            encoded = json.dumps(answer).encode()
            stage.set("bytes", len(encoded))
        return encoded

    def _query(self, body: bytes) -> tuple[Query, bool]:
        try:
            parsed = json.loads(body)
            text, top_k = parsed["text"], parsed.get("top_k", DEFAULT_TOP_K)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadRequestError(f'the body must be JSON like {{"text": "…", "top_k": 8}}: {error!r}') from error
        if not isinstance(text, str) or type(top_k) is not int or not 1 <= top_k <= _MAX_TOP_K:
            raise BadRequestError(f"text must be a string and top_k a number from 1 to {_MAX_TOP_K}")
        document, cached = self._documents.get(text)
        tokens = document.tokens
        if not tokens:
            raise BadRequestError("text has no words: send at least one")
        return Query(document, tokens, top_k), cached

    def _run(self, queries: Sequence[Query]) -> list[Prediction]:
        return self._model.run([[token.id for token in query.tokens] for query in queries])

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        batching = asyncio.create_task(self._batcher.serve())
        try:
            with self._gc:
                yield
        finally:
            batching.cancel()
            with suppress(asyncio.CancelledError):
                await batching


def length_class(tokens: int) -> str:
    """Return the class of an input of so many tokens, such as "65-128"."""
    below = 0
    for limit in _LENGTH_CLASSES:
        if tokens <= limit:
            return f"{below + 1}-{limit}"
        below = limit
    return f">{below}"


def _decode(query: Query, prediction: Prediction) -> dict[str, Any]:
    """Turn scores into answers, and saliency into the words that mattered, each with its sentence."""
    best = _largest(prediction.scores, query.top_k)
    salient = _largest(prediction.saliency, _HIGHLIGHTS)
    return {
        "answers": [
            {"id": int(index), "label": f"answer-{index:04d}", "score": float(prediction.scores[index])}
            for index in best
        ],
        "highlights": [
            {"word": token.text, "sentence": token.sentence.text}
            for token in (query.tokens[index] for index in salient)
        ],
        "embedding": prediction.embedding.round(5).tolist(),
        "tokens": [
            {"text": token.text, "weight": weight}
            for token, weight in zip(query.tokens, prediction.saliency.round(5).tolist(), strict=True)
        ],
    }


def _largest(values: np.ndarray[Any, Any], count: int) -> list[int]:
    """Return where the `count` largest values are, the largest first."""
    count = min(count, len(values))
    found = np.argpartition(values, -count)[-count:]
    ordered: list[int] = found[np.argsort(-values[found])].tolist()
    return ordered


def _error(error: Exception) -> bytes:
    return json.dumps({"error": str(error)}).encode()
