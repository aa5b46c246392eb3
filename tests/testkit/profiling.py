"""Real processes under a real py-spy, with stacks that tell whose they are: `testkit/profiled_pipeline.py`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tailsight_analysis.profiles import (
    JoinedSample,
    Match,
    Recording,
    Site,
    Stack,
    StageSpan,
    find_sites,
    read_chrometrace,
)

PIPELINE = Path(__file__).with_name("profiled_pipeline.py")
_WORK = re.compile(r"work_([a-z]+)_(r\d+)")
_PATIENCE_S = 90


@dataclass(frozen=True, slots=True)
class Profiled:
    """A recording, the spans of the process in that time, and where its source has stages."""

    recording: Recording
    spans: tuple[StageSpan, ...]
    sites: tuple[Site, ...]
    samples_taken: int  # as py-spy says

    @property
    def names(self) -> dict[str, str]:
        """Of each trace id the request's name: r0, r1, …"""
        return {span.trace_id: span.name for span in self.spans if not span.parent_span_id}


def profiled(kind: str, requests: int, rate_hz: int, folder: Path) -> Profiled:
    """Run the pipeline under py-spy, from "threads" or "asyncio"."""
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if spy is None:
        pytest.skip("py-spy is not installed: pip install 'tailsight[profile]'")
    spans, trace = folder / f"{kind}.spans.json", folder / f"{kind}.trace.json"
    pipeline = [sys.executable, str(PIPELINE), kind, str(requests), str(spans)]
    with subprocess.Popen(pipeline, stdin=subprocess.PIPE) as service:
        spawn_ns = time.time_ns()
        options = ["--nonblocking", "--idle", "--threads", "--format", "chrometrace", "--output", str(trace)]
        command = [spy, "record", "--pid", str(service.pid), "--rate", str(rate_hz), *options]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as profiler:
            assert profiler.stdout is not None
            heard = ""
            while "Sampling process" not in heard:
                line = profiler.stdout.readline()
                if not line:
                    service.kill()
                    if "ermission" in heard or "ptrace" in heard:
                        pytest.skip("py-spy may not look into processes here")
                    raise AssertionError(f"py-spy ended: {heard}")
                heard += line
            service.communicate(b"go\n", timeout=_PATIENCE_S)
            heard += profiler.communicate(timeout=_PATIENCE_S)[0]
    taken = re.search(r"Samples: (\d+)", heard)
    assert service.returncode == 0
    assert taken, heard
    with trace.open("rb") as stream:
        recording = read_chrometrace(stream, spawn_ns, rate_hz=rate_hz)
    return Profiled(
        recording,
        tuple(StageSpan(**span) for span in json.loads(spans.read_text())),
        find_sites(PIPELINE.read_text(), str(PIPELINE)),
        int(taken[1]),
    )


def truth(stack: Stack) -> tuple[str, str] | None:
    """Return the stage and the request whose own code is on the stack; the stage "" between stages."""
    for frame in reversed(stack):
        found = _WORK.fullmatch(frame.function)
        if found:
            return ("" if found[1] == "between" else found[1]), found[2]
    return None


def tally(profile: Profiled, samples: Iterable[JoinedSample]) -> Counter[str]:
    """Count the samples whose truth is known: exact, stage, ambiguous, none; and right ones of the first two."""
    counts: Counter[str] = Counter()
    for sample in samples:
        known = truth(sample.stack)
        if known is None:
            continue
        counts["all"] += 1
        counts[sample.match.value] += 1
        if sample.match is Match.EXACT:
            counts["exact right"] += (sample.stage, profile.names[sample.trace_id]) == known
        elif sample.match is Match.STAGE:
            counts["stage right"] += sample.stage == known[0]
    return counts
