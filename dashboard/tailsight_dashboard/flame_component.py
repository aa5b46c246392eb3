"""The flame graph as a part of the page: flame.js and flame.css beside this module, mounted with data.

A component of Streamlit that loads nothing from anywhere: it takes the page's theme, grows as it needs, keeps zoom and
search while the page runs again, and says which text was searched for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import streamlit as st

_HTML = """<div class="flame">
<div class="tools" role="search">
<input class="search" type="search" maxlength="200" placeholder="Search functions and files"
 aria-label="Search functions and files" autocomplete="off" spellcheck="false">
<button class="whole" type="button">Whole graph</button>
<output class="matches" aria-live="polite"></output></div>
<div class="legend"></div>
<div class="about" aria-live="polite"></div>
<div class="graph" role="tree" aria-label="Flame graph, outermost functions on top"></div>
<div class="tip" hidden></div>
</div>"""


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


_mount: Any = st.components.v2.component(
    "tailsight_flame", html=_HTML, css=_beside("flame.css"), js=_beside("flame.js")
)


def flame(data: Mapping[str, Any], *, of: str, search: str, searched: Callable[[str], None], key: str) -> None:
    """Draw a flame graph. `of` names what it shows: while it stays, so does the zoom. `searched` takes a new search."""

    def tell() -> None:
        searched(str(st.session_state[key].get("search") or ""))

    _mount(data={**data, "of": of, "search": search}, key=key, default={"search": search}, on_search_change=tell)
