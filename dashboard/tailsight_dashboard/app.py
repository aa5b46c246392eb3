"""The script that Streamlit runs: the navigation, the filter bar, one of the views, or the state instead of it."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.navigation.page import Page as StreamlitPage

from tailsight_analysis import AnalysisError, NoSpansError, NotEnoughDataError, StorageError
from tailsight_dashboard import gates, states
from tailsight_dashboard.filters import Scope, show_bar

VIEWS = Path(__file__).with_name("views")
ICON = Path(__file__).with_name("icon.svg")
PAGES = (  # name of the script and of the address; title, icon; the first is what opens
    ("stages", "Stages", ":material/stacked_bar_chart:"),
    ("tail", "Tail", ":material/hourglass_bottom:"),
    ("trace", "Trace", ":material/account_tree:"),
    ("profiles", "Profiles", ":material/local_fire_department:"),
    ("jitter", "Jitter", ":material/graphic_eq:"),
    ("hardware", "Hardware", ":material/memory:"),
    ("regressions", "Regressions", ":material/trending_up:"),
)


def main() -> None:
    """Draw the page."""
    st.set_page_config(page_title="tailsight", page_icon=str(ICON), layout="wide")
    states.style()
    pages = {
        name: st.Page(VIEWS / f"{name}.py", title=title, icon=icon, url_path=name, default=number == 0)
        for number, (name, title, icon) in enumerate(PAGES)
    }
    page = st.navigation(list(pages.values()), position="top")
    view = next(name for name, each in pages.items() if each is page)
    bar = st.empty()
    try:
        draw(page, view, bar)
    except StorageError as error:
        bar.empty()
        states.store_away(error)


def draw(page: StreamlitPage, view: str, bar: DeltaGenerator) -> None:
    """Draw the filter bar and the view, or what stands for it. Raises StorageError."""
    scope: Scope | None = None
    try:
        with bar.container():
            scope = show_bar(view)
        st.session_state["scope"] = scope
        page.run()
    except NoSpansError:
        states.no_spans(scope)
        if view == gates.VIEW and gates.are_kept():
            gates.show()  # gates compare files: their reports need no span here
    except NotEnoughDataError as error:
        states.not_enough(error, view)
    except AnalysisError as error:
        states.cannot_answer(error)


main()
