"""Profiles of other tools through `tailsight import`: kept once, shown by `tailsight flame`; and request CSVs as typed."""

import gzip
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from testkit.importing import DATA
from testkit.processes import CollectorProcess

from tailsight_cli import main
from tailsight_cli.profiling import profile_import
from tailsight_cli.profiling.profile_import import ProfileImport, is_profile
from tailsight_collector.errors import UnreadableFileError
from tailsight_collector.importing.source import FileSource, file_source
from tailsight_storage import open_store

needs_data = pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not on this machine")
START = "2026-11-20T08:00:00Z"
START_NS = 1_795_161_600 * 10**9
SLOW = "main (app.py:1);handle (app.py:5);slow (app.py:9) 60\nmain (app.py:1);handle (app.py:5);fast (app.py:7) 40\n"
FAST = "main (app.py:1);handle (app.py:5);slow (app.py:9) 30\nmain (app.py:1);handle (app.py:5);fast (app.py:7) 90\n"
SPEEDSCOPE = {
    "$schema": "https://www.speedscope.app/file-format-schema.json",
    "shared": {"frames": [{"name": "main", "file": "app.py", "line": 1}, {"name": "slow", "file": "app.py", "line": 9}]},
    "profiles": [
        {"type": "sampled", "name": "MainThread", "unit": "milliseconds", "startValue": 0, "endValue": 100,
         "samples": [[0, 1], [0]], "weights": [80, 20.4]},
    ],
}  # fmt: skip
PYINSTRUMENT = {
    "start_time": 1_795_000_000.5,
    "duration": 0.1,
    "sample_count": 100,
    "root_frame": {"function": "main", "file_path": "app.py", "line_no": 1, "time": 0.1, "children": []},
}
NOWHERE = ("--endpoint", "http://127.0.0.1:1")  # for what must not get so far
CSV = f"at,latency,queue\n{START},10,4\n{START},oops,4\n"


class Bytes(FileSource):
    """A file in memory."""

    def __init__(self, data: bytes) -> None:
        super().__init__("profile", lambda: io.BytesIO(data), len(data))


@pytest.fixture
def tailsight(tmp_path, capsys, monkeypatch):
    """A command as it is typed, in a folder of its own; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: str, where: tuple[str, str] = ("--store", "chdb://store")):
        code = main.run([*arguments, *where])
        return code, *capsys.readouterr()

    return call


def rows(query: str, store: str = "chdb://store") -> list[tuple]:
    with open_store(store) as opened:
        return opened.rows(query)


def test_a_profile_is_kept_with_its_labels_and_once_under_any_name(tailsight):
    Path("a.collapsed").write_text(SLOW)
    Path("copy.txt.gz").write_bytes(gzip.compress(SLOW.encode()))
    labels = ("--service", "ranker", "--run", "a", "--stage", "compute", "--start", START)
    code, out, err = tailsight("import", "a.collapsed", *labels)
    assert (code, err) == (0, "")
    assert out.splitlines()[:2] == [
        "a.collapsed: profile (collapsed), 100 samples of 2 stacks",
        "  note: it does not say how often samples were taken: times are those of 100 Hz",
    ]
    assert out.splitlines()[2].startswith("next     tailsight flame --outside --run a --store chdb:///")
    code, out, _ = tailsight("import", "copy.txt.gz", *labels)
    assert (code, "it was there already: adds nothing" in out) == (0, True)
    assert rows("SELECT service, run, stage, match, sum(count), min(toUnixTimestamp(time)) FROM profile_samples GROUP BY ALL") == [
        ("ranker", "a", "compute", "none", 100, 1_795_161_600),
    ]  # fmt: skip


def test_a_profile_that_does_not_say_when_it_was_needs_start(tailsight):
    Path("a.speedscope.json").write_text(json.dumps(SPEEDSCOPE))
    code, out, err = tailsight("import", "a.speedscope.json", where=NOWHERE)
    assert (code, out) == (4, "")
    assert err == (
        "tailsight: a.speedscope.json: the profile does not say when it was taken: give --start, as in --start "
        "2026-11-23T08:30:00Z\n"
    )


def test_pyinstruments_own_time_counts(tailsight):
    Path("p.json").write_text(json.dumps(PYINSTRUMENT))
    assert tailsight("import", "p.json", "--start", START)[0] == 0
    assert rows("SELECT toUnixTimestamp64Milli(started_at), source, samples, rate_hz FROM profiles") == [
        (1_795_000_000_500, "pyinstrument", 100, 1000.0)
    ]


def test_flame_shows_imported_samples_and_compares_runs(tailsight):
    for run, text in (("a", SLOW), ("b", FAST)):
        Path(f"{run}.txt").write_text(text)
        assert tailsight("import", f"{run}.txt", "--run", run, "--start", START)[0] == 0
    code, out, err = tailsight("flame", "--outside", "--run", "a", "--json")
    assert code == 0, err
    assert {each["function"]: each["self_samples"] for each in json.loads(out)["functions"]} == {
        "slow": 60, "fast": 40, "handle": 0, "main": 0,
    }  # fmt: skip
    code, _, err = tailsight("flame", "--diff", "run=a:run=b")
    assert code == 3
    assert "There are samples that ran for no request, as imported profiles have: --outside compares those" in err
    code, out, err = tailsight("flame", "--diff", "run=a:run=b", "--outside", "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert (answer["samples_a"], answer["samples_b"], answer["ms_a"], answer["ms_b"]) == (100, 120, 1000.0, 1200.0)
    assert [(each["function"], each["samples_a"], each["samples_b"]) for each in answer["functions"][:2]] == [
        ("fast", 40, 90), ("slow", 60, 30),
    ]  # fmt: skip
    assert answer["functions"][0]["share_difference"] == pytest.approx(40 / 100 - 90 / 120)
    assert [each["source"] for each in answer["profiles"]] == ["collapsed", "collapsed"]
    code, out, err = tailsight("flame", "--diff", "run=a:run=b", "--outside")
    assert code == 0, err
    assert next(line.split() for line in out.splitlines() if "app.py" in line) == [
        "fast",
        "app.py",
        "40",
        "%",
        "75",
        "%",
        "-35.0",
    ]
    assert "how certain a difference is cannot be told" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--diff", "tail:typical", "--outside"], "--diff compares requests: leave out --outside"),
        (["--diff", "run=a:run=b", "--outside", "-o", "x.html"], "--diff with --outside is a table, or --json"),
    ],
    ids=["classes", "file"],
)
def test_what_shares_cannot_be_is_said(tailsight, arguments, says):
    code, _, err = tailsight("flame", *arguments)
    assert code == 2
    assert says in err


def test_profiles_and_traces_come_in_one_call_and_json_has_both(tailsight):
    Path("a.collapsed").write_text(SLOW)
    Path("requests.csv").write_text(CSV)
    Path("README.md").write_text("# Results")
    mapping = "start=at,duration_ms=latency,stage.queue_ms=queue"
    code, out, err = tailsight(
        "import", "a.collapsed", "requests.csv", "README.md", "--run", "a", "--start", START, "--map", mapping, "--json"
    )
    assert code == 0, err
    answer = json.loads(out)
    assert answer["profiles"] == [
        {
            "file": "a.collapsed", "format": "collapsed", "id": answer["profiles"][0]["id"], "samples": 100, "stacks": 2,
            "notes": ["it does not say how often samples were taken: times are those of 100 Hz"], "new": True,
        }
    ]  # fmt: skip
    [report] = answer["reports"]
    assert (report["format"], report["unit"], report["read"], report["kept_spans"]) == ("request-csv", "rows", 2, 2)
    assert report["refused"] == [{"reason": "its latency is no number", "count": 1, "first": "line 3: 'oops'"}]
    [skipped] = answer["skipped"]
    assert "profiles of speedscope, pyinstrument, and as collapsed stacks; each may be packed as .gz" in skipped
    assert rows("SELECT stage, duration_ns FROM spans ORDER BY stage") == [("", 10_000_000), ("queue", 4_000_000)]


def test_an_option_that_no_file_needed_is_said(tailsight):
    Path("a.collapsed").write_text(SLOW)
    Path("requests.csv").write_text(CSV)
    mapping = ("--map", "start=at,duration_ms=latency")
    _, _, err = tailsight("import", "a.collapsed", "--start", START, *mapping)
    assert err == "--map was not used: no CSV of requests was read\n"
    _, _, err = tailsight("import", "requests.csv", "--stage", "compute", *mapping)
    assert err == "--stage was not used: no profile was read (spans have stages of their own)\n"


def test_a_profile_among_files_that_are_nothing_is_kept(tailsight, monkeypatch):
    Path("README.md").write_text("# Results")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SLOW.encode())))
    code, out, err = tailsight("import", "README.md", "-", "--start", START)
    assert code == 0, err
    assert "stdin: profile (collapsed), 100 samples" in out


def test_a_broken_profile_adds_nothing_and_the_others_are_read(tailsight):
    broken = json.loads(json.dumps(SPEEDSCOPE))
    broken["profiles"][0]["weights"] = [1]
    Path("a.json").write_text(json.dumps(broken))
    Path("b.json").write_text(json.dumps(SPEEDSCOPE))
    Path("c.json").write_text(json.dumps({**SPEEDSCOPE, "profiles": [{**SPEEDSCOPE["profiles"][0], "unit": "bytes"}]}))
    code, out, err = tailsight("import", "a.json", "b.json", "c.json", "--start", START)
    assert code == 4
    assert "b.json: profile (speedscope), 100 samples of 2 stacks" in out
    assert err.startswith("tailsight: a.json: the profile is damaged: ")
    assert err.endswith("; and 1 more\n")
    assert rows("SELECT count() FROM profiles") == [(1,)]


def test_a_running_collector_keeps_a_profile_once(tmp_path, capsys):
    path = tmp_path / "a.collapsed"
    path.write_text(SLOW)
    with CollectorProcess(tmp_path / "data") as collector:
        said = []
        for _ in range(2):
            assert main.run(["import", str(path), "--start", START, "--endpoint", collector.otlp_url, "--json"]) == 0
            said.append(json.loads(capsys.readouterr().out)["profiles"][0]["new"])
        assert said == [True, False]
        with open_store(collector.store) as reader:
            assert reader.rows("SELECT sum(count) FROM profile_samples") == [(100,)]
    assert main.run(["import", str(path), "--start", START, "--endpoint", "http://127.0.0.1:1"]) == 4
    assert "the profile is not kept: http://127.0.0.1:1 does not answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mapping", "code", "says"),
    [
        ([], 4, "requests.csv: it is a CSV with the columns at, latency, queue; say with --map"),
        (["--map", "start=at"], 2, "--map names no duration or end, only start"),
        (["--map", "start=at,duration_ms=latncy"], 4, "it has no column 'latncy' (is it 'latency'?), which --map duration_ms=latncy"),
        (["--map", "offset_s=queue,duration_ms=latency"], 4, "its queue counts from a moment that is not in the file"),
    ],
    ids=["no map", "no duration", "no column", "offset"],
)  # fmt: skip
def test_a_request_csv_that_cannot_be_read_is_one_line(tailsight, mapping, code, says):
    Path("requests.csv").write_text(CSV)
    found, out, err = tailsight("import", "requests.csv", *mapping, where=NOWHERE)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert says in err


@pytest.mark.parametrize(
    "head",
    [SLOW.encode(), b'{"exporter": "x", "profiles": [{"type": "sampled", "unit": "none", "samples": [[0, 1', json.dumps(SPEEDSCOPE).encode(), json.dumps(PYINSTRUMENT).encode(), b"{main};f 12\n", b"a b;c d 1\r\n"],
    ids=["collapsed", "cut off", "speedscope", "pyinstrument", "brace", "crlf"],
)  # fmt: skip
def test_profiles_are_recognised(head):
    assert is_profile(head)


@pytest.mark.parametrize(
    "head",
    [b"", b"a 1\n", b"at;latency\n1;2 3\n", b"x;y 1\nz\n", CSV.encode(), b'{"traceEvents": []}', b"\xff;a 1\n", b"# Notes 2026\n"],
    ids=["empty", "one word", "csv", "some lines", "comma", "chrome", "bytes", "text"],
)  # fmt: skip
def test_what_is_no_profile_is_left_to_the_others(head):
    assert not is_profile(head)


def places_in(value, path=()):
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places_in(value[key], (*path, key))


def replaced(document, path, value):
    """The document with another value at one place."""
    if not path:
        return value
    copy = json.loads(json.dumps(document))
    at = copy
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return copy


ODD = [None, True, -1, 2**70, 1e308, float("inf"), float("nan"), "", "\ud800", "bytes", [], {}, [[1]]]


@pytest.mark.parametrize("document", [SPEEDSCOPE, PYINSTRUMENT], ids=["speedscope", "pyinstrument"])
def test_an_odd_value_anywhere_is_kept_or_refused_in_one_line(document):
    profiles = ProfileImport(lambda _: True, service="", run="", stage="", start_ns=START_NS)
    texts = [json.dumps(replaced(document, path, odd)) for path in places_in(document) for odd in ODD]
    for text in (*texts, json.dumps(document).replace("100", "1" * 5_000)):
        said = ""
        try:
            profiles.takes(Bytes(text.encode()))
        except UnreadableFileError as error:
            said = str(error)
        assert "\n" not in said
    assert 0 < len(profiles.kept) < len(texts)


def test_a_profile_of_the_future_is_refused():
    profiles = ProfileImport(lambda _: True, service="", run="", stage="", start_ns=9_000_000_000 * 10**9)
    with pytest.raises(
        UnreadableFileError, match="would begin at 2255-03-14 16:00:00 UTC: before 2000, or a day ahead"
    ):
        profiles.takes(Bytes(SLOW.encode()))


def test_a_profile_that_would_need_much_memory_is_refused(monkeypatch):
    monkeypatch.setattr(profile_import, "MAX_FILE_BYTES", 1 << 20)
    profiles = ProfileImport(lambda _: True, service="", run="", stage="", start_ns=START_NS)
    assert profiles.takes(Bytes(b"main;f 1\n" * ((1 << 20) // 9)))
    with pytest.raises(UnreadableFileError, match="profile: a profile larger than 1 MiB is not read; as collapsed"):
        profiles.takes(Bytes(b"main;f 1\n" * ((1 << 20) // 9 + 1)))


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_recognising_never_raises(head):
    assert is_profile(head) in (True, False)


@pytest.mark.shared_data
@needs_data
@pytest.mark.parametrize(
    ("path", "samples", "stacks"),
    [
        ("speedscope/speedscope_0.0.1_simple.speedscope.json", 14, 3),
        ("speedscope/speedscope_0.1.2_simple-sampled.speedscope.json", 14_000, 3),
        ("speedscope/speedscope_0.6.0_two-sampled.speedscope.json", 28_000, 3),
        ("speedscope/stackcollapse_simple.txt", 14, 3),
        ("speedscope/stackcollapse_recursion.txt", 10, 7),
    ],
    ids=["evented", "sampled", "two", "collapsed", "recursion"],
)
def test_real_profiles_have_the_samples_that_their_files_count(path, samples, stacks):
    kept = []
    profiles = ProfileImport(lambda plain: not kept.append(plain), service="", run="", stage="", start_ns=START_NS)
    assert profiles.takes(file_source(DATA / path))
    [found] = profiles.kept
    assert (
        (found.samples, found.stacks) == (samples, stacks) == (sum(kept[0]["samples"]["count"]), len(kept[0]["stacks"]))
    )


@pytest.mark.shared_data
@needs_data
def test_a_real_session_of_pyinstrument_says_when_it_was():
    path = DATA / "pyinstrument" / "wikipedia_article_word_count.json"
    session = json.loads(path.read_text())["session"]
    kept = []
    profiles = ProfileImport(lambda plain: not kept.append(plain), service="", run="", stage="", start_ns=None)
    assert profiles.takes(file_source(path))
    assert profiles.kept[0].samples == pytest.approx(session["duration"] * 1e3, rel=0.02)
    assert kept[0]["profile"]["started_ns"] == pytest.approx(session["start_time"] * 1e9, abs=1e3)


@pytest.mark.shared_data
@needs_data
@pytest.mark.parametrize("name", ["invalid_incomplete-trace", "invalid_out-of-order-events"])
def test_invalid_profiles_are_refused(name):
    profiles = ProfileImport(lambda _: True, service="", run="", stage="", start_ns=START_NS)
    with pytest.raises(UnreadableFileError, match="the profile is damaged"):
        profiles.takes(file_source(DATA / "speedscope" / f"speedscope_{name}.json"))
    assert profiles.kept == []
