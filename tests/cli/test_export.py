"""`tailsight export` as it is typed: which traces, which file, what it says, and how it ends."""

import errno
import gzip
import io
import json
import os
import re
import sys
import time
from pathlib import Path

import click
import pytest
import zstandard
from analysis import brute_force
from analysis.brute_force import Span
from testkit.exporting import everything

from tailsight_analysis.exporting.reading import read_spans
from tailsight_cli import main
from tailsight_cli.exporting.formats import FORMATS, chosen_format
from tailsight_collector.importer import read_requests
from tailsight_storage import open_store

HOUR = 3_600_000_000  # ticks
TRACES = 30


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """30 traces of two services, a minute apart, of two runs; one of them reaches into an hour that others do not."""
    folder = f"chdb://{tmp_path_factory.mktemp('traces')}"
    with open_store(folder, create=True) as store:
        spans = []
        for trace in range(1, TRACES + 1):
            start, run = trace * 60_000_000, "a" if trace <= 10 else "b"
            spans += [
                Span(trace, 1, 0, start, 100, run=run),
                Span(trace, 2, 1, start + 10, 50, stage="compute", service="back", hardware="H100", run=run),
            ]
        spans.append(Span(1, 3, 1, 50 * 60_000_000, 5, stage="late", service="back", run="a"))
        brute_force.insert(store, spans)
        brute_force.insert(store, spans[:6])  # again
        store.insert_rows(
            "rejected_spans",
            [{"received_at": time.time() - 60, "reason": "trace_id_zero", "service": "front", "name": "lost"}],
        )
    return folder


@pytest.fixture
def tailsight(capsys, monkeypatch, tmp_path):
    """Run `export` in this process, in a folder of its own; gives exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main.run(["export", *arguments])
        return code, *capsys.readouterr()

    return call


def spans_in(path: str) -> list[tuple[int, int]]:
    """(trace, span) numbers of a file that the import can read."""
    return sorted(
        (int.from_bytes(each.trace_id, "big"), int.from_bytes(each.span_id, "big"))
        for request in read_requests(Path(path))
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for each in scope.spans
    )


def here() -> list[str]:
    return [path.name for path in Path().iterdir()]


def unpacked(path: str) -> bytes:
    content = Path(path).read_bytes()
    if path.endswith(".zst"):
        return zstandard.ZstdDecompressor().decompressobj().decompress(content)
    return gzip.decompress(content) if path.endswith(".gz") else content


@pytest.mark.parametrize(
    "name", ["x.otlp", "x.otlp.zst", "x.otlp.json", "x.jsonl.gz", "x.jaeger.json", "x.JAEGER.JSON.gz"]
)
def test_whole_traces_each_span_once_by_the_files_ending(tailsight, data, name):
    code, out, err = tailsight("--all-time", "-o", name, "--store", data)
    assert code == 0
    assert "of 61 spans" not in err
    assert spans_in(name) == sorted([(trace, span) for trace in range(1, 31) for span in (1, 2)] + [(1, 3)])
    assert f"61 spans of 30 traces written to {name} as " in out
    assert "whole traces, also where they reach beyond it" in out
    assert "6 spans left out: equal to one that had arrived before" in out
    assert "1 span of the window not in it: rejected when they arrived" in out
    assert all(len(line) <= 120 for line in out.splitlines())
    assert here() == [name], "nothing else is left"


def test_a_json_answer_has_what_was_written(tailsight, data):
    code, out, _ = tailsight("--run", "a", "--limit", "3", "-o", "x.otlp", "--json", "--store", data)
    answer = json.loads(out)
    assert code == 0
    assert list(answer) == [
        "window", "filters", "output", "format", "size_bytes", "traces", "of_traces", "spans", "repeated", "rejected",
    ]  # fmt: skip
    assert answer["filters"] == {"run": ["a"]}
    assert (answer["traces"], answer["of_traces"], answer["spans"], answer["repeated"]) == (3, 10, 7, 6)
    assert (answer["output"], answer["format"], answer["size_bytes"]) == (
        "x.otlp",
        "otlp",
        Path("x.otlp").stat().st_size,
    )
    assert {trace for trace, _ in spans_in("x.otlp")} == {1, 2, 3}, "those that began first"


@pytest.mark.parametrize(
    ("arguments", "traces"),
    [
        (["--all-time", "--service", "back"], range(1, 31)),
        (["--all-time", "--stage", "late"], [1]),
        (["--all-time", "--service", "front", "--hardware", "H100", "--run", "b"], range(11, 31)),
        (["--run", "b"], range(11, 31)),
        (["--trace", f"{4:032x}", "--trace", f"{4:032x}", "--trace", f"{7:032x}"], [4, 7]),
    ],
    ids=["service", "stage", "together", "run", "trace"],
)
def test_filters_choose_traces_and_not_spans(tailsight, data, arguments, traces):
    code, _, _ = tailsight(*arguments, "-o", "x.otlp", "--store", data)
    assert code == 0
    found = spans_in("x.otlp")
    assert {trace for trace, _ in found} == set(traces)
    assert len(found) == 2 * len(traces) + (1 in traces)


def test_a_window_takes_what_has_a_span_in_it(tailsight, data):
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(brute_force.BASE_NS / 10**9 + 45 * 60))
    code, _, _ = tailsight("--since", since, "--until", "now", "-o", "x.otlp", "--store", data)
    assert code == 0
    assert spans_in("x.otlp") == [(1, 1), (1, 2), (1, 3)], "the span 49 minutes before it is of its trace"


def test_stdout_takes_it_and_the_summary_goes_beside(tailsight, data):
    code, out, err = tailsight("--all-time", "--format", "jaeger", "--store", data)
    assert code == 0
    assert len(json.loads(out)["data"]) == TRACES
    assert "61 spans of 30 traces written as Jaeger JSON" in err


def test_import_gives_the_same_rows(tailsight, data, tmp_path, capsys):
    assert tailsight("--all-time", "-o", "x.otlp.zst", "--store", data)[0] == 0
    with open_store(data) as store:
        before = everything(store)
        store.run("CREATE TABLE kept AS spans ENGINE = Memory")
        store.run("INSERT INTO kept SELECT * FROM spans")
        store.run("TRUNCATE TABLE spans")
        try:
            assert main.run(["import", "x.otlp.zst", "--store", data]) == 0
            assert everything(store) == before
        finally:
            store.run("TRUNCATE TABLE spans")
            store.run("INSERT INTO spans SELECT * FROM kept")
            store.run("DROP TABLE kept")
    capsys.readouterr()


# --- the file -------------------------------------------------------------------------------------------------------


def test_a_file_is_not_replaced_without_force(tailsight, data):
    Path("x.otlp").write_text("mine")
    code, out, err = tailsight("--all-time", "-o", "x.otlp", "--store", data)
    assert (code, out) == (2, "")
    assert "x.otlp exists already: say --force to replace it" in err
    assert Path("x.otlp").read_text() == "mine"
    assert tailsight("--all-time", "-o", "x.otlp", "--force", "--store", data)[0] == 0
    assert len(spans_in("x.otlp")) == 61


def test_a_link_to_a_file_stays_a_link(tailsight, data):
    Path("real.otlp").write_text("old")
    Path("x.otlp").symlink_to("real.otlp")
    assert tailsight("--all-time", "-o", "x.otlp", "--force", "--store", data)[0] == 0
    assert Path("x.otlp").is_symlink()
    assert len(spans_in("real.otlp")) == 61


def test_a_file_that_appears_meanwhile_is_not_replaced(tailsight, data, monkeypatch):
    monkeypatch.setattr("tailsight_cli.commands.export._summary", pytest.fail)

    def appear(*_arguments):
        Path("x.otlp").write_text("another's")
        return iter(())

    monkeypatch.setattr("tailsight_cli.commands.export.read_spans", appear)
    code, _, err = tailsight("--all-time", "-o", "x.otlp", "--store", data)
    assert (code, "exists already" in err) == (2, True)
    assert Path("x.otlp").read_text() == "another's"
    assert here() == ["x.otlp"]


@pytest.mark.parametrize("name", ["x.otlp", "x.parquet", "x.jaeger.json.gz"])
@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 4, "cannot be written: No space left on device; nothing is left"),
        (KeyboardInterrupt(), 130, "was not written"),
    ],
    ids=["full", "interrupted"],
)  # fmt: skip
def test_what_ends_in_the_middle_leaves_no_file(tailsight, data, monkeypatch, name, error, code, says):
    monkeypatch.setattr("tailsight_analysis.exporting.reading.PIECE_TRACES", 5)
    Path(name).write_text("old")

    def broken(store, chosen):
        yield next(read_spans(store, chosen))
        raise error

    monkeypatch.setattr("tailsight_cli.commands.export.read_spans", broken)
    found, out, err = tailsight("--all-time", "-o", name, "--force", "--store", data)
    assert (found, out) == (code, "")
    assert says in err
    assert here() == [name]
    assert Path(name).read_text() == "old"


@pytest.mark.parametrize("ending", ["otlp", "parquet", "jaeger.json", "otlp.json.gz"])
def test_a_full_device_is_one_line(tailsight, data, monkeypatch, ending):
    Path("full." + ending).symlink_to("/dev/full")
    code, out, err = tailsight("--all-time", "-o", "full." + ending, "--store", data)
    assert (code, out) == (4, "")
    assert "No space left on device" in err.splitlines()[-1]
    assert here() == ["full." + ending]


def test_help_and_a_terminal(tailsight, data, monkeypatch, capsys):
    assert main.run(["export", "--help"]) == 0
    assert "docs/export.md" in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    code, out, err = tailsight("--all-time", "--format", "parquet", "--store", data)
    assert (code, out) == (2, "")
    assert "a terminal cannot show this format" in err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "say what is written: --format perfetto, otlp, otlp-json, jaeger, parquet"),
        (["-o", "x.json"], 2, "x.json: .json can be several formats; end it in .perfetto.json, .otlp.json, .jaeger.json"),
        (["-o", "x"], 2, "x: its ending says no format"),
        (["-o", "x.parquet.gz"], 2, "Parquet is packed inside; leave out .gz"),
        (["-o", "nowhere/x.otlp"], 2, "there is no folder nowhere"),
        (["-o", ".", "--format", "otlp"], 2, "is a folder: name a file in it"),
        (["-o", "x.otlp", "--limit", "0"], 2, "--limit"),
        (["-o", "x.otlp", "--trace", "abcd", "--since", "1h"], 2, "--trace looks in all of the store"),
        (["-o", "x.otlp", "--trace", "abcd", "--run", "a"], 2, "leave out the window and the filters"),
        (["-o", "x.otlp", "--trace", "xyz!"], 2, "'xyz!' is no trace id"),
        (["-o", "x.otlp", "--trace", "ffff"], 3, "no trace id begins with ffff"),
        (["-o", "x.otlp", "--trace", f"{1:032x}", "--trace", "f" * 32], 3, f"no trace {'f' * 32}"),
        (["-o", "x.otlp", "--until", "2001-01-01"], 3, "the store holds spans of"),
        (["-o", "x.otlp", "--all-time", "--stage", "none"], 3, "no span has stage=none; there are: "),
        (["-o", "x.otlp", "--run", "none"], 3, "no spans of run none"),
        (["--format", "otlp-json", "--all-time", "--json"], 2, "--json answers on stdout"),
    ],
)  # fmt: skip
def test_errors_are_one_line_and_an_exit_code(tailsight, data, arguments, code, says):
    given, out, err = tailsight(*arguments, "--store", data)
    assert (given, out) == (code, "")
    assert err.startswith("tailsight: ")
    assert err.count("\n") == 1
    assert says in err
    assert here() == []


def test_parquet_names_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "tailsight_cli.exporting.parquet", raising=False)
    with pytest.raises(Exception, match=re.escape("pip install 'tailsight[parquet]'")):
        chosen_format("parquet", "x.parquet")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_endings_of_a_format_mean_it(name):
    for ending in FORMATS[name].endings:
        for packing in ("", ".gz", ".zst"):
            if name == "parquet" and packing:
                with pytest.raises(click.UsageError):
                    chosen_format(None, f"x{ending}{packing}")
            else:
                found, packed = chosen_format(None, f"x{ending}{packing}")
                assert (found.name, packed) == (name, packing)


def test_what_is_packed_is_what_is_not(tailsight, data):
    for name in ("x.jsonl", "x.jsonl.gz", "x.jsonl.zst"):
        assert tailsight("--all-time", "-o", name, "--store", data)[0] == 0
    assert unpacked("x.jsonl") == unpacked("x.jsonl.gz") == unpacked("x.jsonl.zst")


def test_a_closed_stdout_is_no_defect(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO()))
    assert main.run(["export", "--all-time", "--format", "otlp", "--store", data]) == 0
