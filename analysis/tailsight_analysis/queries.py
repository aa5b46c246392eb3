"""The package's named queries: `sql/NAME.sql`, in which `{{OTHER}}` stands for the text of `sql/OTHER.sql`.

What a request is, what lies around a window and what a filter means are said in one file each and included, so that
no two questions can disagree about them. Inclusion joins files of this package only; values are always bound.
"""

from __future__ import annotations

from tailsight_storage import NamedQuery, load_query


def query(name: str) -> NamedQuery:
    """Load `sql/NAME.sql` with everything that it includes."""
    return load_query("tailsight_analysis", name)
