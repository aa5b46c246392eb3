"""Stages of which there are samples, the lines of functions, and a trace's own samples."""

from __future__ import annotations

import pytest
from testkit.profiles import BASE_NS, place, profile

from tailsight_analysis import Filters, Store, Window
from tailsight_analysis.flames import ProfiledStage, profiled_stages, profiled_time, stage_flame, top_functions
from tailsight_analysis.profiles import Frame, JoinedSample, Match, State, difference, flame_of
from tailsight_storage.profiles import checked_profile, insert_profile

BATCH = [f"{number:032x}" for number in (2, 3)]


@pytest.fixture(scope="module")
def kept(engine: Store) -> Store:
    places = [
        place(1, run="a"), place(1, stage="queue", run="b", also=BATCH), place(5, match="ambiguous"),
        place(0, stage="compute", match="stage", trace_id="", span_id=""),
        place(0, stage="", match="none", trace_id="", span_id=""),
    ]  # fmt: skip
    samples = [(0, 0, 30), (1, 1, 20), (2, 1, 7), (3, 0, 2), (4, 0, 90)]
    assert insert_profile(engine, checked_profile(profile(places, samples)))
    file = profile([place(0, stage="", service="file", match="none", trace_id="", span_id="")], [(0, 1, 4)])
    file["profile"]["trigger"] = "import"
    assert insert_profile(engine, checked_profile(file))
    return engine


def asked(store: Store, trace_id: str = "", **filters: tuple[str, ...]) -> tuple[ProfiledStage, ...]:
    window = profiled_time(store)
    assert window is not None
    return profiled_stages(store, window, Filters(**filters), trace_id)


def test_stages_are_listed_with_what_can_be_shown_of_them(kept: Store) -> None:
    assert asked(kept) == (
        ProfiledStage("compute", "ranker", samples=32, ambiguous=7, requests=1, runs=("a",)),
        ProfiledStage("queue", "ranker", samples=20, ambiguous=0, requests=3, runs=("b",)),
        ProfiledStage("", "file", samples=4, ambiguous=0, requests=0, runs=()),
    )
    assert asked(kept)[0].to_json()["runs"] == ["a"]


def test_filters_and_the_time_limit_them(kept: Store) -> None:
    assert [each.stage for each in asked(kept, run=("b",))] == ["queue"]
    assert asked(kept, service=("other",)) == ()
    assert profiled_stages(kept, Window(BASE_NS - 10, BASE_NS), Filters()) == ()


@pytest.mark.parametrize(
    ("number", "samples"),
    [(1, {"compute": 30, "queue": 20}), (2, {"queue": 20}), (9, {})],
    ids=["own", "batch", "none"],
)
def test_a_trace_has_its_own_samples_and_those_of_its_batches(
    kept: Store, number: int, samples: dict[str, int]
) -> None:
    assert {each.stage: each.samples for each in asked(kept, f"{number:032x}")} == samples


def test_an_older_store_has_none(kept: Store) -> None:
    kept.run("RENAME TABLE profile_samples TO gone")
    try:
        assert profiled_stages(kept, Window(0, BASE_NS), Filters()) == ()
    finally:
        kept.run("RENAME TABLE gone TO profile_samples")


def sample(trace: int, *frames: tuple[str, int]) -> JoinedSample:
    stack = tuple(Frame(name, "app.py", line) for name, line in frames)
    return JoinedSample(0, 1, stack, State.RUNNING, Match.EXACT, trace_id=f"{trace:032x}")


def test_a_function_is_at_the_line_of_most_of_its_samples() -> None:
    seen = [(1, 10), (1, 12), (2, 12), (3, 11), (4, 12)]
    flame = flame_of([sample(trace, ("main", 1), ("work", line)) for trace, line in seen], 100)
    [main] = flame.root.children
    assert (main.line, main.children[0].line, flame.root.line) == (1, 12, 0)
    assert {each.function: each.line for each in top_functions(flame)} == {"main": 1, "work": 12}
    assert main.to_json()["line"] == 1


def test_a_difference_says_the_line_of_most_samples_of_both() -> None:
    tail = [sample(trace, ("main", 1), ("work", 20)) for trace in range(20) for _ in range(6)]
    typical = [sample(100 + trace, ("main", 1), ("work", 30)) for trace in range(20) for _ in range(3)]
    found = difference(tail, typical, 100)
    assert {each.function: each.line for each in found.functions} == {"main": 1, "work": 20}
    assert {each.function: each.line for _, each in found.stacks} == {"work": 20}
    assert found.functions[0].to_json()["line"] in (1, 20)


def test_the_line_is_in_the_stored_flame_too(kept: Store) -> None:
    window = profiled_time(kept)
    assert window is not None
    found = stage_flame(kept, window, Filters(stage=("queue", "compute")))
    assert {each.function: each.line for each in top_functions(found.flame)} == {
        "main": 1, "handle": 10, "fast": 20, "slow": 30, "spin": 40,
    }  # fmt: skip
