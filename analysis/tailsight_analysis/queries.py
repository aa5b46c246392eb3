"""The package's named queries: `sql/NAME.sql`, in which `{{OTHER}}` stands for the text of `sql/OTHER.sql`.

What a request is, what lies around a window and what a filter means are said in one file each and included, so that
no two questions can disagree about them. Inclusion joins files of this package only; values are always bound.
"""

from __future__ import annotations

import functools
import re

from tailsight_storage import NamedQuery, load_query

_PACKAGE = "tailsight_analysis"
_INCLUDE = re.compile(r"\{\{(\w+)\}\}")


@functools.cache
def query(name: str) -> NamedQuery:
    """Load `sql/NAME.sql` with everything that it includes."""
    text = load_query(_PACKAGE, name).text
    while _INCLUDE.search(text):
        text = _INCLUDE.sub(lambda match: load_query(_PACKAGE, match[1]).text, text)
    return NamedQuery(name, text)
