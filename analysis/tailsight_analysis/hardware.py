"""Which hardware is how much faster at the same work, at what cost and energy? See docs/analysis/hardware.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailsight_analysis.errors import NoSpansError, QuestionError
from tailsight_analysis.machines.like_with_like import (
    BATCH_SIZE,
    INPUT_LENGTH,
    MODEL,
    OPERATION,
    Work,
    compare_hardware,
    with_corrected_p,
)
from tailsight_analysis.machines.result import Covariate, Hardware, HardwareComparison
from tailsight_analysis.machines.use import Busy, busy_time, fetch_power, observed_seconds, uses_of
from tailsight_analysis.quality import data_quality
from tailsight_analysis.queries import query
from tailsight_analysis.reading import request_parameters
from tailsight_analysis.requests.accounting import Bools, Floats, Ints, parents, self_times, times_enclosed
from tailsight_analysis.requests.covariates import (
    BATCH_KEYS,
    INPUT_KEYS,
    fetch_numbers,
    first_carried,
    highest_by,
    inherited,
)
from tailsight_analysis.requests.critical_path import critical_paths
from tailsight_analysis.requests.sample import Cuts, Sample, fetch_sample
from tailsight_analysis.requests.traits import NO_TRAIT, traits_of_requests
from tailsight_analysis.scope import NO_FILTERS, NS_PER_MS, Filters, Window, describe
from tailsight_analysis.statistics.linearised import blocks_in_time
from tailsight_storage import Store

BY = ("stage", "hardware", "model", "name", "host")


def hardware(
    store: Store,
    window: Window,
    filters: Filters = NO_FILTERS,
    *,
    reference: str | None = None,
    input_key: str | None = None,
    prices: Mapping[str, float] | None = None,
) -> Hardware:
    """Compare hardware types at the same work, and say how long requests keep them busy.

    `reference` is the type that the others are compared with (default: the most frequent at each stage), `input_key`
    the attribute that has the input's length (default: the first of INPUT_KEYS that requests carry), `prices` are
    prices an hour by type. Raises NoSpansError without requests, QuestionError where no span has the reference or key.
    """
    parameters = request_parameters(store, window, filters)
    stored = int(store.ask(query("request_count"), **parameters)[0]["requests"])
    if not stored:
        raise NoSpansError(f"no requests in {describe(window, filters)}")
    cuts = Cuts(stored)
    sample = fetch_sample(store, parameters, BY, cuts)
    if not len(sample.entry):  # spans may have gone since they were counted
        raise NoSpansError(f"no requests in {describe(window, filters)}")
    keys = (*BATCH_KEYS, *((input_key,) if input_key else INPUT_KEYS))
    numbers = fetch_numbers(store, parameters, cuts, sample, sample.trace_ids, keys)
    if input_key and input_key not in numbers:
        raise QuestionError(f"input length {input_key!r}: no span in {describe(window, filters)} has such a number")
    spans = _accounted(sample, numbers, input_key)
    names = spans.hardware_names
    if reference and reference not in names:
        known = ", ".join(sorted(name for name in names if name)) or "none"
        raise QuestionError(
            f"reference {reference!r}: no span in {describe(window, filters)} ran on it; there are: {known}"
        )
    scale = stored / len(sample.entry)
    first_ns = int(sample.spans.start_ns[sample.entry].min())
    last_ns = int((sample.spans.start_ns + sample.spans.duration_ns)[sample.entry].max())
    busy, hosts = _busy(sample, spans)
    power = fetch_power(store, first_ns, last_ns + 1, hosts)
    unfiltered = not any(values for name, values in filters.to_json().items() if name != "run")
    observed_s = observed_seconds(first_ns, last_ns)
    weighted = bool(parameters["weighted"])
    requests = round(float(sample.weight.sum()) * scale) if weighted else stored
    return Hardware(
        window=window,
        filters=filters,
        requests=requests,
        stored=stored,
        sampled=len(sample.entry),
        weighted=weighted,
        covariates=(*spans.names, *spans.numbers),
        unknown_share=_unknown_share(spans),
        comparisons=with_corrected_p(_comparisons(sample, spans, scale, reference)),
        uses=uses_of(busy, names, scale, observed_s, prices or {}, power, unfiltered),
        data=data_quality(store, parameters, stored=stored, estimated=requests),
    )


@dataclass(frozen=True, slots=True)
class _Accounted:
    """The sample's spans with their own time and what they are sorted by; dimensions are codes of their names.

    `stage` is the span's own, `stage_above` that of its nearest ancestor where it has none. `weight` is for how many
    requests it stands, 0 outside of those asked for.
    """

    parent: Ints
    own_ns: Ints
    weight: Floats
    block: Ints
    stage: Ints
    stage_above: Ints
    stage_names: list[str]
    hardware: Ints
    hardware_names: list[str]
    host: Ints
    host_names: list[str]
    model_names: list[str]
    names: dict[Covariate, Ints]
    numbers: dict[Covariate, Floats]


def _accounted(sample: Sample, numbers: dict[str, Floats], input_key: str | None) -> _Accounted:
    trace, parent = sample.spans.trace, parents(sample.spans)
    stage, stage_names = _codes(sample, "stage")
    hardware_codes, hardware_names = _codes(sample, "hardware")
    model, model_names = _codes(sample, "model")
    operation, operation_names = _codes(sample, "name")
    host, host_names = _codes(sample, "host")
    chosen = np.zeros(len(trace))
    np.add.at(chosen, sample.entry, sample.weight)
    block_of_trace = np.zeros(int(trace.max()) + 1, dtype=np.int64)
    block_of_trace[trace[sample.entry]] = blocks_in_time(sample.spans.start_ns[sample.entry])
    by_name: dict[Covariate, Ints] = {}
    if len(operation_names) > 1:
        by_name[Covariate(OPERATION)] = operation
    if len(model_names) > 1:
        by_name[Covariate(MODEL)] = _from_above(model, model_names, parent)
    by_number: dict[Covariate, Floats] = {}
    if batch_key := first_carried(numbers, BATCH_KEYS, trace, least_share=0):
        by_number[Covariate(BATCH_SIZE, batch_key)] = inherited(numbers[batch_key], parent)
    if length_key := first_carried(numbers, (input_key,) if input_key else INPUT_KEYS, trace):
        # the input is the request's: where a span and those above it say nothing, another one of the trace may
        length = inherited(numbers[length_key], parent)
        of_trace = highest_by(trace, numbers[length_key], int(trace.max()) + 1)[trace]
        by_number[Covariate(INPUT_LENGTH, length_key)] = np.where(np.isnan(length), of_trace, length)
    return _Accounted(
        parent=parent,
        own_ns=self_times(sample.spans, parent),
        weight=times_enclosed(parent, chosen),
        block=block_of_trace[trace],
        stage=stage,
        stage_above=_from_above(stage, stage_names, parent),
        stage_names=stage_names,
        hardware=hardware_codes,
        hardware_names=hardware_names,
        host=host,
        host_names=host_names,
        model_names=model_names,
        names=by_name,
        numbers=by_number,
    )


def _comparisons(sample: Sample, spans: _Accounted, scale: float, reference: str | None) -> list[HardwareComparison]:
    """Compare whole requests, then each stage, those with the most time first."""
    names, found = spans.hardware_names, []
    whole = compare_hardware(_whole_requests(sample, spans), names, None, scale, reference)
    if whole:
        found.append(whole)
    known = np.array([bool(name) for name in names], dtype=np.bool_)[spans.hardware]
    counts = known & (spans.weight > 0) & sample.matches
    work = Work(
        spans.own_ns / NS_PER_MS, spans.hardware, spans.host, spans.weight, spans.block, spans.names, spans.numbers
    )
    time_ms = np.bincount(spans.stage[counts], (work.value_ms * work.weight)[counts], minlength=len(spans.stage_names))
    for code in np.argsort(-time_ms, kind="stable").tolist():
        if spans.stage_names[code]:
            chosen = counts & (spans.stage == code)
            part = compare_hardware(work.only(chosen), names, spans.stage_names[code], scale, reference)
            if part:
                found.append(part)
    return found


def _whole_requests(sample: Sample, spans: _Accounted) -> Work:
    """Whole requests as work: on the hardware, and of the model, that their critical paths spent most time on."""
    sections = critical_paths(sample.spans, spans.parent, sample.entry)
    requests = len(sample.entry)

    def most(codes: Ints, names: list[str], counts: Bools | None = None) -> Ints:
        cell = sections.request * len(names) + codes[sections.span]
        time_ns = sections.duration_ns if counts is None else np.where(counts, sections.duration_ns, 0)
        sums: Any = np.bincount(cell, weights=time_ns, minlength=requests * len(names))
        return traits_of_requests(names, sums.reshape(requests, len(names)))

    # what they carry themselves, or what they waited for
    rows = np.concatenate((sections.span, sample.entry))
    owner = np.concatenate((sections.request, np.arange(requests)))
    type_of = most(spans.hardware, spans.hardware_names)
    names: dict[Covariate, Ints] = {}
    for covariate, codes in spans.names.items():
        if covariate.name == MODEL:
            names[covariate] = most(codes, spans.model_names) + 1  # 0: of none
        else:
            names[covariate] = codes[sample.entry]
    work = Work(
        value_ms=sample.spans.duration_ns[sample.entry] / NS_PER_MS,
        hardware=type_of,
        host=most(spans.host, spans.host_names, spans.hardware[sections.span] == type_of[sections.request]),
        weight=sample.weight,
        block=spans.block[sample.entry],
        names=names,
        numbers={covariate: highest_by(owner, values[rows], requests) for covariate, values in spans.numbers.items()},
    )
    return work.only(type_of != NO_TRAIT)


def _busy(sample: Sample, spans: _Accounted) -> tuple[Busy, dict[str, set[str]]]:
    """Busy time a trace and type, and the hosts of each type by name."""
    counts = (spans.weight > 0) & sample.matches
    staged: Bools = np.zeros(len(spans.hardware_names), dtype=np.bool_)
    has_stage = np.array([bool(name) for name in spans.stage_names], dtype=np.bool_)[spans.stage_above]
    staged[spans.hardware[counts & has_stage]] = True
    batch = next(
        (values for covariate, values in spans.numbers.items() if covariate.name == BATCH_SIZE),
        np.full(len(spans.hardware), np.nan),
    )
    own_ms = busy_time(spans.own_ns, spans.stage_above, batch, spans.stage_names, staged[spans.hardware])
    types = len(spans.hardware_names)
    cell, place = np.unique(sample.spans.trace[counts] * types + spans.hardware[counts], return_inverse=True)
    weight_of_trace = np.zeros(int(sample.spans.trace.max()) + 1)
    np.add.at(weight_of_trace, sample.spans.trace[sample.entry], sample.weight)
    weight = weight_of_trace[cell // types]
    # time of requests within requests is theirs and the outer ones'; a trace's requests stand together for its time
    spent = np.bincount(place, (own_ms * spans.weight)[counts], minlength=len(cell)) / np.maximum(weight, 1e-300)
    machines = np.unique(spans.hardware[counts] * len(spans.host_names) + spans.host[counts])
    hosts: dict[str, set[str]] = {}
    for pair in machines.tolist():
        name = spans.hardware_names[pair // len(spans.host_names)]
        hosts.setdefault(name, set()).add(spans.host_names[pair % len(spans.host_names)])
    block = np.zeros(int(sample.spans.trace.max()) + 1, dtype=np.int64)
    block[sample.spans.trace] = spans.block
    count = np.bincount(machines // len(spans.host_names), minlength=types).astype(np.int64)
    return Busy(spent, weight, cell % types, block[cell // types], count), hosts


def _unknown_share(spans: _Accounted) -> float:
    """Share of the stages' own time that was spent on no known hardware."""
    staged = np.array([bool(name) for name in spans.stage_names], dtype=np.bool_)[spans.stage]
    unknown = np.array([not name for name in spans.hardware_names], dtype=np.bool_)[spans.hardware]
    time_ns = spans.own_ns * spans.weight
    whole = float(time_ns[staged].sum())
    return float(time_ns[staged & unknown].sum()) / whole if whole else 0.0


def _codes(sample: Sample, dimension: str) -> tuple[Ints, list[str]]:
    """Take one dimension out of the sample's groups: a code a span, and the names."""
    place = BY.index(dimension)
    names = sorted({group[place] for group in sample.groups})
    number = {name: code for code, name in enumerate(names)}
    of_group = np.array([number[group[place]] for group in sample.groups], dtype=np.int64)
    return of_group[sample.group], names


def _from_above(codes: Ints, names: list[str], parent: Ints) -> Ints:
    """Give each span without a name the name of its nearest ancestor that has one."""
    if "" not in names:
        return codes
    nothing = names.index("")
    numbers: Any = np.where(codes == nothing, np.nan, codes)
    found = inherited(numbers, parent)
    return np.where(np.isnan(found), nothing, found).astype(np.int64)
