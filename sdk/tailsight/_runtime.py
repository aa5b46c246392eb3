"""The process's one configuration: made, replaced, flushed, ended, and made anew after a fork."""

import atexit
import dataclasses
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

from . import _fork, _otlp
from . import attributes as keys
from ._clock import Clock
from ._collectors import for_traces, usable
from ._destination import own_mark
from ._gpu_pending import pending
from ._guard import caught, guarded, warn_once
from ._ids import Ids
from ._options import Settings, resolve
from ._recorder import Limits, Recorder, current, discard
from ._resource import resource_attributes
from ._sampling import TailSampler
from ._sender import Sender
from ._sidecar import Sidecar
from ._sidecar_config import destination_of
from ._stats import Stats, counters


class Transport(Protocol):
    """What takes packed batches to the collector: Sidecar or Sender."""

    def push(self, packed: bytes, spans: int) -> None:
        """Take a finished batch. Never blocks, never raises."""

    def flush(self, timeout_s: float) -> bool:
        """Send what was pushed before. Return whether that was done in time."""
        ...

    def close(self, timeout_s: float, *, wait: bool = True) -> None:
        """Send what is pending, and end."""

    def stats(self) -> Stats:
        """Return what was counted apart from the process's own counters."""
        ...

    def abandon(self) -> None:
        """Let go of everything, in a forked child."""

    @property
    def alive(self) -> bool:
        """Whether something works on what was pushed."""
        ...

    @property
    def name(self) -> str:
        """What carries the spans now."""
        ...


class _Runtime:
    """What configure() set up. Changed under `lock` only."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.settings: Settings | None = None
        self.recorder: Recorder | None = None
        self.transport: Transport | None = None
        self.retiring: list[Transport] = []
        self.clock = Clock()


_runtime = _Runtime()


@guarded("configure", lambda: None)
def configure(
    *,
    enabled: bool | None = None,
    service: str | None = None,
    version: str | None = None,
    environment: str | None = None,
    region: str | None = None,
    host: str | None = None,
    hardware: str | None = None,
    run: str | None = None,
    model: str | None = None,
    resource_attributes: Mapping[str, Any] | None = None,
    protocol: str | None = None,
    endpoint: str | None = None,
    headers: Mapping[str, str] | None = None,
    compression: str | None = None,
    timeout_s: float | None = None,
    transport: str | None = None,
    file: str | None = None,
    send_interval_s: float | None = None,
    retry_initial_s: float | None = None,
    retry_max_s: float | None = None,
    retry_for_s: float | None = None,
    flush_timeout_s: float | None = None,
    buffer_bytes: int | None = None,
    runtime_dir: str | None = None,
    spool_dir: str | None = None,
    spool_bytes: int | None = None,
    spool_policy: str | None = None,
    sample_rate: float | None = None,
    device_interval_s: float | None = None,
    profile: str | None = None,
    batch_bytes: int | None = None,
    max_attributes: int | None = None,
    max_events: int | None = None,
    max_value_length: int | None = None,
    **unknown: object,
) -> None:
    """Say who this service is and where its spans go. docs/sdk.md explains every option.

    Whatever is not given comes from the environment (TAILSIGHT_…, then OTEL_…), then from the defaults. Without a call,
    the first span configures from the environment. A further call replaces all options; spans recorded before it are
    sent as they would have been. A wrong value is logged and ignored: this never raises.
    """
    arguments = {name: value for name, value in locals().items() if name != "unknown" and value is not None}
    install(resolve({**arguments, **unknown}))


def install(settings: Settings) -> Recorder:
    """Make `settings` the current ones."""
    with _runtime.lock:
        if settings == _runtime.settings and _runtime.recorder is not None:
            current.recorder = _runtime.recorder
            return _runtime.recorder
        before, transport_before = _runtime.recorder, _runtime.transport
        _runtime.settings = settings
        recorder = _start(settings)
        if before is not None:
            before.push = recorder.push  # requests in progress end as part of the new configuration
        if transport_before is not None:
            transport_before.close(settings.flush_timeout_s, wait=False)
            for ended in [transport for transport in _runtime.retiring if not transport.alive]:
                ended.close(0.0)
                counters.absorb(ended.stats())
                _runtime.retiring.remove(ended)
            _runtime.retiring.append(transport_before)
        return recorder


def flush(timeout: float | None = None) -> bool:
    """Send all that finished before this call, and wait for it, `timeout` seconds at most (default: flush_timeout_s).

    Return False if it took longer; the sending then goes on.
    """
    try:
        with _runtime.lock:
            transport, settings = _runtime.transport, _runtime.settings
        pending.poll()  # work on a device that is done by now is not yet a span
        if transport is None or settings is None:
            return True
        return transport.flush(settings.flush_timeout_s if timeout is None else timeout)
    except Exception as error:
        caught("flush", error)
        return False


def shutdown(timeout: float | None = None) -> None:
    """Send what is pending, for `timeout` seconds at most (default: flush_timeout_s), and stop recording.

    What could not be sent is dropped and counted. configure() starts again.
    """
    try:
        with _runtime.lock:
            settings, transport = _runtime.settings, _runtime.transport
            ending_ones = [*_runtime.retiring, *([transport] if transport else [])]
            current.recorder = _runtime.recorder = _disabled()
            _runtime.settings, _runtime.transport, _runtime.retiring = None, None, []
        limit = timeout if timeout is not None else settings.flush_timeout_s if settings is not None else 0.0
        until = time.monotonic() + limit
        for ending in ending_ones:
            ending.close(limit, wait=False)  # all of them at once: the limit is for the whole
        for ending in ending_ones:
            ending.close(max(0.0, until - time.monotonic()))
            counters.absorb(ending.stats())
    except Exception as error:
        caught("shutdown", error)


_NO_STATS = Stats(0, MappingProxyType({}), 0, 0, 0, 0, 0)


def _no_stats() -> Stats:
    try:
        return dataclasses.replace(_NO_STATS, internal_errors=counters.internal_errors)
    except Exception:  # the log has a line already
        return _NO_STATS


@guarded("stats", _no_stats)
def stats() -> Stats:
    """Return the SDK's own counters: what was sent, what was dropped and why."""
    transport = _runtime.transport
    total = counters.snapshot(pending_bytes=0)
    for part in [*_runtime.retiring, *([transport] if transport else [])]:
        total = total.plus(part.stats())
    return dataclasses.replace(total, transport=transport.name if transport is not None else "")


def _from_environment() -> Recorder:
    """Configure on first use."""
    with _runtime.lock:
        return _runtime.recorder or install(resolve({}))


def _start(settings: Settings) -> Recorder:
    """Make the recorder, and the sender behind it, and make them current."""
    if settings.enabled:
        counters.on_drop = counters.on_decision = None
        transport: Transport
        if settings.transport == "thread":
            transport = _sender(settings, on_start=_flush_when_a_worker_process_ends)
            if settings.profile:
                warn_once("profile", "TAILSIGHT_PROFILE is ignored: the sidecar records, and transport=thread has none")
        else:
            own_mark(
                *destination_of(settings)
            )  # which may take milliseconds: the first request's end is no time for it
            transport = Sidecar(settings, counters, partial(_sender, settings), _flush_when_a_worker_process_ends)
        _runtime.transport = transport
        sampler = TailSampler(settings.sample_rate, counters.decided) if settings.sample_rate < 1 else None
        recorder = Recorder(
            clock=_runtime.clock, ids=Ids(), limits=Limits.of(settings), push=transport.push, sampler=sampler
        )
    else:
        _runtime.transport = None
        recorder = _disabled()
    current.recorder = _runtime.recorder = recorder
    return recorder


def _sender(settings: Settings, *, on_start: Callable[[], None] = lambda: None) -> Sender:
    """Make the thread that encodes and sends: chosen, or in place of a sidecar."""
    settings = usable(settings, in_sidecar=False)
    resource = guarded("describing the resource", lambda: _minimal_resource(settings))(
        partial(resource_attributes, settings)
    )
    return Sender(
        settings,
        collector=for_traces(settings),
        resource=lambda: _otlp.resource(resource()),
        defaults={keys.MODEL: settings.model} if settings.model else {},
        counters=counters,
        on_start=on_start,
    )


def _minimal_resource(settings: Settings) -> dict[str, Any]:
    return {keys.SERVICE_NAME: settings.service or "unknown_service:python"}


def _disabled() -> Recorder:
    return Recorder(clock=_runtime.clock, ids=Ids(), limits=Limits(), push=discard, enabled=False)


def _after_fork() -> None:
    """Begin anew in a forked child: what is pending belongs to the parent, and so does the parent's thread.

    Nothing of the old objects is used, since their locks may be held by threads that do not exist here.
    """
    try:
        was_current = current.recorder is _runtime.recorder
        before, settings = _runtime.recorder, _runtime.settings
        _runtime.lock = threading.RLock()
        _fork.after_in_child()
        for transport in [*_runtime.retiring, *([_runtime.transport] if _runtime.transport else [])]:
            transport.abandon()
        _runtime.retiring = []
        counters.reset()
        _runtime.clock.renew()
        if before is None or settings is None:
            _runtime.recorder = _runtime.settings = _runtime.transport = None  # another thread was in the midst of it
            if was_current:
                current.recorder = None
            return
        before.push = discard  # spans of requests that the parent began: the parent sends them
        captured = current.recorder
        _start(settings)
        if not was_current:
            current.recorder = captured
    except Exception as error:
        caught("starting after a fork", error)


def _flush_when_a_worker_process_ends() -> None:
    """Register a last flush where atexit does not run: multiprocessing's forked children leave through os._exit()."""
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        multiprocessing.util.Finalize(None, shutdown, exitpriority=100)


current.configure = _from_environment
atexit.register(shutdown)
if hasattr(os, "register_at_fork"):
    # Already here, not in configure(): a fork while another thread configures must find it registered.
    os.register_at_fork(before=_fork.before, after_in_parent=_fork.after_in_parent, after_in_child=_after_fork)
