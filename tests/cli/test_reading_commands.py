"""`breakdown`, `tail` and the frame around all commands: exit codes, one line on stderr, windows, rendering."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import click
import pytest
from analysis import brute_force
from analysis.brute_force import Span

from tailsight_cli import _errors, commands, main
from tailsight_cli.commands import COMMANDS, CommandSpec
from tailsight_cli.options import chosen_window, parse_time
from tailsight_storage import open_store

NOW_NS = 1_795_305_600_000_000_000  # 2026-11-22T00:00:00Z


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Iterator[str]:
    """A store with 200 requests of two hours ago, of which every fortieth queued for long on a host of its own."""
    folder = f"chdb://{tmp_path_factory.mktemp('cli')}"
    with open_store(folder, create=True) as store:
        spans = []
        for n in range(1, 201):
            slow, run = n % 40 == 0, "nightly" if n <= 100 else ""
            wait = 30_000 if slow else 1_000 + n
            spans += [
                Span(n, 1, 0, n, wait + 6_000, run=run),
                Span(n, 2, 1, n, wait, stage="queue", host="h9" if slow else "h1", run=run),
                Span(n, 3, 1, n + wait, 5_000, stage="compute", hardware="NVIDIA H100 80GB HBM3", run=run, error=slow),
            ]
        brute_force.insert(store, spans)
        yield folder


@pytest.fixture
def tailsight(capsys, monkeypatch):
    """Run the command in this process; gives exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main.run(arguments)
        return code, *capsys.readouterr()

    return call


def test_breakdown_prints_a_table_that_names_its_window(tailsight, data):
    code, out, err = tailsight("breakdown", "--store", data, "--all-time")
    assert (code, err) == (0, "")
    assert re.match(r"Latency in ms  \d{4}-\d\d-\d\d .* UTC", out)
    for text in ("stage", "p99", "requests", "queue", "compute", "(no stage)"):
        assert text in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "…" not in out


def test_breakdown_in_json(tailsight, data):
    code, out, _ = tailsight("breakdown", "--store", data, "--all-time", "--by", "stage,hardware", "--json")
    answer = json.loads(out)
    assert code == 0
    assert {(row["stage"], row["hardware"]): row["count"] for row in answer["rows"]} == {
        ("", "L4"): 200, ("queue", "L4"): 200, ("compute", "NVIDIA H100 80GB HBM3"): 200,
    }  # fmt: skip
    assert sum(row["self_share"] for row in answer["rows"]) == pytest.approx(1)


def test_filters_may_repeat_and_dimensions_too(tailsight, data):
    options = ["--stage", "queue", "--stage", "compute", "--host", "h1", "--by", "stage", "--by", "host", "--json"]
    _, out, _ = tailsight("breakdown", "--store", data, "--all-time", *options)
    assert sorted((row["stage"], row["host"], row["count"]) for row in json.loads(out)["rows"]) == [
        ("compute", "h1", 200), ("queue", "h1", 195),
    ]  # fmt: skip


def test_tail_begins_with_its_verdict(tailsight, data):
    code, out, err = tailsight("tail", "--store", data, "--all-time", "--quantile", "p98")
    assert (code, err) == (0, "")
    assert "p98 is " in out
    assert "is queue" in out
    assert "host = h9" in out
    assert "unaccounted" in out
    assert "█" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_tail_in_json_and_the_limit(tailsight, data):
    _, out, _ = tailsight("tail", "--store", data, "--all-time", "--quantile", "0.98", "--limit", "0", "--json")
    answer = json.loads(out)
    assert answer["stages"][0]["stage"] == "queue"
    assert answer["attributes"] == []


def test_a_run_alone_means_its_whole_time(tailsight, data):
    _, out, _ = tailsight("breakdown", "--store", data, "--run", "nightly", "--json")
    assert json.loads(out)["requests"]["count"] == 100
    code, _, err = tailsight("breakdown", "--store", data, "--run", "nightly", "--since", "1h")
    assert (code, err.count("\n")) == (3, 1)


def test_the_last_hour_is_the_default(tailsight, data):
    code, _, err = tailsight("breakdown", "--store", data)
    assert code == 3
    assert "(1 h)" in err
    assert "--all-time" in err
    code, out, _ = tailsight("breakdown", "--store", data, "--since", "3h", "--json")
    assert json.loads(out)["requests"]["count"] == 200


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["brakdown"], 2, "brakdown"),
        (["breakdown", "--colour"], 2, "--colour"),
        (["breakdown", "--by", "colour"], 2, "use any of stage"),
        (["breakdown", "--by", ","], 2, "nothing"),
        (["breakdown", "--since", "yesterday"], 2, "'yesterday' is no time"),
        (["breakdown", "--since", "1h", "--until", "2h"], 2, "is not before"),
        (["breakdown", "--since", "1h", "--all-time"], 2, "--all-time"),
        (["tail", "--quantile", "p20"], 2, "'p20' is no tail"),
        (["tail", "--quantile", "100"], 2, "is no tail"),
        (["tail", "--limit", "-1"], 2, "-1"),
        (["tail", "--store", "mysql://x"], 2, "mysql://x"),
        (["tail", "--store", "chdb:///no/such/folder"], 4, "/no/such/folder"),
        (["tail", "--store", "clickhouse://127.0.0.1:1/tailsight"], 4, "does not answer"),
        (["tail", "--all-time", "--quantile", "0.9999", "--store", "DATA"], 3, "9,800 more are needed"),
        (["tail", "--run", "weekly", "--store", "DATA"], 3, "no spans of run weekly"),
        (["tail", "--service", "none", "--all-time", "--store", "DATA"], 3, "service=none"),
        (["tail", "--since", f"{'9' * 400}d"], 2, "is before 1970"),
        (["tail", "--run", "\x1b[31m\u202ered", "--store", "DATA"], 3, "no spans of run �[31m�red in"),
        (["tail", "--run", "x" * 5000, "--store", "DATA"], 3, f"no spans of run {'x' * 300}… in"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(tailsight, data, arguments, code, says):
    given, out, err = tailsight(*[data if argument == "DATA" else argument for argument in arguments])
    assert (given, out) == (code, "")
    assert err.startswith("tailsight: ")
    assert err.count("\n") == 1
    assert err.removesuffix("\n").isprintable()
    assert says in err


def test_a_filter_is_shown_without_what_a_terminal_would_obey(tailsight, data):
    options = ("--store", data, "--all-time", "--stage", "queue", "--stage", "\x1b[2J\x9b31m")
    code, out, _ = tailsight("breakdown", *options)
    assert code == 0
    assert "stage=queue|�[2J�31m\n" in out
    assert all(line.isprintable() for line in out.splitlines())


def test_help_lists_every_command_without_importing_any(tailsight, monkeypatch):
    monkeypatch.setattr(commands.importlib, "import_module", pytest.fail)
    code, out, _ = tailsight("--help")
    assert code == 0
    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", ["breakdown", "tail"])
def test_every_help_has_an_example(tailsight, name):
    code, out, _ = tailsight(name, "--help")
    assert code == 0
    assert f"  tailsight {name} --" in out


def test_version(tailsight):
    assert re.fullmatch(r"tailsight, version \d+\.\d+\.\d+\S*\n", tailsight("--version")[1])


def test_a_missing_package_names_its_extra(tailsight, monkeypatch):
    def without_plotly(name):
        raise ModuleNotFoundError("No module named 'plotly'", name="plotly")

    monkeypatch.setattr(commands.importlib, "import_module", without_plotly)
    code, _, err = tailsight("dashboard")
    assert (code, err) == (2, "tailsight: `tailsight dashboard` needs plotly: pip install 'tailsight[dashboard]'\n")


def test_a_package_that_a_command_misses_while_it_runs_names_its_extra(tailsight, monkeypatch):
    @click.command()
    def command() -> None:
        raise ModuleNotFoundError("No module named 'chdb'", name="chdb")

    monkeypatch.setattr(commands.importlib, "import_module", lambda name: type("module", (), {"command": command}))
    monkeypatch.setitem(COMMANDS, "up", CommandSpec("somewhere", "all", ""))
    assert tailsight("up")[::2] == (2, "tailsight: `tailsight up` needs chdb: pip install 'tailsight[all]'\n")


def test_ctrl_c_while_the_command_is_still_loading_shows_no_traceback(monkeypatch):
    """What takes long to import is imported where Ctrl-C is caught."""
    loaded = "import sys, tailsight_cli.main; print({'click', 'email', 'logging', 'rich'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"

    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "run", interrupted)
    with pytest.raises(SystemExit) as ending:
        main.main([])
    assert ending.value.code == 130


def test_a_bare_installation_says_what_to_install(tailsight, monkeypatch):
    monkeypatch.setitem(sys.modules, "click", None)
    code, _, err = tailsight("tail")
    assert code == 2
    assert "pip install 'tailsight[gate]'" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyboardInterrupt(), 130, ""),
        (ValueError("two\nlines"), _errors.DEFECT, "ValueError: two lines; this is a defect"),
        (FileNotFoundError(2, "No such file or directory", "x.otlp"), 4, "x.otlp: No such file"),
        (_errors.CommandError("port 4318 is taken", 4), 4, "port 4318 is taken"),
    ],
)
def test_whatever_a_command_raises_ends_in_an_exit_code(tailsight, monkeypatch, error, code, says):
    @click.command()
    def command() -> None:
        raise error

    monkeypatch.setattr(commands.importlib, "import_module", lambda name: type("module", (), {"command": command}))
    given, _, err = tailsight("up")
    assert given == code
    assert says in err
    assert err.count("\n") == 1  # after ^C an empty line, so that the prompt begins on its own


@pytest.mark.parametrize(
    ("text", "seconds_ago"),
    [("now", 0), ("30s", 30), ("15m", 900), ("15min", 900), ("1.5h", 5400), ("7d", 604800), ("1w", 604800),
     ("2026-11-21T23:00:00Z", 3600), ("2026-11-21T23:00:00", 3600), ("2026-11-22T00:30:00+01:00", 1800),
     ("2026-11-21", 86400)],
)  # fmt: skip
def test_times_are_relative_or_iso(text, seconds_ago):
    assert parse_time(text, NOW_NS, "--since ") == NOW_NS - seconds_ago * 10**9


def test_an_end_alone_means_the_hour_before_it():
    window = chosen_window(None, "2h", all_time=False, now_ns=NOW_NS)
    assert (NOW_NS - window.until_ns, window.duration_s) == (7200 * 10**9, 3600)


def test_the_installed_command_as_a_process(tmp_path):
    started = time.monotonic()
    command = [sys.executable, "-m", "tailsight_cli.main", "tail", "--store", f"chdb://{tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    assert re.fullmatch(r"tailsight: store chdb://\S+: no store in this folder; .*\n", done.stderr)
    assert time.monotonic() - started < 30
