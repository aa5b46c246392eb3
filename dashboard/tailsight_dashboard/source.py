"""Asking analysis: a few connections shared by all sessions, and answers that are kept for some seconds.

Every answer knows when it was asked, because that is what the page calls "as of".
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit

import streamlit as st

from tailsight_analysis import (
    PRICES_ENV,
    AnalysisError,
    Breakdown,
    Comparison,
    Filters,
    Hardware,
    Jitter,
    NoSpansError,
    Pareto,
    QuestionError,
    Queueing,
    Regressions,
    Side,
    Store,
    StoreUnavailableError,
    Tail,
    Timeline,
    Trace,
    Variance,
    WhatIf,
    Window,
    breakdown,
    choices,
    compare,
    connect,
    flames,
    hardware,
    jitter,
    pareto,
    prices_from,
    queueing,
    read_prices,
    regressions,
    tail,
    timeline,
    trace,
    variance,
    whatif,
    whole_time,
)
from tailsight_analysis.alerting.open import OpenAlert, open_alerts
from tailsight_analysis.flames import FlameSideOf, ProfiledStage, RecordedProfile, StageDifference, StageFlame
from tailsight_analysis.gate_reports import ListedReport, gate_report, gate_reports
from tailsight_analysis.gating.kept import KeptReport

T = TypeVar("T")
P = ParamSpec("P")

STORE_ENV = "TAILSIGHT_STORE"
DEFAULT_STORE = "clickhouse://127.0.0.1:8123/tailsight"
CONNECTIONS = 3  # at once; a connection serves one question at a time
FRESH_S = 5
TIMELINE_POINTS = 60


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """An answer of analysis, and when it was asked, in nanoseconds since 1970."""

    value: T
    asked_ns: int


class Connections:
    """At most CONNECTIONS stores, opened when first needed and forgotten when they fail."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._slots = threading.BoundedSemaphore(CONNECTIONS)
        self._idle: list[Store] = []

    def ask(self, question: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Put a question to the store; raises what analysis raises. A connection that failed is not used again."""
        with self._slots:
            try:
                store = self._idle.pop()
            except IndexError:
                store = connect(self._dsn)
            try:
                answer = question(store, *args, **kwargs)
            except AnalysisError:  # an answer too: the connection is whole
                self._idle.append(store)
                raise
            except BaseException as error:
                store.close()
                if isinstance(error, StoreUnavailableError):
                    self.close()
                raise
            self._idle.append(store)
            return answer

    def close(self) -> None:
        """Close the idle connections: after a failure they would fail too."""
        while True:
            try:
                self._idle.pop().close()
            except IndexError:
                return


@st.cache_resource(show_spinner=False)
def _connections(dsn: str) -> Connections:
    return Connections(dsn)


def dsn() -> str:
    """Name the store that is read, password included: for connecting, not for showing."""
    return os.environ.get(STORE_ENV) or DEFAULT_STORE


def store_name() -> str:
    """Name the store without its password."""
    text = dsn()
    try:
        parts = urlsplit(text)
        user = parts.username
    except ValueError:
        return f"{text.partition('://')[0]}://…"
    if "@" not in parts.netloc:
        return text
    address = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{user}@{address}" if user else address).geturl()


def without_password(message: str) -> str:
    """Take the store's password out of a message, should an underlying error have quoted the address."""
    try:
        password = urlsplit(dsn()).password
    except ValueError:
        password = None
    for secret in {password, unquote(password)} if password else ():
        message = message.replace(secret, "…")
    return message


def now_ns() -> int:
    """Nanoseconds since 1970."""
    return time.time_ns()


def _ask(name: str, question: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs) -> Answer[T]:
    asked_ns = now_ns()
    return Answer(_connections(name).ask(question, *args, **kwargs), asked_ns)


def _kept(function: Callable[P, T]) -> Callable[P, T]:
    """Keep answers for FRESH_S seconds, for all sessions."""
    cached: Any = st.cache_data(ttl=FRESH_S, max_entries=128, show_spinner=False)(function)
    return cached  # type: ignore[no-any-return]


@_kept
def _breakdown(name: str, window: Window, filters: Filters, by: str) -> Answer[Breakdown]:
    return _ask(name, breakdown, window, filters, by=(by,))


@_kept
def _tail(name: str, window: Window, filters: Filters, quantile: float) -> Answer[Tail]:
    return _ask(name, tail, window, filters, quantile=quantile)


@_kept
def _timeline(name: str, window: Window, filters: Filters) -> Answer[Timeline]:
    return _ask(name, timeline, window, filters, points=TIMELINE_POINTS)


@_kept
def _trace(name: str, trace_id: str, limit: int) -> Answer[Trace]:
    return _ask(name, trace, trace_id, limit)


@_kept
def _jitter(name: str, window: Window, filters: Filters, deadline_ms: float | None) -> Answer[Jitter]:
    return _ask(name, jitter, window, filters, deadline_ms)


@_kept
def _queueing(name: str, window: Window, filters: Filters) -> Answer[Queueing]:
    return _ask(name, queueing, window, filters)


@_kept
def _hardware(name: str, window: Window, filters: Filters, prices: Mapping[str, float]) -> Answer[Hardware]:
    return _ask(name, hardware, window, filters, prices=prices)


@_kept
def _variance(name: str, window: Window, filters: Filters) -> Answer[Variance]:
    return _ask(name, variance, window, filters)


@_kept
def _pareto(name: str, window: Window, filters: Filters, by: str, prices: Mapping[str, float]) -> Answer[Pareto]:
    return _ask(name, pareto, window, filters, by=(by,), prices=prices)


@_kept
def _regressions(name: str, window: Window, filters: Filters, over: str) -> Answer[Regressions]:
    return _ask(name, regressions, window, filters, by=over)


@_kept
def _open_alerts(name: str) -> Answer[tuple[OpenAlert, ...]]:
    return _ask(name, open_alerts)


@_kept
def _gate_reports(name: str, limit: int) -> Answer[tuple[ListedReport, ...]]:
    return _ask(name, gate_reports, limit)


@_kept
def _gate_report(name: str, report_id: str) -> Answer[KeptReport]:
    return _ask(name, gate_report, report_id)


@_kept
def _profiles(name: str, window: Window, filters: Filters) -> Answer[tuple[RecordedProfile, ...]]:
    return _ask(name, flames.recorded_profiles, window, filters)


@_kept
def _profiled(name: str, window: Window, filters: Filters, trace_id: str) -> Answer[tuple[ProfiledStage, ...]]:
    return _ask(name, flames.profiled_stages, window, filters, trace_id)


@_kept
def _profiled_time(name: str) -> Answer[Window | None]:
    return _ask(name, flames.profiled_time)


@_kept
def _flame(name: str, window: Window, filters: Filters, classes: tuple[str, ...]) -> Answer[StageFlame]:
    return _ask(name, flames.stage_flame, window, filters, classes=classes)


@_kept
def _flames(name: str, window: Window, filters: Filters, a: FlameSideOf, b: FlameSideOf) -> Answer[StageDifference]:
    return _ask(name, flames.stage_difference, window, filters, a, b)


@_kept
def _choices(name: str, window: Window) -> Answer[dict[str, list[str]]]:
    return _ask(name, choices, window)


@_kept
def _whole_time(name: str, run: tuple[str, ...]) -> Answer[Window | None]:
    return _ask(name, whole_time, run=run)


def ask_breakdown(window: Window, filters: Filters, by: str) -> Answer[Breakdown]:
    """Latency per group, and of the requests. Raises NoSpansError where nothing matches."""
    return _breakdown(dsn(), window, filters, by)


def ask_tail(window: Window, filters: Filters, quantile: float) -> Answer[Tail]:
    """Tail requests against typical ones. Raises NoSpansError or NotEnoughDataError."""
    return _tail(dsn(), window, filters, quantile)


def ask_timeline(window: Window, filters: Filters) -> Timeline:
    """Latency over the part of the window in which the store has spans at all."""
    held = extent(filters.run)
    if held is None:
        raise NoSpansError("the store holds no spans")
    since_ns, until_ns = max(window.since_ns, held.since_ns), min(window.until_ns, held.until_ns)
    shown = Window(since_ns, until_ns) if since_ns < until_ns else window
    return _timeline(dsn(), shown, filters).value


def ask_trace(trace_id: str, limit: int) -> Answer[Trace]:
    """One trace, by its id or the first digits, in all of the store. Raises QuestionError or NoSpansError."""
    return _trace(dsn(), trace_id, limit)


def ask_whatif(window: Window, filters: Filters, quantile: float) -> Answer[WhatIf]:
    """Replay the requests with each stage faster: takes seconds, and is not kept. Raises as `ask_tail` does."""
    return _ask(dsn(), whatif, window, filters, quantile=quantile)


def ask_jitter(window: Window, filters: Filters, deadline_ms: float | None) -> Answer[Jitter]:
    """How much stages and requests vary. Raises NoSpansError, NotEnoughDataError, or QuestionError for a deadline."""
    return _jitter(dsn(), window, filters, deadline_ms)


def ask_queueing(window: Window, filters: Filters) -> Answer[Queueing]:
    """How busy each queue is. Raises NoSpansError without queue spans, NotEnoughDataError."""
    return _queueing(dsn(), window, filters)


def ask_hardware(window: Window, filters: Filters) -> Answer[Hardware]:
    """Hardware types at the same work, with PRICES_ENV's prices. Raises NoSpansError, QuestionError for a price."""
    return _hardware(dsn(), window, filters, prices())


def ask_variance(window: Window, filters: Filters) -> Answer[Variance]:
    """Which stages make requests differ. Raises NoSpansError or NotEnoughDataError."""
    return _variance(dsn(), window, filters)


def ask_pareto(window: Window, filters: Filters, by: str) -> Answer[Pareto]:
    """Weigh quality against latency. Raises NoSpansError, NotEnoughDataError, QuestionError for a price."""
    return _pareto(dsn(), window, filters, by, prices())


def ask_regressions(window: Window, filters: Filters, over: str) -> Answer[Regressions]:
    """Find changes over versions, runs or time. Raises NoSpansError, NotEnoughDataError for a short history."""
    return _regressions(dsn(), window, filters, over)


def ask_compare(baseline: Side, candidate: Side) -> Answer[Comparison]:
    """Split what changed into mix and slowdown: takes seconds, and is not kept. Raises NotEnoughDataError."""
    return _ask(dsn(), compare, baseline, candidate)


def ask_open_alerts() -> Answer[tuple[OpenAlert, ...]]:
    """Alerts that are not resolved."""
    return _open_alerts(dsn())


def ask_gate_reports(limit: int) -> Answer[tuple[ListedReport, ...]]:
    """List reports of gates that were kept, the latest first."""
    return _gate_reports(dsn(), limit)


def ask_gate_report(report_id: str) -> Answer[KeptReport]:
    """Return one of them, by its id or its first digits. Raises QuestionError where there is none, or several."""
    return _gate_report(dsn(), report_id)


def ask_profiles(window: Window, filters: Filters) -> Answer[tuple[RecordedProfile, ...]]:
    """List the recordings of stacks that have samples there."""
    return _profiles(dsn(), window, filters)


def ask_profiled(window: Window, filters: Filters, trace_id: str = "") -> tuple[ProfiledStage, ...]:
    """List the stages of which there are samples, of all requests or of one."""
    return _profiled(dsn(), window, filters, trace_id).value


def ask_flame(window: Window, filters: Filters, classes: tuple[str, ...]) -> Answer[StageFlame]:
    """Pool samples of stacks. Raises NotEnoughDataError where they are too few, QuestionError where too many."""
    return _flame(dsn(), window, filters, classes)


def ask_difference(window: Window, filters: Filters, a: FlameSideOf, b: FlameSideOf) -> Answer[StageDifference]:
    """Compare which code two sides ran. Raises as `ask_flame` does."""
    return _flames(dsn(), window, filters, a, b)


def profiled_extent() -> Window | None:
    """Return the time of all samples of stacks; None where there are none."""
    return _profiled_time(dsn()).value


def prices() -> dict[str, float]:
    """Prices an hour by hardware type, as PRICES_ENV has them. Raises QuestionError for what is no price."""
    try:
        return read_prices(prices_from(os.environ.get(PRICES_ENV, "")))
    except QuestionError as error:
        raise QuestionError(f"{PRICES_ENV}: {error}") from error


def ask_choices(window: Window) -> dict[str, list[str]]:
    """Return the values that filters can take in the window."""
    return _choices(dsn(), window).value


def extent(run: tuple[str, ...] = ()) -> Window | None:
    """Return the time from the first to the last span, of all or of some runs; None where there are none."""
    return _whole_time(dsn(), run).value


def forget() -> None:
    """Drop the answers that are kept, so that the next ones are fresh."""
    st.cache_data.clear()
