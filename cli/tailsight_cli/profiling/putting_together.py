"""From what py-spy saw to a profile that can be kept: wait for the spans, fit the clock, join, write the document."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tailsight_analysis import Window
from tailsight_analysis.errors import NotEnoughDataError
from tailsight_analysis.profiled import arrived, no_spans, process_spans, request_classes
from tailsight_analysis.profiles import (
    ClockFit,
    JoinedSample,
    Match,
    Recording,
    State,
    fit_clock,
    join,
    read_chrometrace,
)
from tailsight_cli.profiling.document import DocumentWriter, requests_of
from tailsight_cli.profiling.recording import Recorded
from tailsight_cli.profiling.sources import sites_of
from tailsight_cli.profiling.spy import SpyOptions, source
from tailsight_cli.profiling.target import named_in_spans
from tailsight_storage import Store

POLL_S = 0.25
STILL_S = 5.0  # so long nothing came, and nothing more is expected
_MOST_NOTES = 20


@dataclass(frozen=True, slots=True)
class PutTogether:
    """A profile to keep, and how good its join is. `fit` is None where no spans decide it."""

    plain: dict[str, Any]
    fit: ClockFit | None
    spans: int
    threshold_ms: float | None


def put_together(
    store: Store,
    recorded: Recorded,
    options: SpyOptions,
    trigger: str,
    *,
    quantile: float,
    patience_s: float,
    taken_by: str = "",
) -> PutTogether:
    """Join a recording to the spans of its process; `taken_by` says what took it, where that was not py-spy here.

    Raises AnalysisError and StorageError.
    """
    file = recorded.file
    with file.path.open("rb") as stream:
        recording = read_chrometrace(stream, file.spawn_ns, rate_hz=options.rate_hz, idle=options.idle)
    window = Window(file.spawn_ns, max(file.end_ns, file.spawn_ns + 1))
    named = named_in_spans(store, recorded.target, Window(window.since_ns, window.until_ns + int(patience_s * 1e9)))
    deadline_s = time.monotonic() + patience_s
    while not named.service and time.monotonic() < deadline_s:  # its first spans are on their way
        time.sleep(POLL_S)
        named = named_in_spans(store, recorded.target, Window(window.since_ns, window.until_ns + int(patience_s * 1e9)))
    if not named.service:
        raise no_spans(recorded.target.own_pid, "", window)
    wait_for_spans(lambda: arrived(store, window, named.host, named.own_pid), patience_s)
    found = process_spans(store, window, named.host, named.own_pid)
    if not found.spans:
        raise no_spans(named.own_pid, named.host, window)
    notes = list(recorded.notes)
    sites = sites_of(recording, named.pid) if recorded.is_here else ()
    fit: ClockFit | None = None
    try:
        fit = fit_clock(recording, found.spans, sites, complete=found.complete)
    except NotEnoughDataError as error:
        notes.append(str(error))
    classes = request_classes(store, window, named.service, quantile)
    if fit is not None and fit.trusted:
        samples = join(recording, fit, found.spans, classes.classes, sites, recorded.states)
        notes += said_of_join(recording, fit)
    else:
        notes += [f"no sample is joined: {fit.why_not}"] if fit else []
        samples = _unjoined(recording)
    writer = DocumentWriter(named.service, named.host, named.own_pid, found.labels)
    for sample in samples:
        writer.add(sample)
    served = dict.fromkeys((span.trace_id, span.run) for span in found.spans if span.end_ns > window.since_ns)
    said: dict[str, object] = {
        "started_ns": window.since_ns,
        "duration_ms": recording.duration_ms,
        "rate_hz": float(options.rate_hz),
        "trigger": trigger,
        "source": taken_by or source(),
        "lost": file.lost,
        "offset_ms": fit.after_spawn_ms if fit else None,
        "agreement": fit.agreement if fit else None,
        "by_chance": fit.by_chance if fit else None,
        "margin": fit.margin if fit else None,
        "trusted": bool(fit and fit.trusted),
        "notes": notes[:_MOST_NOTES],
    }
    return PutTogether(writer.document(said, requests_of(served, classes)), fit, len(found.spans), classes.threshold_ms)


def said_of_join(recording: Recording, fit: ClockFit) -> list[str]:
    """Say what a fit that is trusted leaves out, and what flame graphs then lean to."""
    notes = []
    since_us, until_us = fit.holds_us
    if len(recording) and (since_us > recording.times_us[0] or until_us <= recording.times_us[-1]):
        until_s = min(until_us, int(recording.times_us[-1])) / 1e6
        notes.append(
            f"frames and spans agree from {since_us / 1e6:.1f} to {until_s:.1f} s alone, and samples of other times "
            "are ambiguous: was the machine's clock set?"
        )
    if not fit.complete:
        notes.append(
            "requests were sampled: what ran for one that was not kept is joined to none, so that a flame graph of all "
            "kept requests leans to slow ones; those of a class do not"
        )
    return notes


def wait_for_spans(look: Callable[[], tuple[int, bool]], patience_s: float) -> int:
    """Poll until the spans of a recording are there: later ones came and no more of these, or none came for a while.

    Returns how many there are.
    """
    deadline_s = time.monotonic() + patience_s
    before, still_since_s = -1, time.monotonic()
    while True:
        spans, later = look()
        now_s = time.monotonic()
        if spans != before:
            before, still_since_s = spans, now_s
        elif spans and (later or now_s - still_since_s >= STILL_S):
            return spans
        if now_s >= deadline_s:
            return spans
        time.sleep(POLL_S)


def _unjoined(recording: Recording) -> tuple[JoinedSample, ...]:
    """Take samples as they are: it is not known which spans were open."""
    return tuple(
        JoinedSample(
            time_ns=recording.spawn_ns + seen.time_us * 1000,
            thread_id=seen.thread_id,
            stack=seen.stack,
            state=State.UNKNOWN,
            match=Match.NONE,
        )
        for seen in recording.observations()
    )
