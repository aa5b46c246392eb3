"""Frames as they are stored, and names that hold what divides them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailsight_analysis.flames import frame_of, text_of
from tailsight_analysis.profiles import Frame, JoinedSample, Match, State, difference


@pytest.mark.parametrize(
    "frame",
    [
        Frame("f", "/opt/app (old)/c.py", 3),
        Frame("f", "C:/Program Files (x86)/c.py", 3),
        Frame("foo (bar)", "x.py", 3),
        Frame("a;b\nc<d>", "x:1.py", 0),
        Frame("operator() (x", "y", 1),
        Frame("<lambda>", "", 7),
    ],
    ids=["a folder", "windows", "a function", "what divides", "never closed", "no file"],
)
def test_a_frame_is_read_as_it_was_written(frame: Frame) -> None:
    assert frame_of(text_of(frame)) == frame


@given(st.text(), st.text(alphabet=st.characters(exclude_characters="()")), st.integers(0, 10**6))
def test_any_function_in_a_file_without_parentheses(function: str, file: str, line: int) -> None:
    assert frame_of(text_of(Frame(function, file, line))).line == line
    if " (" not in function and ")" not in function and "(" not in function:
        assert frame_of(text_of(Frame(function, file, line))) == Frame(function, file, line)


def test_a_function_with_a_semicolon_or_without_a_file_keeps_its_name() -> None:
    def sample(trace: int, name: str) -> JoinedSample:
        stack = (Frame("main", "app.py"), Frame(name, ""))
        return JoinedSample(0, 1, stack, State.RUNNING, Match.EXACT, trace_id=f"{trace:032x}")

    a = [sample(trace % 20, "a;b") for trace in range(100)]
    b = [sample(100 + trace % 20, "other") for trace in range(100)]
    found = difference(a, b, 100)
    assert {entry.function for entry in found.functions} == {"main", "a;b", "other"}
    assert {entry.function for _, entry in found.stacks} == {"a;b", "other"}
