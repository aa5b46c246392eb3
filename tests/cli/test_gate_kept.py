"""Gate reports that are kept: `tailsight gate --keep`, `gate keep`, `gate reports`, and what happens where none can be."""

import io
import json
import re
from dataclasses import fields
from pathlib import Path

import httpx
import pytest
from rich.console import Console
from testkit.gate_reports import REPORTS, UNLIKE, encoded
from testkit.gated import write_gated
from testkit.processes import CollectorProcess

from tailsight_analysis.gate_reports import ListedReport
from tailsight_analysis.gating.kept import kept_report
from tailsight_cli import main
from tailsight_cli._errors import CommandError
from tailsight_cli.gating import keeping
from tailsight_cli.gating.keeping import CollectorPlace, read_place, title_from_environment
from tailsight_cli.render.gate import render_gate
from tailsight_cli.render.gate_kept import render_kept
from tailsight_storage import open_store

DOCS = Path(__file__).parents[2] / "docs"
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_gated(folder / "base.otlp.zst", runs=2, requests=100)
    write_gated(folder / "slow.otlp.zst", runs=2, requests=100, side=1, slower={"compute": 2.5})
    for number, report in enumerate(REPORTS):
        (folder / f"{number}.json").write_bytes(encoded(report))
    return folder


@pytest.fixture
def tailsight(files, capfd, monkeypatch):
    """Run a command beneath `gate` in the folder of files; gives exit code, stdout, stderr."""
    monkeypatch.chdir(files)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    monkeypatch.delenv("CI_PROJECT_PATH", raising=False)
    monkeypatch.setattr(keeping, "ATTEMPTS", 1)

    def call(*arguments: str) -> tuple[int, str, str]:
        return main.run(["gate", *arguments]), *capfd.readouterr()

    return call


def test_a_gate_keeps_its_report_and_the_same_report_again_adds_nothing(tailsight, tmp_path, monkeypatch):
    store = f"chdb://{tmp_path}/kept"
    monkeypatch.setenv("GITHUB_REPOSITORY", "acme/ranker")
    monkeypatch.setenv("GITHUB_REF", "refs/pull/17/merge")
    code, out, err = tailsight("base.otlp.zst", "slow.otlp.zst", "--json", "--keep", store)
    assert code == 1, err
    written = tmp_path / "gate.json"
    written.write_text(out)
    (kept_as,) = re.findall(r"The report is kept as ([0-9a-f]{8})\.", err)
    code, out, _ = tailsight("keep", str(written), "--to", store, "--json")
    assert code == 0
    [kept] = json.loads(out)["reports"]
    assert (kept["id"][:8], kept["new"]) == (kept_as, False)
    code, out, _ = tailsight("reports", "--store", store, "--json")
    [listed] = json.loads(out)["reports"]
    assert (listed["id"], listed["verdict"], listed["title"]) == (kept["id"], "regression", "acme/ranker #17")
    assert listed["baseline"]["requests"] == 200
    assert listed["baseline"]["commits"] == ["000000000000"]
    assert listed["candidate"]["branches"] == ["main"]
    code, out, _ = tailsight("reports", kept_as, "--store", store, "--json")
    assert json.loads(out) == json.loads(written.read_text())


def test_a_collector_that_is_away_changes_no_verdict(tailsight):
    code, out, err = tailsight("base.otlp.zst", "slow.otlp.zst", "--keep", NOBODY)
    assert code == 1, err
    assert out.startswith("Regression: ")
    assert f"\ntailsight: the report is not kept: {NOBODY} does not answer: " in err
    code, _, err = tailsight("keep", "0.json", "--to", NOBODY)
    assert code == 4
    assert f"{NOBODY} does not answer" in err


def test_files_are_sent_to_a_collector_and_listed_from_its_store(tailsight, tmp_path):
    with CollectorProcess(tmp_path / "data") as collector:
        code, out, _ = tailsight(
            "keep", "0.json", "1.json", "2.json", "2.json", "--to", f"{collector.otlp_url}/v1/traces"
        )
        assert code == 0
        assert [line.split(" as ")[0] for line in out.splitlines()] == ["0.json: kept", "1.json: kept", "2.json: kept"]
        code, out, _ = tailsight("keep", "2.json", "--to", collector.otlp_url)
        assert out.startswith("2.json: was there already as ")
        code, out, _ = tailsight("reports", "--store", collector.store)
        assert code == 0
        said = " ".join(out.split())
        assert re.search(r"[0-9a-f]{8} 2026-05-28 20:46 UTC regression acme/ranker #17", said)
        assert "main 0123456789ab → faster fedcba987654 (dirty)" in said
        assert f"unlike: {UNLIKE}" in said
        assert "false alarms: 1.0 % (95 %: 0.1 % to 5.0 %)" in said
        assert said.index("regression") < said.index("inconclusive") < said.index("not calibrated")
        code, out, _ = tailsight("reports", "--limit", "1", "--store", collector.store)
        assert "inconclusive" not in out
        assert out.endswith("There are more: --limit N.\n")
        # the port for reading takes none, and says who does
        code, _, err = tailsight("keep", "0.json", "--to", collector.store)
        assert code == 0  # it is there already: nothing had to be written
        (Path("new.json")).write_bytes(encoded(REPORTS[0]).replace(b'"title": ""', b'"title": "new"'))
        code, _, err = tailsight("keep", "new.json", "--to", collector.store)
        assert code == 4
        assert "a collector takes reports at its OTLP address" in err
        code, _, err = tailsight("keep", "0.json", "--to", f"chdb://{collector.data}")
        assert code == 4
        assert "in use by a running collector, which takes reports at its OTLP address" in err
        code, _, err = tailsight("keep", "0.json", "--to", f"http://{collector.store.split('/')[2]}")
        assert code == 4
        assert "takes no reports (status 404)" in err


def test_a_kept_report_is_shown_as_it_was_printed(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")

    def printed(shown: object) -> str:
        out = io.StringIO()
        Console(file=out, width=100, highlight=False).print(shown)
        return out.getvalue()

    for report in REPORTS:
        kept = kept_report("0123456789abcdef", report.to_json())
        head, _, shown = printed(render_kept(kept, everything=True)).partition("\n\n")
        assert head.startswith(report.title or "gate report 01234567")
        assert shown == printed(render_gate(report, everything=True))


def test_nothing_is_kept_where_one_file_is_no_report(tailsight, tmp_path):
    store = f"chdb://{tmp_path}/kept"
    Path("broken.json").write_text('{"verdict": "pass"}')
    for wrong, says in (("broken.json", "judged is missing"), ("gone.json", "does not exist"), (".", "is a folder")):
        code, out, err = tailsight("keep", "0.json", wrong, "--to", store)
        assert (code, out) == (4, "")
        assert says in err
    assert not (tmp_path / "kept").exists()


def test_an_empty_list_says_how_reports_come(tailsight, tmp_path):
    store = f"chdb://{tmp_path}/kept"
    tailsight("keep", "0.json", "--to", store)
    code, _, err = tailsight("reports", "77777", "--store", store)
    assert code == 2
    assert "no gate report '77777' is in this store" in err
    tailsight("keep", "0.json", "--to", store)
    with open_store(store) as opened:
        opened.run("TRUNCATE TABLE gate_reports")
    code, out, _ = tailsight("reports", "--store", store)
    assert code == 0
    assert "No gate report is kept here. `tailsight gate BASE CAND --keep http" in " ".join(out.split())


def test_an_empty_place_keeps_nothing(tailsight):
    """As of a variable of a CI job that is not set."""
    code, _, err = tailsight("base.otlp.zst", "slow.otlp.zst", "--keep", "")
    assert code == 1, err
    assert "kept" not in err


@pytest.mark.parametrize("place", ["here", "http://", "https:///x", "ftp://host", "http://[", "chdb://"])
def test_a_place_that_is_none_is_wrong_use_before_anything_is_read(tailsight, place):
    code, out, err = tailsight("base.otlp.zst", "slow.otlp.zst", "--keep", place)
    assert (code, out) == (2, "")
    assert "Reading" not in err
    assert len(err.splitlines()) == 1


def test_a_password_in_an_address_is_never_shown():
    place = read_place("--to", "http://any:ts_secret@127.0.0.1:9")
    assert isinstance(place, CollectorPlace)
    with pytest.raises(CommandError) as caught:
        CollectorPlace(place.endpoint, {}, sleep=lambda _: None).keep(encoded(REPORTS[0]))
    assert "ts_secret" not in str(caught.value)
    assert "http://127.0.0.1:9 does not answer" in str(caught.value)


def test_a_collector_that_is_busy_is_asked_again(monkeypatch):
    report, asked, waits = encoded(REPORTS[0]), [], []
    row = keeping.read_gate_report(report)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if len(asked) < 3:
            return httpx.Response(503, headers={"Retry-After": "2"}, json={"message": "try again later"})
        return httpx.Response(200, json={"id": row.id, "new": True})

    client = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **given: client(transport=httpx.MockTransport(answer), **given))
    kept = CollectorPlace("http://collector:4318", {"authorization": "Bearer x"}, sleep=waits.append).keep(report)
    assert (kept.id, kept.is_new) == (row.id, True)
    assert waits == [2.0, 2.0]
    assert {each.headers["authorization"] for each in asked} == {"Bearer x"}


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ({}, ""),
        ({"GITHUB_REPOSITORY": "acme/ranker", "GITHUB_REF": "refs/pull/17/merge"}, "acme/ranker #17"),
        (
            {"GITHUB_REPOSITORY": "acme/ranker", "GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main"},
            "acme/ranker main",
        ),
        ({"CI_PROJECT_PATH": "acme/ranker", "CI_MERGE_REQUEST_IID": "4"}, "acme/ranker !4"),
        ({"CI_PROJECT_PATH": "acme/ranker", "CI_COMMIT_REF_NAME": "main"}, "acme/ranker main"),
    ],
    ids=["nowhere", "a pull request", "a push", "a merge request", "a branch"],
)
def test_ci_says_what_is_judged(said, title):
    assert title_from_environment(said) == title


def test_every_key_of_the_answers_is_documented():
    text = (DOCS / "gate.md").read_text() + (DOCS / "analysis" / "gate.md").read_text()
    documented = set(re.findall(r"[a-z][a-z0-9_]*", " ".join(re.findall(r"`([^`]*)`", text))))
    report = REPORTS[2].to_json()
    found = {*report, *report["baseline"], *report["baseline"]["runs"][0]}
    found |= {field.name for field in fields(ListedReport)} - {"at_ns"}
    assert found | {"reports", "more", "file", "new"} <= documented
