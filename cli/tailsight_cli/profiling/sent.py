"""The collector's recordings, joined by analysis: each imports the other's words from here alone.

Analysis is imported with the first recording: a collector that gets none need not load it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tailsight_collector.recordings.joining import CannotJoinError, RecordingPlan
from tailsight_collector.recordings.sent import About, Sent
from tailsight_storage import InvalidProfileError, Store

QUANTILE = 0.99


def recording_plan() -> RecordingPlan:
    """Say how recordings are joined."""
    return RecordingPlan(_arrived, _join)


def _arrived(store: Store, about: About) -> tuple[int, bool]:
    from tailsight_analysis import Window
    from tailsight_analysis.profiled import arrived

    return arrived(store, Window(about.spawn_ns, max(about.end_ns, about.spawn_ns + 1)), about.host, about.process)


def _join(store: Store, sent: Sent) -> str:
    from tailsight_analysis import AnalysisError
    from tailsight_analysis.profiles import StateReading, UnreadableProfileError, interpreter_data, state_of
    from tailsight_cli.profiling.putting_together import put_together
    from tailsight_cli.profiling.recording import Recorded
    from tailsight_cli.profiling.spy import SpyFile, SpyOptions
    from tailsight_cli.profiling.target import Target
    from tailsight_storage.profiles import checked_profile, insert_profile

    about, states = sent.about, sent.states()
    readings: tuple[StateReading, ...] = ()
    if states is not None:
        data = interpreter_data(states.maps)
        known = [state_of(call, data) for call in states.calls]
        readings = tuple(
            StateReading(time_ns, thread, known[number])
            for time_ns, thread, number in zip(states.times_ns, states.threads, states.numbers, strict=True)
        )
    with tempfile.NamedTemporaryFile(prefix="recording-") as trace:
        trace.write(sent.trace())
        trace.flush()
        recorded = Recorded(
            Target(0, about.process, about.service, about.host),
            SpyFile(Path(trace.name), about.spawn_ns, about.end_ns, about.lost),
            readings,
            about.notes,
            is_here=False,
        )
        options = SpyOptions(rate_hz=about.rate_hz, blocking=about.blocking, idle=about.idle)
        try:
            together = put_together(
                store, recorded, options, about.trigger, quantile=QUANTILE, patience_s=0.0, taken_by=about.source
            )
            insert_profile(store, profile := checked_profile(together.plain))
        except (AnalysisError, UnreadableProfileError, InvalidProfileError) as error:
            raise CannotJoinError(str(error)) from error
    said = profile.plain["profile"]
    return f"{said['joined']:,} of {said['samples']:,} samples are of a stage or a request (profile {profile.id})"
