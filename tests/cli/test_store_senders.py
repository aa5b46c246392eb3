"""`tailsight store senders` as people run it, over a real collector's SQL port."""

import json
import re
import time

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from testkit.otlp import request, span
from testkit.processes import CollectorProcess
from testkit.senders import Sidecar

from tailsight_cli import main


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A collector that has heard four devices: all well, a loss, one that runs with a gap, and odd names."""
    with CollectorProcess(tmp_path_factory.mktemp("senders")) as collector:

        def post(*messages):
            for message in messages:
                assert collector.post(message.SerializeToString()).status_code == 200

        well = Sidecar(host="edge-7", id="7777777700000000")
        post(*[well.batch(40) for _ in range(300)], well.batch(40, last=True))
        bad = Sidecar(host="edge-8", service="camera", id="8888888800000000")
        numbered = [bad.batch(number) for number in range(1, 26)]
        bad.drop("buffer_full", 12)
        post(*[m for number, m in enumerate(numbered, 1) if number not in (17, 18, 19, 25)], bad.batch(0, last=True))
        running = Sidecar(host="edge-9", id="9999999900000000", sampled_out={"rate": 90}, kept={"slow": 1, "rate": 9})
        first, _, third = (running.batch(number) for number in (5, 6, 7))
        again = ExportTraceServiceRequest.FromString(third.SerializeToString())
        again.resource_spans[0].schema_url = "of other bytes: the same ones again would be recognised"
        post(first, third, again)
        post(Sidecar(host="", service="[red]\x1b[31mmarkup" * 3, id="aaaaaaaa00000000").batch(1, last=True))
        post(request([span()], {"service.name": "foreign", "host.name": "elsewhere"}))
        collector.wait_until_loaded()
        yield collector.store


@pytest.fixture
def senders(capsys, monkeypatch, data):
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str, store: str = data) -> tuple[int, str, str]:
        code = main.run(["store", "senders", "--store", store, *arguments])
        return code, *capsys.readouterr()

    return call


def sentences(out):
    return [line for line in out.splitlines() if re.search(r": \d[\d,]* sent, ", line)]


def test_a_sentence_a_device(senders):
    code, out, err = senders("--grace", "0s")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("What was sent, in spans  ")
    assert lines[2:6] == [
        "edge-8: 325 sent, 91 lost (79 in batches that did not come, 12 buffer_full)",
        "edge-9: 18 sent, 0 lost, 6 outstanding",
        "(no host): 1 sent, 0 lost",
        "edge-7: 12,040 sent, 0 lost",
    ]
    assert "elsewhere" not in out


def test_the_senders_and_what_is_odd_about_them(senders):
    _, out, _ = senders("--grace", "0s")
    text = " ".join(out.split())
    assert re.search(r"edge-8 +camera +88888888 +.* 91 +0\n", out)
    assert "camera/88888888: batches 17–19, 25 missing, with 79 spans." in text
    assert "ranker/99999999: batch 2 missing, with 6 spans." in text
    assert "ranker/99999999: 1 batch came more than once: 7 spans stored again." in text
    assert "ranker/99999999: silent since " in text
    assert "sampling kept 10 (9 rate, 1 slow) and left out 90 requests." in text
    assert "contradict" not in text
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "\x1b[31m" not in out
    assert "[red]" in out


def test_until_the_grace_is_over_nothing_is_lost_that_may_still_come(senders):
    _, out, _ = senders("--host", "edge-8")
    assert "edge-8: 325 sent, 12 lost (12 buffer_full), 79 outstanding" in out
    assert "silent" not in out


def test_json_has_every_figure(senders):
    code, out, _ = senders("--json", "--grace", "0s", "--host", "edge-8", "--host", "edge-7")
    answer = json.loads(out)
    assert code == 0
    assert answer["filters"] == {"host": ["edge-8", "edge-7"]}
    [bad, well] = answer["devices"]
    assert (well["host"], well["sent"], well["stored"], well["lost"], well["outstanding"]) == (
        "edge-7",
        12040,
        12040,
        0,
        0,
    )
    assert bad["lost_by"] == {"missing_batches": 79, "buffer_full": 12}
    [sender] = bad["senders"]
    assert (sender["sender"], sender["state"], sender["highest_batch"], sender["batches"]) == (
        "8888888800000000", "ended", 26, 22,
    )  # fmt: skip
    assert [(gap["first"], gap["last"], gap["batches"], gap["spans"]) for gap in sender["gaps"]] == [
        (17, 19, 3, 54), (25, 25, 1, 25),
    ]  # fmt: skip
    assert sender["sent"] == sender["stored"] + sender["rejected"] + sender["lost_by"]["missing_batches"]


def test_filters_windows_and_the_limit(senders):
    assert sentences(senders("--service", "camera", "--all-time")[1]) == [
        "edge-8: 325 sent, 12 lost (12 buffer_full), 79 outstanding"
    ]
    assert senders("--until", "1h", "--since", "2h")[0] == 3
    _, out, _ = senders("--limit", "1", "--grace", "0s")
    assert sentences(out) == [
        "edge-8: 325 sent, 91 lost (79 in batches that did not come, 12 buffer_full)",
        "3 more devices: 12,059 sent, 0 lost",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--host", "edge-6"], 3, "no sender has host=edge-6; there are: edge-7, edge-8, edge-9"),
        (["--since", "2h", "--until", "1h"], 3, "senders were heard 2"),
        (["--stage", "queue"], 2, "--stage"),
        (["--grace", "soon"], 2, "'soon' is no length of time"),
        (["--since", "yesterday"], 2, "'yesterday' is no time"),
        (["--limit", "-1"], 2, "-1"),
        (["--all-time", "--since", "1h"], 2, "--all-time"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(senders, arguments, code, says):
    given, out, err = senders(*arguments)
    assert (given, out, err.count("\n")) == (code, "", 1)
    assert says in err


def test_a_store_in_which_nobody_numbers_says_so(senders, collector):
    message = request([span()], {"service.name": f"plain-{time.time_ns()}"})
    assert collector.post(message.SerializeToString()).status_code == 200
    collector.wait_until_loaded()
    code, _, err = senders("--run", f"none-{time.time_ns()}", store=collector.store)
    assert code == 3
    assert "no numbered batch was received" in err


def test_help_of_the_group_and_of_the_command(senders, capsys):
    assert main.run(["store"]) == 0
    assert "senders" in capsys.readouterr().out
    assert main.run(["store", "senders", "--help"]) == 0
    assert "  tailsight store senders --host edge-7 --since 7d" in capsys.readouterr().out
