"""Whatever comes in is refused by name or stored as the answer says: for both signals and both encodings.

`tests/fuzz/fuzz_decoders.py` does the same for as long as one likes, led by coverage.
"""

import itertools
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from testkit.mutations import (
    metrics_document,
    metrics_seed,
    spoiled_json,
    spoiled_protobuf,
    traces_document,
    traces_seed,
)

from tailsight_collector import BadRequestError
from tailsight_collector.keep.records import encode_record, whole_records
from tailsight_collector.receive.density import decoded_bytes
from tailsight_collector.receive.signals import JSON, METRICS, PROTOBUF, TRACES

SIGNALS = {"traces": TRACES, "metrics": METRICS}
SEEDS = {
    ("traces", PROTOBUF): traces_seed(),
    ("metrics", PROTOBUF): metrics_seed(),
    ("traces", JSON): traces_document(),
    ("metrics", JSON): metrics_document(),
}
KINDS = [pytest.param(signal, encoding, id=f"{signal}-{encoding.partition('/')[2]}") for signal, encoding in SEEDS]
_tokens = itertools.count()


def decoded(signal, encoding, body):
    """What a receiver makes of a body; None where it is refused, as only BadRequestError may do it."""
    try:
        received = SIGNALS[signal].decode(body, encoding)
    except BadRequestError as error:
        assert error.status in (400, 413)  # noqa: PT017 - any other error fails the test by itself
        str(error).encode()  # it goes into the answer
        return None
    SIGNALS[signal].success(received.outcome, encoding)
    assert 0 <= received.outcome.rejected.total() <= received.outcome.total
    return received


def spoiled(signal, encoding, seed, times):
    chance = random.Random(seed)
    spoil = spoiled_protobuf if encoding == PROTOBUF else spoiled_json
    return spoil(SEEDS[signal, encoding], chance, times)


@pytest.mark.parametrize(("signal", "encoding"), KINDS)
@given(body=st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_arbitrary_bytes_are_refused_by_name(signal, encoding, body):
    decoded(signal, encoding, body)


@pytest.mark.parametrize("signal", SIGNALS)
@given(
    document=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["resourceSpans", "resourceMetrics", "resource", "scopeSpans", "scopeMetrics", "spans", "metrics",
                     "attributes", "key", "value", "arrayValue", "kvlistValue", "values", "intValue", "gauge", "dataPoints"]
                ),
                inner,
            )
        ),
    )
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_arbitrary_documents_are_refused_by_name(signal, document):
    decoded(signal, JSON, json.dumps(document).encode())


@pytest.mark.parametrize(("signal", "encoding"), KINDS)
def test_the_seeds_are_taken(signal, encoding):
    received = decoded(signal, encoding, spoiled(signal, encoding, 0, 0))
    assert received is not None
    assert received.outcome.total > received.outcome.rejected.total()


@pytest.mark.parametrize(("signal", "encoding"), KINDS)
@given(seeds=st.lists(st.tuples(st.integers(0, 2**64), st.integers(1, 5)), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_accepted_of_spoiled_requests_is_stored_to_the_count(engine, signal, encoding, seeds):
    received = [decoded(signal, encoding, spoiled(signal, encoding, *seed)) for seed in seeds]
    worth_storing = [each for each in received if each is not None and each.outcome.is_worth_storing]
    records = [encode_record(each.encoded, each.received_ns) for each in worth_storing]
    accepted = sum(each.outcome.total - each.outcome.rejected.total() for each in worth_storing)
    rejected = sum(each.outcome.rejected.total() for each in worth_storing)
    segment = b"".join(records)
    assert len(list(whole_records(segment))) == len(records)
    before = rows_of(engine, signal)
    insert = engine.insert_otlp_traces if signal == "traces" else engine.insert_otlp_metrics
    insert(segment, f"fuzz-{signal}-{next(_tokens)}")
    stored, refused = (now - then for now, then in zip(rows_of(engine, signal), before, strict=True))
    assert stored == accepted
    if signal == "traces":
        assert refused == rejected


def rows_of(engine, signal):
    tables = ("spans", "rejected_spans") if signal == "traces" else ("hardware_samples", "rejected_spans")
    return [engine.rows("SELECT count() FROM {table:Identifier}", table=table)[0][0] for table in tables]


def test_the_fuzzer_runs(tmp_path):
    """A few seconds of it, where atheris is installed."""
    pytest.importorskip("atheris", reason="atheris is not installed")
    script = Path(__file__).parents[1] / "fuzz" / "fuzz_decoders.py"
    ran = subprocess.run(
        [sys.executable, script, "--seconds", "3"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("signal", SIGNALS)
@given(body=st.binary(max_size=300), seed=st.integers(0, 2**64))
@settings(max_examples=200, deadline=None)
def test_the_look_before_decoding_survives_everything(signal, body, seed):
    message = SIGNALS[signal].message.DESCRIPTOR
    assert decoded_bytes(body, message) >= 0
    assert decoded_bytes(spoiled(signal, PROTOBUF, seed, 3), message) >= 0
