"""`tailsight regressions`: how the answer looks, what it says in JSON, and what is refused."""

import json
from pathlib import Path

import pytest
from analysis import brute_force
from analysis.histories import Version, history
from cli.test_documented_keys import EVERYWHERE, PAGES, in_code, in_tables, keys
from click.testing import CliRunner

from tailsight_cli import main
from tailsight_cli.main import program
from tailsight_storage import open_store


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """Twenty versions: the compute of T4 is slower from 1.8 on, inputs are longer from 1.14 on."""
    folder = f"chdb://{tmp_path_factory.mktemp('regressions')}"

    def version(number: int) -> Version:
        return Version({("compute", "T4"): 1.5} if number >= 8 else None, tokens=100.0 if number < 14 else 220.0)

    with open_store(folder, create=True) as store:
        brute_force.insert(store, history(20, version, requests=60))
    return folder


@pytest.fixture
def tailsight(capsys, monkeypatch):
    """Run the command in this process; gives exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main.run(("regressions", *arguments))
        return code, *capsys.readouterr()

    return call


def test_it_says_what_is_slower_since_when_and_that_the_workload_moved(tailsight, data):
    code, out, err = tailsight("--store", data, "--metric", "p50")
    text = " ".join(out.split())
    assert code == 0
    assert "rose" in text
    assert "in 20 versions, 7 series. The workload changed there, too." in text
    assert "Workload at 1.14: input length" in text
    row = next(line for line in out.splitlines() if line.startswith("compute on T4  p50") and "1.8 " in line)
    assert row.split()[-1] == "same"
    assert "1.0 … 1.19" in out
    assert "▲" in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert err.splitlines()[0] == "Reading the history …"


def test_a_wide_terminal_has_the_intervals(tailsight, data, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    _, out, _ = tailsight("--store", data, "--metric", "p50", "--stage", "compute")
    assert "last before" in out
    assert "95 %" in out
    assert "1.7" in out


def test_json_has_the_documented_keys(tailsight, data):
    code, out, _ = tailsight("--store", data, "--by", "run", "--metric", "p50", "--json")
    answer = json.loads(out)
    assert code == 0
    assert set(answer) == {
        "window", "filters", "by", "metrics", "least_change", "bucket_s", "changes", "units", "series", "short_series",
        "newest_unjudged",
    }  # fmt: skip
    change = next(each for each in answer["changes"] if each["hardware"] == "T4" and not each["mix_moved"])
    assert (change["stage"], change["metric"], change["direction"]) == ("compute", "p50", "slower")
    assert (change["last_before"], change["first_after"]) == ("nightly-07", "nightly-08")
    assert change["version_range"] == ["1.7", "1.8"]
    assert change["ratio_interval"][0] < 1.5 < change["ratio_interval"][1]


def test_nothing_to_find_is_said(tailsight, data):
    code, out, _ = tailsight("--store", data, "--stage", "queue", "--metric", "p50", "--least-change", "9")
    assert code == 0
    assert "Nothing changed, in 20 versions, 3 series." in out
    assert "The newest 3 versions cannot be judged yet" in " ".join(out.split())


def test_of_too_few_versions_nothing_is_said_to_be_unchanged(tailsight, data):
    few = [option for number in range(7) for option in ("--version", f"1.{number}")]
    code, out, _ = tailsight("--store", data, "--metric", "p50", *few)
    assert code == 0
    text = " ".join(out.split())
    assert "Nothing can be said yet, in 7 versions, 7 series: each has fewer than 8 points." in text
    assert "Nothing changed" not in text


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--bucket", "5m"), 2, "--bucket is for --by time"),
        (("--by", "time", "--bucket", "soon"), 2, "'soon' is no length of time: use 30s, 5m, 1h or 1d"),
        (("--metric", "p42"), 2, "p42"),
        (("--by", "time", "--bucket", "9w"), 3, "0 whole stretches of time in"),
        (("--version", "2"), 3, "no span has version=2; there are: 1.0"),
        (("--version", "1.0"), 3, "1 version in "),
        (("--version", "1.0"), 3, "a change needs 8 or more to show, 7 more"),
        (("--run", "nobody"), 3, "no span has run=nobody"),
    ],
)
def test_what_cannot_be_answered_is_said_in_one_line(tailsight, data, options, code, message):
    found, out, err = tailsight("--store", data, *options)
    assert (found, out) == (code, "")
    assert message in err.splitlines()[-1]


def test_every_key_is_documented_and_every_documented_key_is_there(tailsight, data, tmp_path):
    _, out, _ = tailsight("--store", data, "--by", "time", "--bucket", "10m", "--metric", "p50", "--json")
    series = tmp_path / "steps.json"
    series.write_text(json.dumps([10.0, 10.1, 9.9, 10.0, 10.1, 10.0, 15.0, 15.1, 14.9, 15.0, 15.1, 15.0]))
    answers = [json.loads(out), json.loads(_changepoints(series))]
    assert all(answer["changes"] for answer in answers)
    found = {key for answer in answers for key in keys(answer)}
    text = (PAGES / "regressions.md").read_text()
    shared = "\n".join((PAGES / other).read_text() for other in EVERYWHERE)
    assert found - in_code(text) - in_code(shared) == set()
    assert in_tables(text) - found == set()


def _changepoints(file: Path) -> str:
    result = CliRunner().invoke(program(), ["changepoints", str(file), "--json"])
    assert result.exit_code == 0
    return result.output
