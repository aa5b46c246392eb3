"""tailsight's SDK: measure the stages of a real-time AI pipeline without disturbing them.

    import tailsight

    tailsight.configure(service="ranker")

    @tailsight.request
    def handle(query):
        with tailsight.stage("preprocess") as s:
            tokens = tokenize(query)
            s.set("tokens", len(tokens))
        return run(tokens)

A small process beside the service encodes the spans as OTLP and sends them to a collector. Nothing here ever raises
into the application.
"""

import importlib
from typing import TYPE_CHECKING

from ._api import request, stage, stream
from ._batch import Batch, batch
from ._carry import Carrier, carried, carrier, propagate
from ._gpu import GpuStage, gpu_stage
from ._propagate import RemoteContext, extract, inject
from ._queue import Queue, wrap_queue
from ._resource import sdk_version as _sdk_version
from ._runtime import configure, flush, shutdown, stats
from ._span import Span
from ._stats import DropReason, Stats

if TYPE_CHECKING:
    from . import profiling as profiling
    from ._async_queue import AsyncQueue

__version__ = _sdk_version()

__all__ = [
    "AsyncQueue",
    "Batch",
    "Carrier",
    "DropReason",
    "GpuStage",
    "Queue",
    "RemoteContext",
    "Span",
    "Stats",
    "__version__",
    "batch",
    "carried",
    "carrier",
    "configure",
    "extract",
    "flush",
    "gpu_stage",
    "inject",
    "propagate",
    "request",
    "shutdown",
    "stage",
    "stats",
    "stream",
    "wrap_queue",
]


def __getattr__(name: str) -> object:
    if name == "AsyncQueue":  # brings asyncio with it, which a service with threads does without
        from ._async_queue import AsyncQueue

        return AsyncQueue
    if name == "profiling":
        return importlib.import_module(".profiling", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
