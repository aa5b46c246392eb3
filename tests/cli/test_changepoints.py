"""`tailsight changepoints`: which files it reads, what it answers, and what it says about files that it cannot read."""

import io
import json
from pathlib import Path

import pytest

from tailsight_cli import main
from tailsight_cli.render.sparkline import sparkline

OTAVA = Path(__file__).parents[3] / "shared" / "data" / "otava"
STEP = [10.1, 9.9, 10.0, 10.2, 9.8, 10.0, 12.1, 11.9, 12.0, 12.2, 12.0, 11.8]
FLAT = [5.1, 5.0, 4.9, 5.2, 5.0, 4.8, 5.1, 4.9, 5.0, 5.1, 4.9, 5.0]
ROWS = list(zip(STEP, FLAT, strict=True))


@pytest.fixture
def changepoints(capsys, monkeypatch):
    """Run the command in this process; gives exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main.run(("changepoints", *map(str, arguments)))
        return code, *capsys.readouterr()

    return call


FORMS = {
    "commas.csv": "time,commit,p99,p50\n" + "".join(f"2026-01-{n:02},c{n},{a},{b}\n" for n, (a, b) in enumerate(ROWS, 1)),
    "semicolons.csv": "time;commit;p99;p50\r\n" + "".join(f"2026.01.{n:02} 3:00:00 +0100;c{n};{a};{b}\r\n" for n, (a, b) in enumerate(ROWS, 1)),
    "unix_time.csv": "time,p99,p50\n" + "".join(f"{1609466400 + 86400 * n},{a},{b}\n" for n, (a, b) in enumerate(ROWS)),
    "tabs.tsv": "commit\tp99\tp50\n" + "".join(f"c{n}\t{a}\t{b}\n" for n, (a, b) in enumerate(ROWS)),
    "marked.csv": "\ufeffp99,p50\n" + "".join(f'"{a}",{b}\n' for a, b in ROWS),
    "commas_in_numbers.csv": "commit;p99;p50\n" + "".join(f"c{n};{a};{b}\n" for n, (a, b) in enumerate(ROWS)).replace(".", ","),
    "objects.json": json.dumps([{"commit": f"c{n}", "p99": a, "p50": b} for n, (a, b) in enumerate(ROWS)]),
    "lists.json": json.dumps({"p99": STEP, "p50": FLAT}),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_file_gives_the_same_answer(changepoints, tmp_path, form):
    file = tmp_path / form
    file.write_text(FORMS[form], encoding="utf-8", newline="")
    code, out, _ = changepoints(file, "--column", "p99", "--json")
    answer = json.loads(out)
    assert code == 0
    assert set(answer) == {"changes"}
    (change,) = answer["changes"]
    assert change["index"] == 6
    assert (change["before"], change["after"]) == (pytest.approx(10), pytest.approx(12))
    assert change["ratio"] == pytest.approx(1.2)
    assert 0 < change["p_value"] <= 0.03
    low, high = change["difference_interval"]
    assert low < 2 < high


def test_several_columns_are_answered_by_name(changepoints, tmp_path):
    file = tmp_path / "runs.csv"
    file.write_text(FORMS["commas.csv"])
    code, out, _ = changepoints(file, "--column", "p99", "--column", "p50", "--json")
    assert code == 0
    assert {name: [each["index"] for each in of["changes"]] for name, of in json.loads(out).items()} == {
        "p99": [6],
        "p50": [],
    }


@pytest.mark.parametrize(
    "text",
    [json.dumps(STEP), "\n".join(map(str, STEP)), "value\n" + "\n".join(map(str, STEP))],
    ids=["json", "plain", "heading"],
)
def test_a_single_column_needs_no_name_and_may_come_from_standard_input(changepoints, monkeypatch, text):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    code, out, _ = changepoints("-", "--json")
    assert code == 0
    assert [change["index"] for change in json.loads(out)["changes"]] == [6]


def test_rows_without_a_number_are_left_out_and_counted(changepoints, tmp_path):
    file = tmp_path / "gaps.csv"
    cells = [*STEP[:3], "", "NaN", *STEP[3:]]
    file.write_text("time,p99\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells)))
    _, out, _ = changepoints(file, "--json")
    assert [change["index"] for change in json.loads(out)["changes"]] == [8]


def test_a_row_of_empty_cells_counts_and_an_empty_line_does_not(changepoints, tmp_path):
    file = tmp_path / "gaps.csv"
    lines = ["p50,p99", *(f"1,{value}" for value in STEP)]
    file.write_text("\n".join([*lines[:3], ",", "", ",", *lines[3:]]))
    _, out, _ = changepoints(file, "--column", "p99", "--json")
    assert [change["index"] for change in json.loads(out)["changes"]] == [8]


def test_the_newest_points_are_said_to_be_unjudged(changepoints, tmp_path):
    file = tmp_path / "flat.json"
    file.write_text(json.dumps(FLAT))
    assert "The newest 3 points cannot be judged yet" in changepoints(file)[1]
    file.write_text("[1, 2, 3]")
    assert "cannot be judged" not in changepoints(file)[1]


def test_the_answer_in_words_fits_and_names_the_point(changepoints, tmp_path):
    file = tmp_path / "runs.csv"
    file.write_text(FORMS["commas.csv"])
    code, out, _ = changepoints(file, "--column", "p99", "--column", "p50")
    assert code == 0
    assert "p99  12 points, 1 change\n" in out
    assert "p50  12 points, no change\n" in out
    assert "2026-01-07 c7" in out
    assert "+20 %" in out
    drawn, marks = out.splitlines()[1:3]
    assert len(drawn) == 12
    assert marks.index("▲") == 6
    assert all(len(line) <= 80 for line in out.splitlines())


def test_the_least_segment_and_the_floor_can_be_chosen(changepoints, tmp_path):
    file = tmp_path / "steps.json"
    file.write_text(json.dumps(STEP))
    assert json.loads(changepoints(file, "--json", "--least-change", "0.25")[1]) == {"changes": []}
    assert json.loads(changepoints(file, "--json", "--min-segment", "7")[1]) == {"changes": []}


def test_too_few_points_have_no_changes_and_it_says_so(changepoints, tmp_path):
    file = tmp_path / "short.json"
    file.write_text("[1, 2, 3]")
    code, out, err = changepoints(file, "--json")
    assert (code, json.loads(out)) == (0, {"changes": []})
    assert err == "value: 3 points are too few for any change: it takes 8 or more\n"


@pytest.mark.parametrize(
    ("name", "text", "options", "code", "message"),
    [
        ("two.csv", FORMS["commas.csv"], (), 2, "has 2 columns of numbers (p99, p50): choose with --column"),
        ("two.csv", FORMS["commas.csv"], ("--column", "p98"), 2, "no column 'p98' of numbers; did you mean p99?"),
        ("two.csv", FORMS["commas.csv"], ("--column", "commit"), 2, "no column 'commit' of numbers; there are: p99, p50"),
        ("texts.csv", "a,b\nx,y\n", (), 4, "no column holds numbers only"),
        ("spoilt.csv", "a,p99\n" + "".join(f"1,{value}\n" for value in [*STEP, "failed"]), (), 4, "column 'p99' has 'failed' in row 12"),
        ("spoilt.csv", "p99\n" + "".join(f"{value}\n" for value in [*STEP, "inf"]), ("--column", "p99"), 4, "column 'p99' has 'inf' in row 12"),
        ("nested.json", "[" * 100_000, (), 4, "its JSON is nested too deeply"),
        ("thousands.csv", "p99;a\n" + "1,234;x\n2,345;y\n" * 8, (), 4, "no column holds numbers only"),
        ("empty.csv", "\n", (), 4, "is empty"),
        ("ragged.csv", "a,b\n1,2\n3\n", (), 4, "row 2 has 1 cells, not 2"),
        ("twice.csv", "a,a\n1,2\n", (), 4, "two columns are called 'a'"),
        ("bad.json", "[1, 2", (), 4, "is no JSON: "),
        ("deep.json", '[[1], [2]]', (), 4, "expected an array of numbers, or of objects"),
        ("uneven.json", '{"a": [1, 2], "b": [1]}', (), 4, "not of one length"),
        ("steps.json", json.dumps(STEP), ("--min-segment", "2"), 2, "a level of 2 points cannot be told from outliers"),
        ("steps.json", json.dumps(STEP), ("--least-change", "-1"), 2, "a least change of -1"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_in_one_line(changepoints, tmp_path, name, text, options, code, message):
    file = tmp_path / name
    file.write_text(text)
    found, out, err = changepoints(file, *options)
    assert (found, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_file_that_is_not_there_or_no_text(changepoints, tmp_path):
    code, _, err = changepoints(tmp_path / "none.csv")
    assert code == 4
    assert "none.csv: No such file" in err
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    code, _, err = changepoints(tmp_path / "bytes.csv")
    assert code == 4
    assert "is no text in UTF-8" in err


@pytest.mark.shared_data
@pytest.mark.skipif(not OTAVA.exists(), reason="../shared/data/otava is not here")
@pytest.mark.parametrize("name", ["sample.csv", "sample-semicolons.csv", "sample-unix-time.csv"])
def test_files_of_otava_are_read(changepoints, name):
    code, out, _ = changepoints(OTAVA / name, "--column", "metric1", "--column", "metric2", "--json")
    answer = json.loads(out)
    assert code == 0
    assert [each["index"] for each in answer["metric2"]["changes"]] == [6]
    assert 100 * (answer["metric2"]["changes"][0]["ratio"] - 1) == pytest.approx(-12.9, abs=0.1)
    assert answer["metric1"] == {"changes": []}


def test_long_series_are_drawn_in_the_width_there_is():
    drawn, marks = sparkline(list(range(1000)), [500], 50).plain.split("\n")
    assert len(drawn) == 50
    assert (drawn[0], drawn[-1]) == ("▁", "█")
    assert marks.index("▲") == 25
    assert sparkline([3.0, 3.0], [], 10).plain == "▁▁"
    assert sparkline([], [], 10).plain == ""
