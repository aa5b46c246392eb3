"""Links from one view to another, which keep the time and the filters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import streamlit as st

from tailsight_analysis import Tail
from tailsight_dashboard.filters import Scope
from tailsight_dashboard.format import plain
from tailsight_dashboard.selection import ALL_TIME

SHOWN_DIGITS = 8  # of a trace id: enough to tell a few apart


def traces(scope: Scope, title: str, trace_ids: Iterable[str]) -> None:
    """Draw a line of links to traces."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(title, width="content")
        for trace_id in trace_ids:
            st.page_link(
                "views/trace.py",
                label=f"`{shown(trace_id)}`",
                icon="",
                help=f"Trace {trace_id}",
                query_params=replace(scope.selection, id=trace_id).to_address("trace"),
            )


def shown(trace_id: str) -> str:
    """Shorten a trace id: its first digits, but not the zeros that ids of 64 bits are filled up with."""
    return (trace_id.lstrip("0") or trace_id)[:SHOWN_DIGITS]


def version_or_run(scope: Scope, over: str, name: str) -> None:
    """Draw a line of links to the views of one version or run alone."""
    alone = replace(scope.selection, filters={**scope.selection.filters, over: (name,)})
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"Look at {over} **{plain(name)}** alone:", width="content")
        for view in ("stages", "tail", "jitter", "hardware"):
            st.page_link(f"views/{view}.py", label=view.capitalize(), icon="", query_params=alone.to_address(view))


def profiles(scope: Scope, places: Iterable[tuple[str, str, str]], *, all_time: bool) -> None:
    """Draw a line of links to the profiles of stages: service, stage, and what else to say of each."""
    time = replace(scope.selection, time=ALL_TIME) if all_time else scope.selection
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="profile-links"):
        st.markdown("Which code ran, in **profiles**:", width="content")
        for service, stage, more in places:
            address = replace(time, filters={"service": (service,)} if service else {}, stage=stage)
            st.page_link(
                "views/profiles.py",
                label=f"{plain(stage)} of {plain(service)}{f' ({more})' if more else ''}",
                icon="",
                query_params=address.to_address("profiles"),
            )


def examples(scope: Scope, tail: Tail) -> None:
    """Draw links to a few traces of the tail and to a few typical ones."""
    found = (("**Tail** requests:", tail.examples.tail), ("**Typical** requests:", tail.examples.typical))
    for title, trace_ids in found:
        if trace_ids:
            traces(scope, title, trace_ids)
