"""`jitter` and `queue`: their tables fit, their sentences say what was found, their JSON has the function's values."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from analysis import brute_force
from analysis.brute_force import Span

from tailsight_analysis import jitter, queueing, whole_time
from tailsight_analysis.statistics.queues import replay
from tailsight_cli import main
from tailsight_storage import open_store


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Iterator[str]:
    """A store with 1,500 requests at one worker that pauses for 60 ms every 700 ms, and has two modes."""
    folder = f"chdb://{tmp_path_factory.mktemp('cli')}"
    random = np.random.default_rng(1)
    arrival = np.sort(random.integers(0, 40_000_000, 1_500)).astype(float)
    work = np.where(random.random(1_500) < 0.2, 12_000, 4_000) * random.lognormal(0, 0.1, 1_500)
    work += np.maximum(0, 60_000 - arrival % 700_000)
    waits = replay(arrival, work, 1)
    spans = []
    for n, (at, wait, length) in enumerate(
        zip(arrival.astype(int).tolist(), waits.astype(int).tolist(), work.astype(int).tolist(), strict=True), 1
    ):
        spans += [
            Span(n, 1, 0, at, wait + length, attributes=(("tailsight.deadline_ms", 30),)),
            Span(n, 2, 1, at, wait, stage="queue"),
            Span(n, 3, 1, at + wait, length, stage="compute", hardware="NVIDIA H100 80GB HBM3"),
        ]
    with open_store(folder, create=True) as store:
        brute_force.insert(store, spans)
        yield folder


@pytest.fixture
def tailsight(capsys, monkeypatch):
    def call(*arguments: str, width: int = 80) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", str(width))
        code = main.run(arguments)
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("width", [60, 80, 120])
def test_jitter_says_what_it_found(tailsight, data, width):
    code, out, err = tailsight("jitter", "--store", data, "--all-time", width=width)
    assert (code, err) == (0, "")
    assert out.startswith("Jitter in ms")
    assert all(len(line) <= width for line in out.splitlines())
    assert "…" not in out
    whole = " ".join(out.split())
    assert "compute on NVIDIA H100 80GB HBM3: slow ones" in whole
    assert "come back every 70" in whole or "come back every 69" in whole
    assert " modes, " in whole
    assert "missed their deadline, at most" in whole
    assert "RFC 3550 " in out or width == 60
    assert "p99−p50 " in out
    assert " missed\n" in out


def test_queue_says_what_one_more_worker_would_change(tailsight, data):
    code, out, err = tailsight("queue", "--store", data, "--all-time")
    assert (code, err) == (0, "")
    assert all(len(line) <= 80 for line in out.splitlines())
    whole = " ".join(out.split())
    assert "with 2 workers in the place of 1 it would be" in whole
    assert "replayed, 2 workers" in whole
    assert "by formula, 2 workers" in whole
    _, out, _ = tailsight("queue", "--store", data, "--all-time", "--workers", "3")
    assert "the model does not fit" in " ".join(out.split())


def test_json_has_the_functions_values(tailsight, data):
    _, out, _ = tailsight("jitter", "--store", data, "--all-time", "--json")
    with open_store(data) as store:
        assert json.loads(out) == json.loads(json.dumps(jitter(store, whole_time(store)).to_json()))
    _, out, _ = tailsight("queue", "--store", data, "--all-time", "--json")
    with open_store(data) as store:
        assert json.loads(out) == json.loads(json.dumps(queueing(store, whole_time(store)).to_json()))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["jitter", "--deadline", "0"], 2, "0"),
        (["jitter", "--deadline", "soon"], 2, "soon"),
        (["queue", "--workers", "0"], 2, "0"),
        (["queue", "--stage", "compute", "--all-time", "--store", "DATA"], 2, "name the service"),
        (["queue", "--service", "none", "--all-time", "--store", "DATA"], 3, "service=none"),
        (["queue", "--serving", "nope", "--all-time", "--store", "DATA"], 3, "there are: compute"),
        (["queue", "--serving", "nope", "--all-time", "--store", "DATA"], 3, "follows the queue with --serving"),
        (["jitter", "--service", "none", "--all-time", "--store", "DATA"], 3, "service=none"),
    ],
)
def test_errors_are_one_line(tailsight, data, arguments, code, says):
    given, out, err = tailsight(*[data if argument == "DATA" else argument for argument in arguments])
    assert (given, out, err.count("\n")) == (code, "", 1)
    assert says in err
