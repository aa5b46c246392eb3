"""The filter bar above every view. Its choices live in the address, from which a new session takes them.

A widget's change wins over the address; an address that the browser changed (a link, Back) wins over the widgets.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import streamlit as st

from tailsight_analysis import Filters, NoSpansError, Window
from tailsight_dashboard import source
from tailsight_dashboard.format import plain
from tailsight_dashboard.selection import (
    ALL_TIME,
    CUSTOM,
    DEFAULT,
    FILTERS,
    FIRST,
    LAST,
    PRESETS,
    VIEW_CHOICES,
    VIEW_KEYS,
    Selection,
    from_address,
)
from tailsight_dashboard.ticking import rerun_every

ROUNDING_S = 5  # of a window that ends now: within it, answers can be kept
AUTO_REFRESH_S = 10
_WRITTEN, _VIEW, _TOUCHED, _NOTES = "address written", "view shown", "widget touched", "notes"


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a view looks, and the choices that it was made from."""

    window: Window
    filters: Filters
    selection: Selection


def show_bar(view: str) -> Scope:
    """Draw the bar, write the address for this view, and return where to look.

    Raises NoSpansError for all time of an empty store.
    """
    take_address(view)
    with st.container(horizontal=True, vertical_alignment="bottom", key="filter-bar"):
        st.selectbox(
            "Time",
            PRESETS,
            format_func=lambda key: PRESETS[key][0],
            key="time",
            on_change=_touch,
            filter_mode=None,
            persist_state="session",  # no widget is drawn while the store is away
            width=160,
        )
        if st.session_state["time"] == CUSTOM:
            _custom_times()
        window = _window(current())
        _filter_widgets(window)
        if st.button("Refresh", icon=":material/refresh:", help="Ask the store again, now"):
            source.forget()
            window = _window(current())
        if st.toggle("Live", key="live", persist_state="session", help=f"Refresh every {AUTO_REFRESH_S} s"):
            rerun_every(AUTO_REFRESH_S)
    for note in st.session_state.get(_NOTES, ()):
        st.warning(f"Ignored in the address: {plain(note)}.", icon=":material/link_off:")
    selection = current()
    write_address(view)
    return Scope(window, selection.as_filters, selection)


def choice(name: str, label: str, options: Sequence[str], **widget: Any) -> str:
    """Draw a view's own choice, which lives in the address like the filters, and return it."""
    value = st.segmented_control(
        label, options, key=name, on_change=_touch, required=True, persist_state="session", **widget
    )
    return str(value)


def entry(name: str, label: str, **widget: Any) -> str:
    """Draw a view's own field for text, which lives in the address like the filters, and return what is in it."""
    value = st.text_input(label, key=name, on_change=_touch, persist_state="session", **widget)
    return str(value or "").strip()


def pick(
    name: str, label: str, options: Sequence[str], default: str, format_func: Callable[[str], str] = str, **widget: Any
) -> str:
    """Draw a view's own choice of one name among many, which lives in the address, and return it.

    Without a choice, and for one that is not offered, it is `default`, in grey.
    """
    if (chosen := st.session_state.get(name)) and chosen not in options:
        note = f"Ignored in the address: {plain(name)}={plain(str(chosen))} is not among what is shown."
        st.warning(note, icon=":material/link_off:")
    if chosen not in options:
        st.session_state[name] = None
    value = st.selectbox(
        label,
        options,
        key=name,
        format_func=format_func,
        on_change=_touch,
        placeholder=format_func(default),
        persist_state="session",
        **widget,
    )
    return str(value or default)


def remember(name: str, value: str, view: str) -> None:
    """Keep a view's own choice that no widget of Streamlit's has, and bring the address in line with it."""
    st.session_state[name] = value
    write_address(view)


def current() -> Selection:
    """Return the choices as the widgets have them."""
    state = st.session_state
    selection = Selection(
        time=state["time"],
        since=state.get("from"),
        until=state.get("to"),
        filters={name: tuple(state.get(name, ())) for name in FILTERS},
    )
    return replace(selection, **{name: state[name] for name in VIEW_CHOICES if state.get(name)})


def widen(*, all_time: bool = False, no_filters: bool = False) -> None:
    """Look at everything: a callback for the buttons of empty states."""
    _touch()
    if all_time:
        st.session_state["time"] = ALL_TIME
    for name in FILTERS if no_filters else ():
        st.session_state[name] = []


def take_address(view: str) -> None:
    """Set the widgets from the address where it is new: in a new session, or when the browser changed it."""
    state = st.session_state
    asked = {name: st.query_params.get_all(name) for name in st.query_params}
    is_new_view = state.get(_VIEW) != view
    is_ours = asked == state.get(_WRITTEN) or (is_new_view and not asked)
    if _WRITTEN in state and (is_ours or state.pop(_TOUCHED, False)):
        state.pop(_TOUCHED, None)
        if is_new_view:
            state[_NOTES] = ()
        state[_VIEW] = view
        return
    selection, notes = from_address(asked)
    state[_VIEW], state[_NOTES], state[_WRITTEN] = view, notes, asked
    state["time"] = selection.time
    if selection.since and selection.until:
        state["from"], state["to"] = selection.since, selection.until
    for name in FILTERS:
        state[name] = list(selection.filters.get(name, ()))
    for name in VIEW_CHOICES:
        if name in VIEW_KEYS[view] or name not in state:  # an address says nothing of what other views have
            state[name] = getattr(selection, name)


def write_address(view: str) -> None:
    """Bring the address in line with the widgets."""
    parameters = current().to_address(view)
    wanted = {name: value if isinstance(value, list) else [value] for name, value in parameters.items()}
    if {name: st.query_params.get_all(name) for name in st.query_params} != wanted:
        st.query_params.from_dict(parameters)
    st.session_state[_WRITTEN] = wanted


def _touch() -> None:
    st.session_state[_TOUCHED] = True
    st.session_state[_NOTES] = ()


def _custom_times() -> None:
    now = datetime.now(UTC).replace(tzinfo=None, second=0, microsecond=0) + timedelta(minutes=1)
    st.session_state.setdefault("from", now - timedelta(hours=1))
    st.session_state.setdefault("to", now)
    for key, label in (("from", "From (UTC)"), ("to", "To (UTC)")):
        st.datetime_input(
            label,
            key=key,
            on_change=_touch,
            min_value=FIRST,
            max_value=LAST,
            step=60,
            required=True,
            persist_state="session",
            width=200,
        )


def _filter_widgets(window: Window) -> None:
    offered = source.ask_choices(window)
    for name in FILTERS:
        chosen = st.session_state[name]
        missing = [value for value in chosen if value not in offered[name]]
        if missing:
            st.session_state[name] = _known(name, chosen, missing)
        st.multiselect(
            name.capitalize(),
            sorted({*offered[name], *st.session_state[name]}),
            key=name,
            on_change=_touch,
            placeholder="All",
            wrap=True,
            persist_state="session",
            width=_room(st.session_state[name]),
        )


def _room(chosen: Sequence[str]) -> int:
    """Pixels for a filter, so that what is chosen can be read: nine a character, and its buttons."""
    return min(360, max(140, 9 * max(map(len, chosen), default=0) + 116))


def _known(name: str, chosen: list[str], missing: list[str]) -> list[str]:
    """Drop values that the store does not know at all, and say so; one that lies outside the window is kept."""
    held = source.extent()
    everywhere = source.ask_choices(held)[name] if held else missing
    unknown = [value for value in missing if value not in everywhere]
    if unknown:
        notes = (f"no span has {name}={value}" for value in unknown)
        st.session_state[_NOTES] = (*st.session_state.get(_NOTES, ()), *notes)
    return [value for value in chosen if value not in unknown]


def _window(selection: Selection) -> Window:
    if selection.time == CUSTOM and selection.since and selection.until:
        since, until = selection.since, selection.until
        if since < until:
            return Window(_ns(since), _ns(until))
        st.warning("“From” is not before “To”: showing the minute after “From”.", icon=":material/schedule:")
        return Window(_ns(since), _ns(since + timedelta(minutes=1)))
    if selection.time == ALL_TIME:
        held = source.extent() or source.profiled_extent()
        if held is None:
            raise NoSpansError("the store holds no spans")
        return held
    seconds = PRESETS[selection.time][1] or PRESETS[DEFAULT.time][1] or 0
    until_s = math.ceil(time.time() / ROUNDING_S) * ROUNDING_S
    return Window.last(seconds, now_ns=until_s * 1_000_000_000)


def _ns(moment: datetime) -> int:
    return int(moment.replace(tzinfo=UTC).timestamp()) * 1_000_000_000
