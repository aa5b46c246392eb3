"""docs/analysis/ has every key of every answer in JSON, and no table there has a key that no answer has."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from analysis import brute_force
from dashboard.varied_store import HOSTS, spans_of_host
from testkit.otlp import request

from tailsight_cli import main
from tailsight_storage import open_store

PAGES = Path(__file__).parents[2] / "docs" / "analysis"
EVERYWHERE = ("requests.md", "confidence.md", "sampling.md")
SIDES = ("--baseline", "run=a", "--candidate", "run=b")
QUESTIONS = {
    "breakdown.md": ("breakdown", "--run", "a"),
    "tail.md": ("tail", "--run", "a", "--quantile", "p90"),
    "whatif.md": ("whatif", "--run", "a", "--stage", "compute", "--on", "NVIDIA L4"),
    "variance.md": ("variance", "--run", "a"),
    "hardware.md": ("hardware", "--run", "a", "--price", "NVIDIA L4=0.7"),
    "jitter.md": ("jitter", "--run", "a", "--deadline", "10"),
    "queueing.md": ("queue", "--run", "a"),
    "pareto.md": ("pareto", "--run", "a", "--price", "NVIDIA L4=0.7"),
    "compare.md": ("compare", *SIDES),
    "trace.md": ("trace", "00000000000000010000000000000001"),
}
DATA_KEYS = {"attributes", "resource", "filters", "missing"}  # whose keys are the data's own, or a filter's
KEY = re.compile(r"[a-z][a-z0-9_]*")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two runs with all that a question can be asked about; some requests of the second are of another kind."""
    folder = f"chdb://{tmp_path_factory.mktemp('keys')}"
    with open_store(folder, create=True) as store:
        for run in range(2):
            for number, (hardware, host) in enumerate(HOSTS[::2]):
                random = Random(10 * run + number)
                spans = list(spans_of_host(random, 10 * run + number, hardware, brute_force.BASE_NS + run * 60 * 10**9))
                for span in spans:
                    if not span["parent_span_id"]:
                        span["attributes"]["tailsight.intended_start_unix_nano"] = span["start_time_unix_nano"] - 1000
                        span["attributes"]["lane"] = "slow" if run and random.random() < 0.2 else "fast"
                resource = {"service.name": "ranker", "host.name": host, "tailsight.hardware": hardware}
                message = request(spans, {**resource, "tailsight.run": "ab"[run]}).SerializeToString()
                store.insert_otlp_traces(brute_force._varint(len(message)) + message, f"{run}-{number}")
        yield folder


def keys(answer: Any) -> Iterator[str]:
    if isinstance(answer, dict):
        for key, value in answer.items():
            yield key
            if key not in DATA_KEYS:
                yield from keys(value)
    elif isinstance(answer, list):
        for value in answer:
            yield from keys(value)


def in_code(text: str) -> set[str]:
    """Every word that stands in backticks or in an indented block."""
    code = re.findall(r"`([^`]*)`", text) + re.findall(r"(?m)^ {4}(.*)$", text)
    return set(KEY.findall(" ".join(code)))


def in_tables(text: str) -> set[str]:
    """Keys in the first column of tables of keys."""
    found: set[str] = set()
    rows: list[str] | None = None
    for line in [*text.splitlines(), ""]:
        if re.match(r"\| key( of `\w+(\[\])?`)? \|", line):
            rows = []
        elif rows is not None and line.startswith("|"):
            for name in re.findall(r"`([^`]*)`", line.split("|")[1]):
                if KEY.fullmatch(name):
                    found.add(name)
        else:
            rows = None
    return found


@pytest.mark.parametrize("page", QUESTIONS)
def test_every_key_is_documented_and_every_documented_key_is_there(data, capsys, page):
    assert main.run([*QUESTIONS[page], "--store", data, "--json"]) == 0
    found = set(keys(json.loads(capsys.readouterr().out)))
    text = (PAGES / page).read_text()
    shared = "\n".join((PAGES / other).read_text() for other in EVERYWHERE)
    assert found - in_code(text) - in_code(shared) == set()
    assert in_tables(text) or "## Keys" in text
    assert in_tables(text) - found == set()
