"""A journal, its loader and an embedded engine in a process of their own, without ports: to be killed at chosen moments.

Nothing is checkpointed unless it is asked for. The process reads commands, a line each, and answers in JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

PATIENCE_S = 60
DIMENSIONS = "received_date, minute, stage, service, hardware, version, model, region, environment, host, run"
MEASURES = (
    "sum(spans), sum(errors), sum(duration_sum_ns), max(duration_max_ns), "
    "quantilesDDMerge(0.01, 0.5, 0.9, 0.95, 0.99, 0.999)(duration_quantiles), max(max_weight)"
)
BRUTE_FORCE = (
    "count(), countIf(status = 'ERROR'), sum(duration_ns), max(duration_ns), "
    "quantilesDD(0.01, 0.5, 0.9, 0.95, 0.99, 0.999)(duration_ns), max(weight)"
)


class LoadingProcess:
    """The process as a test sees it. A context manager; after `kill` or `stop` another may be made on the same data."""

    def __init__(self, data: Path, boot: str = "first") -> None:
        self.data = data
        (data / "boot_id").write_text(boot)
        folder = Path(__file__).parents[1]
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from testkit.loading import main; main()", str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(folder)},
        )
        self.ready = self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()

    def load(self, *names: str) -> None:
        """Acknowledge spans of these names, each name a request of its own kind, and wait until they are loaded."""
        self._ask("load", *names)

    def checkpoint(self) -> list[str]:
        """Make a checkpoint now, and wait for it; returns why it was not made, of each journal: empty where it was."""
        failures: list[str] = self._ask("checkpoint")
        return failures

    def run(self, statement: str) -> None:
        self._ask("run", statement)

    def rows(self, statement: str) -> list[list[Any]]:
        rows: list[list[Any]] = self._ask("rows", statement)
        return rows

    def stored(self) -> dict[str, Counter[str]]:
        """How often each name is in each table; the roll-up is compared with its table by brute force on the way."""
        rolled_up = self.rows(f"SELECT {DIMENSIONS}, {MEASURES} FROM stage_latency_1m GROUP BY ALL ORDER BY ALL")
        by_hand = self.rows(
            "SELECT toDate(received_at) AS received_date, toStartOfMinute(start_time) AS minute, stage, service, "
            "hardware, version, model, region, environment, host, run, "
            f"{BRUTE_FORCE} FROM spans GROUP BY ALL ORDER BY ALL"
        )
        assert rolled_up == by_hand
        return {
            table: Counter({str(name): int(count) for name, count in self.rows(statement)})
            for table, statement in {
                "spans": "SELECT name, count() FROM spans GROUP BY name",
                "rejected_spans": "SELECT name, count() FROM rejected_spans GROUP BY name",
                "sender_batches": "SELECT sender, count() FROM sender_batches GROUP BY sender",
                "hardware_samples": "SELECT attributes['name'], count() FROM hardware_samples GROUP BY ALL",
            }.items()
        }

    def table_folder(self, table: str) -> Path:
        [[path]] = self.rows(
            f"SELECT data_paths[1] FROM system.tables WHERE name = '{table}' AND engine LIKE '%MergeTree'"
        )
        return Path(path)

    def stop(self) -> None:
        self._ask("stop")
        assert self._process.wait(PATIENCE_S) == 0
        self._close()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self._close()

    def _ask(self, *command: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the process has ended with {self._process.wait(PATIENCE_S)}"
        return json.loads(line)

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def main() -> None:
    """Serve one LoadingProcess."""
    from tailsight_collector.keep import checkpoints, keeper, loader, power_cut
    from tailsight_collector.keep.line import METRICS_TABLES, TRACES_TABLES, Line
    from tailsight_collector.keep.records import encode_record
    from tailsight_storage import open_store
    from testkit.metrics import metric, metrics_request, point
    from testkit.otlp import span
    from testkit.senders import Sidecar

    keeper.CHECKPOINT_EVERY_S = keeper.IDLE_CHECKPOINT_EVERY_S = float("inf")
    loader.LOOK_EVERY_S = 0.01
    data = Path(sys.argv[1])
    checkpoints.BOOT_ID_FILE = data / "boot_id"
    options: dict[str, Any] = {"segment_bytes": 1 << 20, "segment_age_s": 0.01, "max_bytes": 1 << 30}
    traces, metrics = Line(data / "journal", **options), Line(data / "journal" / "metrics", **options)
    traces.open()
    metrics.open()
    power_cut.recover(data)
    store = open_store(f"chdb://{data}", create=True)
    second, third = store.another(), store.another()
    keepings = (
        traces.keeping_of(store, "traces", TRACES_TABLES),
        metrics.keeping_of(second, "metrics", METRICS_TABLES),
    )
    traces.load_into(store.insert_otlp_traces, keepings[0])
    metrics.load_into(second.insert_otlp_metrics, keepings[1])

    def wait_until(holds: Any) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline_s
            time.sleep(0.005)

    def wait_until_loaded() -> None:
        wait_until(lambda: traces.journal.stored_bytes == metrics.journal.stored_bytes == 0)

    def load(*names: str) -> None:
        now_ns = time.time_ns()
        for name in names:
            attributes = {"tailsight.stage": name[:1], "tailsight.sampling.weight": float(len(name))}
            start_ns = now_ns - 10**9
            good = [
                span(name=name, attributes=attributes, status={"code": 2 * (number % 2)}, start_time_unix_nano=start_ns,
                     end_time_unix_nano=start_ns + 1000 * number)
                for number in range(1, 4)
            ]  # fmt: skip
            bad = span(name=name, start_time_unix_nano=start_ns, end_time_unix_nano=start_ns - 1)
            request = Sidecar(id=name).batch([*good, bad])
            sample = metrics_request([metric("hw.power", [point(1.0, attributes={"name": name})])])
            done = [
                line.journal.append(encode_record(message.SerializeToString(), now_ns))
                for line, message in ((traces, request), (metrics, sample))
            ]
            for each in done:
                each.result(PATIENCE_S)
        wait_until_loaded()

    def checkpoint() -> list[str]:
        for keeping in keepings:
            assert isinstance(keeping, keeper.Keeper)
            before = keeping.checkpoints
            if keeping._kept:
                keeping._last_cut_s = float("-inf")
                wait_until(
                    lambda keeping=keeping, before=before: keeping.checkpoints > before or keeping.failure,
                )
        return [keeping.failure for keeping in keepings]

    def stop() -> None:
        for line, opened in ((traces, store), (metrics, second)):
            line.stop_taking()
            assert line.close(PATIENCE_S)
            opened.close()
        third.close()
        power_cut.settle(data)

    def say(answer: Any) -> None:
        sys.stdout.write(json.dumps(answer, default=str) + "\n")
        sys.stdout.flush()

    wait_until_loaded()
    say("ready")
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        match what:
            case "load":
                say(load(*arguments))
            case "checkpoint":
                say(checkpoint())
            case "run":
                say(third.run(*arguments))
            case "rows":
                say(third.rows(*arguments))
            case "stop":
                say(stop())
                return
