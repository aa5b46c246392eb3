"""What stands where a view cannot be: nothing sent yet, nothing found, too little to decide, no store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from tailsight_analysis import AnalysisError, NoSpansError, NotEnoughDataError, StorageError, StoreUnavailableError
from tailsight_dashboard import source
from tailsight_dashboard.filters import Scope, widen
from tailsight_dashboard.format import clock, plain
from tailsight_dashboard.selection import VIEW_KEYS
from tailsight_dashboard.ticking import rerun_every

ENDPOINT_ENV = "TAILSIGHT_ENDPOINT"
DEFAULT_ENDPOINT = "http://127.0.0.1:4318"
WAITING_S = 3

SDK_EXAMPLE = """\
import tailsight  # pip install tailsight

tailsight.configure(
    service="my-service",
    endpoint="{endpoint}",
)

@tailsight.request
def handle(text):
    with tailsight.stage("preprocess") as stage:
        tokens = tokenize(text)
        stage.set("tokens", len(tokens))
    with tailsight.stage("compute"):
        return model(tokens)
"""
OTEL_EXAMPLE = """\
export OTEL_EXPORTER_OTLP_TRACES_ENDPOINT={endpoint}/v1/traces
export OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf
"""
# Streamlit leaves six rems above the page, has very large titles, and shortens a metric's value with an ellipsis
STYLE = """<style>
[data-testid="stMainBlockContainer"] { padding: 4.25rem clamp(1rem, 3vw, 3rem) 2rem; }
[data-testid="stMainBlockContainer"] h3 { font-size: 1.2rem; padding: 0.4rem 0; }
[data-testid="stMainBlockContainer"] h2 { font-size: 1.6rem; padding: 0 0 0.5rem; }
[data-testid="stMetricValue"], [data-testid="stMetricValue"] * { overflow: visible; text-overflow: clip; }
</style>"""


def style() -> None:
    """Make the page use its room."""
    st.html(STYLE)


def no_spans(scope: Scope | None) -> None:
    """Say why there is nothing: nothing was ever sent, or the time or the filters leave nothing over."""
    held = source.extent()
    if held is None:
        nothing_sent()
        return
    st.subheader("No requests here", anchor=False)
    if scope is None:
        return
    limits = f" with {plain(scope.filters.label)}" if scope.filters.label else ""
    where = f"{plain(scope.window.label)}{limits}"
    st.markdown(f"Nothing started in {where}. The store holds spans of {plain(held.label)}.")
    with st.container(horizontal=True):
        st.button("Show all time", on_click=widen, kwargs={"all_time": True}, type="primary")
        if scope.filters.label:
            st.button("Clear the filters", on_click=widen, kwargs={"no_filters": True})
    st.caption(f"As of **{clock(source.now_ns())}**")


def nothing_sent() -> None:
    """Say how to send data, and look again every WAITING_S seconds."""
    rerun_every(WAITING_S)
    endpoint = os.environ.get(ENDPOINT_ENV, DEFAULT_ENDPOINT).removesuffix("/v1/traces").rstrip("/")
    st.subheader("No spans yet", anchor=False)
    st.markdown(
        f"The store `{source.store_name()}` answers and is empty. Send it traces by **OTLP/HTTP** to `{endpoint}`; "
        "they appear here about two seconds later, without a reload."
    )
    left, right = st.columns([4, 5], gap="medium")
    with left:
        st.markdown("**Instrument a Python service**")
        st.code(SDK_EXAMPLE.format(endpoint=endpoint), language="python")
    with right:
        st.markdown("**Look at the sample pipeline**")
        st.code("make demo", language="bash")
        st.markdown("**Or point any OpenTelemetry exporter here**")
        st.code(OTEL_EXAMPLE.format(endpoint=endpoint), language="bash", wrap_lines=True)
    st.caption(f"Looked at {clock(source.now_ns())}; looking again every {WAITING_S} s.")


def not_enough(error: NotEnoughDataError, view: str) -> None:
    """Say how much is missing, and how the view could do with less."""
    st.subheader("Not enough requests to decide", anchor=False)
    way_out = "Take a lower quantile, or more time." if "quantile" in VIEW_KEYS[view] else "Take more time."
    st.markdown(f"{sentence(error)} {way_out}")
    st.caption(f"As of **{clock(source.now_ns())}**")


def no_trace(error: NoSpansError) -> None:
    """Say that a trace is not there, and which are."""
    st.subheader("No such trace", anchor=False)
    st.markdown(sentence(error))
    st.caption(f"As of **{clock(source.now_ns())}** · spans that are still on their way can bring it.")


def cannot_answer(error: AnalysisError) -> None:
    """Say why the question has no answer."""
    st.subheader("This question has no answer", anchor=False)
    st.markdown(sentence(error))


def store_away(error: StorageError) -> None:
    """Name the store and the way out, and try again every WAITING_S seconds."""
    rerun_every(WAITING_S)
    is_away = isinstance(error, StoreUnavailableError)
    st.error(
        f"**The store {'does not answer' if is_away else 'cannot answer'}:** `{source.store_name()}`",
        icon=":material/cloud_off:",
    )
    st.markdown(
        "- Is a collector running? `tailsight up` starts one with this dashboard, `tailsight collector` one alone.\n"
        f"- Is it another address? Set `{source.STORE_ENV}`, like `clickhouse://user:password@host:8123/tailsight`, "
        "and start the dashboard again.\n"
        "- What services send meanwhile is kept: a running collector has it in its journal, the SDK tries again."
    )
    with st.expander("What it said", expanded=not is_away):
        st.text(source.without_password(str(error)))
    if st.button("Try again", icon=":material/refresh:", type="primary"):
        source.forget()
        st.rerun()
    st.caption(f"Asked at {clock(source.now_ns())}; asking again every {WAITING_S} s.")


@contextmanager
def in_words() -> Iterator[None]:
    """Draw a part of a view; where the data do not suffice for it, or have no answer, say that in its place."""
    try:
        yield
    except AnalysisError as error:
        st.markdown(sentence(error))


def sentence(error: Exception) -> str:
    """Write an error's message as a sentence that is harmless in Markdown, without the store's password."""
    text = plain(source.without_password(str(error)))
    return text[:1].upper() + text[1:].rstrip(".") + "."
