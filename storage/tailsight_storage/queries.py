"""Questions live in `.sql` files: a comment on top says which question, values are bound parameters, never text.

A query file is static. What varies is a parameter: `{since_ns:Int64}`, `{by:Array(String)}`, and so on. What several
files say alike stands in a file of its own, and `{{NAME}}` stands for its text: `sql/NAME.sql` or `sql/NAME.type`.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

_PARAMETER = re.compile(r"\{(\w+):")
_INCLUDE = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """One `.sql` file. `parameters` are the names that it binds."""

    name: str
    text: str

    @property
    def parameters(self) -> frozenset[str]:
        """The names that must be given."""
        return frozenset(_PARAMETER.findall(self.text))


@functools.cache
def load_query(package: str, name: str) -> NamedQuery:
    """Load `sql/NAME.sql` of a package with all that it includes, without comment lines."""
    folder = resources.files(package) / "sql"
    return NamedQuery(name, with_includes(folder, f"{{{{{name}}}}}").rstrip(";"))


def with_includes(folder: Traversable, text: str) -> str:
    """Put the code of `NAME.sql` or `NAME.type` in a folder where `{{NAME}}` stands."""
    while _INCLUDE.search(text):
        text = _INCLUDE.sub(lambda match: _included(folder, match[1]), text)
    return text


def without_comments(text: str) -> str:
    """Drop comment lines: they are for whoever reads the file."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--")).strip()


def _included(folder: Traversable, name: str) -> str:
    for suffix in ("sql", "type"):
        if (path := folder / f"{name}.{suffix}").is_file():
            return without_comments(path.read_text(encoding="utf-8"))
    raise FileNotFoundError(f"{folder}: nothing there is called {name}.sql or {name}.type")
