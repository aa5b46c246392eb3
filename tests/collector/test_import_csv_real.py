"""Real CSVs of requests, against the facts that are known of them."""

import json
from datetime import datetime
from itertools import pairwise
from statistics import median

import pytest
from testkit.importing import DATA, Read, plain
from testkit.request_csv import options

from tailsight_collector.errors import UnknownFormatError
from tailsight_collector.importer import read_requests

needs_data = pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not on this machine")


def facts(folder: str, name: str) -> dict:
    return json.loads((DATA / "expected" / "data_facts.json").read_text())[folder][name]


def at_quantile(values: list[float], quantile: float) -> float:
    """As NumPy's default interpolates."""
    values = sorted(values)
    place = (len(values) - 1) * quantile
    low = int(place)
    return values[low] + (values[min(low + 1, len(values) - 1)] - values[low]) * (place - low)


@pytest.mark.shared_data
@needs_data
def test_azures_llm_trace_has_the_facts_that_are_known_of_it():
    # it has arrivals and tokens, and no latencies: the tokens stand for them here, which nobody would do
    name = "AzureLLMInferenceTrace_code.csv.gz"
    known = facts("azure_llm", name)
    mapped = options(
        "start_utc=TIMESTAMP,duration_ms=GeneratedTokens,attr.context=ContextTokens,attr.out=GeneratedTokens"
    )
    found = Read(DATA / "azure_llm" / name, mapped)
    assert (found.report.read, len(found.spans), found.refused) == (known["rows"], known["rows"], {})
    starts = [span.start_time_unix_nano for span in found.spans]
    for text, start_ns in ((known["first"], starts[0]), (known["last"], starts[-1])):
        whole, _, fraction = text.partition(".")
        seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
        assert start_ns == seconds * 10**9 + int(fraction.ljust(9, "0"))
    assert (starts == sorted(starts)) is known["sorted"]
    attributes = [plain(span.attributes) for span in found.spans]
    context, generated = ([int(each[key]) for each in attributes] for key in ("context", "out"))
    assert (median(context), median(generated)) == (known["context_median"], known["generated_median"])
    assert at_quantile(context, 0.99) == pytest.approx(known["context_p99"], abs=1)
    assert at_quantile(generated, 0.99) == pytest.approx(known["generated_p99"], abs=1)
    gaps = [(later - earlier) / 1e9 for earlier, later in pairwise(starts)]
    assert median(gaps) == pytest.approx(known["interarrival_s_median"], abs=1e-6)
    assert max(gaps) == pytest.approx(known["interarrival_s_max"], abs=1e-6)


@pytest.mark.shared_data
@needs_data
@pytest.mark.parametrize("kind", ["B8ms", "D8s_v5"])
def test_azures_database_latencies_have_the_facts_that_are_known_of_them(kind):
    name = f"pg_readonly_latency_ms_short_eastus_{kind}.csv.gz"
    known = facts("azure_vmnoise", name)
    found = Read(DATA / "azure_vmnoise" / name, options("start_utc=starttime,duration_ms=value,attr.vm=VM_id"))
    assert (found.report.read, len(found.spans), found.refused) == (known["rows"], known["rows"], {})
    assert len({plain(span.attributes)["vm"] for span in found.spans}) == known["vms"]
    lengths_ms = [(span.end_time_unix_nano - span.start_time_unix_nano) / 1e6 for span in found.spans]
    mean = sum(lengths_ms) / len(lengths_ms)
    deviation = (sum((each - mean) ** 2 for each in lengths_ms) / (len(lengths_ms) - 1)) ** 0.5
    assert (median(lengths_ms), max(lengths_ms)) == (known["median_ms"], known["max"])
    assert at_quantile(lengths_ms, 0.95) == pytest.approx(known["p95"], abs=1e-6)
    assert at_quantile(lengths_ms, 0.99) == pytest.approx(known["p99"], abs=1e-3)
    assert deviation / mean == pytest.approx(known["cv"], abs=1e-4)


@pytest.mark.shared_data
@needs_data
def test_azures_and_mooncakes_traces_have_no_latency_and_are_told_so():
    for path in (
        DATA / "azure_llm" / "AzureLLMInferenceTrace_code.csv.gz",
        DATA / "mooncake" / "conversation_trace_noids.csv.gz",
    ):
        with pytest.raises(UnknownFormatError, match=r"no column looks like a duration, and each request needs one"):
            list(read_requests(path))
