"""Where did the time of one request go? Its trace as a tree, what it waited for, and what no stage explains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tailsight_analysis.errors import QuestionError
from tailsight_analysis.requests.accounting import Ints
from tailsight_analysis.scope import NS_PER_MS
from tailsight_analysis.tracing.account import TraceAccount, account_for, outside, repeated, without_parent
from tailsight_analysis.tracing.ids import find_trace, no_such_trace
from tailsight_analysis.tracing.result import (
    Trace,
    TraceContribution,
    TraceEvent,
    TraceInterval,
    TraceLink,
    TraceMoved,
    TraceRequest,
    TraceSection,
    TraceSpan,
)
from tailsight_analysis.tracing.rows import (
    TraceRows,
    attributes_of,
    attributes_of_each,
    fetch_details,
    fetch_rows,
)
from tailsight_analysis.tracing.tree import fold
from tailsight_storage import Store


def trace(store: Store, trace_id: str, limit: int | None = None) -> Trace:
    """Account for the time of the one trace whose id is, or begins with, `trace_id`: wherever it is in the store.

    With a `limit`, at most so many spans are in the answer: those with the most time on the critical path, with their
    ancestors as far as these fit. Everything else in it is of the whole trace. Raises QuestionError where the text is
    no id or several traces begin with it, NoSpansError where none does.
    """
    if limit is not None and limit < 1:
        raise QuestionError(f"a limit of {limit} spans shows nothing: use 1 or more")
    whole_id = find_trace(store, trace_id)
    rows = fetch_rows(store, whole_id)
    if rows is None:
        raise no_such_trace(store, whole_id)
    account = account_for(rows.spans)
    path_ns = np.zeros(len(rows.spans), dtype=np.int64)
    np.add.at(path_ns, account.piece_span, account.piece_end - account.piece_begin)
    folded = fold(account.tree, account.parent, (path_ns, rows.spans.duration_ns), limit)
    details = fetch_details(store, whole_id, folded.shown)
    start_ns = account.start_ns(rows.spans)
    end_ns = start_ns + rows.spans.duration_ns
    orphans, cycles = without_parent(rows.spans, account.parent)
    again = repeated(rows.spans)
    return Trace(
        trace_id=whole_id,
        start_ns=account.origin_ns,
        begin_ms=int(start_ns.min()) / NS_PER_MS,
        end_ms=int(end_ns.max()) / NS_PER_MS,
        span_count=len(rows.spans),
        requests=tuple(_requests(rows, account)),
        spans=tuple(_shown(rows, account, folded.shown, folded.above, folded.hidden, path_ns, details)),
        without_root=account.without_root,
        outside=outside(account),
        orphans=int(orphans.sum()),
        cycles=int(cycles.sum()),
        repeated=int(again.sum()),
        moved=tuple(_moved(rows.host, account.tree.moved_ns)),
    )


def _requests(rows: TraceRows, account: TraceAccount) -> Iterator[TraceRequest]:
    start_ns = account.start_ns(rows.spans)
    edges = np.searchsorted(account.piece_request, np.arange(len(account.entry) + 1)).tolist()
    pieces = list(
        zip(
            account.piece_span.tolist(),
            account.piece_begin.tolist(),
            account.piece_end.tolist(),
            _hex(rows.spans.span_id[account.piece_span]),
            strict=True,
        )
    )
    ids = _hex(rows.spans.span_id[account.entry])
    for number, row in enumerate(account.entry.tolist()):
        duration_ns = int(rows.spans.duration_ns[row])
        stages: defaultdict[str, int] = defaultdict(int)
        gaps: list[tuple[int, int]] = []
        path = []
        for span, begin, end, span_id in pieces[edges[number] : edges[number + 1]]:
            path.append(TraceSection(span_id, begin / NS_PER_MS, end / NS_PER_MS))
            stage = rows.stage[span]
            stages[stage] += end - begin
            if stage:
                continue
            if gaps and gaps[-1][1] == begin:
                gaps[-1] = (gaps[-1][0], end)
            else:
                gaps.append((begin, end))
        unaccounted_ns = stages.pop("", 0)
        yield TraceRequest(
            span_id=ids[number],
            start_ms=int(start_ns[row]) / NS_PER_MS,
            duration_ms=duration_ns / NS_PER_MS,
            failed=bool(rows.failed[row]),
            stages=tuple(
                TraceContribution(stage, ns / NS_PER_MS, ns / duration_ns)
                for stage, ns in sorted(stages.items(), key=lambda item: (-item[1], item[0]))
            ),
            unaccounted_ms=unaccounted_ns / NS_PER_MS,
            unaccounted=tuple(TraceInterval(begin / NS_PER_MS, end / NS_PER_MS) for begin, end in gaps),
            critical_path=tuple(path),
        )


def _shown(
    rows: TraceRows,
    account: TraceAccount,
    shown: Ints,
    above: Ints,
    hidden: Ints,
    path_ns: Ints,
    details: dict[int, dict[str, Any]],
) -> Iterator[TraceSpan]:
    spans, tree = rows.spans, account.tree
    orphans, cycles = without_parent(spans, account.parent)
    again = repeated(spans)
    entries = set(account.entry.tolist())
    ids, parent_ids = _hex(spans.span_id), _hex(spans.parent_id)
    place = {row: index for index, row in enumerate(shown.tolist())}
    pieces: defaultdict[int, list[TraceInterval]] = defaultdict(list)
    columns = (account.piece_span, account.piece_begin, account.piece_end)
    for span, begin, end in zip(*(column.tolist() for column in columns), strict=True):
        if span in place:
            pieces[span].append(TraceInterval(begin / NS_PER_MS, end / NS_PER_MS))
    placed_ns = account.start_ns(spans).tolist()
    for row in place:
        detail = details[row]
        # where its host's clock lies in the trace: what it says is moved like the span
        clock_ns = int(tree.moved_ns[row]) - account.origin_ns
        yield TraceSpan(
            span_id=ids[row],
            parent_span_id=parent_ids[row] if spans.parent_id[row] else "",
            parent=place[int(above[row])] if above[row] >= 0 else None,
            depth=int(tree.depth[row]),
            left_out=int(hidden[row]),
            name=detail["name"],
            kind=detail["kind"],
            service=detail["service"],
            stage=rows.stage[row],
            hardware=detail["hardware"],
            host=rows.host[row],
            version=detail["version"],
            model=detail["model"],
            region=detail["region"],
            environment=detail["environment"],
            run=detail["run"],
            status=detail["status"],
            status_message=detail["status_message"],
            start_ns=int(spans.start_ns[row]),
            start_ms=placed_ns[row] / NS_PER_MS,
            moved_ms=int(tree.moved_ns[row]) / NS_PER_MS,
            duration_ms=int(spans.duration_ns[row]) / NS_PER_MS,
            self_ms=int(account.self_ns[row]) / NS_PER_MS,
            path_ms=int(path_ns[row]) / NS_PER_MS,
            path=tuple(pieces[row]),
            is_request=row in entries,
            is_orphan=bool(orphans[row]),
            in_cycle=bool(cycles[row]),
            is_repeated=bool(again[row]),
            is_waited_for=bool(spans.blocks[row]),
            attributes=attributes_of(detail["attributes"], detail["attribute_types"]),
            events=tuple(_events(detail, clock_ns)),
            links=tuple(_links(detail)),
        )


def _events(detail: dict[str, Any], clock_ns: int) -> Iterator[TraceEvent]:
    attributes = attributes_of_each(detail["event_attributes"], detail["event_types"])
    for time_ns, name, values in zip(detail["event_times"], detail["event_names"], attributes, strict=True):
        yield TraceEvent(name, int(time_ns), (int(time_ns) + clock_ns) / NS_PER_MS, values)


def _links(detail: dict[str, Any]) -> Iterator[TraceLink]:
    attributes = attributes_of_each(detail["link_attributes"], detail["link_types"])
    for trace_id, span_id, values in zip(detail["link_traces"], detail["link_spans"], attributes, strict=True):
        yield TraceLink(trace_id, span_id, values)


def _moved(host: Sequence[str], moved_ns: Ints) -> Iterator[TraceMoved]:
    """Say of each host whose spans were moved by how much, those first that were moved furthest."""
    by_host: defaultdict[str, list[int]] = defaultdict(list)
    for row in np.flatnonzero(moved_ns).tolist():
        by_host[host[row]].append(int(moved_ns[row]))
    for name, shifts in sorted(by_host.items(), key=lambda item: (-max(abs(ns) for ns in item[1]), item[0])):
        yield TraceMoved(name, len(shifts), min(shifts) / NS_PER_MS, max(shifts) / NS_PER_MS)


def _hex(ids: Any) -> list[str]:
    """Write 8-byte ids, which were read as little-endian numbers, in hex."""
    text = ids.astype("<u8").tobytes().hex()
    return [text[at : at + 16] for at in range(0, len(text), 16)]
