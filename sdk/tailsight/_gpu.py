"""gpu_stage(): the time that the device worked, not the time that it took to launch the work."""

from collections.abc import Callable
from functools import partial
from threading import get_ident
from types import TracebackType
from typing import Any, Self, TypeVar

from opentelemetry.context import Context

from . import _decorate, _gpu_backends, _gpu_pending
from ._details import Details, describe_end
from ._emit import is_recorded
from ._gpu_pending import Launched
from ._guard import caught, warn_once
from ._otel import get_current
from ._recorder import current
from ._signals import raise_if_host_signal
from ._values import clean, text

F = TypeVar("F", bound=Callable[..., Any])

_MAX_NAME_LENGTH = 1024
_LIBRARIES = {"torch", "cupy", "cupy_backends"}


class GpuStage:
    """One execution on a device. Made by gpu_stage(). No method raises, and none waits for the device."""

    __slots__ = ("_launched", "_name", "_stage")

    def __init__(self, stage: str, name: str | None) -> None:
        self._stage = stage
        self._name = name
        self._launched: Launched | None = None

    def __enter__(self) -> Self:
        try:
            self._begin()
        except Exception as error:
            _failed(error)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        launched, self._launched = self._launched, None
        if launched is None:
            return
        try:
            if exc is not None:
                _describe(launched, exc)
            here = launched.backend.current_stream()
            if here is None:  # a capture began inside: what is recorded now would become part of the graph
                return
            launched.backend.record(launched.end, launched.stream.handle)
            _gpu_pending.pending.add(launched)
        except Exception as error:
            _failed(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, tb)

    def __call__(self, function: F) -> F:
        """Decorate a function, coroutine function, generator function or async generator function."""
        return _decorate.decorate(function, lambda name: partial(GpuStage, self._stage, self._name or name))

    def set(self, key: str, value: object) -> None:
        """Set an attribute. Of a tensor only the type is kept: to show it would be to wait for the device."""
        launched = self._launched
        if launched is None:
            return
        try:
            if type(value).__module__.split(".")[0] in _LIBRARIES:
                value = f"<{type(value).__name__}>"
            limits = current.recorder.limits if current.recorder is not None else None
            if limits is not None and (len(launched.attributes) < limits.attributes or key in launched.attributes):
                launched.attributes[text(key, limits.value_length)] = clean(value, limits.value_length)
        except Exception as error:
            caught("setting an attribute", error)

    def suspend(self) -> Context | None:
        """Say that this is never current: a generator's steps need nothing."""
        return None

    def resume(self, context: Context | None) -> None:
        """Do nothing."""

    def _begin(self) -> None:
        self._launched = None
        recorder = current.recorder or current.get()
        if recorder is None or not recorder.enabled:
            return
        backend = _gpu_backends.active()
        if backend is None:
            return
        context = get_current()
        stream = backend.current_stream() if is_recorded(context) else None
        if stream is None:
            return
        pending = _gpu_pending.pending
        start, end = pending.event(backend, stream.device), pending.event(backend, stream.device)
        launched = Launched(
            backend=backend,
            stream=stream,
            start=start,
            end=end,
            entered_ns=recorder.now(),
            now=recorder.now,
            context=context,
            stage=self._stage,
            name=self._name,
            thread_id=get_ident(),
        )
        backend.record(start, stream.handle)
        self._launched = launched


def _describe(launched: Launched, exc: BaseException) -> None:
    recorder = current.recorder
    mark = describe_end(exc)
    if mark is not None:
        launched.attributes[mark] = True
    elif recorder is not None:
        launched.details = Details()
        launched.details.fail(exc, launched.now(), recorder.limits)


def _failed(error: Exception) -> None:
    """Account for an error. One of the device's library is no defect of ours, and the host sees its own."""
    if type(error).__module__.split(".")[0] in _LIBRARIES or "CUDA" in str(error):
        raise_if_host_signal(error)
        warn_once(("device", type(error)), "the device cannot be measured: %s", error)
    else:
        caught("measuring a device", error)


def gpu_stage(stage: str = "gpu_kernel", *, name: str | None = None) -> GpuStage:
    """Measure what the block launches on a GPU: as a context manager, or as a decorator.

        with tailsight.gpu_stage("gpu_kernel"):
            y = model(x)

    The span holds the device's own times, from CUDA events on the current stream (PyTorch, CuPy), placed on the host's
    clock. It is sent when the device is done; nothing waits for that. Without a device nothing is recorded.
    """
    try:
        known = stage if type(stage) is str else text(stage, _MAX_NAME_LENGTH)
        return GpuStage(known, name if name is None or type(name) is str else text(name, _MAX_NAME_LENGTH))
    except Exception as error:
        caught("gpu_stage", error)
        return GpuStage("gpu_kernel", None)
