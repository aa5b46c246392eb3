"""Which spans rules concern: the C module and the Python that stands in for it find the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from testkit.otlp import any_value, request, span
from testkit.otlp_strategies import KEYS, REQUESTS, TEXTS, VALUES

from tailsight_collector.sources.matching import find, find_in, fits
from tailsight_storage import decoder
from tailsight_storage.source_files import built_in_rules, read_rules
from tailsight_storage.source_rules import MAX_FACTS, Match, Rule, Rules, Where

BUILT_IN = built_in_rules()
ASKED = sorted({fact.key for fact in BUILT_IN.facts if fact.where is Where.ATTRIBUTE})
ASKED_TEXTS = sorted({fact.value for fact in BUILT_IN.facts if fact.value})
NAMES = sorted({name.rstrip("*") for rule in BUILT_IN.rules for name in rule.match.name})
SCOPES = ["sglang server", "sglang", "tailsight", ""]

needs_the_module = pytest.mark.skipif(decoder.decoder is None, reason=f"the C module is not here: {decoder.why_not}")

PATTERNS = st.lists(st.sampled_from(["a", "a*", "*", "llm_request", "", "é*"]), max_size=2).map(tuple)
SOME_KEYS = st.lists(KEYS, max_size=3).map(tuple)
CHOICES = st.lists(st.tuples(KEYS, st.lists(TEXTS, min_size=1, max_size=2).map(tuple)), max_size=2).map(tuple)
MATCHES = st.builds(
    Match, scope=PATTERNS, version=PATTERNS, name=PATTERNS, kind=st.sampled_from([(), ("SERVER",), ("UNSPECIFIED", "CLIENT")]),
    has=SOME_KEYS, any=SOME_KEYS, lacks=SOME_KEYS, events=st.lists(TEXTS, max_size=2).map(tuple), equals=CHOICES, resource=CHOICES,
)  # fmt: skip
RULES = st.lists(st.builds(Rule, name=st.just("r"), source=st.just("s"), match=MATCHES), max_size=4).map(
    lambda rules: Rules(tuple(rules))
)


@needs_the_module
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(message=REQUESTS, rules=RULES)
def test_any_rules_find_the_same_in_c_and_in_python(message: ExportTraceServiceRequest, rules: Rules) -> None:
    assert find(message.SerializeToString(), rules) == find_in(message, rules)


@needs_the_module
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_the_built_in_rules_find_the_same_in_c_and_in_python(data: st.DataObject) -> None:
    """With the attributes, names and scopes that they ask for."""
    spans = data.draw(
        st.lists(
            st.fixed_dictionaries({
                "name": st.sampled_from(NAMES) | TEXTS,
                "kind": st.integers(0, 5),
                "attributes": st.dictionaries(st.sampled_from(ASKED) | KEYS, st.sampled_from(ASKED_TEXTS) | VALUES, max_size=4),
            }),
            max_size=6,
        )
    )  # fmt: skip
    message = request(span(**fields) for fields in spans)
    message.resource_spans[0].scope_spans[0].scope.name = data.draw(st.sampled_from(SCOPES))
    for each in message.resource_spans[0].scope_spans[0].spans:
        for name in data.draw(st.lists(st.sampled_from(["QUEUE_START", "COMPUTE_START", "COMPUTE_END"]), max_size=2)):
            each.events.add(name=name)
    found = find(message.SerializeToString(), BUILT_IN)
    assert found == find_in(message, BUILT_IN)


MANY = [f"key-{number}" for number in range(MAX_FACTS - 2)]


@needs_the_module
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_as_many_facts_as_there_may_be_are_told_apart(data: st.DataObject) -> None:
    """They fill both words of the C module's masks."""
    some = st.lists(st.sampled_from(MANY), max_size=3).map(tuple)
    matches = st.builds(Match, has=some, any=some, lacks=some)
    first = Rule("all", "s", Match(has=tuple(MANY)))  # nobody's, and all facts are asked for
    rules = Rules((first, *data.draw(st.lists(st.builds(Rule, st.just("r"), st.just("s"), matches), max_size=20))))
    assert len(rules.facts) == MAX_FACTS
    spans = [
        span(attributes=dict.fromkeys(data.draw(st.lists(st.sampled_from(MANY), max_size=12)), 1)) for _ in range(8)
    ]
    message = request([*spans, span(attributes=dict.fromkeys(MANY, 1))])
    found = find(message.SerializeToString(), rules)
    assert found == find_in(message, rules)
    assert (8, 0) in [(each.span, each.rule) for each in found]


@needs_the_module
@settings(max_examples=100, deadline=None)
@given(message=REQUESTS, seed=st.integers(0, 2**32))
def test_no_bytes_do_harm(message: ExportTraceServiceRequest, seed: int) -> None:
    assert decoder.decoder is not None
    dice = random.Random(seed)
    body = bytearray(message.SerializeToString())
    for _ in range(5):
        if body:
            body[dice.randrange(len(body))] ^= 1 << dice.randrange(8)
        decoder.decoder.match(bytes(body), BUILT_IN.compiled)
        table = bytearray(BUILT_IN.compiled[: dice.randrange(len(BUILT_IN.compiled))])
        with pytest.raises(ValueError, match="rules are not written"):
            decoder.decoder.match(b"", bytes(table))


def test_an_odd_request_is_looked_through_in_python() -> None:
    """Its fields are not in their order: the C module leaves it."""
    message = request([span(kind=3, attributes={"http.request.method": "GET"})])
    inner = message.resource_spans[0]
    scopes = inner.scope_spans[0].SerializeToString()
    resource = inner.resource.SerializeToString()
    odd = b"\x12" + bytes([len(scopes)]) + scopes + b"\x0a" + bytes([len(resource)]) + resource
    body = (
        b"\x0a" + bytes([len(odd) & 0x7F | 0x80, len(odd) >> 7]) + odd
        if len(odd) > 127
        else b"\x0a" + bytes([len(odd)]) + odd
    )
    assert [BUILT_IN.rules[each.rule].name for each in find(body, BUILT_IN)] == ["http.client"]


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        pytest.param({"name": "llm_request", "kind": 2, "attributes": {"gen_ai.latency.e2e": 1.0}}, "vllm.request", id="vllm"),
        pytest.param({"name": "llm_request", "kind": 3, "attributes": {"gen_ai.latency.e2e": 1.0}}, None, id="another kind"),
        pytest.param({"name": "llm_request", "kind": 2}, None, id="without its attributes"),
        pytest.param({"name": "vllm_queue"}, "vllm.queue", id="vllm child"),
        pytest.param({"kind": 3, "attributes": {"rpc.system": "grpc"}}, "rpc.client", id="grpc client"),
        pytest.param({"kind": 2, "attributes": {"rpc.system": "grpc"}}, None, id="grpc server"),
        pytest.param({"kind": 3, "attributes": {"http.method": "GET"}}, "http.client", id="http, old names"),
        pytest.param({"kind": 3, "attributes": {"http.method": "GET", "db.system": "x"}}, None, id="a database over http"),
        pytest.param({"kind": 3, "attributes": {"gen_ai.operation.name": "chat"}}, "genai.inference", id="genai"),
        pytest.param({"kind": 3, "attributes": {"gen_ai.operation.name": 7}}, None, id="not a text"),
        pytest.param({"kind": 5}, "messaging.consume", id="consumer"),
        pytest.param({"kind": 3, "attributes": {"http.method": "GET", "tailsight.stage": "x"}}, None, id="has a stage"),
        pytest.param({"kind": 3, "attributes": {"http.method": "GET", "tailsight.stage": ""}}, None, id="has no stage, it says"),
        pytest.param({"kind": 3, "attributes": {"http.method": "GET", "tailsight.source": "y"}}, None, id="was seen before"),
        pytest.param({"attributes": {"openinference.span.kind": "RETRIEVER"}}, "openinference.retrieval", id="openinference"),
    ],
)  # fmt: skip
def test_who_is_recognised_by_what(fields: dict[str, object], rule: str | None) -> None:
    message = request([span(**fields)])
    for found in (find(message.SerializeToString(), BUILT_IN), find_in(message, BUILT_IN)):
        assert [BUILT_IN.rules[each.rule].name for each in found] == ([rule] if rule else [])


def test_a_rule_may_ask_for_the_resource(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        '[[rule]]\nname = "mine"\nstage = "compute"\nmatch = { name = "infer*", resource = { "service.name" = ["a", "b"] } }\n'
    )
    rules = read_rules(path)
    for service, count in (("a", 1), ("b", 1), ("c", 0)):
        message = request([span(name="inference")], {"service.name": service})
        assert len(find(message.SerializeToString(), rules)) == len(find_in(message, rules)) == count


def test_a_star_at_the_end_stands_for_anything() -> None:
    assert fits(("a*",), "abc")
    assert fits(("b", "a*"), "a")
    assert not fits(("a*",), "ba")
    assert not fits(("a",), "ab")
    assert any_value("x").string_value == "x"
