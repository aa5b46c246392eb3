"""Open the store for reading, and learn what it holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tailsight_analysis.queries import query
from tailsight_analysis.scope import Filters, Window, as_names, scope_parameters
from tailsight_storage import DEFAULT_STORE, STORE_ENV, Store, open_store

_LEAST_TRACES = 2000  # in a slice of a 64th: of fewer, all are looked at in no time
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
    """Bind sql/requests.sql. What is rare (see `Shape`) is looked for only where there is any, for it costs much."""
    bounds = {"since_ns": window.since_ns, "until_ns": window.until_ns}
    marks = store.ask(query("marks"), **bounds)[0]
    shape = shape_of(store, window)
    # of all traces, until a sample says otherwise (see sample.Cuts)
    no_sample: dict[str, Any] = dict.fromkeys(
        ("tail_from_ns", "tail_key", "typical_from_ns", "typical_to_ns", "typical_key"), 0
    )
    return {
        **scope_parameters(window, filters),
        "plain": int(not filters.service and not shape.rootless and not shape.repeated_roots),
        "rootless": int(shape.rootless),
        "by_id": int(shape.random_ids),
        "weighted": int(marks["weighted"]),
        "intended": int(marks["intended"]),
        "every_trace": 1,
        "last_id": "",
        **no_sample,
    }


@dataclass(frozen=True, slots=True)
class Shape:
    """What the traces around a window are like.

    `random_ids`: trace ids are random in their first bytes, as W3C Trace Context asks for, so that those with the
    lowest ids are a fair sample. `rootless`: some have no root span. `repeated_roots`: some root spans are stored
    twice.
    """

    random_ids: bool
    rootless: bool
    repeated_roots: bool


def shape_of(store: Store, window: Window) -> Shape:
    """Look at two slices of the traces where these show that ids are random, else at all of them.

    So among many traces a few without a root, or roots that are there twice, may be missed: fewer than about one in ten
    thousand. They are left out, or counted twice.
    """
    bounds = {"since_ns": window.since_ns, "until_ns": window.until_ns}
    slices = store.ask(query("shape"), **bounds)
    low, middle = (sum(int(row["traces"]) for row in slices if row["slice"] == side) for side in (0, 1))
    if min(low, middle) >= _LEAST_TRACES and (low - middle) ** 2 <= 36 * (low + middle):
        return Shape(
            random_ids=True,
            rootless=any(row["traces"] > row["rooted"] for row in slices),
            repeated_roots=any(row["roots"] > row["distinct_roots"] for row in slices),
        )
    row = store.ask(query("whole_shape"), **bounds)[0]
    return Shape(random_ids=False, rootless=bool(row["rootless"]), repeated_roots=bool(row["repeated_roots"]))
