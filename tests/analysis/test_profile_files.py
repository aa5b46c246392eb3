"""Profiles read and written: what other tools wrote, what other tools can read, and what is damaged."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailsight_analysis import NotEnoughDataError
from tailsight_analysis.profiles import (
    Frame,
    JoinedSample,
    Match,
    State,
    UnreadableProfileError,
    difference,
    difference_html,
    find_sites,
    flame_html,
    flame_of,
    interpreter_data,
    read_chrometrace,
    read_profile,
    state_of,
    to_collapsed,
    to_speedscope,
)
from tailsight_analysis.profiles import html as pages

DATA = Path(__file__).parents[3] / "shared" / "data"
shared = pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")


def sample(names: str, trace: int = 1, state: State = State.RUNNING) -> JoinedSample:
    stack = tuple(Frame(name, "app.py", 1) for name in names.split(";"))
    return JoinedSample(0, 1, stack, state, Match.EXACT, trace_id=f"{trace:032x}", span_id="1" * 16, stage="compute")


def read(text: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(frame.function for frame in each.stack): each.weight
        for each in read_profile(io.BytesIO(text.encode())).stacks
    }


@shared
@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("file", "kind", "unit", "total"),
    [
        ("speedscope/speedscope_0.0.1_simple.speedscope.json", "speedscope", "samples", 14),
        ("speedscope/speedscope_0.1.2_simple-sampled.speedscope.json", "speedscope", "ms", 14_000),
        ("speedscope/speedscope_0.6.0_two-sampled.speedscope.json", "speedscope", "ms", 28_000),
        ("speedscope/stackcollapse_simple.txt", "collapsed", "samples", 14),
        ("speedscope/stackcollapse_recursion.txt", "collapsed", "samples", 10),
        ("pyinstrument/wikipedia_article_word_count.json", "pyinstrument", "ms", 410.331),
    ],
)
def test_what_other_tools_wrote_is_read_whole(file: str, kind: str, unit: str, total: float) -> None:
    with (DATA / file).open("rb") as stream:
        profile = read_profile(stream, file)
    assert (profile.format, profile.unit) == (kind, unit)
    assert sum(each.weight for each in profile.stacks) == pytest.approx(total, rel=1e-4)


@shared
@pytest.mark.shared_data
@pytest.mark.parametrize("file", ["incomplete-trace", "out-of-order-events"])
def test_damaged_speedscope_files_are_refused(file: str) -> None:
    with (
        (DATA / "speedscope" / f"speedscope_invalid_{file}.json").open("rb") as stream,
        pytest.raises(UnreadableProfileError, match="damaged"),
    ):
        read_profile(stream, file)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a;b\n", "line 1"),
        ("[]", "Chrome trace"),
        ('{"a": 1}', "keys a"),
        ("{", "damaged JSON"),
        ('{"profiles":[{}],"shared":{"frames":[]}}', "damaged"),
    ],
    ids=["no count", "chrome trace", "other json", "cut off", "empty profile"],
)
def test_what_is_no_profile_says_what_is_read(text: str, says: str) -> None:
    with pytest.raises(UnreadableProfileError, match=says):
        read(text)


names = st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters=";()\u2028\u2029"), min_size=1, max_size=8
).filter(lambda text: text.strip() == text)


@given(st.lists(st.lists(names, min_size=1, max_size=4), min_size=1, max_size=12))
def test_what_is_written_reads_back_the_same(stacks: list[list[str]]) -> None:
    flame = flame_of([sample(";".join(stack)) for stack in stacks], 1000)
    counts: dict[tuple[str, ...], float] = {}
    for stack in stacks:
        counts[tuple(stack)] = counts.get(tuple(stack), 0) + 1
    assert read(to_speedscope(flame)) == pytest.approx(counts)
    assert read(to_collapsed(flame)) == counts


def test_times_are_samples_by_the_rate_and_states_are_kept() -> None:
    flame = flame_of([sample("a;b"), sample("a;b", 2, State.GIL), sample("a")], 100)
    outer = flame.root.children[0]
    assert (flame.samples, flame.requests, flame.ms) == (3, 2, 30)
    assert (outer.function, outer.self_samples, outer.total_samples) == ("a", 1, 3)
    assert outer.children[0].by_state == ((State.RUNNING, 1), (State.GIL, 1))
    assert json.loads(json.dumps(flame.to_json()))["root"]["children"][0]["total_ms"] == 30


def test_a_very_deep_stack_keeps_its_ends() -> None:
    flame = flame_of([sample(";".join(f"f{at}" for at in range(5000)))], 100)
    collapsed = to_collapsed(flame)
    assert collapsed.startswith("f0 (app.py);f1 (app.py)")
    assert collapsed.endswith("f4999 (app.py) 1\n")
    assert flame_html(flame)
    json.dumps(flame.to_json())


HOSTILE = "</script><img src=x onerror=alert(1)>"


def hostile_pages() -> dict[str, str]:
    own = [sample(f"main;{HOSTILE}" if at % 3 else "main", at) for at in range(90)]
    other = [sample("main", 1000 + at) for at in range(90)]
    return {
        "flame": flame_html(flame_of(own, 100), HOSTILE),
        "difference": difference_html(difference(own, other, 100), HOSTILE),
    }


@pytest.mark.parametrize("kind", ["flame", "difference"])
def test_a_page_holds_no_markup_of_others_and_asks_no_network(kind: str) -> None:
    page = hostile_pages()[kind]
    assert "<img" not in page
    assert page.count("</script>") == 2
    assert "http://" not in page
    assert "https://" not in page
    assert "default-src 'none'" in page


def dom(page: str, folder: Path) -> str:
    """Return the page as Chromium has it after its script ran."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium")
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    return subprocess.run(
        [browser, *options, file.as_uri()], capture_output=True, text=True, timeout=60, check=True
    ).stdout


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["flame", "difference"])
def test_a_page_draws_itself(kind: str, tmp_path: Path) -> None:
    drawn = dom(hostile_pages()[kind], tmp_path)
    assert drawn.count('role="treeitem"') == 3  # the whole, main, and the hostile name
    assert "<img" not in drawn
    assert "&lt;/script&gt;&lt;img" in drawn


USE = """<script>
const say = text => document.body.append(text + " ");
const shown = () => [...document.querySelectorAll(".node")].filter(each => each.style.opacity === "1").map(each => each.textContent);
search.value = "LEAF"; search.dispatchEvent(new Event("input"));
say("found:" + document.querySelectorAll(".found").length + ":" + byId("matches").textContent);
[...graph.children].find(each => each.textContent === "left").click();
say("zoomed:" + shown().join(","));
document.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape"}));
say("whole:" + shown().join(","));
graph.children[0].focus();
for (const key of ["ArrowDown", "ArrowDown", "ArrowRight"]) graph.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
say("at:" + document.activeElement.textContent);
</script></body>"""


COLOURS = """<script>
const paint = name => [...document.querySelectorAll(".node")].find(each => each.textContent === name).style.background;
for (const name of ["handle", "spin", "wait"]) document.body.append(` ${name}: ${paint(name)};`);
document.body.append(" about: " + [...document.querySelectorAll(".node")].find(each => each.textContent === "spin").title);
</script></body>"""


@pytest.mark.browser
def test_waiting_for_the_gil_is_a_colour_of_its_own_as_wide_as_it_is_long(tmp_path: Path) -> None:
    states = {"handle;spin": [State.RUNNING, State.RUNNING, State.RUNNING, State.GIL], "handle;wait": [State.WAITING]}
    flame = flame_of([sample(stack, 1, state) for stack, of in states.items() for state in of], 100)
    drawn = dom(flame_html(flame).replace("</body>", COLOURS), tmp_path)
    assert "spin: linear-gradient(to right, var(--running) 0.0% 75.0%, var(--gil) 75.0% 100.0%);" in drawn
    assert "handle: linear-gradient(" in drawn
    assert "wait: var(--waiting);" in drawn
    assert "spin: 4 samples, 40 ms, 80.0 %: 75 % running, 25 % waiting for the GIL" in drawn
    legend = drawn.partition('id="key">')[2].partition("</p>")[0]
    assert [part.partition("<")[0] for part in legend.split("</span>")[1:]] == [
        "running", "waiting for the GIL", "waiting for something else", "state not known",
    ]  # fmt: skip
    assert "var(--gil)" in legend


@pytest.mark.parametrize("kind", ["flame", "difference"])
def test_a_page_has_so_many_nodes_at_most_and_the_shares_of_all(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out is the smallest; what is above counts it still."""
    assert pages.MAX_NODES == 50_000
    monkeypatch.setattr(pages, "MAX_NODES", 500)
    samples = [sample(f"main;f{at}", at % 40) for at in range(600)] + [sample("main;often")] * 50
    if kind == "flame":
        page = flame_html(flame_of(samples, 100))
    else:
        other = [sample("main;often", 100 + at % 40) for at in range(100)]
        page = difference_html(difference(samples, other, 100))
    root = json.loads(page.partition('id="data">')[2].partition("</script>")[0])["root"]
    [main] = root[4]
    assert len(main[4]) <= 500
    assert "often" in {node[0] for node in main[4]}
    if kind == "flame":
        assert main[3][:3] == [650, 0, 650]


@pytest.mark.browser
def test_a_page_zooms_searches_and_obeys_the_keyboard(tmp_path: Path) -> None:
    flame = flame_of([sample("main;left;leaf"), sample("main;left;leaf"), sample("main;right")], 100)
    drawn = dom(flame_html(flame).replace("</body>", USE), tmp_path)
    assert "found:1:1 found, 66.7 %" in drawn
    assert "zoomed:left,leaf" in drawn
    assert "whole:all,main,left,leaf,right" in drawn
    assert "at:right" in drawn


@pytest.mark.parametrize("weight", ["NaN", "Infinity", "1e999"])
def test_a_weight_that_is_no_number_is_refused(weight: str) -> None:
    frames, profile = (
        '{"frames":[{"name":"a"}]}',
        f'{{"type":"sampled","name":"","unit":"none","startValue":0,"endValue":1,"samples":[[0]],"weights":[{weight}]}}',
    )
    with pytest.raises(UnreadableProfileError, match="weighs"):
        read(f'{{"shared":{frames},"profiles":[{profile}]}}')


def test_a_trace_of_centuries_is_refused_before_it_takes_memory() -> None:
    with pytest.raises(UnreadableProfileError, match="more than 40,000,000 observations"):
        read_chrometrace(events(("B", "f", 0, 7), ("B", "g", 1 << 61, 7)), 0)


def events(*of: tuple[str, str, int, int]) -> io.BytesIO:
    return io.BytesIO(
        json.dumps(
            [
                {
                    "ph": ph,
                    "name": name,
                    "ts": ts,
                    "tid": tid,
                    "pid": 1,
                    "args": {"filename": "a.py", "line": 3},
                    "cat": "py-spy",
                }
                for ph, name, ts, tid in of
            ]
        ).encode()
    )


def test_a_sample_that_changed_one_thread_saw_the_other() -> None:
    stream = events(
        ("B", "f", 0, 7),
        ("B", "g", 10, 8),
        ("B", "h", 10_000, 7),
        ("E", "h", 20_000, 7),
        ("E", "f", 30_000, 7),
        ("E", "g", 30_000, 8),
    )
    found = [
        (each.time_us, each.thread_id, each.stack[-1].function) for each in read_chrometrace(stream, 0).observations()
    ]
    assert found == [(0, 7, "f"), (0, 8, "g"), (10_000, 7, "h"), (10_000, 8, "g"), (20_000, 7, "f"), (20_000, 8, "g")]


def test_silence_is_filled_in_by_the_rate_only_where_idle_threads_were_seen() -> None:
    stream = events(("B", "f", 0, 7), ("B", "h", 100_000, 7), ("E", "h", 110_000, 7), ("E", "f", 110_000, 7))
    raw = stream.getvalue()
    filled = list(read_chrometrace(stream, 0, rate_hz=100).observations())
    assert [each.seen for each in filled].count(False) == 9
    assert len(read_chrometrace(io.BytesIO(raw), 0, rate_hz=100, idle=False)) == 2


def test_numbers_of_threads_are_turned_back() -> None:
    meta = {
        "ph": "M",
        "name": "thread_name",
        "ts": 0,
        "tid": 0,
        "pid": 1,
        "args": {"name": "140001: worker", "filename": ""},
    }
    body = json.loads(events(("B", "f", 5, 0)).getvalue())
    recording = read_chrometrace(io.BytesIO(json.dumps([meta, *body]).encode()), 0)
    assert (recording.threads[0].thread_id, recording.threads[0].name) == (140001, "worker")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"hello", "no Chrome trace"),
        (b'[{"ph":"B","name":"f"', "cut off"),
        (b'[{"ph":"B","name":"f","ts":1,"pid":1,"tid":-4}]', "tid=-4"),
        (b'[{"ph":"E","name":"f","ts":1,"pid":1,"tid":4}]', "not open"),
        (b"[7]", "where an event belongs"),
    ],
    ids=["text", "cut off", "bad thread", "end without begin", "no object"],
)
def test_a_damaged_trace_says_where(raw: bytes, says: str) -> None:
    with pytest.raises(UnreadableProfileError, match=says):
        read_chrometrace(io.BytesIO(raw), 0)


SOURCE = """
import tailsight
from tailsight import stage as st
RANK = "rank"
class Model:
    async def run(self):
        with tailsight.stage("compute") as s, open("x"):
            a()
            async with st("lookup"):
                b()
        with tailsight.stage(RANK): c()
        with tailsight.batch(items, stage="batched"):
            d()
        with tailsight.stage(name): e()
@tailsight.stage("decode")
def decode(y):
    return y
@tailsight.stage
def plain(): return 1
"""


def test_stages_are_found_in_the_source() -> None:
    found = {(site.function, site.stage, site.first_line, site.last_line) for site in find_sites(SOURCE, "m.py")}
    assert found == {
        ("run", "compute", 8, 10),
        ("run", "lookup", 10, 10),
        ("run", "rank", 11, 11),
        ("run", "batched", 13, 13),
        ("decode", "decode", 17, 17),
        ("plain", "plain", 19, 19),
    }
    assert find_sites("with stage('x'", "m.py") == ()


MAPS = """5598a6ce0000-5598a6d93000 rw-p 00000000 00:00 0                          [heap]
7f8b66415000-7f8b66444000 r--p 00414000 fe:00 26933                      /usr/lib/libpython3.11.so.1.0
7f8b66444000-7f8b66578000 rw-p 00443000 fe:00 26933                      /usr/lib/libpython3.11.so.1.0
7f8b66578000-7f8b66580000 rw-p 00000000 00:00 0
"""


@pytest.mark.parametrize(
    ("syscall", "state"),
    [
        ("running", State.RUNNING),
        ("202 0x7f8b6654e6f4 0x89 0x0 0x7f8b65c1cae0 0x0 0xffffffff 0x7f8b65c1c9b0 0x7f8b65ea3f16", State.GIL),
        ("202 0x5598a6ce6b70 0x89 0x0 0x7f8b57ffe9f0 0x0 0xffffffff 0x7f8b57ffe940 0x7f8b65ea3f16", State.WAITING),
        ("230 0x1 0x1 0x7ffdb82ecd40 0x0 0x0 0x7f8b6654e6e8 0x7ffdb82ecd00 0x7f8b65eed545", State.WAITING),
        ("-1 0x7ffdb82ecd40 0x0", State.UNKNOWN),
        ("", State.UNKNOWN),
    ],
    ids=["running", "gil", "lock", "sleep", "no call", "gone"],
)
def test_a_wait_for_the_gil_is_a_futex_in_the_interpreter(syscall: str, state: State) -> None:
    assert state_of(syscall, interpreter_data(MAPS)) is state


def test_a_difference_below_the_floor_says_how_much_is_missing() -> None:
    with pytest.raises(NotEnoughDataError, match="30 samples") as error:
        difference([sample("a", at) for at in range(30)], [sample("a", 100 + at) for at in range(60)], 100)
    assert error.value.missing == 20
