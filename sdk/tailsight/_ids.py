"""Trace and span ids."""

import os
import random
from collections.abc import Callable
from functools import partial
from itertools import count


class Ids:
    """A source of ids as ints: `trace_id()` has 128 bits, `span_id()` 64; never 0, which means "no span".

    Trace ids are random: the last 56 bits decide about sampling. Span ids need only be unique within a trace: they
    count from a random start, which costs half as much and takes a fraction of the room in the store.
    """

    __slots__ = ("span_id", "trace_id")

    span_id: Callable[[], int]
    trace_id: Callable[[], int]

    def __init__(self) -> None:
        # A private generator: the application may call random.seed(), and then every process would use the same ids.
        bits = random.Random(os.urandom(32)).getrandbits  # noqa: S311  ids are unique, not secret
        self.span_id = count(bits(63) + 1).__next__
        self.trace_id = partial(bits, 128)  # 0 once in 2**128
