"""`tailsight record` where the command fails, records nothing, or was asked for in a wrong way."""

from pathlib import Path

import pytest
from testkit.recordings import REQUESTS, names_in, python

from tailsight_cli.recording.run_file import read_header

FAILS = REQUESTS + "\nsys.exit(7)\n"
FAILS_THE_SECOND_TIME = (
    REQUESTS + "\nimport pathlib\ntry: pathlib.Path('once').touch(exist_ok=False)\nexcept OSError: sys.exit(7)\n"
)
TOO_MANY = """
import tailsight

tailsight.configure(buffer_bytes=65536)
with tailsight.request("small"):
    pass
with tailsight.request("large"):
    for number in range(400):
        with tailsight.stage("compute") as stage:
            stage.set("text", "x" * 16_000)
"""


def files() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def test_the_commands_exit_code_is_ours_and_nothing_is_written(record):
    code, _, err = record("-o", "a.otlp.zst", "--", *python(FAILS, 1))
    assert code == 7
    assert "ended with 7 (a): nothing is written; --keep-going keeps runs that fail" in err
    assert len(err.splitlines()) == 1
    assert files() == []


def test_with_keep_going_a_failed_run_is_kept_and_its_exit_code_still_ours(record):
    code, _, err = record("-o", "a.otlp.zst", "--keep-going", "--repeat", "2", "--", *python(FAILS_THE_SECOND_TIME, 2))
    assert code == 7
    assert "run 2 of 2  a#2  " in err
    assert [(run.run, run.exit_code, run.spans) for run in read_header(Path("a.otlp.zst")).runs] == [
        ("a#1", 0, 4),
        ("a#2", 7, 4),
    ]


def test_the_first_failure_ends_all_runs_and_an_earlier_file_stays(record):
    Path("a.otlp.zst").write_bytes(b"earlier")
    code, _, err = record("-o", "a.otlp.zst", "--force", "--repeat", "5", "--", *python(FAILS_THE_SECOND_TIME, 1))
    assert code == 7
    assert "(a#2)" in err
    assert "run 3 of 5" not in err
    assert Path("a.otlp.zst").read_bytes() == b"earlier"
    assert files() == ["a.otlp.zst", "once"]


def test_no_spans_is_an_error_that_says_what_to_do(record):
    code, _, err = record("-o", "a.otlp.zst", "--", *python("pass"))
    assert code == 3
    assert "recorded no spans: instrument it with the tailsight SDK" in err
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in err
    assert files() == []


def test_spans_that_the_sdk_dropped_are_counted_and_said(record):
    code, _, err = record("-o", "a.otlp.zst", "--", *python(TOO_MANY))
    assert code == 0
    (run,) = read_header(Path("a.otlp.zst")).runs
    dropped = run.lost.spans["buffer_full"]
    assert (run.spans, dropped) == (1, 401)
    assert (
        f"a: {dropped:,} spans were dropped by their senders (buffer_full {dropped:,}); TAILSIGHT_BUFFER_BYTES gives them more room"
        in err.splitlines()
    )


def test_a_file_that_exists_is_overwritten_only_if_that_is_said(record):
    Path("a.otlp.zst").write_bytes(b"earlier")
    code, _, err = record("-o", "a.otlp.zst", "--", "touch", "ran")
    assert (code, err) == (2, "tailsight: a.otlp.zst exists: --force overwrites it\n")
    assert files() == ["a.otlp.zst"]
    assert record("-o", "a.otlp.zst", "--force", "--", *python(REQUESTS, 1))[0] == 0
    assert names_in(Path("a.otlp.zst")).total() == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(["-o", "a.txt", "--", "true"], 2, "-o a.txt must end with .otlp.zst", id="suffix"),
        pytest.param(["-o", "no/a.otlp.zst", "--", "true"], 4, "there is no such folder", id="folder"),
        pytest.param(["-o", "a.otlp.zst", "--", "no-such-program"], 2, "there is no program no-such-program", id="program"),
        pytest.param(["-o", "a.otlp.zst", "--", "./here"], 2, "there is no program ./here", id="program in the folder"),
        pytest.param(["-o", "a.otlp.zst"], 2, "Missing argument", id="no command"),
        pytest.param(["--", "true"], 2, "Missing option '-o'", id="no file"),
        pytest.param(["-o", "a.otlp.zst", "--repeat", "0", "--", "true"], 2, "0 is not in the range x>=1", id="repeat"),
        pytest.param(["-o", "a.otlp.zst", "-o", "a.otlp.zst", "--run", "x", "--run", "y", "--", "true"], 2, "name the same file", id="same file"),
        pytest.param(["-o", "a.otlp.zst", "--run", "x", "--run", "y", "--", "true"], 2, "2 --run for 1 files", id="runs"),
        pytest.param(["-o", "a.otlp.zst", "--run", "", "--", "true"], 2, "--run needs a name", id="no name"),
        pytest.param(["-o", "a.otlp.zst", "-o", "b.otlp.zst", "--run", "x", "--run", "x", "--", "true"], 2, "runs of one name, x", id="same runs"),
        pytest.param(["-o", "a.otlp.zst", "-o", "b.otlp.zst", "--", "true", "--", "true", "--", "true"], 2, "3 commands for 2 files", id="commands"),
        pytest.param(["-o", "a.otlp.zst", "-o", "b.otlp.zst", "--", "cargo", "bench", "--", "--quick"], 2, "into a script", id="a -- of its own"),
        pytest.param(["-o", "a.otlp.zst", "--in", "nowhere", "--", "true"], 2, "'nowhere' does not exist", id="in"),
    ],
)  # fmt: skip
def test_wrong_use_is_said_before_anything_runs(record, arguments, code, words):
    got, _, err = record(*arguments)
    assert got == code
    assert words in err
    assert len(err.splitlines()) == 1
    assert files() == []


def test_a_disk_without_room_is_said_and_not_taken_for_a_program_without_spans(record, monkeypatch):
    monkeypatch.setattr("tailsight_cli.recording.recorder._LEAST_ROOM_BYTES", 1 << 62)
    code, _, err = record("-o", "a.otlp.zst", "--keep-going", "--", *python(REQUESTS, 1))
    assert code == 4
    assert "there is no room left, so spans are missing: nothing is written; TMPDIR names another folder" in err
    assert files() == []
