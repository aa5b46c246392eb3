"""Which hot path runs: the C module, where it was built and is wanted, or else the Python that it mirrors.

They do the same; the C one takes half the time. TAILSIGHT_NATIVE=0 chooses the Python one.
"""

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])
G = TypeVar("G", bound=Callable[..., Any])

BUILD = "dc62b6c8b326"
"""The beginning of the SHA-256 of sdk/native/*.[ch]: a module that was compiled from others is not used."""


class Native(Protocol):
    """The C module."""

    BUILD: str

    def bind(self, **parts: object) -> type[Any]:
        """Return the class Core, which uses these."""

    def bind_factories(self, span: type[Any], stage: F, request: G, /) -> tuple[F, G]:
        """Return a stage() and a request() that make the plain spans themselves, and leave the rest to these."""

    def leave_step(self, stamps: list[int], now: Callable[[], int], token: Any, /) -> Any:
        """Append now() to the list, and reset the token of OpenTelemetry's ContextVar. Return what was current."""

    def dumps(self, value: object, /) -> bytes:
        """Do as marshal.dumps() does."""


def _load() -> tuple[Native | None, str]:
    if os.environ.get("TAILSIGHT_NATIVE") == "0":
        return None, "TAILSIGHT_NATIVE=0"
    try:
        module = cast("Native", import_module("._native", __package__))
    except Exception as error:  # not built, or for another Python
        return None, str(error)
    if getattr(module, "BUILD", None) != BUILD:
        return None, "it was built from another version: run pip install again"
    return module, ""


native, why_not = _load()
"""The C module, or None and the reason."""
