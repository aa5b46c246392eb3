"""`tailsight flame` over profiles whose content is known: what it shows, writes, compares and refuses."""

import json
import re
from pathlib import Path

import pytest
from testkit.profiles import BASE_NS, place, profile

from tailsight_cli import main
from tailsight_storage import open_store
from tailsight_storage.profiles import checked_profile, insert_profile

DOCS = Path(__file__).parents[2] / "docs" / "profiles.md"
TAIL, TYPICAL = range(1, 31), range(101, 161)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Run a: 30 tail requests, which are slow in `slow`, and 60 typical ones; run b: 40 as the typical ones."""
    folder = f"chdb://{tmp_path_factory.mktemp('flames')}"
    places = [place(number, kind="tail", run="a") for number in TAIL]
    places += [place(number, run="a") for number in TYPICAL]
    samples = [(number, 0, 3 + number % 2) for number in range(90)] + [
        (number, 1, 4 + 2 * (number % 2)) for number in range(30)
    ]
    # what may be of several stages is in no flame graph; what is of none only where it is asked for
    places += [place(200, match="ambiguous"), place(0, stage="", match="none", trace_id="", span_id="")]
    samples += [(90, 1, 400), (91, 1, 70)]
    other = [place(number, kind="", run="b") for number in range(301, 341)]
    with open_store(folder, create=True) as store:
        for plain in (
            profile(places, samples, ambiguous=400),
            profile(other, [(number, 0, 3 + number % 2) for number in range(40)]),
        ):
            assert insert_profile(store, checked_profile(plain))
    return folder


@pytest.fixture
def flame(data, capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments):
        return main.run(["flame", "--store", data, "--all-time", *arguments]), *capfd.readouterr()

    return call


def test_functions_are_added_up_over_all_requests_of_a_stage(flame):
    code, out, err = flame("--stage", "compute", "--run", "a", "--json")
    assert code == 0, err
    answer = json.loads(out)
    fast, slow = sum(3 + number % 2 for number in range(90)), 150
    assert (answer["samples"], answer["requests"], answer["ms"]) == (fast + slow, 90, (fast + slow) * 10.0)
    found = {each["function"]: (each["self_samples"], each["total_samples"]) for each in answer["functions"]}
    assert found == {
        "spin": (fast + slow, fast + slow),
        "slow": (0, slow),
        "fast": (0, fast),
        "handle": (0, fast + slow),
        "main": (0, fast + slow),
    }
    assert answer["root"]["children"][0]["function"] == "main"
    assert [each["service"] for each in answer["profiles"]] == ["ranker"]


def test_the_table_leaves_out_the_way_to_the_stage(flame):
    code, out, err = flame("--stage", "compute", "--run", "a")
    assert code == 0, err
    rows = [line.split()[0] for line in out.splitlines() if "app.py" in line]
    assert rows == ["spin", "fast", "slow"]
    said = " ".join(out.split())
    assert "465 samples of 90 requests, 4,650 ms at 100 Hz." in said
    assert "agree in 98 % of the samples or more" in said


def test_a_class_and_what_ran_for_no_request_can_be_asked_for(flame):
    code, out, _ = flame("--class", "typical", "--json")
    assert code == 0
    assert "slow" not in {each["function"] for each in json.loads(out)["functions"]}
    code, out, _ = flame("--run", "a", "--json")
    within = json.loads(out)["samples"]
    code, out, _ = flame("--outside", "--json")
    with_outside = json.loads(out)["samples"]
    assert (within, with_outside) == (465, 465 + 140 + 70)


def test_what_only_the_tail_runs_is_the_first_difference(flame):
    code, out, err = flame("--diff", "tail:typical", "--run", "a", "--json")
    assert code == 0, err
    answer = json.loads(out)
    first = answer["functions"][0]
    assert (first["function"], first["certain"], first["b"]["samples"]) == ("slow", True, 0)
    assert first["difference_ms"] == pytest.approx(50.0)
    assert [each["function"] for each in answer["everywhere"]] == ["main", "handle", "spin"]
    assert (answer["requests_a"], answer["requests_b"]) == (30, 60)
    code, out, err = flame("--diff", "tail:typical", "--run", "a")
    assert code == 0, err
    said = " ".join(out.split())
    assert "Which code tail runs more than typical" in said
    assert "tail requests take 50.0 ms more here in all" in said
    assert "3 functions on every stack of both are left out" in said


def test_two_runs_are_compared(flame):
    code, out, err = flame("--diff", "run=a:run=b", "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert (answer["name_a"], answer["name_b"]) == ("a", "b")
    assert (answer["requests_a"], answer["requests_b"]) == (90, 40)
    assert answer["functions"][0]["function"] == "slow"


@pytest.mark.parametrize(
    ("name", "begins"),
    [("a.html", "<!doctype html"), ("a.json", "{"), ("a.collapsed", "main"), ("a.speedscope.json", "{")],
    ids=["html", "json", "collapsed", "speedscope"],
)
def test_files_are_written_by_their_ending(flame, name, begins):
    code, out, err = flame("--stage", "compute", "-o", name)
    assert code == 0, err
    assert out.endswith(f"Written to {name}.\n")
    text = Path(name).read_text()
    assert text.lower().startswith(begins)
    assert "slow" in text
    assert [path.name for path in Path().iterdir()] == [name]


def test_a_difference_is_written_as_a_page(flame):
    code, _, err = flame("--diff", "tail:typical", "-o", "why.html", "--json")
    assert code == 0, err
    assert "slow" in Path("why.html").read_text()


def test_a_file_that_cannot_be_written_is_said(flame):
    code, _, err = flame("-o", "nowhere/a.html")
    assert code == 2
    assert "--output nowhere/a.html cannot be written: No such file or directory" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--stage", "no such"), "0 samples of that are too few to say which code runs: 50 more are needed"),
        (("--diff", "tail:typical", "--run", "b"), "0 samples of tail are too few"),
        (("--diff", "run=a:run=c"), "0 samples of c are too few"),
        (("--run", "nobody"), "no samples of run nobody in "),
    ],
    ids=["a stage", "a class", "a run", "a run alone"],
)
def test_too_few_samples_are_refused_with_how_many_are_missing(data, capfd, arguments, says):
    all_time = () if "nobody" in arguments else ("--all-time",)
    assert main.run(["flame", "--store", data, *all_time, *arguments]) == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert says in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--diff", "tail"), "--diff 'tail': name two sides"),
        (("--diff", "tail:run=a"), "name two sides"),
        (("--diff", "tail:tail"), "name two sides"),
        (("--diff", "run=:run=a"), "name two sides"),
        (("--diff", "tail:typical", "--class", "tail"), "leave out --class"),
        (("--diff", "tail:typical", "--outside"), "leave out --outside"),
        (("--diff", "run=a:run=b", "--run", "c"), "leave out --run"),
        (("-o", "x.pdf"), "the ending says what is written"),
        (("--diff", "tail:typical", "-o", "x.json"), "a difference is written as .html only"),
    ],
    ids=["one", "two kinds", "the same", "no name", "a class", "outside", "a run", "ending", "a difference"],
)
def test_wrong_use_is_said_before_the_store_is_opened(capfd, arguments, says):
    assert main.run(["flame", "--store", "clickhouse://127.0.0.1:9/tailsight", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert says in err
    assert len(err.splitlines()) == 1


def test_names_of_foreign_origin_do_no_harm(data, capfd):
    plain = profile([place(number, stage="hostile") for number in range(60)], [(n, 0, 1) for n in range(60)])
    plain["frames"] = [f"[bold]\x1b[31m{name} (/x/\x07{name}.py:1)" for name in plain["frames"]]
    with open_store(data) as store:
        insert_profile(store, checked_profile(plain))
    assert main.run(["flame", "--store", data, "--all-time", "--stage", "hostile"]) == 0
    out, _ = capfd.readouterr()
    assert "[bold]" in out
    assert "\x1b" not in out
    assert "\x07" not in out


def test_a_request_that_two_recordings_class_otherwise_is_of_the_tail(flame, data):
    again = profile([place(number, run="twice") for number in TAIL], [(number, 0, 2) for number in range(30)])
    first = profile(
        [place(number, kind="tail", run="twice") for number in TAIL] + [place(n, run="twice") for n in TYPICAL],
        [(number, int(number < 30), 2) for number in range(90)],
    )
    with open_store(data) as store:
        for plain in (first, again):
            assert insert_profile(store, checked_profile(plain))
    for sides, requests in (("tail:typical", (30, 60)), ("typical:tail", (60, 30))):
        code, out, err = flame("--diff", sides, "--run", "twice", "--json")
        assert code == 0, err
        answer = json.loads(out)
        assert (answer["requests_a"], answer["requests_b"]) == requests


def test_every_key_of_the_answers_is_documented(flame):
    documented = set(re.findall(r"[a-z][a-z0-9_]*", " ".join(re.findall(r"`([^`]*)`", DOCS.read_text()))))
    documented |= {f"{name}_{side}" for name in ("samples", "requests", "unassigned") for side in "ab"}
    for arguments in ((), ("--diff", "tail:typical")):
        code, out, err = flame(*arguments, "--stage", "compute", "--json")
        assert code == 0, err
        assert keys(json.loads(out)) - documented == set()


def keys(answer):
    if isinstance(answer, dict):
        own = {key for key in answer if key not in State}
        data = {"filters", "window", "by_state"}
        return own.union(*(keys(value) for key, value in answer.items() if key not in data))
    return set().union(*map(keys, answer)) if isinstance(answer, list) else set()


State = ("running", "gil", "waiting", "unknown")


def test_the_profiles_are_of_the_time_that_was_asked_for(data, capfd):
    assert main.run(["flame", "--store", data, "--since", "1h"]) == 3
    assert "50 more are needed" in capfd.readouterr().err
    at = f"{BASE_NS // 10**9}"
    assert at == "1780000000"
    code = main.run(["flame", "--store", data, "--since", "2026-05-28T20:26:00", "--until", "2026-05-28T20:27:00"])
    assert code == 0
