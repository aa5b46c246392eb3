"""The devices whose time can be measured: PyTorch's and CuPy's CUDA events.

Nothing is imported here and no device is initialized: a library counts only if the host has imported it, and
PyTorch's only once the host has used its device.
"""

import os
import sys
from collections.abc import Hashable
from typing import Any, NamedTuple, Protocol


class Stream(NamedTuple):
    """A stream of a device, in whose order events happen."""

    device: Hashable
    key: Hashable
    handle: Any


class Backend(Protocol):
    """What a library of a device must offer. No method may wait for the device."""

    def current_stream(self) -> Stream | None:
        """Return the thread's current stream. None if nothing can be recorded: no device, or a graph capture."""

    def side_stream(self, device: Hashable) -> Any:
        """Return a handle of a stream that waits for nothing, for anchors."""

    def new_event(self) -> Any:
        """Return an event with timing."""

    def record(self, event: Any, stream: Any) -> None:
        """Have `event` happen when what was launched on the stream so far is done."""

    def done(self, event: Any) -> bool:
        """Tell whether it has happened."""

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Return the time between two events of one device that have happened, the earlier one first."""

    def prepare_thread(self) -> bool:
        """Make asking for events in this thread harmless for the others. False if it would not be."""


class Torch:
    """PyTorch's CUDA events."""

    def __init__(self, torch: Any) -> None:
        self._cuda = torch.cuda

    def current_stream(self) -> Stream | None:
        """Return PyTorch's current stream, unless it is being captured into a graph."""
        cuda = self._cuda
        if not cuda.is_initialized() or cuda.is_current_stream_capturing():
            return None
        stream = cuda.current_stream()
        device = stream.device.index
        return Stream(device, (device, stream.cuda_stream), stream)

    def side_stream(self, device: Hashable) -> Any:
        """Return a stream of PyTorch's pool: they do not wait for the default stream.

        Another one each time. The pool hands out each stream several times, so the host may be using this one.
        """
        return self._cuda.Stream(device=device)

    def new_event(self) -> Any:
        """Return an event that PyTorch creates on the device when it is recorded first."""
        return self._cuda.Event(enable_timing=True)

    def record(self, event: Any, stream: Any) -> None:
        """Record."""
        event.record(stream)

    def done(self, event: Any) -> bool:
        """Ask without waiting."""
        return bool(event.query())

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Return what the device's clock says."""
        return float(start.elapsed_time(end))

    def prepare_thread(self) -> bool:
        """See keep_out_of_captures()."""
        return keep_out_of_captures()


class CuPy:
    """CuPy's CUDA events."""

    def __init__(self, cupy: Any) -> None:
        self._cuda = cupy.cuda
        self._side_streams: dict[Hashable, Any] = {}

    def current_stream(self) -> Stream | None:
        """Return CuPy's current stream, unless it is being captured into a graph."""
        if not self._cuda.is_available():
            return None
        stream = self._cuda.get_current_stream()
        if stream.is_capturing():
            return None
        device = self._cuda.runtime.getDevice()
        return Stream(device, (device, stream.ptr), stream)

    def side_stream(self, device: Hashable) -> Any:
        """Return a stream that does not wait for the default stream."""
        stream = self._side_streams.get(device)
        if stream is None:
            with self._cuda.Device(device):
                stream = self._side_streams[device] = self._cuda.Stream(non_blocking=True)
        return stream

    def new_event(self) -> Any:
        """Return an event of the current device."""
        return self._cuda.Event()

    def record(self, event: Any, stream: Any) -> None:
        """Record."""
        event.record(stream)

    def done(self, event: Any) -> bool:
        """Ask without waiting."""
        return bool(event.done)

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Return what the device's clock says."""
        return float(self._cuda.get_elapsed_time(start, end))

    def prepare_thread(self) -> bool:
        """See keep_out_of_captures()."""
        return keep_out_of_captures()


_found: dict[str, Backend] = {}
_replaced: list[Backend] = []
"""tailsight.testing's fake device, which stands for all others."""


def active() -> Backend | None:
    """Return the backend of a library that the host uses."""
    if _replaced:
        return _replaced[-1]
    torch = sys.modules.get("torch")
    # ROCm calls itself CUDA here, but asking for an event there breaks graph captures of other threads.
    is_cuda = torch is not None and hasattr(torch, "cuda") and getattr(torch.version, "hip", None) is None
    if torch is not None and is_cuda and torch.cuda.is_initialized():
        return _found.get("torch") or _found.setdefault("torch", Torch(torch))
    cupy = sys.modules.get("cupy")
    if cupy is not None and hasattr(cupy, "cuda"):
        return _found.get("cupy") or _found.setdefault("cupy", CuPy(cupy))
    return None


_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL


def keep_out_of_captures() -> bool:
    """Have CUDA tell this thread's calls apart from graph captures of other threads.

    By default, asking for an event in any thread breaks a capture that runs in another one. PyTorch's own watchdog of
    NCCL had that defect, and the same cure.
    """
    import ctypes  # only where there is a device

    try:
        driver = ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
        return bool(driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(ctypes.c_int(_THREAD_LOCAL))) == 0)
    except (OSError, AttributeError):
        return False
