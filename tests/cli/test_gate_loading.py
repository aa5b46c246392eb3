"""What the gate reads of files: the same as from a store that holds them, though it keeps less of them."""

import json
from pathlib import Path

import pytest
from testkit.gated import write_gated
from testkit.otlp import request, span

from tailsight_analysis import Filters, Side, whole_time
from tailsight_analysis.gate import fetch_runs
from tailsight_cli import main
from tailsight_cli.gating.loading import private_store
from tailsight_cli.gating.sources import FileSource
from tailsight_collector.importer import StoreTarget, import_files
from tailsight_collector.keep.records import encode_varint
from tailsight_storage import open_store

S = 1_000_000_000
BASE_NS = 1_780_000_000 * S


def sampled(path: Path, run: str, first: int, *, odd: bool = False) -> Path:
    """Requests of which some stand for many, some are late, in services and models; `odd`: without roots, and with two."""
    spans, others = [], []
    for number in range(120):
        trace = (first + number).to_bytes(16, "big")
        at_ns = BASE_NS + (first + number) * S // 10
        took_ns = 2_000_000 + (number * 7919) % 1000 * 10_000
        said = {"tailsight.sampling.weight": 3.0, "tailsight.sampling.reason": "rate"} if number % 3 == 0 else {}
        root = {
            "trace_id": trace, "span_id": b"rootroot", "name": f"GET /{number % 2}", "start_time_unix_nano": at_ns,
            "end_time_unix_nano": at_ns + took_ns, "attributes": {**said, "tokens": 10 + number % 50, "text": "x" * 100},
        }  # fmt: skip
        if number % 4 == 0:
            root["attributes"]["tailsight.intended_start_unix_nano"] = at_ns - 5000
        if not odd or number % 5:
            spans.append(span(**root))
        if odd and number % 7 == 0:
            spans.append(span(**{**root, "end_time_unix_nano": at_ns + took_ns // 2, "kind": 3}))
        child = {
            "trace_id": trace, "span_id": b"compute_", "parent_span_id": b"rootroot", "name": "forward",
            "start_time_unix_nano": at_ns + 1000, "end_time_unix_nano": at_ns + took_ns - 1000,
            "attributes": {"tailsight.stage": "compute", "tailsight.model": f"m{number % 2}"},
        }  # fmt: skip
        others.append(span(**child))
    messages = [
        request(spans, {"service.name": "api", "tailsight.run": run, "tailsight.hardware": "CPU"}),
        request(others, {"service.name": "model", "tailsight.run": run, "tailsight.hardware": "L4"}),
    ]
    path.write_bytes(
        b"".join(encode_varint(len(each)) + each for each in (message.SerializeToString() for message in messages))
    )
    return path


def content(runs):
    """Everything of the runs, in one order."""
    return {
        (run.label, series, kind): (
            run.start_ns, run.about, run.lengths.key, sorted(zip(
                cells.value.tolist(), cells.width.tolist(), cells.block.tolist(), cells.count.tolist(),
                cells.weight.tolist(), cells.weight2.tolist(), run.lengths.steps[series][kind].tolist(), strict=True,
            )),
        )
        for run in runs
        for series, kinds in run.series.items()
        for kind, cells in kinds.items()
    }  # fmt: skip


@pytest.mark.parametrize("odd", [False, True], ids=["plain", "roots missing and repeated"])
@pytest.mark.parametrize("decoder", ["in C", "in the database"])
def test_a_file_says_what_a_store_says_that_keeps_everything(tmp_path, odd, decoder, monkeypatch):
    if decoder == "in the database":
        monkeypatch.setattr("tailsight_storage.decoder.decoder", None)
    paths = [
        sampled(tmp_path / f"{run}.otlp", run, first, odd=odd) for run, first in (("a", 1), ("b", 50), ("", 90_000))
    ]
    path = tmp_path / "all.otlp"
    path.write_bytes(b"".join(each.read_bytes() for each in paths))
    asked = [Filters(), Filters(service=("model",)), Filters(hardware=("L4",), run=("a", "b"))]
    with open_store(f"chdb://{tmp_path / 'data'}", create=True) as store:
        import_files([path], StoreTarget(store))
        wanted = [content(fetch_runs(store, Side(whole_time(store), each))) for each in asked]
    with private_store() as private:
        private.load_only(FileSource(path, None), 0)
        found = [content(fetch_runs(private.store, Side(whole_time(private.store), each))) for each in asked]
    assert found == wanted
    assert [len({label for label, _, _ in each}) for each in found] == [3, 3, 2]
    weights = [weight for each in found[0].values() for *_, weight, _, _ in each[3]]
    assert {1.0, 3.0} <= set(weights)


def test_only_the_last_file_is_there(tmp_path):
    first, second = (sampled(tmp_path / f"{run}.otlp", run, 1) for run in ("a", "b"))
    with private_store() as private:
        for number, path in enumerate((first, first, second)):
            private.load_only(FileSource(path, None), number)
        runs = fetch_runs(private.store, Side(whole_time(private.store), Filters()))
    assert [run.label for run in runs] == ["b"]


def test_files_and_a_store_are_judged_alike(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = write_gated(tmp_path / "base.otlp.zst", runs=3, requests=150)
    slow = write_gated(tmp_path / "slow.otlp.zst", runs=3, requests=150, side=1, slower={"compute": 1.5})
    dsn = f"chdb://{tmp_path / 'data'}"
    with open_store(dsn, create=True) as store:
        import_files([base, slow], StoreTarget(store))

    def judged(*arguments):
        assert main.run(["gate", *arguments, "--json"]) == 1
        found = json.loads(capsys.readouterr().out)
        return found["verdict"], found["comparisons"], found["differences"]

    assert judged(str(base), str(slow)) == judged("run=base", "run=slow", "--store", dsn)
