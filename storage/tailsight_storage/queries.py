"""Questions live in `.sql` files: a comment on top says which question, values are bound parameters, never text.

A query file is static. What varies is a parameter: `{since_ns:Int64}`, `{by:Array(String)}`, and so on.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib import resources

_PARAMETER = re.compile(r"\{(\w+):")


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
    """Load `sql/NAME.sql` of a package, without its comment lines."""
    text = (resources.files(package) / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return NamedQuery(name, code.strip().rstrip(";"))
