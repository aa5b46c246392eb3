"""`tailsight export` as a process that asks a running collector, and how it ends where nobody can take what it writes."""

import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from testkit.otlp import any_value, request, span

from tailsight_storage import open_store

COLUMNS = "toString(tuple(* EXCEPT (received_at, run, resource)))"


@pytest.fixture(scope="module")
def run(collector) -> str:
    """A run in a running collector."""
    return sent_to(collector)


def sent_to(collector) -> str:
    """Send 3,000 spans of a new run, 199 of them twice."""
    name = f"export-{uuid.uuid4().hex[:10]}"
    spans = [
        span(attributes={"n": n, "list": [n, None, {"deep": [[b"\xff"]]}], "wide": "w" * 100}) for n in range(3000)
    ]
    message = request(spans, {"service.name": "exported", "tailsight.run": name})
    first = message.resource_spans[0].scope_spans[0].spans[0]
    first.events.add(time_unix_nano=1, name="e").attributes.add(key="k", value=any_value(float("nan")))
    first.links.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    again = request(spans[:200], {"service.name": "exported", "tailsight.run": name})
    del again.resource_spans[0].scope_spans[0].spans[0]
    for each in (message, again):
        assert collector.post(each.SerializeToString()).status_code == 200
    collector.wait_until_loaded()
    return name


def tailsight(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "text": True} | options
    return subprocess.run(command(*arguments), timeout=120, check=False, **options)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tailsight_cli.main", *arguments]


def rows(store: str, run: str, columns: str = COLUMNS) -> list[str]:
    with open_store(store) as opened:
        found = opened.rows(f"SELECT DISTINCT {columns} FROM spans WHERE run = {{run:String}}", run=run)
    return sorted(str(row[0]) for row in found)


def test_through_the_sql_port_and_back_through_the_otlp_port(collector, tmp_path):
    run = sent_to(collector)  # of its own: what comes back is of the same traces
    file = tmp_path / "x.otlp.zst"
    done = tailsight("export", "--run", run, "-o", str(file), "--store", collector.store)
    assert (done.returncode, done.stdout.splitlines()[0].split(" written")[0]) == (0, "3,000 spans of 3,000 traces")
    assert "199 spans left out: equal to one that had arrived before" in done.stdout
    back = tailsight("import", str(file), "--run", f"{run}-back", "--endpoint", collector.otlp_url)
    assert back.returncode == 0, back.stderr
    collector.wait_until_loaded()
    assert rows(collector.store, f"{run}-back") == rows(collector.store, run)
    assert rows(collector.store, f"{run}-back", "count()") == ["3000"]


def test_parquet_through_the_sql_port(collector, run, tmp_path):
    file = tmp_path / "x.parquet"
    done = tailsight("export", "--run", run, "-o", str(file), "--store", collector.store)
    assert done.returncode == 0, done.stderr
    ids = pq.read_table(file, columns=["span_id"])["span_id"].to_pylist()
    assert sorted(ids) == rows(collector.store, run, "span_id_hex")


def test_a_reader_that_has_gone_ends_it_as_sigpipe_does(collector, run):
    words = " ".join(command("export", "--run", run, "--format", "otlp-json", "--store", collector.store))
    done = subprocess.run(
        ["bash", "-c", f"{words} | head -c 10 >/dev/null; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == "141\n"
    assert "Traceback" not in done.stderr
    assert "tailsight:" not in done.stderr


@pytest.mark.parametrize("name", ["jaeger", "parquet"])
def test_a_full_stdout_is_one_line(collector, run, name):
    with Path("/dev/full").open("wb") as full:
        done = tailsight(
            "export", "--run", run, "--format", name, "--store", collector.store,
            capture_output=False, stdout=full, stderr=subprocess.PIPE,
        )  # fmt: skip
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1] == "tailsight: stdout cannot be written: No space left on device"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_ends_it_while_nobody_reads(collector, run, number):
    with subprocess.Popen(
        command("export", "--run", run, "--format", "otlp-json", "--store", collector.store),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.read(1) == "{"
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err.splitlines()
    assert "Traceback" not in err


def test_nothing_is_read_where_the_collector_is_not(tmp_path):
    done = tailsight("export", "-o", str(tmp_path / "x.otlp"), "--store", "clickhouse://127.0.0.1:1/tailsight")
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
