"""What the flame graph is drawn from, the tables and the sentences of profiles: every figure is the functions' own."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from dashboard.profiled_store import HOSTILE, hostile, other_run, ranker, unfitted

from tailsight_analysis import Filters, Store
from tailsight_analysis.flames import (
    FlameSideOf,
    FunctionTotals,
    ProfiledStage,
    RecordedProfile,
    StageDifference,
    StageFlame,
    profiled_time,
    recorded_profiles,
    stage_difference,
    stage_flame,
    top_functions,
)
from tailsight_analysis.profiles import Flame, FlameNode, Frame, JoinedSample, Match, State, difference, flame_of
from tailsight_dashboard import charts_profiles, tables_profiles
from tailsight_dashboard import wording_profiles as wording
from tailsight_dashboard.charts_profiles import of_difference, of_states, state_totals
from tailsight_dashboard.format import milliseconds, plain
from tailsight_dashboard.tables import signed
from tailsight_storage.profiles import checked_profile, insert_profile

TAIL, TYPICAL = FlameSideOf("tail", classes=("tail",)), FlameSideOf("typical", classes=("typical",))
COMPUTE = Filters(stage=("compute",), service=("ranker",))


@pytest.fixture(scope="module")
def kept(engine: Store) -> Store:
    for document in (ranker(), other_run(), unfitted(), hostile()):
        assert insert_profile(engine, checked_profile(document))
    return engine


@pytest.fixture(scope="module")
def found(kept: Store) -> StageFlame:
    window = profiled_time(kept)
    assert window is not None
    return stage_flame(kept, window, COMPUTE)


@pytest.fixture(scope="module")
def apart(kept: Store) -> StageDifference:
    window = profiled_time(kept)
    assert window is not None
    return stage_difference(kept, window, COMPUTE, TAIL, TYPICAL)


@pytest.fixture(scope="module")
def recordings(kept: Store) -> tuple[RecordedProfile, ...]:
    window = profiled_time(kept)
    assert window is not None
    return recorded_profiles(kept, window, Filters())


def sample(trace: int, *names: str, state: State = State.RUNNING) -> JoinedSample:
    stack = tuple(Frame(name, f"/srv/{name}.py", 7) for name in names)
    return JoinedSample(0, 1, stack, state, Match.EXACT, trace_id=f"{trace:032x}")


def paths(data: dict[str, Any]) -> list[tuple[str, ...]]:
    """The path of each node, from the columns alone."""
    result: list[tuple[str, ...]] = []
    for at, parent in enumerate(data["parent"]):
        assert parent < at
        result.append((*(result[parent] if at else ()), data["names"][data["name"][at]][0]))
    return result


def nodes(node: FlameNode, above: tuple[str, ...] = ("all",)) -> dict[tuple[str, ...], FlameNode]:
    result = {above: node}
    for child in node.children:
        result |= nodes(child, (*above, child.function))
    return result


def total(node: FlameNode, state: State) -> int:
    return dict(node.by_state).get(state, 0) + sum(total(child, state) for child in node.children)


def test_the_columns_are_the_tree(found: StageFlame) -> None:
    data, expected = of_states(found.flame), nodes(found.flame.root)
    assert set(paths(data)) == set(expected)
    for at, path in enumerate(paths(data)):
        node = expected[path]
        assert (data["ms"][at], data["own_ms"][at]) == pytest.approx((node.total_ms, node.self_ms))
        assert (data["own"][at], data["line"][at]) == (node.self_samples, node.line)
        assert [data[state.value][at] for state in State] == [total(node, state) for state in State]
        if at:
            assert data["names"][data["name"][at]] == (node.function, node.file)
    assert data["left_out"] == 0
    assert json.loads(json.dumps(data))["parent"] == data["parent"]


def test_larger_branches_come_first(found: StageFlame) -> None:
    data = of_states(found.flame)
    for parent in range(len(data["parent"])):
        below = [data["ms"][at] for at, above in enumerate(data["parent"]) if above == parent]
        assert below == sorted(below, reverse=True)


def test_the_states_add_up_to_the_samples(found: StageFlame) -> None:
    totals = state_totals(found.flame)
    assert sum(totals.values()) == found.flame.samples
    assert min(totals[State.GIL], totals[State.WAITING], totals[State.RUNNING]) > 0


def test_a_difference_lays_both_trees_on_each_other(apart: StageDifference) -> None:
    data, result = of_difference(apart), apart.difference
    of_a, of_b = nodes(result.flame_a.root), nodes(result.flame_b.root)
    assert set(paths(data)) == of_a.keys() | of_b.keys()
    assert set(of_a) > set(of_b)
    for at, path in enumerate(paths(data)):
        sides = (of_a.get(path), of_b.get(path))
        assert data["samples"][at] == [side.total_samples if side else 0 for side in sides]
        requests = (result.requests_a, result.requests_b)
        expected = [side.total_ms / of if side else 0 for side, of in zip(sides, requests, strict=True)]
        assert data["ms"][at] == pytest.approx(expected, abs=1e-6)
    assert data["names_of"] == ["tail", "typical"]
    said = dict(zip((name for name, _ in data["names"]), data["entries"], strict=True))
    slow = next(each for each in apart.functions if each.function == "slow")
    text, certain = said["slow"]
    assert certain is slow.certain is True
    assert text.startswith(f"+{milliseconds(slow.difference_ms)} ms [")
    assert said["fast"][1] is False


def wide(functions: int) -> Flame:
    random = Random(3)
    return flame_of([sample(1, "main", f"f{random.randrange(functions)}") for _ in range(3 * functions)], 100)


def test_of_too_many_branches_the_smallest_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts_profiles, "MOST_NODES", 60)
    flame = wide(300)
    data = of_states(flame)
    assert len(data["parent"]) <= 60
    assert len(data["parent"]) + data["left_out"] == len(nodes(flame.root))
    kept = [at for at, path in enumerate(paths(data)) if len(path) == 3]
    left = sorted((node.total_ms for path, node in nodes(flame.root).items() if path not in set(paths(data))))
    assert min(data["ms"][at] for at in kept) >= left[-1]
    assert data["running"][0] == flame.samples, "what is left out still counts above"


def test_a_very_deep_stack_is_no_trouble() -> None:
    flame = flame_of([sample(1, *(f"f{number}" for number in range(900)))], 100)
    assert len(of_states(flame)["parent"]) == 251


def test_the_table_of_functions_has_their_figures(found: StageFlame) -> None:
    rows = top_functions(found.flame)
    frame = tables_profiles.functions(rows, found.flame).data  # type: ignore[attr-defined]
    assert list(frame["Function"]) == [each.function for each in rows]
    assert list(frame["Self"]) == [each.self_samples for each in rows]
    assert list(frame["Self (%)"]) == pytest.approx([each.self_ms / found.flame.ms for each in rows])
    assert list(frame["Total (%)"]) == pytest.approx([each.total_ms / found.flame.ms for each in rows])
    acquire = next(each for each in rows if each.function == "acquire")
    row = frame[frame["Function"] == "acquire"].iloc[0]
    assert row["GIL"] * acquire.self_samples == pytest.approx(acquire.gil_samples)
    assert row["Waits"] * acquire.self_samples == pytest.approx(acquire.waiting_samples)
    assert row["Line"] == "python3.11/threading.py:327"
    assert row["File"] == "/usr/lib/python3.11/threading.py"


def test_the_table_of_differences_has_their_figures(apart: StageDifference) -> None:
    frame = tables_profiles.differences(apart).data  # type: ignore[attr-defined]
    for title, of in {
        "tail (ms)": lambda each: each.a.ms, "typical (ms)": lambda each: each.b.ms,
        "More (ms)": lambda each: each.difference_ms, "p-value": lambda each: each.p_value,
    }.items():  # fmt: skip
        assert list(frame[title]) == pytest.approx([of(each) for each in apart.functions]), title
    assert list(frame["95 % (ms)"]) == [f"{signed(each.low_ms)} to {signed(each.high_ms)}" for each in apart.functions]
    assert list(frame["Certain"]) == ["yes" if each.certain else "no" for each in apart.functions]
    assert list(frame["Samples"]) == [f"{each.a.samples} : {each.b.samples}" for each in apart.functions]


def test_runs_may_be_called_like_columns(apart: StageDifference) -> None:
    named = replace(apart, difference=replace(apart.difference, name_a="More", name_b="95 %"))
    frame = tables_profiles.differences(named).data  # type: ignore[attr-defined]
    assert frame.columns.is_unique
    assert list(frame["More (ms)"]) == pytest.approx([each.difference_ms for each in apart.functions])


def test_the_table_of_recordings_says_how_good_they_are(recordings: tuple[RecordedProfile, ...]) -> None:
    frame = tables_profiles.recordings(recordings).data  # type: ignore[attr-defined]
    assert list(frame["Samples"]) == [each.samples for each in recordings]
    assert list(frame["Ambiguous"]) == [each.ambiguous for each in recordings]
    assert sorted(frame["Clock"]) == ["fitted", "fitted", "fitted", "not fitted"]
    row = frame[frame["Clock"] == "not fitted"].iloc[0]
    assert (row["Agreement"], row["By chance"]) == ("—", "—")
    assert row["Notes"] == "frames and spans agree at several offsets: nothing is joined"
    imported = tables_profiles.recordings([replace(recordings[0], trigger="import", trusted=False)])
    assert list(imported.data["Clock"]) == ["none: a file"]  # type: ignore[attr-defined]


def headline(found: StageDifference, a: FlameSideOf = TAIL, b: FlameSideOf = TYPICAL, stage: str = "") -> list[str]:
    return [text.replace("\\", "").replace("\u00a0", " ") for text in wording.difference_headline(found, a, b, stage)]


def test_the_first_sentence_is_the_function_that_the_tail_runs_longer(apart: StageDifference) -> None:
    first = apart.functions[0]
    assert first.function == "slow"
    bounds = f"[{signed(first.low_ms)} to {signed(first.high_ms)} ms], p = {first.p_value:.3f}"
    said = headline(apart, stage="compute")
    assert said[0] == (
        f"Tail requests spend **{milliseconds(first.difference_ms)} ms more** in **slow** (ranker/score.py:30) of compute "
        f"than typical ones {bounds}."
    )
    assert said[1].startswith("Also for certain: **acquire** (python3.11/threading.py:327) +")
    assert said[2].startswith(f"In all they take +{milliseconds(apart.everywhere[-1].difference_ms)} ms [")
    assert said[2].endswith("2 functions on every stack of both are left out.")


def test_what_is_faster_is_said_where_nothing_is_slower(kept: Store) -> None:
    window = profiled_time(kept)
    assert window is not None
    a, b = (FlameSideOf(name, runs=(name,)) for name in ("b", "a"))
    said = headline(stage_difference(kept, window, COMPUTE, a, b), a, b)
    assert said[0].startswith("Requests of run b spend **")
    assert " less** in **slow** (ranker/score.py:30) than those of run a [−" in said[0]


def test_that_nothing_differs_for_certain_is_said_with_what_comes_next() -> None:
    sides = [
        [sample(100 * side + n % 30, "main", f"f{n % 3}") for n in range(90 + n_more)]
        for side, n_more in ((1, 3), (2, 0))
    ]
    found = StageDifference(difference(*sides, 100), ())
    assert not any(each.certain for each in found.functions)
    said = headline(found, stage="compute")
    assert said[0] == "No function of compute differs for certain between tail and typical requests."
    assert said[1].startswith(f"Of 3 functions, **{found.functions[0].function}** (srv/f")
    assert "More requests may tell." in said[1]


def test_where_all_run_the_same_that_is_said() -> None:
    sides = [[sample(100 * side + n % 30, "main", "work") for n in range(60 * side)] for side in (1, 2)]
    said = headline(StageDifference(difference(*sides, 100), ()))
    assert said[0] == "No function differs for certain between tail and typical requests."
    assert said[1].startswith("In all they take −")


def test_the_flame_is_one_sentence(found: StageFlame) -> None:
    rows = top_functions(found.flame)
    part = 100 * rows[0].self_ms / found.flame.ms
    said = wording.flame_headline(found, rows, "compute").replace("\\", "")
    assert said == f"**{part:.0f} %** of the time of compute is **spin** (ranker/score.py:40) itself."
    spread = StageFlame(wide(300), ())
    rows = top_functions(spread.flame)
    assert wording.flame_headline(spread, rows, "") == (
        f"The time is spread over {len(rows)} functions; the most of one itself is "
        f"{100 * rows[0].self_ms / spread.flame.ms:.1f} %."
    )


def test_what_the_samples_rest_on_is_said(recordings: tuple[RecordedProfile, ...]) -> None:
    stages = [ProfiledStage("compute", "ranker", 900, 100, 90, ("a",))]
    assert list(wording.rests_on(recordings, stages)) == [
        "10 % of the samples here (100) may be of several stages: they are left out.",
        "Of 1 recording the clock could not be fitted: their samples are of no stage.",
    ]
    assert wording.recorded(recordings[:1]).startswith("1 recording, ")


@pytest.mark.parametrize("file", ["", "a.py", "/srv/x/a.py"], ids=["none", "short", "long"])
def test_a_function_is_named_with_what_is_known_of_its_place(file: str) -> None:
    named = wording.code(FunctionTotals("f", file, 1, 1, 0, 0, 10.0, 10.0, line=3 if file else 0)).replace("\\", "")
    assert named == {"": "**f**", "a.py": "**f** (a.py:3)", "/srv/x/a.py": "**f** (x/a.py:3)"}[file]


def test_an_address_among_the_names_becomes_no_link() -> None:
    """Streamlit makes links of bare addresses, escaped or not."""
    assert plain("see HTTPS://such.example or www.such.example").replace("\\", "") == (
        "see HTTPS\u2060://such.example or www\u2060.such.example"
    )
    assert plain("httpx.get www") == "httpx\\.get www"


def test_names_of_others_are_only_names(kept: Store) -> None:
    window = profiled_time(kept)
    assert window is not None
    found = stage_flame(kept, window, Filters(service=(HOSTILE,)))
    said = wording.flame_headline(found, top_functions(found.flame), HOSTILE)
    for text in (said, wording.nothing_here("x", ""), *wording.rests_on(found.profiles, ())):
        assert "](" not in text.replace("\\]", "").replace("\\(", "")
        assert "<img" not in text.replace("\\<", "")
    assert (
        wording.commands("a b; rm -rf /\n").splitlines()[1].startswith("tailsight profile --service 'a b; rm -rf /' ")
    )
