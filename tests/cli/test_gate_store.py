"""`tailsight gate` on parts of a store: runs and their repetitions, versions, windows; and on files beside them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from testkit.gated import FIRST_NS, RUN_NS, write_gated

from tailsight_cli import main
from tailsight_collector.importer import StoreTarget, import_files
from tailsight_storage import open_store

RUNS = 3
CONFIG = '[gate]\ntolerance = "12%"\nmetrics = ["p50", "mean"]\n'


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A store with two versions, three runs each, of which the second is slower; and a file as the first."""
    folder = tmp_path_factory.mktemp("gate")
    base = write_gated(folder / "base.otlp.zst", runs=RUNS, requests=100)
    slow = write_gated(folder / "slow.otlp.zst", runs=RUNS, requests=100, side=1, version="2", slower={"compute": 1.5})
    file = write_gated(folder / "file.otlp.zst", runs=RUNS, requests=100, side=1)
    dsn = f"chdb://{folder / 'data'}"
    with open_store(dsn, create=True) as store:
        import_files([base, slow], StoreTarget(store))
    return dsn, file


@pytest.fixture
def tailsight(data, capsys, tmp_path, monkeypatch):
    """Run the gate on the store in this process; gives exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    Path("tailsight.toml").write_text(CONFIG)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main.run(["gate", "--store", data[0], *arguments])
        return code, *capsys.readouterr()

    return call


def at(minute: int) -> str:
    """base#1, base#2 and base#3 begin in minutes 3, 4 and 7, slow#1, slow#2 and slow#3 in 2, 5 and 6."""
    return datetime.fromtimestamp((FIRST_NS + minute * RUN_NS) / 1e9, UTC).isoformat()


WINDOW = f",since={at(1)},until={at(8)}"


@pytest.mark.parametrize(
    "sides",
    [
        ("run=base", "run=slow"),
        ("version=1", "version=2"),
        (f"version=1{WINDOW}", f"version=2{WINDOW}"),
    ],
    ids=["repetitions of a run", "versions", "windows"],
)
def test_parts_of_a_store_are_compared_run_by_run(tailsight, sides):
    code, out, _ = tailsight(*sides, "--json")
    answer = json.loads(out)
    assert (code, answer["verdict"]) == (1, "regression")
    assert [run["run"] for run in answer["baseline"]["runs"]] == ["base#1", "base#2", "base#3"]
    assert {run["requests"] for run in answer["candidate"]["runs"]} == {100}


def test_a_window_cuts_runs_off(tailsight):
    code, out, _ = tailsight(f"version=1,since={at(1)},until={at(4)}", "run=slow#1", "--json")
    answer = json.loads(out)
    assert code in (1, 3)
    assert [run["run"] for run in answer["baseline"]["runs"]] == ["base#1"]


def test_a_file_is_compared_with_runs_in_the_store(tailsight, data):
    code, out, _ = tailsight(
        "--baseline", "run=base#1", "--baseline", "run=base#2", "--baseline", "run=base#3", "--candidate", str(data[1]),
        "--json",
    )  # fmt: skip
    answer = json.loads(out)
    assert answer["verdict"] == "pass", answer["reasons"]
    assert code == 0
    assert answer["baseline"]["sources"] == ["run=base#1", "run=base#2", "run=base#3"]


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ("run=slw", "no span has run=slw; there are: base#1, base#2, base#3, slow#1"),
        ("version=3", "no request is version=3; no span has version=3; there are: 1, 2"),
        ("since=10m", "no request is since=10m; the store holds spans of "),
    ],
)
def test_what_is_not_there_is_said_with_what_is(tailsight, side, message):
    code, out, err = tailsight("run=base", side)
    assert (code, out) == (3, "")
    assert message in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("version=1", "run=base"), "version=1 and run=base have requests in common"),
        (
            ("--baseline", "run=base#1", "--baseline", "version=1", "--candidate", "version=2"),
            "run=base#1 and version=1 have requests in common",
        ),
        ((f"since={at(1)},until={at(5)}", f"since={at(4)},until={at(8)}"), "have requests in common"),
    ],
    ids=["both sides", "one side", "windows that overlap"],
)
def test_the_same_requests_by_other_names_are_refused(tailsight, arguments, message):
    code, out, err = tailsight(*arguments)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]


def test_windows_that_touch_have_nothing_in_common(tailsight):
    code, out, err = tailsight(f"since={at(1)},until={at(4)}", f"since={at(4)},until={at(8)}", "--json")
    assert code in (0, 1, 3), err
    assert json.loads(out)["verdict"]


def test_a_run_in_a_file_and_in_the_store_is_one_run(tailsight, data):
    code, out, err = tailsight("run=base", str(data[1].with_name("base.otlp.zst")))
    assert (code, out) == (2, "")
    assert "run base#1: the same durations are in baseline and candidate" in err


def test_of_several_runs_the_one_that_is_not_there_is_named(tailsight):
    code, _, err = tailsight("run=base#1,run=base#9", "run=slow")
    assert code == 3
    assert "no request is run=base#9; no span has run=base#9; there are: base#1" in err
