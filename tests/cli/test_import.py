"""`tailsight import` as it is typed: files, folders, patterns, stdin; what it says, and how it ends."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tailsight_cli import main
from tailsight_storage import open_store

US = 1_790_000_000_000_000
TRITON = [
    {"id": 1, "model_name": "m"},
    *({"id": 1, "timestamps": [{"name": name, "ns": ns}]} for name, ns in (("REQUEST_START", 5), ("REQUEST_END", 9))),
]


def zipkin(path: Path, first: int = 1, spans: int = 3, **changes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(
            [
                {
                    "traceId": "1",
                    "id": f"{first + n:016x}",
                    "timestamp": US,
                    "duration": 5,
                    "localEndpoint": {"serviceName": "s"},
                    **changes,
                }
                for n in range(spans)
            ]
        )
    )
    return path


@pytest.fixture
def imported(tmp_path, capsys):
    """A call of the command into a store; gives (exit code, stdout, stderr)."""

    def call(*arguments: object, store: bool = True):
        where = ["--store", f"chdb://{tmp_path / 'store'}"] if store else []
        code = main.run(["import", *map(str, arguments), *where])
        return code, *capsys.readouterr()

    return call


def count(tmp_path) -> int:
    with open_store(f"chdb://{tmp_path / 'store'}") as store:
        [(spans,)] = store.rows("SELECT count() FROM spans")
    return spans


def test_folders_patterns_and_stdin_are_files(tmp_path, imported, monkeypatch):
    zipkin(tmp_path / "in" / "a.json", 1)
    zipkin(tmp_path / "in" / "deep" / "b.json", 10)
    zipkin(tmp_path / "in" / ".hidden" / "c.json", 20)
    zipkin(tmp_path / "other-1.json", 30)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(zipkin(tmp_path / "d.json", 40).read_bytes())))
    code, out, err = imported(tmp_path / "in", tmp_path / "other-*.json", "-")
    assert (code, err) == (0, "")
    assert "imported 12 spans from 4 files" in out
    assert "stdin: Zipkin v2 JSON, 3 spans" in out
    assert count(tmp_path) == 12


def test_it_says_what_was_refused_and_where_first(tmp_path, imported):
    path = zipkin(tmp_path / "a.json", 1, 2)
    path.write_text(path.read_text()[:-1] + ', {"traceId": "1", "id": "9"}]')
    code, out, _ = imported(path)
    assert code == 0
    assert (
        f"{path}: Zipkin v2 JSON, 3 spans, 2 spans made of them\n  refused 1: it has no timestamp (first: [2])\n" in out
    )


def test_the_same_again_is_told(tmp_path, imported):
    path = zipkin(tmp_path / "a.json")
    imported(path)
    code, out, _ = imported(path, path)
    assert code == 0
    assert "the same content as" in out
    assert "6 of them were in the store already" in out
    assert count(tmp_path) == 3


def test_json_has_the_report(tmp_path, imported):
    path = zipkin(tmp_path / "a.json")
    path.write_text(path.read_text()[:-1] + ", 7]")
    code, out, _ = imported(path, "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["reports"] == [
        {
            "file": str(path), "format": "zipkin", "unit": "spans", "read": 4, "kept_spans": 3, "already_spans": 0, "same_as": None,
            "refused": [{"reason": "it is no object", "count": 1, "first": "[3]: 7"}], "notes": {},
        }
    ]  # fmt: skip
    assert (answer["files"], answer["spans"], answer["accepted_spans"], answer["failed"]) == (1, 3, 3, [])


def test_run_and_service_replace_labels(tmp_path, imported):
    assert imported(zipkin(tmp_path / "a.json"), "--run", "night", "--service", "ranker")[0] == 0
    with open_store(f"chdb://{tmp_path / 'store'}") as store:
        assert store.rows("SELECT DISTINCT run, service FROM spans") == [("night", "ranker")]


def test_triton_begins_when_the_user_says(tmp_path, imported):
    path = tmp_path / "triton.json"
    path.write_text(json.dumps(TRITON))
    code, _, err = imported(path)
    assert code == 4
    assert "give --start" in err
    code, out, _ = imported(path, "--start", "2026-11-20T10:00:00+01:00")
    assert code == 0
    assert "window   2026-11-20T09:00:00Z to 2026-11-20T09:00:01Z" in out


def test_a_broken_file_among_others_is_told_at_the_end(tmp_path, imported):
    whole, broken = zipkin(tmp_path / "a.json"), zipkin(tmp_path / "b.json", 10)
    broken.write_text(broken.read_text()[:-5])
    (tmp_path / "README.md").write_text("# Traces")
    code, out, err = imported(broken, whole, tmp_path / "README.md")
    assert code == 4
    assert "imported 3 spans from 1 file" in out
    assert err.splitlines()[0].startswith(f"skipped {tmp_path / 'README.md'}: it begins with the text '# Traces'")
    assert err.splitlines()[1].startswith(f"tailsight: {broken}: it is not JSON at character")
    assert count(tmp_path) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nothing.json"], 4, "nothing.json does not exist"),
        (["nothing-*.json"], 4, "nothing-*.json matches no file"),
        (["empty"], 4, "empty is a folder without files"),
        (["a.json", "--start", "today"], 2, "--start today is no time with a zone"),
        (["a.json", "--start", "2026-11-20T10:00:00"], 2, "is no time with a zone"),
        (["-", "-"], 2, "- stands there twice"),
        ([""], 2, "a file's name is empty"),
        (["a**b.json"], 2, "a**b.json is no pattern: ** stands for folders"),
        (["["], 4, "[ matches no file"),
        (["a.json", "--start", "9999-01-01T00:00:00Z"], 2, "is no time with a zone before the year 2262"),
    ],
    ids=[
        "missing",
        "pattern",
        "empty folder",
        "start",
        "zone",
        "stdin twice",
        "no name",
        "no pattern",
        "bracket",
        "late",
    ],
)
def test_wrong_use_is_one_line(tmp_path, imported, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    zipkin(tmp_path / "a.json")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[]")))
    found, out, err = imported(*arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_files_name_does_nothing_to_the_terminal(tmp_path, imported):
    """It comes out of somebody's archive; names need not be UTF-8 either."""
    folder = tmp_path / "in"
    zipkin(folder / "a\x1b[2J\n.json")
    (folder / "b\x1b.txt").write_text("no traces")
    os.link(folder / "a\x1b[2J\n.json", os.fsencode(folder) + b"/c\xff.json")
    code, out, err = imported(folder)
    assert (code, "imported 6 spans from 2 files" in out) == (0, True)
    assert "\x1b" not in out + err
    assert f"{folder}/a�[2J�.json: Zipkin v2 JSON, 3 spans" in out
    assert json.loads(imported(folder, "--json")[1])["reports"][0]["file"] == f"{folder}/a\x1b[2J\n.json"


def test_stdin_that_is_closed_is_told(imported, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert imported("-") == (2, "", "tailsight: - is stdin, and that is closed; name a file\n")


def test_a_collector_that_is_not_there_is_one_line(tmp_path, imported):
    code, _, err = imported(zipkin(tmp_path / "a.json"), "--endpoint", "http://127.0.0.1:1", store=False)
    assert code == 4
    assert "collector http://127.0.0.1:1 does not answer" in err
    assert "(0 of the 3 spans of" in err
    assert err.count("\n") == 1


def test_ctrl_c_while_stdin_comes_leaves_nothing(tmp_path):
    command = [sys.executable, "-m", "tailsight_cli.main", "import", "-", "--store", f"chdb://{tmp_path / 'store'}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        # a pipe holds 64 KiB: when this is written, the command has begun to read
        process.stdin.write("[" + " " * 1_000_000)
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not (tmp_path / "store" / "journal").exists()


def test_help_names_the_formats(capsys):
    assert main.run(["import", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "OTLP, Jaeger, Zipkin, Triton" in text
    assert "docs/import.md" in text
