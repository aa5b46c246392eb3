"""`tailsight record`: real commands with the real SDK, one process after the other."""

import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

from testkit.recordings import REQUESTS, names_in, python, spans_in

from tailsight_cli.recording.run_file import read_header
from tailsight_collector.importer import StoreTarget, import_files

PARENT = """
import subprocess, sys
import tailsight

with tailsight.request("parent"):
    pass
subprocess.run([sys.executable, "-c", "import tailsight\\nwith tailsight.request('child'): pass"], check=True)
"""
OWN_LABEL = """
import tailsight

tailsight.configure(service="ranker", version="7", run="its own", endpoint="http://127.0.0.1:9")
with tailsight.request("rank"):
    pass
"""


def test_a_commands_spans_are_in_the_file_and_its_output_is_its_own(record):
    code, out, err = record("-o", "base.otlp.zst", "--", *python(REQUESTS, 20))
    assert (code, out) == (0, "ready\n")
    assert err.splitlines()[0].startswith("wrote base.otlp.zst: 1 run, 20 requests, 40 spans, ")
    assert err.splitlines()[1:] == ["next  tailsight import base.otlp.zst"]
    assert names_in(Path("base.otlp.zst")) == {"rank": 20, "compute": 20}
    assert {span.resource["tailsight.run"] for span in spans_in(Path("base.otlp.zst"))} == {"base"}
    header = read_header(Path("base.otlp.zst"))
    (run,) = header.runs
    assert (run.run, run.exit_code, run.spans, run.requests, run.lost.anything) == ("base", 0, 40, 20, False)
    starts = [span.start_ns for span in spans_in(Path("base.otlp.zst"))]
    assert run.start_ns < min(starts)
    assert max(starts) < run.end_ns


def test_the_header_says_where_and_of_what_it_was_recorded_and_shows_no_secret(record, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_PASSWORD", "hunter2")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    for arguments in (
        ["init", "-q", "-b", "faster"],
        ["-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "--allow-empty", "-m", "m"],
    ):
        subprocess.run(["git", *arguments], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    code, _, _ = record("-o", "a.otlp.zst", "--", *python(REQUESTS, 1, "--token", "s3cret", "--key=x"))
    assert code == 0
    said = json.loads(json.dumps(read_header(Path("a.otlp.zst")).to_json()))
    assert said["git"] == {"commit": commit, "branch": "faster", "dirty": False}
    assert said["command"][-3:] == ["--token", "…", "--key=x"]
    assert said["machine"]["cores"] >= 1
    assert said["machine"]["memory_bytes"] > 2**28
    assert said["machine"]["cpu"] == said["hardware"]["name"] or said["hardware"]["kind"] == "gpu"
    assert said["versions"]["python"] == sys.version.split()[0]
    assert [service["sdk"].split()[:2] for service in said["services"]] == [["tailsight", "python"]]
    shown = json.dumps(said)
    assert "hunter2" not in shown
    assert "s3cret" not in shown


def test_child_processes_are_recorded_too(record):
    assert record("-o", "a.otlp.zst", "--", *python(PARENT))[0] == 0
    assert names_in(Path("a.otlp.zst")) == {"parent": 1, "child": 1}


def test_the_recordings_label_replaces_the_programs_own(record):
    assert record("-o", "a.otlp.zst", "--run", "mine", "--", *python(OWN_LABEL))[0] == 0
    (span,) = spans_in(Path("a.otlp.zst"))
    assert [span.resource[key] for key in ("tailsight.run", "service.name", "service.version")] == [
        "mine",
        "ranker",
        "7",
    ]


def test_what_the_users_shell_has_set_does_not_keep_spans_away(record, monkeypatch):
    monkeypatch.setenv("TAILSIGHT_ENABLED", "false")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("TAILSIGHT_TRANSPORT", "thread")
    monkeypatch.setenv("TAILSIGHT_PROTOCOL", "grpc")
    assert record("-o", "a.otlp.zst", "--", *python(REQUESTS, 2))[0] == 0
    assert names_in(Path("a.otlp.zst")).total() == 4


def test_the_file_is_imported_as_it_is(record, store):
    assert record("-o", "a.otlp.zst", "--repeat", "2", "--", *python(REQUESTS, 3))[0] == 0
    imported = import_files([Path("a.otlp.zst")], StoreTarget(store))
    assert (imported.accepted_spans, imported.rejected, imported.skipped) == (12, Counter(), [])
    assert store.rows("SELECT run, count() FROM spans GROUP BY run ORDER BY run") == [("a#1", 6), ("a#2", 6)]


def test_two_commands_take_turns_and_each_run_has_its_own_label(record):
    code, out, err = record(
        "-o", "base.otlp.zst", "-o", "cand.otlp.zst", "--repeat", "2", "--json",
        "--", *python(REQUESTS, 2), "--", *python(REQUESTS, 3),
    )  # fmt: skip
    assert code == 0
    base, cand = (each["header"] for each in json.loads(out)["files"])
    assert [(run["run"], run["spans"]) for run in base["runs"]] == [("base#1", 4), ("base#2", 4)]
    assert [(run["run"], run["spans"]) for run in cand["runs"]] == [("cand#1", 6), ("cand#2", 6)]
    assert base["order"] == "mirrored"
    runs = sorted([*base["runs"], *cand["runs"]], key=lambda run: run["start_ns"])
    assert [run["run"][:4] for run in runs] in (["base", "cand", "cand", "base"], ["cand", "base", "base", "cand"])
    assert all(before["end_ns"] <= after["start_ns"] for before, after in pairwise(runs))
    assert err.count("ready\n") == 4  # stdout belongs to the JSON
    assert "run 1 of 4  " in err
    assert err.splitlines()[-1] == "next  tailsight gate base.otlp.zst cand.otlp.zst"
    labels = Counter(span.resource["tailsight.run"] for span in spans_in(Path("cand.otlp.zst")))
    assert labels == {"cand#1": 6, "cand#2": 6}


def test_rounds_that_warm_up_are_not_kept(record):
    code, _, err = record("-o", "a.otlp.zst", "--warmup", "1", "--", *python(REQUESTS, 2))
    assert code == 0
    assert "run 1 of 2  a#warmup" in err
    assert [(run.run, run.spans) for run in read_header(Path("a.otlp.zst")).runs] == [("a", 4)]


def test_each_file_may_have_a_folder_of_its_own(record, tmp_path):
    for name, requests in (("old", 1), ("new", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bench.py").write_text(REQUESTS.replace("sys.argv[1]", str(requests)))
    code, _, _ = record(
        "-o", "a.otlp.zst", "-o", "b.otlp.zst", "--in", "old", "--in", "new", "--", sys.executable, "bench.py"
    )
    assert code == 0
    assert [read_header(Path(f"{name}.otlp.zst")).spans for name in "ab"] == [2, 4]


def test_what_is_no_utf_8_in_a_command_or_a_files_name_costs_no_recording(record):
    code, _, _ = record("-o", "r\udcff.otlp.zst", "--", *python(REQUESTS, 1, "\udcfe"))
    assert code == 0
    header = read_header(Path("r\udcff.otlp.zst"))
    assert (header.name, header.command[-1]) == ("r\\udcff", "\\udcfe")
    assert {span.resource["tailsight.run"] for span in spans_in(Path("r\udcff.otlp.zst"))} == {"r\\udcff"}
