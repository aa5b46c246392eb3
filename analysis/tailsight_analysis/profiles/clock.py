"""Where the profiler's clock began, found from the profile itself.

py-spy stamps its file in microseconds since its own start and does not say when that was. Slid along the spans, the
file agrees with them at one offset only: there, frames of a stage are seen while that stage is open. The score of an
offset is the share of observations whose stack is in the innermost open stage, or in no stage while none is open
(`marks.py`); where no source names the stages, the information that frames give of the open stages (Shannon 1948; used
like this to align images: Viola and Wells 1997).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tailsight_analysis.errors import NotEnoughDataError
from tailsight_analysis.profiles.agreement import Agreement, Information, Score
from tailsight_analysis.profiles.marks import marks_by_source, marks_learned
from tailsight_analysis.profiles.model import Recording, StageSpan
from tailsight_analysis.profiles.sites import Site
from tailsight_analysis.profiles.stretches import agreeing_stretch
from tailsight_analysis.profiles.timeline import OpenStages, on_thread

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LEAST_OBSERVATIONS = 100
_MOST_OBSERVATIONS = {"sites": 8_000, "information": 3_000}
_BEFORE_MS, _AFTER_MS, _MUCH_AFTER_MS = 20.0, 500.0, 5_000.0
_FINE_MS = 0.1
_CANDIDATES = 6
_RIVAL_MS = 15.0  # closer to the best than this, another peak is the same one
_LEAST_MARKED = 0.1
_LEAST_MARGIN = 0.1
_LEAST_LIFT = 0.05
_LEAST_T = 3.0
_CONFIRMS_MS = 0.5
_SEARCH_MS = 90_000.0
_LEAST_SEARCHED = 1_000  # observations
_PIECE_MS = 30_000.0
_PIECE_WITHIN_MS = 5.0
_DRIFT_WITHIN_PPM = 200.0


@dataclass(frozen=True, slots=True)
class ClockFit:
    """Where the profiler's clock began, and how sure that is.

    `pieces` are the offsets found along a long recording, as (µs of the profiler, ns of Unix time at its 0 µs): what is
    between them is interpolated. `agreement` and `by_chance` are shares of observations. `margin` is
    (best score − best score elsewhere) ÷ (best score − usual score): 1 no rival, 0 a tie. Not `trusted`: do not join.
    `holds_us` is from when to when of the profiler's time frames and spans agree so: beyond, the machine's clock was
    set.
    """

    offset_ns: int
    after_spawn_ms: float
    drift_ppm: float
    pieces: tuple[tuple[float, float], ...]
    agreement: float
    by_chance: float
    margin: float
    observations: int
    method: str  # "sites" (the source names the stages of the frames) or "information" (frames and stages go together)
    trusted: bool
    why_not: str  # "" where trusted
    holds_us: tuple[int, int] = (0, 1 << 62)
    complete: bool = True
    """Whether the spans of all requests are there."""

    def unix_ns(self, times_us: Ints) -> Ints:
        """Turn times of the profiler into Unix time."""
        at, offsets = zip(*self.pieces, strict=True)
        shift = np.interp(times_us, at, np.array(offsets) - self.offset_ns)
        found: Ints = times_us * 1000 + self.offset_ns + np.rint(shift).astype(np.int64)
        return found

    def to_json(self) -> dict[str, object]:
        """Return the fit as JSON-ready values."""
        return {
            "offset_ns": self.offset_ns,
            "after_spawn_ms": self.after_spawn_ms,
            "drift_ppm": self.drift_ppm,
            "agreement": self.agreement,
            "by_chance": self.by_chance,
            "margin": self.margin,
            "observations": self.observations,
            "method": self.method,
            "trusted": self.trusted,
            "why_not": self.why_not,
        }


def fit_clock(
    recording: Recording, spans: Sequence[StageSpan], sites: Sequence[Site] = (), *, complete: bool = True
) -> ClockFit:
    """Find the offset at which spans and frames agree most.

    `spans` are all of the process in the recording's time; `complete` is False where requests were sampled, so that
    the spans of others are not there. Raises NotEnoughDataError where threads with
    spans were seen less than LEAST_OBSERVATIONS times, or the spans are all of one stage and no source names it.
    """
    marks = marks_by_source(recording.stacks, sites)
    stages = OpenStages(on_thread(spans, {site.stage for site in sites}))
    with_spans = [at for at, thread in enumerate(recording.threads) if thread.thread_id in stages.by_thread]
    usable = np.flatnonzero(np.isin(recording.thread_index, with_spans) & recording.seen)
    if spans and not any(span.thread_id for span in spans):
        raise NotEnoughDataError(
            f"none of the {len(spans):,} spans of the process says on which thread it was (thread.id), so no sample "
            "can be joined: send spans with tailsight's SDK, or set that attribute"
        )
    if len(usable) < LEAST_OBSERVATIONS:
        raise NotEnoughDataError(
            f"the profile has {len(usable)} observations of threads that ran a stage, of {LEAST_OBSERVATIONS} that are "
            "needed to find its clock: record longer, at a higher rate, or while there are requests",
            missing=LEAST_OBSERVATIONS - len(usable),
        )
    marked = np.array([bool(mark) for mark in marks], dtype=bool)[recording.stack_index[usable]]
    method = "sites" if marked.mean() >= _LEAST_MARKED else "information"
    if method == "information" and len(stages.bit) < 2:
        raise NotEnoughDataError(
            "all spans of the profiled threads are of one stage, and no source file shows where it stands: the clock "
            "cannot be found from that. Give the source, or spans of the whole request"
        )
    chosen = _thinned(_beginning(recording, usable), _MOST_OBSERVATIONS[method])
    score: Agreement | Information
    by_sites = method == "sites"
    score = (
        Agreement(recording, chosen, stages, marks, complete=complete)
        if by_sites
        else Information(recording, chosen, stages)
    )
    spawn = float(recording.spawn_ns)
    step_ms = _coarse_step_ms(spans)
    found = _search(score, spawn, step_ms, _AFTER_MS)
    if _distrust(found, score, method):
        wider = _search(score, spawn, step_ms, _MUCH_AFTER_MS)
        found = wider if wider.score > found.score else found
    why_not = _distrust(found, score, method)
    pieces = ((0.0, found.offset),) if why_not else _pieces(recording, usable, score, found.offset)
    drift_ppm = 0.0
    if len(pieces) > 1:
        drift_ppm = float(np.polyfit([at for at, _ in pieces], [offset for _, offset in pieces], 1)[0]) * 1e3
    middle = float(np.median(recording.times_us[usable]))
    offset_ns = round(float(np.interp(middle, [at for at, _ in pieces], [offset for _, offset in pieces])))
    if method == "information":
        masks = score.masks(found.offset)
        score = Agreement(recording, chosen, stages, marks_learned(recording, chosen, masks, stages), marked_only=True)
    fit = ClockFit(
        offset_ns=offset_ns,
        after_spawn_ms=(offset_ns - recording.spawn_ns) / 1e6,
        drift_ppm=drift_ppm,
        pieces=pieces,
        agreement=score.at(found.offset),
        by_chance=float(np.median([score.at(spawn + shift * 1e6) for shift in found.elsewhere_ms])),
        margin=found.margin,
        observations=len(chosen),
        method=method,
        trusted=not why_not,
        why_not=why_not,
        complete=complete,
    )
    return fit if why_not else replace(fit, holds_us=_holds(recording, fit, usable, stages, marks))


def _holds(
    recording: Recording, fit: ClockFit, usable: Ints, stages: OpenStages, marks: Sequence[tuple[str, ...]]
) -> tuple[int, int]:
    """Find from when to when the fit holds, by the observations that tell something."""
    flat = replace(recording, times_us=(fit.unix_ns(recording.times_us) - fit.offset_ns) // 1000)
    score: Agreement | Information
    if fit.method == "sites":
        score = Agreement(flat, usable, stages, marks, marked_only=True, complete=fit.complete)
    else:
        score = Information(flat, usable, stages)
    score = score.of(_thinned(score.chosen, _MOST_OBSERVATIONS[fit.method]))
    if fit.method == "sites" and fit.complete:
        telling = np.arange(len(score.chosen))  # each has a mark
    else:
        telling = np.flatnonzero(score.masks(fit.offset_ns))
    return agreeing_stretch(score, fit.offset_ns, telling) or fit.holds_us


@dataclass(frozen=True, slots=True)
class _Found:
    offset: float
    score: float
    rival: float  # the best offset that is not near
    margin: float
    elsewhere_ms: tuple[float, ...]


def _search(score: Score, spawn_ns: float, step_ms: float, after_ms: float) -> _Found:
    """Look coarsely everywhere, then finely around the best places."""
    shifts = np.arange(-_BEFORE_MS, after_ms, step_ms)
    coarse = np.array([score.at(spawn_ns + shift * 1e6) for shift in shifts.tolist()])
    peaks: list[tuple[float, float]] = []
    left = coarse.copy()
    for _ in range(_CANDIDATES):
        at = int(np.argmax(left))
        if left[at] == -np.inf:
            break
        around = shifts[at] + np.arange(-step_ms, step_ms + _FINE_MS / 2, _FINE_MS)
        peaks.append(_best(score, spawn_ns, around))
        left[np.abs(shifts - shifts[at]) < max(step_ms, _FINE_MS) * 1.5] = -np.inf
    best, shift = max(peaks)
    far = np.abs(shifts - shift) > _RIVAL_MS
    rivals = [(value, where) for value, where in peaks if abs(where - shift) > _RIVAL_MS]
    rivals += [(float(coarse[far].max()), float(shifts[far][np.argmax(coarse[far])]))]
    rival, rival_shift = max(rivals)
    usual = float(np.median(coarse[far]))
    margin = (best - rival) / (best - usual) if best > usual else 0.0
    elsewhere = shifts[far][:: max(1, int(far.sum()) // 20)]
    return _Found(
        spawn_ns + shift * 1e6,
        best,
        spawn_ns + rival_shift * 1e6,
        float(np.clip(margin, 0, 1)),
        tuple(elsewhere.tolist()),
    )


def _best(score: Score, origin_ns: float, shifts_ms: Floats) -> tuple[float, float]:
    """Return the best score and its shift; of a plateau its middle."""
    values = np.array([score.at(origin_ns + shift * 1e6) for shift in shifts_ms.tolist()])
    # Neighbours are nearly the same observations in the same stages: a mean of three is steadier than one.
    smooth = np.convolve(np.pad(values, 1, mode="edge"), np.full(3, 1 / 3), mode="valid")
    tops = np.flatnonzero(smooth >= smooth.max() - 1e-12)
    at = int(tops[len(tops) // 2])
    return float(values[at]), float(shifts_ms[at])


def _distrust(found: _Found, score: Agreement | Information, method: str) -> str:
    """Say why not to trust the offset, "" if there is no reason."""
    if found.margin < _LEAST_MARGIN:
        return f"another offset agrees nearly as well (margin {found.margin:.2f}, at least {_LEAST_MARGIN:g} is needed)"
    differences = score.by_block(found.offset) - score.by_block(found.rival)
    spread = float(differences.std(ddof=1)) / len(differences) ** 0.5
    t = float(differences.mean()) / spread if spread > 0 else (np.inf if differences.mean() > 0 else 0.0)
    if t < _LEAST_T and not (t > _LEAST_T / 2 and _confirmed(found, score)):
        return f"another offset agrees nearly as well, given how few observations there are (t = {t:.1f})"
    usual = float(np.median([score.at(found.offset + shift * 1e6) for shift in (-400, -300, -200, 200, 300, 400)]))
    if method == "sites" and found.score - usual < _LEAST_LIFT:
        return f"frames and spans agree hardly better than by chance ({found.score:.2f} against {usual:.2f})"
    return ""


def _confirmed(found: _Found, score: Agreement | Information) -> bool:
    """Tell whether what frames and stages tell of each other, whatever the source says, is most at the same offset."""
    if isinstance(score, Information):
        return False
    other = Information(score.recording, _thinned(score.chosen, _MOST_OBSERVATIONS["information"]), score.stages)
    shifts = np.arange(-100.0, 100.0, 0.25)
    return abs(_best(other, found.offset, shifts)[1]) <= _CONFIRMS_MS


def _pieces(recording: Recording, usable: Ints, score: Score, offset: float) -> tuple[tuple[float, float], ...]:
    """Fit stretches of half a minute anew, near the offset of the whole: clocks drift, and are corrected."""
    count = int(recording.duration_ms // _PIECE_MS)
    if count < 2:
        return ((0.0, offset),)
    times = recording.times_us[usable]
    edges = np.linspace(times[0], times[-1] + 1, count + 1)
    pieces: list[tuple[float, float]] = []
    last = offset  # a clock does not jump: each piece is looked for near the one before
    for start, end in pairwise(edges.tolist()):
        own = usable[(times >= start) & (times < end)]
        if len(own) < 3 * LEAST_OBSERVATIONS:
            continue
        part = score.of(_thinned(own, _MOST_OBSERVATIONS["information"]))
        shifts = np.arange(-_PIECE_WITHIN_MS, _PIECE_WITHIN_MS + _FINE_MS / 2, _FINE_MS)
        last += _best(part, last, shifts)[1] * 1e6
        middle = float(start + end) / 2
        pieces.append((middle, last))
    return _to_the_ends(_steady(pieces, offset), float(times[0]), float(times[-1])) or ((0.0, offset),)


def _to_the_ends(pieces: list[tuple[float, float]], start: float, end: float) -> tuple[tuple[float, float], ...]:
    """Go on with the pieces' trend to both ends of the recording."""
    if len(pieces) < 2:
        return tuple(pieces)
    (first, first_offset), (last, last_offset) = pieces[0], pieces[-1]
    slope = (last_offset - first_offset) / (last - first)
    return (
        (start, first_offset + slope * (start - first)),
        *pieces,
        (end, last_offset + slope * (end - last)),
    )


def _steady(pieces: list[tuple[float, float]], offset: float) -> list[tuple[float, float]]:
    """Leave out pieces that are off the line of the others by more than any clock drifts."""
    kept: list[tuple[float, float]] = []
    middle = float(np.median([found for _, found in pieces])) if pieces else offset
    centre = float(np.median([at for at, _ in pieces])) if pieces else 0.0
    for at, found in pieces:
        allowed = abs(at - centre) * 1e3 * _DRIFT_WITHIN_PPM * 1e-6 + 0.5e6
        if abs(found - middle) <= allowed:
            kept.append((at, found))
    return kept


def _coarse_step_ms(spans: Sequence[StageSpan]) -> float:
    """Half of a short stage, at most 2 ms: a coarser step could pass over the peak."""
    lengths = np.array([span.end_ns - span.start_ns for span in spans if span.stage]) / 1e6
    return float(np.clip(np.quantile(lengths, 0.5) / 2, 0.25, 2.0)) if len(lengths) else 2.0


def _beginning(recording: Recording, usable: Ints) -> Ints:
    """Return the first minutes of a long recording: by its end the clocks may have drifted apart."""
    times = recording.times_us[usable]
    count = int(np.searchsorted(times, times[0] + _SEARCH_MS * 1e3, side="right"))
    return usable[: max(count, _LEAST_SEARCHED)]


def _thinned(chosen: Ints, most: int) -> Ints:
    """At most so many, evenly."""
    if len(chosen) <= most:
        return chosen
    return chosen[np.linspace(0, len(chosen) - 1, most).astype(np.int64)]
