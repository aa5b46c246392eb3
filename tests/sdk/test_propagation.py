import json
import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace as trace_api

import tailsight
from tailsight.testing import Capture, capture

pytestmark = pytest.mark.usefixtures("no_internal_errors")

CASES = Path(__file__).parents[2].parent / "shared/data/expected/w3c_trace_context.json"
TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
CALLER = "00-12345678901234567890123456789012-1234567890123456-01"


def w3c(section: str) -> list[Any]:
    if not CASES.exists():
        return []
    return [pytest.param(case, id=case["id"]) for case in json.loads(CASES.read_text())[section]]


def serve(headers: list[tuple[str, str]]) -> dict[str, str]:
    """Answer a request that has `headers`, and call another service: return what that one gets."""
    with tailsight.request(context=tailsight.extract(headers)), tailsight.stage("network"):
        return dict(tailsight.inject())


def members(outgoing: dict[str, str]) -> list[str]:
    return [member for member in outgoing.get("tracestate", "").split(",") if member]


@pytest.mark.shared_data
@pytest.mark.skipif(not CASES.exists(), reason=f"the W3C cases are not at {CASES}")
@pytest.mark.parametrize("case", w3c("cases"))
def test_w3c_trace_context(case: dict[str, Any]) -> None:
    with capture():
        outgoing = serve([(name, value) for name, value in case["headers"]])
    expected = case["expect"]
    match = TRACEPARENT.fullmatch(outgoing["traceparent"])
    assert match
    trace_id, parent_id = match.groups()
    assert int(trace_id, 16) != 0
    assert int(parent_id, 16) != 0
    if expected["outcome"] == "continue":
        assert trace_id == expected["trace_id"]
        assert parent_id != expected["parent_id_must_not_be"]
    else:
        assert expected["outcome"] == "new_trace"
        assert trace_id not in expected.get("trace_id_must_not_be", [])
        assert members(outgoing) == []
    state = dict(member.partition("=")[::2] for member in members(outgoing))
    for key, value in expected.get("tracestate_has", {}).items():
        assert state[key] == value
    for key in expected.get("tracestate_lacks", []):
        assert key not in state
    if "tracestate_order" in expected:
        assert members(outgoing) == expected["tracestate_order"]
    if "tracestate_contains_any" in expected:
        assert set(members(outgoing)) & set(expected["tracestate_contains_any"])


@pytest.mark.shared_data
@pytest.mark.skipif(not CASES.exists(), reason=f"the W3C cases are not at {CASES}")
@pytest.mark.parametrize("case", w3c("fanout_cases"))
def test_w3c_trace_context_of_several_outgoing_calls(case: dict[str, Any]) -> None:
    with capture(), tailsight.request(context=tailsight.extract([(name, value) for name, value in case["headers"]])):
        outgoing = []
        for _ in range(case["outgoing_calls"]):
            with tailsight.stage("network"):
                match = TRACEPARENT.fullmatch(tailsight.inject()["traceparent"])
                assert match
                outgoing.append(match.groups())
    assert {trace_id for trace_id, _ in outgoing} == set(case["expect"]["trace_ids"])
    assert len({parent_id for _, parent_id in outgoing}) == case["expect"]["distinct_parent_ids"]


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": CALLER},
        {"Traceparent": [CALLER]},
        [("TRACEPARENT", CALLER)],
        [(b"traceparent", CALLER.encode())],
    ],
    ids=["mapping", "lists", "pairs", "asgi"],
)
def test_extract_takes_headers_in_any_shape(captured: Capture, headers: Any) -> None:
    with tailsight.request(context=tailsight.extract(headers)):
        pass
    (span,) = captured.spans
    assert (span.trace_id, span.parent_span_id, span.kind) == (CALLER[3:35], CALLER[36:52], "SERVER")


def test_an_extracted_context_can_be_entered(captured: Capture) -> None:
    with tailsight.extract({"traceparent": CALLER}), tailsight.request():
        pass
    assert captured.spans[0].parent_span_id == CALLER[36:52]
    assert trace_api.get_current_span() is trace_api.INVALID_SPAN


def test_two_traceparents_count_as_none(captured: Capture) -> None:
    with tailsight.request(context=tailsight.extract([("traceparent", CALLER), ("traceparent", CALLER)])):
        pass
    assert captured.spans[0].parent_span_id is None


def test_without_a_traceparent_the_current_span_stays_the_parent(captured: Capture) -> None:
    with tailsight.request("outer") as outer, tailsight.request("inner", context=tailsight.extract({})):
        pass
    assert captured.one(name="inner").parent_span_id == outer.span_id


def test_an_instrumentation_that_read_the_same_headers_stays_the_parent(captured: Capture) -> None:
    headers = {"traceparent": CALLER}
    with (
        tailsight.extract(headers),
        tailsight.request("instrumented") as above,
        tailsight.request("handler", context=tailsight.extract(headers)),
    ):
        pass
    assert captured.one(name="handler").parent_span_id == above.span_id


def test_inject_adds_to_the_given_headers(captured: Capture) -> None:
    headers = {"accept": "text/plain"}
    with tailsight.stage("network") as s:
        assert tailsight.inject(headers) is headers
    assert headers == {"accept": "text/plain", "traceparent": f"00-{s.trace_id}-{s.span_id}-01"}


def test_inject_without_a_span_writes_nothing() -> None:
    assert tailsight.inject() == {}


def test_headers_that_are_none_extract_to_the_current_context(captured: Capture) -> None:
    with tailsight.request(context=tailsight.extract([])):
        pass
    assert captured.spans[0].parent_span_id is None
