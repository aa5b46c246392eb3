"""Fuzz both decoders of both signals, led by coverage: `python tests/fuzz/fuzz_decoders.py --seconds 60`.

Needs atheris (`pip install atheris`). Only BadRequestError may come out, whatever goes in. What is accepted must be what
protobuf reads back, and of it `check` must find the same as of what was sent. That the store takes it, too, is
tests/collector/test_fuzz.py's business: an insert takes longer than ten thousand decodings.

A finding ends the run and lies in `crash-*` in the working folder; give that file as an argument to see it again.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["tailsight_collector", "json"]):
    from tailsight_collector import BadRequestError
    from tailsight_collector.receive.signals import JSON, METRICS, PROTOBUF, TRACES

from testkit.mutations import metrics_document, metrics_seed, traces_document, traces_seed

MEMORY_MB = 2048  # that decoding may take
# The first byte of an input chooses; the rest is the body.
TARGETS = ((TRACES, PROTOBUF), (METRICS, PROTOBUF), (TRACES, JSON), (METRICS, JSON))


def one_input(data: bytes) -> None:
    """Decode one input; raises whatever is a finding."""
    if not data:
        return
    signal, encoding = TARGETS[data[0] % len(TARGETS)]
    try:
        received = signal.decode(data[1:], encoding)
    except BadRequestError as error:
        if error.status not in (400, 413):
            raise AssertionError(f"status {error.status}") from error
        str(error).encode()
        return
    outcome = received.outcome
    signal.success(outcome, encoding)
    again = signal.check(signal.message.FromString(received.encoded), received.received_ns)
    found = (outcome.total, outcome.rejected, outcome.is_worth_storing)
    if found != (again.total, again.rejected, again.is_worth_storing):
        raise AssertionError(f"{found} was {again} when it was read again")


def main() -> None:
    """Fuzz for a while, beginning with what is valid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("inputs", nargs="*", help="findings to look at again, instead of fuzzing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as corpus:
        seeds = (
            traces_seed(),
            metrics_seed(),
            json.dumps(traces_document()).encode(),
            json.dumps(metrics_document()).encode(),
        )
        for number, seed in enumerate(seeds):
            Path(corpus, f"seed-{number}").write_bytes(bytes((number,)) + seed)
        # libFuzzer goes by the peak that Linux tells, which a process inherits from the one that started it
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        limits = ["-max_len=16384", "-timeout=10", f"-rss_limit_mb={peak_mb + MEMORY_MB}"]
        flags = options.inputs or [f"-max_total_time={options.seconds}", *limits, corpus]
        atheris.Setup([sys.argv[0], *flags], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
