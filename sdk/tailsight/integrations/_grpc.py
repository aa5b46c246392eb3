"""What the hooks of gRPC have in common: a call's two halves, their bytes, and what counts as an error."""

from collections.abc import Callable, Iterable
from typing import Any

import grpc  # type: ignore[import-untyped]

import tailsight
from tailsight import attributes

from .. import attributes as keys
from .._guard import caught
from ._call import Call, client_span

Codec = Callable[[Any], Any] | None
Pairs = Iterable[tuple[str, str | bytes]]

_TRACE_HEADERS = ("traceparent", "tracestate")

# OpenTelemetry: which outcomes are the server's fault. For a client every outcome but OK is an error.
_SERVER_ERRORS = {
    code.value[0]
    for code in (
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    )
}
_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_UNKNOWN: int = grpc.StatusCode.UNKNOWN.value[0]


class GrpcCall(Call):
    """One half of a call."""

    __slots__ = ("_method", "_service", "code", "request_bytes", "response_bytes", "responses")

    def __init__(self, path: str | bytes, make_span: Callable[[str], tailsight.Span]) -> None:
        full = (path.decode("utf-8", "replace") if isinstance(path, bytes) else path).lstrip("/")
        self._service, _, self._method = full.rpartition("/")
        super().__init__(make_span(full))
        self.code: int | None = None
        self.request_bytes: int | None = 0  # None: not known
        self.response_bytes: int | None = 0
        self.responses: int | None = None  # of a stream

    def is_error(self, code: int) -> bool:
        """Tell whether this outcome is an error for this half."""
        raise NotImplementedError

    def describe(self) -> None:
        """Set the outcome and the bytes."""
        self.span.set(keys.RPC_SYSTEM, "grpc")
        self.span.set(keys.RPC_SERVICE, self._service)
        self.span.set(keys.RPC_METHOD, self._method)
        if self.code is not None:
            self.span.set(keys.RPC_GRPC_STATUS_CODE, self.code)
            if self.is_error(self.code):
                self.fail(_NAMES.get(self.code, str(self.code)))
        if self.request_bytes is not None:
            self.span.set(keys.RPC_REQUEST_SIZE, self.request_bytes)
        if self.response_bytes is not None:
            self.span.set(keys.RPC_RESPONSE_SIZE, self.response_bytes)
        if self.responses is not None:
            self.span.set(attributes.STREAM_ITEMS, self.responses)


class ClientCall(GrpcCall):
    """The client's half."""

    __slots__ = ()

    _to_another_service = True

    def __init__(self, path: str | bytes) -> None:
        super().__init__(path, client_span)

    def is_error(self, code: int) -> bool:
        return code != 0

    def sent(self, message: Any) -> Any:
        """Count a request message, and return it."""
        self.request_bytes = _added(self.request_bytes, message)
        return message

    def received(self, message: Any) -> Any:
        """Count a response message, and return it."""
        self.response_bytes = _added(self.response_bytes, message)
        if self.responses is not None:
            self.responses += 1
        return message

    def succeed(self) -> None:
        """End with OK."""
        self.code = 0
        self.end()

    def fail_with(self, error: BaseException) -> None:
        """End with an exception: gRPC's own has the status."""
        if isinstance(error, grpc.RpcError):
            self.code = status_number(getattr(error, "code", lambda: None)())
        self.end(error)

    def cancelled(self) -> None:
        """End because the caller cancelled the call. That is no error."""
        self.span.set(attributes.CANCELLED, True)
        self.end()


class ServerCall(GrpcCall):
    """The server's half. Its codecs count the bytes exactly, whatever the messages are."""

    __slots__ = ("_answered",)

    def __init__(self, path: str | bytes, metadata: Pairs | None) -> None:
        context = tailsight.extract(metadata or ())
        super().__init__(path, lambda name: tailsight.request(name, context=context))
        self._answered = False

    def is_error(self, code: int) -> bool:
        return code in _SERVER_ERRORS

    def deserializer(self, inner: Codec) -> Codec:
        """Return a deserializer that counts."""

        def deserialize(data: bytes) -> Any:
            self.request_bytes = (self.request_bytes or 0) + len(data)
            if inner is None:
                return data
            try:
                return inner(data)
            except BaseException as error:
                self.end(error)
                raise

        return deserialize

    def serializer(self, inner: Codec) -> Codec:
        """Return a serializer that counts. What it makes of an answer (see answer()) is the end of the call."""

        def serialize(message: Any) -> bytes:
            try:
                data: bytes = message if inner is None else inner(message)
            except BaseException as error:
                self.end(error)
                raise
            self._serialized(data)
            return data

        return serialize

    def _serialized(self, data: bytes) -> None:
        try:
            self.response_bytes = (self.response_bytes or 0) + len(data)
        except Exception as error:
            caught("counting a gRPC response's bytes", error)
        if self._answered:
            self.code = self.code or 0  # where it could not be asked: only an answer with OK is serialized
            self.end()

    def answer(self, context: Any) -> None:
        """Wait for the serializer: the handler returned its one response."""
        self.code = _code_of(context)
        if self.code:
            self.end()  # perhaps gRPC discards the response
        else:
            self._answered = True
            self.pause()

    def finish(self, context: Any) -> None:
        """End: the handler is done."""
        self.code = _code_of(context)
        self.end()

    def failed(self, error: BaseException, context: Any) -> None:
        """End because the handler raised. context.abort() does so too: then the status is the outcome."""
        code = _code_of(context)
        aborted = type(error).__name__ == "AbortError" or (type(error) is Exception and not error.args)
        if aborted and code:
            self.code = code
            self.end()
            return
        if isinstance(error, Exception) and code is not None:
            self.code = code or _UNKNOWN
        self.end(error)


def status_number(code: Any) -> int | None:
    """Return a status as a number: gRPC has it as an enum in one place and as an int in another."""
    value = getattr(code, "value", code)
    value = value[0] if isinstance(value, tuple) else value
    return value if isinstance(value, int) else None


def trace_metadata(metadata: Pairs | None) -> list[tuple[str, str | bytes]] | None:
    """Return the metadata with the current trace context in it; None if there is nothing to add."""
    try:
        injected = tailsight.inject()
        if not injected:
            return None
        kept = [(key, value) for key, value in (metadata or ()) if key not in _TRACE_HEADERS]
        return [*kept, *injected.items()]
    except Exception as error:
        caught("writing gRPC metadata", error)
        return None


def _code_of(context: Any) -> int | None:
    """Return the status so far; None if it cannot be asked: a handler without `async` in an asyncio server."""
    try:
        ask = getattr(context, "code", None)
        return None if ask is None else status_number(ask()) or 0
    except Exception as error:
        caught("asking for a gRPC status", error)
        return None


def _added(total: int | None, message: Any) -> int | None:
    """Add a message's bytes: of bytes, of protobuf's messages, or of nothing else, for that would be a guess."""
    try:
        if total is None:
            return None
        if isinstance(message, bytes | bytearray | memoryview):
            return total + len(message)
        size: int = message.ByteSize()
        return total + size
    except AttributeError:
        return None
    except Exception as error:
        caught("counting a gRPC message's bytes", error)
        return None
