"""Which model is worth its time? Variants by quality and latency, on a Pareto front. See docs/analysis/pareto.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tailsight_analysis.breakdown import DIMENSIONS
from tailsight_analysis.errors import NoSpansError, NotEnoughDataError, QuestionError
from tailsight_analysis.machines.use import NOT_BUSY
from tailsight_analysis.models.result import Pareto
from tailsight_analysis.models.variants import mean_by_trace, rate, variants_of_requests
from tailsight_analysis.quality import data_quality
from tailsight_analysis.queries import query
from tailsight_analysis.reading import request_parameters
from tailsight_analysis.requests.accounting import Floats, self_times
from tailsight_analysis.requests.covariates import BATCH_KEYS, fetch_numbers, first_carried, inherited
from tailsight_analysis.requests.ledger import Ledger, fetch_ledger
from tailsight_analysis.requests.sample import Cuts
from tailsight_analysis.requests.traits import NO_TRAIT
from tailsight_analysis.scope import NO_FILTERS, NS_PER_MS, Filters, Window, describe
from tailsight_storage import Store

LATENCIES = {"p50": "p50_ms", "p99": "p99_ms"}
# Keys that are meant for it come first, then the one that most requests carry.
KNOWN_KEYS = ("tailsight.quality", "gen_ai.evaluation.score.value", "eval.score", "quality", "accuracy", "score")
_WORDS = "quality accuracy correct score rating f1 bleu rouge ndcg mrr recall precision wer cer perplexity loss"
_QUALITY = rf"(?i)(^|[._])({_WORDS.replace(' ', '|')})([._]|$)"
_LOWER_IS_BETTER = re.compile(r"(^|[._])(wer|cer|perplexity|loss|error_rate)([._]|$)", re.IGNORECASE)


def pareto(
    store: Store,
    window: Window,
    filters: Filters = NO_FILTERS,
    *,
    by: Sequence[str] = ("model",),
    quality: str | None = None,
    latency: str = "p99",
    lower_is_better: bool | None = None,
    prices: Mapping[str, float] | None = None,
) -> Pareto:
    """Weigh the quality of variants against their latency.

    `by` are one or more of DIMENSIONS, `quality` the attribute that has a request's quality (default: found by name),
    `latency` one of LATENCIES, `prices` are prices an hour by hardware type. Raises NoSpansError without requests,
    NotEnoughDataError where no request carries a quality, or none is of a variant.
    """
    dimensions = _checked(by, latency)
    parameters = request_parameters(store, window, filters)
    stored = int(store.ask(query("request_count"), **parameters)[0]["requests"])
    if not stored:
        raise NoSpansError(f"no requests in {describe(window, filters)}")
    cuts = Cuts(stored)
    key, candidates = _quality_key(store, parameters, cuts, quality, describe(window, filters))
    grouped = tuple(dict.fromkeys((*dimensions, "stage", "hardware"))) if prices else dimensions
    ledger = fetch_ledger(store, parameters, grouped, cuts)
    if not len(ledger):  # spans may have gone since they were counted
        raise NoSpansError(f"no requests in {describe(window, filters)}")
    keys = (key, *BATCH_KEYS) if prices else (key,)
    numbers = fetch_numbers(store, parameters, cuts, ledger.sample, ledger.trace_ids, keys)
    if key not in numbers:
        where = describe(window, filters)
        raise NotEnoughDataError(f"no request in {where} carries a number under {key}", choose="quality")
    variants = variants_of_requests(ledger, len(dimensions))
    unnamed = variants.of_request == NO_TRAIT
    if unnamed.all():
        raise NotEnoughDataError(f"no request in {describe(window, filters)} names a {dimensions[0]}", choose="by")
    rating = mean_by_trace(ledger, numbers[key])
    cost = _costs(ledger, numbers, prices, grouped) if prices else None
    lower = bool(_LOWER_IS_BETTER.search(key)) if lower_is_better is None else lower_is_better
    scale = stored / len(ledger)
    weighted = bool(parameters["weighted"])
    requests = round(float(ledger.weight.sum()) * scale) if weighted else stored
    return Pareto(
        window=window,
        filters=filters,
        by=dimensions,
        quality_key=key,
        lower_is_better=lower,
        latency=LATENCIES[latency],
        candidates=tuple(other for other in candidates if other != key),
        requests=requests,
        stored=stored,
        sampled=len(ledger),
        weighted=weighted,
        unnamed_share=float(ledger.weight[unnamed].sum() / ledger.weight.sum()),
        variants=rate(ledger, dimensions, variants, rating, cost, scale, LATENCIES[latency], lower_is_better=lower),
        data=data_quality(store, parameters, stored=stored, estimated=requests),
    )


# --- inside -----------------------------------------------------------------------------------------------------------


def _quality_key(
    store: Store, parameters: dict[str, Any], cuts: Cuts, given: str | None, where: str
) -> tuple[str, tuple[str, ...]]:
    """Choose the key: the given one, a known one, or the one that most traces have; and name all that were found."""
    if given:
        return given, ()
    rows = store.ask(query("quality_keys"), **parameters | cuts.parameters(), pattern=_QUALITY)
    found = tuple(str(row["key"]) for row in rows)
    if not found:
        raise NotEnoughDataError(f"no request in {where} carries a quality", choose="quality")
    return next((key for key in KNOWN_KEYS if key in found), found[0]), found


def _costs(ledger: Ledger, numbers: dict[str, Floats], prices: Mapping[str, float], by: Sequence[str]) -> Floats:
    """Price of the busy time of each request's trace: own time of its spans on priced hardware, shared by batches."""
    stage, device = by.index("stage"), by.index("hardware")
    priced = {name.casefold(): price for name, price in prices.items()}
    rates = [
        0.0 if group[stage] in (*NOT_BUSY, "") else priced.get(group[device].casefold(), 0.0) for group in ledger.groups
    ]
    spans = ledger.sample.spans
    batch_key = first_carried(numbers, BATCH_KEYS, spans.trace, least_share=0)
    batch = inherited(numbers[batch_key], ledger.parent) if batch_key else np.ones(len(spans))
    shared = np.where(np.isfinite(batch), np.maximum(batch, 1.0), 1.0)
    own_h = self_times(spans, ledger.parent) / (NS_PER_MS * 3_600_000) / shared
    spent: Any = np.bincount(spans.trace, own_h * np.array(rates)[ledger.sample.group])
    result: Floats = spent[spans.trace[ledger.entry]]
    return result


def _checked(by: Sequence[str], latency: str) -> tuple[str, ...]:
    dimensions = tuple(dict.fromkeys([by] if isinstance(by, str) else by))
    unknown = [name for name in dimensions if name not in DIMENSIONS]
    if unknown or not dimensions:
        raise QuestionError(f"no variants by {', '.join(unknown) or 'nothing'}: use {', '.join(DIMENSIONS)}")
    if latency not in LATENCIES:
        raise QuestionError(f"latency {latency!r}: use {' or '.join(LATENCIES)}")
    return dimensions
