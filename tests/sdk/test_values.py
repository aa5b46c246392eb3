import datetime as dt
import enum
import fractions
import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tailsight
from tailsight._recorder import Limits
from tailsight._values import MAX_DEPTH, clean, text
from tailsight.testing import Capture, capture

pytestmark = pytest.mark.usefixtures("no_internal_errors")

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Odd:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class OddMapping(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("no items")


@given(anything)
def test_plain_values_stay_as_they_are(value: object) -> None:
    assert clean(value, 10_000) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, "a", (2.5, None)), [1, "a", [2.5, None]]),
        ({1: True, None: b"x"}, {"1": True, "None": b"x"}),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        (frozenset({7}), [7]),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (np.float64(1.5), 1.5),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.str_("s"), "s"),
        (fractions.Fraction(1, 4), 0.25),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (Odd(), "<Odd: str() failed>"),
        (OddMapping(a=1), "<OddMapping: cannot be read>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_values_become_plain_ones(value: object, expected: object) -> None:
    result = clean(value, 100)
    assert result == expected
    assert type(result) is type(expected)


def test_numpy_values_are_recorded_as_numbers_not_as_memory(captured: Capture) -> None:
    with tailsight.stage("compute") as s:
        s.set("mean", np.float64(0.5))
        s.set("n", np.int32(3))
    assert captured.spans[0].attributes == {"mean": 0.5, "n": 3}


def test_what_is_too_long_is_cut_off() -> None:
    assert clean("x" * 20, 5) == "xxxxx"
    assert clean(b"x" * 20, 5) == b"xxxxx"
    assert clean(list(range(20)), 5) == [0, 1, 2, 3, 4]
    assert clean(range(10**12), 5) == "range"
    assert clean({n: n for n in range(20)}, 2) == {"0": 0, "1": 1}
    assert clean([[1, 2, 3], [4, 5, 6]], 5) == [[1, 2, 3], []], "all levels share one budget"
    assert text("x" * 20, 5) == "xxxxx"


def test_a_list_that_contains_itself_ends() -> None:
    loop: list[Any] = []
    loop.append(loop)
    value: Any = clean(loop, 100)
    depth = 0
    while isinstance(value, list):
        value, depth = value[0], depth + 1
    assert depth == MAX_DEPTH
    assert value == "[[...]]"


def test_a_value_is_copied_when_it_is_set(captured: Capture) -> None:
    shapes = [[1, 2]]
    with tailsight.stage("compute") as s:
        s.set("shapes", shapes)
        shapes[0].append(3)
    assert captured.spans[0].attributes == {"shapes": [[1, 2]]}


def test_keys_become_text(captured: Capture) -> None:
    with tailsight.stage("compute") as s:
        s.set(7, "seven")  # type: ignore[arg-type]
        s.set(Colour.RED, 1)
    assert captured.spans[0].attributes == {"7": "seven", "red": 1}


def test_attributes_over_the_limit_are_counted_and_known_keys_can_still_change() -> None:
    with capture(limits=Limits(attributes=2, value_length=3)) as captured, tailsight.stage("compute") as s:
        for key in "abcd":
            s.set(key, "value")
        s.set("a", 1)
    (span,) = captured.spans
    assert span.attributes == {"a": 1, "b": "val"}
    assert span.dropped_attributes == 2


def test_stage_and_names_may_be_enums_or_anything_else(captured: Capture) -> None:
    with tailsight.stage(Colour.RED, name=7):  # type: ignore[arg-type]
        pass
    assert (captured.spans[0].stage, captured.spans[0].name) == ("red", "7")
