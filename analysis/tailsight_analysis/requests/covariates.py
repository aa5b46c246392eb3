"""Numbers that the sampled requests' spans carry, beside their times: batch size, input length, quality.

Only keys of what is known before the work begins make work comparable. Output tokens, retries or queue depth are
results of it: to adjust for them would explain away what they are a part of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tailsight_analysis.queries import query
from tailsight_analysis.requests.accounting import Bools, Floats, Ints
from tailsight_analysis.requests.sample import Cuts, Sample
from tailsight_storage import Store

BATCH_KEYS = ("tailsight.batch.size", "batch.size", "batch_size", "gen_ai.request.batch_size")
# The first of these that the requests carry is the input's length.
INPUT_KEYS = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "llm.usage.prompt_tokens",
    "llm.token_count.prompt",
    "tailsight.input.length",
    "tailsight.input.tokens",
    "input.length",
    "input_length",
    "input_tokens",
    "prompt_tokens",
    "sequence_length",
    "seq_len",
    "tokens",
    "http.request.body.size",
)
LEAST_SHARE = 0.2  # of the requests must carry a key, for it to be one of theirs


def fetch_numbers(
    store: Store, parameters: dict[str, Any], cuts: Cuts, sample: Sample, trace_ids: Sequence[str], keys: Sequence[str]
) -> dict[str, Floats]:
    """Fetch what the sample's spans carry under `keys`: for each key that any has, a number a span, nan where none.

    `parameters` and `cuts` are those that the sample was fetched with. Where several spans share one id, they share
    the highest of their numbers.
    """
    rows = store.columns(query("span_numbers"), **parameters | cuts.parameters(), keys=list(keys))
    if not len(rows.get("key", ())):
        return {}
    spans, wanted = _keys_of(rows, sample, trace_ids)
    order = np.lexsort((rows["value"], wanted))
    wanted, values, number = wanted[order], rows["value"][order], rows["key"][order]
    found: dict[str, Floats] = {}
    for key in np.unique(number).tolist():
        chosen = (number == key) & (wanted >= 0)
        if not chosen.any():
            continue
        known = wanted[chosen]
        # the last of each id is its highest
        at = np.searchsorted(known, spans, side="right") - 1
        found[keys[key - 1]] = np.where((at >= 0) & (known[at] == spans), values[chosen][at], np.nan)
    return found


def first_carried(
    numbers: dict[str, Floats], keys: Sequence[str], trace: Ints, least_share: float = LEAST_SHARE
) -> str | None:
    """Return the first of `keys` that at least a share of the traces carries; None where there is none."""
    traces = len(np.unique(trace))
    for key in keys:
        if key in numbers and len(np.unique(trace[np.isfinite(numbers[key])])) >= max(least_share * traces, 1):
            return key
    return None


def inherited(values: Floats, parent: Ints) -> Floats:
    """Give each span without a value that of its nearest ancestor which has one."""
    result, jump = values.copy(), parent.copy()
    needing = np.flatnonzero(np.isnan(result) & (jump >= 0))
    while len(needing):
        above = jump[needing]
        result[needing], jump[needing] = result[above], jump[above]
        needing = needing[np.isnan(result[needing]) & (jump[needing] >= 0)]
    return result


def highest_by(group: Ints, values: Floats, groups: int) -> Floats:
    """Highest known value in each group, nan where none is known."""
    result = np.full(groups, -np.inf)
    known = np.isfinite(values)
    np.maximum.at(result, group[known], values[known])
    return np.where(np.isfinite(result), result, np.nan)


def binned(values: Floats, most: int) -> tuple[Ints, bool]:
    """Sort values into at most `most` bins and one for what is unknown; say whether a bin is more than one value.

    Each distinct value is a bin of its own where there are no more of them than `most`; else cuts are at quantiles.
    """
    known: Bools = np.isfinite(values)
    distinct = np.unique(values[known])
    if len(distinct) <= most:
        return np.where(known, np.searchsorted(distinct, values) + 1, 0).astype(np.int64), False
    cuts = np.unique(np.quantile(values[known], np.linspace(0, 1, most + 1)[1:-1]))
    return np.where(known, np.searchsorted(cuts, values, side="right") + 1, 0).astype(np.int64), True


def _keys_of(rows: dict[str, Any], sample: Sample, trace_ids: Sequence[str]) -> tuple[Ints, Ints]:
    """Give spans numbers by trace and id: the sample's, and the rows', -1 where the sample lacks the trace."""
    first, last = rows["trace_first"], rows["trace_last"]
    fresh = np.append(True, (first[1:] != first[:-1]) | (last[1:] != last[:-1]))  # rows of a trace stand together
    known = dict(zip(map(_halves, trace_ids), sample.spans.trace[sample.entry].tolist(), strict=True))
    pairs = zip(first[fresh].tolist(), last[fresh].tolist(), strict=True)
    trace = np.array([known.get(pair, -1) for pair in pairs], dtype=np.int64)[np.cumsum(fresh) - 1]
    ids = np.concatenate((sample.spans.span_id, rows["span"].astype(np.uint64)))
    _, code = np.unique(ids, return_inverse=True)
    width = np.int64(code.max()) + 1
    count = len(sample.spans)
    return sample.spans.trace * width + code[:count], np.where(trace >= 0, trace * width + code[count:], -1)


def _halves(trace_id: str) -> tuple[int, int]:
    """Read an id as the two numbers that sql/span_numbers.sql has it as."""
    raw = bytes.fromhex(trace_id)
    return int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")
