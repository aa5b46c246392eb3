"""Find the period with which slow events come back, if they do.

Events are unevenly spaced: a request can only be slow when there is one. So what is tested is whether the *slow* among
the events have phases of their own: with marks s (1 slow, 0 not) and their mean p,

    A(f) = Σ (s_i − p) e^(−2πi f t_i)

in which arrivals that are periodic themselves cancel. |A|² is divided by its local background, a smooth curve through
running medians, because noise that remembers (bursts, drifts, autocorrelation) has a spectrum that is not flat. What is
left is exponential for noise of any such colour; pulses are narrow, so the powers of 1, 2, 4 and 8 harmonics are added
(the Z²_m test: Buccheri et al. 1983; scanning m: de Jager, Raubenheimer and Swanepoel 1989), and p-values are corrected
for all frequencies, numbers of harmonics and thresholds that were tried, each octave of periods having an equal share
of the error. A candidate must then show the same in a test whose unit is the cycle, so that a few bursts with many slow
events each prove nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal.windows import tukey

from tailsight_analysis.statistics.background import whitened

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SIGNIFICANCE = 0.01
LEAST_EVENTS = 200
LEAST_SLOW = 15
SLOW_SHARES = (0.1, 0.03, 0.01)  # of the events, that count as slow: each is tried
HARMONICS = (1, 2, 4, 8)
LEAST_CYCLES = 8  # periods in the time looked at
_MOST_SUBHARMONICS = 64
_SUBHARMONIC_P = 1e-5
_FAINT = 0.1  # of a line's power: what leaks from it is less
_TAPERED = 0.5  # of the time, at its ends: keeps the power of slow drifts from leaking into all frequencies
MOST_BINS = 2**18
_OVERSAMPLING = 4
_BINS_A_PERIOD = 4  # of the shortest period
_TRIALS_A_FREQUENCY = 3.0  # independent ones for each 1/T, with oversampling; measured, see docs/analysis/jitter.md
_IN_STEP = 0.3  # of all events, as a mean resultant: beyond, they come with a period
_SAME_PHASE = 0.5  # of all events, as a mean resultant: beyond, it is the arrivals that have the period


@dataclass(frozen=True, slots=True)
class Period:
    """Slow events come back every `period_ns`, `phase_ns` after the beginning (0 ≤ phase < period).

    `strength` is the share of the slow events that keep step, as their vector strength beyond that of all events (0:
    none, 1: all at one phase). `p_value` is corrected for everything that was tried. `slow_share` is the share of
    events that counted as slow, `cycles` the number of periods in which there was one.
    """

    period_ns: float
    phase_ns: float
    strength: float
    p_value: float
    slow_share: float
    cycles: int


@dataclass(frozen=True, slots=True)
class Scan:
    """What was looked for: periods from `shortest_ns` to `longest_ns`; the best one, if it is significant."""

    shortest_ns: float
    longest_ns: float
    period: Period | None


def find_period(start_ns: Ints, duration_ns: Ints, weight: Floats | None = None) -> Scan | None:
    """Look for a period in which events are slow; None where there are too few events, or they take no time at all.

    `start_ns` must ascend. Periods are looked for from twice the median time between events (at least a 65,536th of the
    whole time) to an eighth of the whole time. Events that come with a period of their own see slowness only so often:
    then nothing shorter than twice that period is looked for. `weight` says for how many events each stands.
    """
    if len(start_ns) < LEAST_EVENTS or start_ns[0] == start_ns[-1]:
        return None
    times = (start_ns - start_ns[0]).astype(np.float64)
    whole = times[-1]
    between = float(np.median(np.diff(times)))
    shortest = max(2 * between, _BINS_A_PERIOD * whole / MOST_BINS)
    longest = whole / LEAST_CYCLES
    marks = _marks(duration_ns, weight)
    if shortest >= longest or not marks:
        return None
    weights = np.ones(len(times)) if weight is None else weight
    shortest = max(shortest, 2 * _period_of_arrivals(times, weights, shortest))
    if shortest >= longest:
        return None
    bins = math.ceil(_BINS_A_PERIOD * whole / shortest)
    found = [_scan(times, _centred(slow, weights), bins, shortest) for slow in marks]
    candidates = [(candidate, slow) for candidate, slow in zip(found, marks, strict=True) if candidate is not None]
    if not candidates:
        return None
    best, slow = min(candidates, key=lambda pair: pair[0].log_p)
    log_tests = math.log(len(marks) * len(HARMONICS))
    p_value = math.exp(min(0.0, best.log_p + log_tests))
    if p_value > SIGNIFICANCE:
        return Scan(shortest, longest, None)
    return Scan(shortest, longest, _confirmed(times, weights, slow, best, log_tests))


# --- the spectrum -----------------------------------------------------------------------------------------------------


def _marks(duration_ns: Ints, weight: Floats | None) -> list[Bools]:
    """Which events count as slow, for each share; none twice, and none of too few."""
    order = np.argsort(duration_ns, kind="stable")
    weights = np.ones(len(order)) if weight is None else weight[order]
    above = 1 - np.cumsum(weights) / weights.sum()
    found: list[Bools] = []
    for share in SLOW_SHARES:
        at = int(np.searchsorted(-above, -share))
        slow = duration_ns > duration_ns[order[min(at, len(order) - 1)]]
        count = int(slow.sum())
        if count >= LEAST_SLOW and (not found or count < found[-1].sum()):
            found.append(slow)
    return found


def _centred(slow: Bools, weights: Floats) -> Floats:
    return weights * (slow - float((weights * slow).sum() / weights.sum()))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A fundamental in 1/ns; the logarithm of its p-value, corrected for all frequencies, and of that correction."""

    frequency: float
    log_p: float
    log_trials: float
    levels: Floats  # on the scale of an exponential of mean 1
    ratios: Floats  # of power to background
    power: Floats
    step: float  # between two levels, in 1/ns
    last: int  # level that means something
    least: float  # frequency that is looked for


def _period_of_arrivals(times: Floats, weights: Floats, shortest: float) -> float:
    """Find the longest period with which the events themselves come, slow or not; 0 where there is none."""
    whole = times[-1]
    bins = math.ceil(_BINS_A_PERIOD * whole / shortest)
    at = np.minimum((times / whole * bins).astype(np.int64), bins - 1)
    length = _fast_length(bins)
    resultant = np.abs(np.fft.rfft(np.bincount(at, weights=weights, minlength=bins), length)) / weights.sum()
    step = bins / (length * whole)
    first = math.ceil(LEAST_CYCLES / whole / step)
    lines = np.flatnonzero(resultant[first : math.floor(1 / shortest / step) + 1] > _IN_STEP)
    return float(1 / ((first + lines[0]) * step)) if len(lines) else 0.0


def _scan(times: Floats, marks: Floats, bins: int, shortest: float) -> _Candidate | None:
    """Find the most improbable fundamental."""
    whole = times[-1]
    width = whole / bins
    at = np.minimum((times / width).astype(np.int64), bins - 1)
    series = np.bincount(at, weights=marks, minlength=bins) * tukey(bins, _TAPERED)
    length = _fast_length(bins * _OVERSAMPLING)
    step = 1 / (length * width)
    power = np.abs(np.fft.rfft(series, length)) ** 2
    above = whitened(power, length / bins)
    if above is None:
        return None
    levels, ratios = above
    first, last = math.ceil(LEAST_CYCLES / whole / step), min(math.floor(1 / shortest / step), len(levels) - 1)
    frequencies = np.arange(first, last + 1)
    octaves = math.log2(last / first) + 1
    log_trials = np.log(_TRIALS_A_FREQUENCY * whole * step * octaves * frequencies)
    total = np.zeros(len(frequencies))
    best: tuple[float, int] = (math.inf, 0)
    for harmonic in range(1, HARMONICS[-1] + 1):
        # events that come regularly repeat what is below this limit above it, where it means nothing
        reach = int(np.searchsorted(frequencies, last // harmonic, side="right"))
        if reach == 0:
            break
        total = total[:reach] + _level_near(levels, frequencies[:reach] * harmonic, harmonic)
        if harmonic in HARMONICS:
            # with more harmonics a fundamental is known more finely: so many more of them are tried
            log_p = _log_upper_gamma(harmonic, total) + log_trials[:reach] + math.log(harmonic)
            best = min(best, (float(log_p.min()), int(log_p.argmin())))
    return _Candidate(
        float(frequencies[best[1]] * step),
        best[0],
        float(log_trials[best[1]]),
        levels,
        ratios,
        power,
        step,
        last,
        0.98 * LEAST_CYCLES / whole,
    )


def _level_near(levels: Floats, at: Ints, harmonic: int) -> Floats:
    """Level at a harmonic. Its fundamental is only known to half a step, so each harmonic may lie that much beside."""
    if harmonic == 1:
        return levels[at]
    reach = min(harmonic // 2, _OVERSAMPLING // 2)
    best = levels[at]
    for aside in range(-reach, reach + 1):
        best = np.maximum(best, levels[np.clip(at + aside, 0, len(levels) - 1)])
    return best


def _log_upper_gamma(shape: int, value: Floats | np.float64) -> Floats:
    """Logarithm of P(Γ(shape) > value), for whole shapes: −x + ln Σ x^k / k! over k < shape."""
    total, term = np.ones_like(value), np.ones_like(value)
    for k in range(1, shape):
        term = term * value / k
        total = total + term
    result: Floats = np.log(total) - value
    return result


def _fast_length(least: int) -> int:
    return 1 << max(1, least - 1).bit_length()


# --- the candidate ----------------------------------------------------------------------------------------------------


def _confirmed(times: Floats, weights: Floats, slow: Bools, candidate: _Candidate, log_tests: float) -> Period | None:
    """Find a candidate's fundamental, and test it cycle by cycle; None where that is not significant as well.

    Where all events have that phase in common, it is the arrivals that are periodic, and nothing is said of slowness.
    """
    marks = _centred(slow, weights)
    frequency = _refined(times, marks, candidate.frequency)
    if abs(_resultants(times * frequency, weights)[0]) > _SAME_PHASE:
        return None
    times_it, divisor = _fundamental(candidate, frequency)
    if times_it != divisor:
        frequency = _refined(times, marks, frequency * times_it / divisor)
    turns = times * frequency
    everyone = _resultants(turns, weights)
    if abs(everyone[0]) > _SAME_PHASE:
        return None
    excess = _resultants(turns[slow], weights[slow]) - everyone
    phase = float(np.angle(excess[0]) / (2 * np.pi)) % 1.0
    # cycles begin opposite to the phase, so that what belongs together is in one of them
    cycle = np.floor(turns - phase + 0.5).astype(np.int64)
    cycle -= cycle[0]
    log_p = max(candidate.log_p, _log_p_of_cycles(turns, marks, cycle) + candidate.log_trials) + log_tests
    if log_p > math.log(SIGNIFICANCE):
        return None
    return Period(
        period_ns=1 / frequency,
        phase_ns=phase / frequency,
        strength=float(min(1.0, abs(excess[0]))),
        p_value=math.exp(log_p),
        slow_share=float((weights * slow).sum() / weights.sum()),
        cycles=len(np.unique(cycle[slow])),
    )


def _log_p_of_cycles(turns: Floats, marks: Floats, cycle: Ints) -> float:
    """Test a period, each of whose cycles is one observation: its sum of (s − p) e^(ikφ).

    The square of their sum over the sum of their squares is exponential without a period, whatever the cycles hold, and
    at most their number. Several harmonics of few cycles are not independent: p is never less than the chance that so
    many phases lie within half a turn of the last harmonic.
    """
    single = np.exp(2j * np.pi * (turns % 1.0))
    power = marks.astype(np.complex128)
    total, least = 0.0, 0.0
    for harmonic in range(1, HARMONICS[-1] + 1):
        power = power * single
        sums = np.bincount(cycle, weights=power.real) + 1j * np.bincount(cycle, weights=power.imag)
        squares = np.abs(sums) ** 2
        total += float(np.abs(sums.sum()) ** 2 / max(float(squares.sum()), 1e-300))
        if harmonic in HARMONICS:
            cycles = float(squares.sum() ** 2 / max(float((squares**2).sum()), 1e-300))
            chance = max(float(_log_upper_gamma(harmonic, np.float64(total))), (1 - cycles) * math.log(2 * harmonic))
            least = min(least, chance + math.log(harmonic))
    return least


def _fundamental(candidate: _Candidate, frequency: float) -> tuple[int, int]:
    """Of which frequency is this a multiple or a part? The fundamental is the first number over the second, times it.

    The strongest harmonic is f. The fundamental is f/k for the largest k for which multiples j·f/k that are none of a
    larger part of f stand out: j and k have no common divisor. For too large a k these lie between the harmonics.
    """
    last = candidate.last
    multiples = [j for j in range(1, HARMONICS[-1] + 1) if round(frequency * j / candidate.step) <= last]
    strongest = max(multiples, key=lambda j: candidate.ratios[round(frequency * j / candidate.step)])
    frequency *= strongest
    whole = candidate.power[round(frequency / candidate.step)]
    best = 1
    for k in range(2, _MOST_SUBHARMONICS + 1):
        if frequency / k < candidate.least:
            break
        coprime = [j for j in range(1, 4 * k) if math.gcd(j, k) == 1][: HARMONICS[-1]]
        at = np.round(np.array(coprime) * frequency / k / candidate.step).astype(np.int64)
        at = at[at <= last]
        chance = _log_upper_gamma(len(at), candidate.levels[at].sum())
        if len(at) >= 2 and chance < math.log(_SUBHARMONIC_P) and candidate.power[at].mean() > _FAINT * whole:
            best = k
    return strongest, best


def _resultants(turns: Floats, weights: Floats) -> npt.NDArray[np.complex128]:
    """Mean of e^(2πi k φ) for each harmonic k."""
    single = np.exp(2j * np.pi * (turns % 1.0))
    total = weights.sum()
    found: list[Any] = []
    power = single
    for _ in range(HARMONICS[-1]):
        found.append((weights * power).sum() / total)
        power = power * single
    return np.array(found)


def _refined(times: Floats, marks: Floats, frequency: float) -> float:
    """Find the frequency near a candidate at which its harmonics together are strongest."""
    used = np.flatnonzero(marks > 0) if len(times) > 50_000 else np.arange(len(times))
    times, marks = times[used], marks[used]
    reach = 1 / (_OVERSAMPLING * times[-1])
    for _ in range(3):
        around = frequency + reach * np.linspace(-1, 1, 9)
        strengths = []
        for candidate in around:
            single = np.exp(-2j * np.pi * ((times * candidate) % 1.0))
            power, total = single, 0.0
            for _harmonic in range(4):
                total += abs((marks * power).sum()) ** 2
                power = power * single
            strengths.append(total)
        frequency = float(around[int(np.argmax(strengths))])
        reach /= 4
    return frequency
