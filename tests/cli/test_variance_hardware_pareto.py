"""`variance`, `hardware` and `pareto` in a terminal and as JSON."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from analysis import brute_force
from analysis.test_hardware import serving
from analysis.test_pareto import requests
from dashboard.test_charts_varied import a_comparison, a_hardware, a_type

from tailsight_analysis import PRICES_ENV, Ratio
from tailsight_cli import main
from tailsight_cli.render.hardware import render_hardware, verdict
from tailsight_cli.render.text import console
from tailsight_storage import open_store


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Iterator[str]:
    """Requests on two hardware types with confounded work (run hw), and of three models with scores (run models)."""
    folder = f"chdb://{tmp_path_factory.mktemp('cli')}"
    with open_store(folder, create=True) as store:
        random = np.random.default_rng(1)
        for run, spans in (("hw", serving(random, 900)), ("models", requests(random, 450))):
            for span in spans:
                object.__setattr__(span, "run", run)
                object.__setattr__(span, "trace", span.trace + (100_000 if run == "models" else 0))
            brute_force.insert(store, spans)
        yield folder


@pytest.fixture
def tailsight(capsys, monkeypatch):
    """Run the command in this process; gives exit code, stdout, stderr."""
    monkeypatch.delenv(PRICES_ENV, raising=False)

    def call(*arguments: str, width: int = 80) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", str(width))
        code = main.run(arguments)
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("command", ["variance", "hardware", "pareto"])
def test_a_report_fits_the_terminal_and_cuts_no_figure(tailsight, data, command, width):
    run = "models" if command == "pareto" else "hw"
    prices = ("--price", "L4=0.7") if command != "variance" else ()
    code, out, err = tailsight(command, "--store", data, "--run", run, *prices, width=width)
    assert (code, err) == (0, "")
    assert all(len(line) <= width for line in out.splitlines())
    assert "…" not in out


def test_variance_says_which_stage_and_which_hardware(tailsight, data):
    _, out, _ = tailsight("variance", "--store", data, "--run", "hw")
    assert "of the requests' variance is compute [" in out
    assert "lies between hardware types" in " ".join(out.split())
    _, out, _ = tailsight("variance", "--store", data, "--run", "hw", "--json")
    answer = json.loads(out)
    assert sum(term["share"] for term in answer["total"]["terms"]) == pytest.approx(1)
    within = sum(part["within_share"] for part in answer["hardware"])
    assert within + answer["between_hardware"]["share"] == pytest.approx(1)
    assert answer["data"]["stored"] == 900


def test_hardware_without_any_stage_says_so_and_draws_no_table(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    console().print(render_hardware(a_hardware()))
    out = capsys.readouterr().out
    assert "Nothing to compare: no stage ran on more than one known type." in out
    assert "─" not in out


def test_hardware_says_like_with_like_beside_raw_and_why(tailsight, data):
    _, out, _ = tailsight("hardware", "--store", data, "--run", "hw", width=200)
    assert "L4 is 1." in out
    assert "slower than H100 at compute, like with like [1." in out
    assert "raw 2." in out
    assert "it gets l" in out  # longer inputs, or larger batches
    assert "cost" not in out
    _, out, _ = tailsight("hardware", "--store", data, "--run", "hw", "--json", "--reference", "L4")
    compute = next(each for each in json.loads(out)["comparisons"] if each["stage"] == "compute")
    ratio = compute["types"][1]["standardised"]["mean_ratio"]
    assert compute["reference"] == "L4"
    assert ratio["interval"][0] < 1 / 1.8 < ratio["interval"][1]


def test_prices_come_from_options_and_environment(tailsight, data, monkeypatch):
    def prices(*options: str) -> dict[str, float]:
        _, out, _ = tailsight("hardware", "--store", data, "--run", "hw", "--json", *options)
        return {use["hardware"]: use["price_per_hour"] for use in json.loads(out)["uses"]}

    monkeypatch.setenv(PRICES_ENV, "EPYC = 0.1; L4=9;")
    assert prices("--price", "l4=0.5", "--price", "L4=0.7") == {"L4": 0.7, "H100": None, "EPYC": 0.1}
    monkeypatch.delenv(PRICES_ENV)
    for wrong in ("L4", "=3", "L4=cheap", "L4=-1", "L4=nan", "L4=inf"):
        code, _, err = tailsight("hardware", "--store", data, "--price", wrong)
        assert (code, err.count("\n")) == (2, 1)
        assert wrong in err
    _, out, _ = tailsight("hardware", "--store", data, "--run", "hw", "--price", "T4=1", "--price", "L4=1")
    assert "Priced, but not seen: T4." in out


def test_pareto_names_the_front_and_who_is_beaten(tailsight, data):
    _, out, _ = tailsight("pareto", "--store", data, "--run", "models", "--latency", "p50", width=120)
    assert "On the front of quality and p50: large, small; one variant is beaten at both." in out
    assert "old is beaten at both by large, small." in out
    _, out, _ = tailsight("pareto", "--store", data, "--run", "models", width=120)
    assert "old is beaten at both probably by large, small." in out  # 150 requests leave the p99's upper end open
    assert "; one variant is probably beaten at both." in out
    assert " [≥ " in out
    _, out, _ = tailsight("pareto", "--store", data, "--run", "models", "--json", "--by", "model,version")
    answer = json.loads(out)
    assert answer["quality_key"] == "eval.score"
    assert {(each["model"], each["on_front"]) for each in answer["variants"]} == {
        ("large", True), ("small", True), ("old", False),
    }  # fmt: skip


def test_what_cannot_be_answered_says_what_to_do(tailsight, data):
    code, _, err = tailsight("pareto", "--store", data, "--run", "hw")
    assert (code, err.count("\n")) == (3, 1)
    assert "--quality" in err
    code, _, err = tailsight("pareto", "--store", data, "--by", "colour")
    assert code == 2
    code, _, err = tailsight("hardware", "--store", data, "--run", "hw", "--reference", "T4")
    assert (code, err.count("\n")) == (2, 1)
    assert "EPYC, H100, L4" in err
    code, _, err = tailsight("variance", "--store", data, "--run", "none")
    assert code == 3


def test_a_difference_that_reads_as_none_is_no_verdict():
    slow, same = a_type("L4", Ratio(2.0, 1.8, 2.2)), a_type("L4", Ratio(0.9999, 0.99985, 0.99995))
    both = a_hardware(a_comparison("compute", slow), a_comparison("preprocess", same))
    assert verdict(both) == ["L4 is 2.0× slower than H100 at compute, like with like [1.80–2.2]; raw 1.10×."]
    assert verdict(a_hardware(a_comparison("preprocess", same))) == [
        "No hardware type is faster or slower than another at the same work, beyond chance and half a percent."
    ]
