"""Which traces are exported: those of a window with filters, or those that are named. Always whole traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tailsight_analysis.errors import NoSpansError
from tailsight_analysis.queries import query
from tailsight_analysis.requests.accounting import Ints
from tailsight_analysis.scope import Filters, Window, describe, scope_parameters
from tailsight_analysis.tracing.ids import DIGITS, find_trace, no_such_trace
from tailsight_storage import Store

MAX_LINKED = 500_000


@dataclass(frozen=True, slots=True)
class Chosen:
    """Traces in the order of their first spans, an entry each: 40 bytes, whatever they hold.

    `first_ns` and `last_ns`: starts of the first and the last span; `spans`: as stored. `of`: how many traces there
    were before a limit; `rejected`: how many spans that arrived in the window were rejected, None without a window.
    """

    ids: npt.NDArray[np.void]
    first_ns: Ints
    last_ns: Ints
    spans: Ints
    of: int
    rejected: int | None

    def __len__(self) -> int:
        return len(self.spans)

    @property
    def span_count(self) -> int:
        """How many spans are stored of them, those that arrived twice counted twice."""
        return int(self.spans.sum())

    def cut(self, most: int | None) -> Chosen:
        """Keep the first so many traces."""
        if most is None or most >= len(self):
            return self
        columns = (self.ids[:most], self.first_ns[:most], self.last_ns[:most], self.spans[:most])
        return Chosen(*columns, of=self.of, rejected=self.rejected)

    def hex_ids(self, begin: int, end: int) -> str:
        """Ids in hex, one behind the other."""
        return self.ids[begin:end].tobytes().hex()


def choose_window(store: Store, window: Window, filters: Filters, arrived: Window | None = None) -> Chosen:
    """Choose each trace with a span in the window (of the service asked for) and a span that matches all other filters.

    Its spans are looked for within an hour on both sides of the window. `arrived`: when rejected spans that count had
    arrived, the window unless it is given. Raises NoSpansError where there is no trace.
    """
    bound = scope_parameters(window, filters)
    chosen = _chosen(store.columns(query("export_traces"), **bound), _rejected(store, arrived or window, filters))
    if not len(chosen):
        raise NoSpansError(f"no spans in {describe(window, filters)}")
    return chosen


def choose_named(store: Store, trace_ids: Sequence[str]) -> Chosen:
    """Choose the traces whose ids are, or begin with, these, wherever they are in the store.

    Raises QuestionError where a text is no id or several traces begin with it, NoSpansError where one is not there.
    """
    whole = list(dict.fromkeys(find_trace(store, text) for text in trace_ids))
    found: list[dict[str, npt.NDArray[np.uint64]]] = []
    for at in range(0, len(whole), 1000):
        columns = store.columns(query("export_traces_named"), ids="".join(whole[at : at + 1000]))
        if columns:
            found.append(columns)
    joined = {name: np.concatenate([each[name] for each in found]) for name in found[0]} if found else {}
    chosen = _chosen(joined, None)
    there = chosen.hex_ids(0, len(chosen))
    known = {there[at : at + DIGITS] for at in range(0, len(there), DIGITS)}
    missing = [each for each in whole if each not in known]
    if missing:
        raise no_such_trace(store, missing[0])
    return chosen


def linked_spans(store: Store, chosen: Chosen) -> set[tuple[str, str]]:
    """Return which spans are pointed to by links of spans in the time of these traces, by trace and span id in hex.

    At most MAX_LINKED.
    """
    first_ns, last_ns = int(chosen.first_ns.min()), int(chosen.last_ns.max())
    rows = store.ask(query("export_linked"), first_ns=first_ns, last_ns=last_ns, most=MAX_LINKED)
    return {(str(row["trace_id"]), str(row["span_id"])) for row in rows}


def _rejected(store: Store, window: Window, filters: Filters) -> int:
    bounds = {"since_ns": window.since_ns, "until_ns": window.until_ns, "service": list(filters.service)}
    return int(store.ask(query("export_rejected"), **bounds)[0]["rejected"])


def _chosen(columns: dict[str, npt.NDArray[np.uint64]], rejected: int | None) -> Chosen:
    if not columns:
        none = np.zeros(0, dtype=np.int64)
        return Chosen(np.zeros(0, dtype="V16"), none, none, none, 0, rejected)
    halves = np.stack([columns["trace_first"], columns["trace_last"]], axis=1).astype("<u8")
    order = np.argsort(columns["first_ns"], kind="stable")  # several questions' answers, each in order
    ids = np.frombuffer(halves.tobytes(), dtype="V16")[order]
    first_ns, last_ns, spans = (columns[name].astype(np.int64)[order] for name in ("first_ns", "last_ns", "spans"))
    return Chosen(ids, first_ns, last_ns, spans, len(ids), rejected)
