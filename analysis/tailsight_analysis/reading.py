"""Open the store for reading, and learn what it holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from tailsight_analysis.queries import query
from tailsight_analysis.scope import Filters, Window, as_names, scope_parameters
from tailsight_storage import DEFAULT_STORE, STORE_ENV, Store, open_store

CHOICES = ("service", "stage", "hardware", "version", "model", "run", "host", "region")


def connect(dsn: str | None = None) -> Store:
    """Open the store that `dsn` names, else the environment's TAILSIGHT_STORE, else the default.

    Raises a StorageError where there is none.
    """
    return open_store(dsn or os.environ.get(STORE_ENV) or DEFAULT_STORE)


def whole_time(store: Store, run: str | Sequence[str] | None = None) -> Window | None:
    """Window of everything in the store, or of one or several runs; None where there is nothing."""
    row = store.ask(query("whole_time"), run=as_names(run))[0]
    if not row["spans"]:
        return None
    return Window(int(row["first_ns"]), int(row["last_ns"]) + 1)


def choices(store: Store, window: Window) -> dict[str, list[str]]:
    """Return the values that each filter can take in the window, sorted; at most a thousand each."""
    row = store.ask(query("choices"), since_ns=window.since_ns, until_ns=window.until_ns)[0]
    return {name: [str(value) for value in row[name]] for name in CHOICES}


def request_parameters(store: Store, window: Window, filters: Filters) -> dict[str, Any]:
    """Bind sql/requests.sql. Traces without a root, weights and intended starts are read only where there are any."""
    rootless = False
    bounds = {"since_ns": window.since_ns, "until_ns": window.until_ns}
    marks = store.ask(query("marks"), **bounds)[0]
    if not filters.service:
        rootless = bool(store.ask(query("rootless"), **bounds)[0]["rootless"])
    # of all traces, until a sample says otherwise (see sample.Cuts)
    no_sample = dict.fromkeys(("tail_from_ns", "tail_hash", "typical_from_ns", "typical_to_ns", "typical_hash"), 0)
    return {
        **scope_parameters(window, filters),
        "rootless": int(rootless),
        "weighted": int(marks["weighted"]),
        "intended": int(marks["intended"]),
        "every_trace": 1,
        **no_sample,
    }
