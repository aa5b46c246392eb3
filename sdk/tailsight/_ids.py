"""Trace and span ids."""

import os
import random
from collections.abc import Callable
from functools import partial


class Ids:
    """A source of ids as ints: `trace_id()` has 128 bits, `span_id()` 64. 0 means "no span", so callers replace it."""

    __slots__ = ("span_id", "trace_id")

    span_id: Callable[[], int]
    trace_id: Callable[[], int]

    def __init__(self) -> None:
        # A private generator: the application may call random.seed(), and then every process would use the same ids.
        bits = random.Random(os.urandom(32)).getrandbits  # noqa: S311  ids are unique, not secret
        self.span_id = partial(bits, 64)
        self.trace_id = partial(bits, 128)
