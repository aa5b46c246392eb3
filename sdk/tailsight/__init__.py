"""tailsight's SDK: measure the stages of a real-time AI pipeline without disturbing them.

    import tailsight

    tailsight.configure(service="ranker")

    @tailsight.request
    def handle(query):
        with tailsight.stage("preprocess") as s:
            tokens = tokenize(query)
            s.set("tokens", len(tokens))
        return run(tokens)

Spans go to a collector over OTLP/HTTP from a background thread. Nothing here ever raises into the application.
"""

from ._api import request, stage
from ._propagate import RemoteContext, extract, inject
from ._resource import sdk_version as _sdk_version
from ._runtime import configure, flush, shutdown, stats
from ._span import Span
from ._stats import DropReason, Stats

__version__ = _sdk_version()

__all__ = [
    "DropReason",
    "RemoteContext",
    "Span",
    "Stats",
    "__version__",
    "configure",
    "extract",
    "flush",
    "inject",
    "request",
    "shutdown",
    "stage",
    "stats",
]
