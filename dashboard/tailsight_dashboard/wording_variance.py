"""The sentences on why requests differ, in Markdown."""

from __future__ import annotations

from tailsight_analysis import Variance
from tailsight_dashboard.format import UNACCOUNTED, count, duration, plain, share
from tailsight_dashboard.wording_basis import basis, missing

HEAVY = 0.5  # share of the variance in the slowest hundredth, from which on that is said
LEAST_BETWEEN = 0.01
NO_HARDWARE = "(no hardware)"
VARIANCE_HELP = (
    "The variance of the requests' durations as a sum: the stages' own variances, and what they have in common. A "
    "stage's share is its own variance and half of what it has in common with others; shares add up to 100 %."
)

MAP_HELP = (
    "Shares of the variance: a stage's own on the diagonal; beside it what two stages have in common, half on each "
    "side. Red: long together. Blue: one is short where the other is long."
)


def headline(result: Variance) -> str:
    """Say where the variance comes from: `76 % of the requests' variance is queue [71 to 81 %]`."""
    total = result.total
    if not total.sd_ms:
        return f"All requests take **{duration(total.mean_ms)}**: nothing varies."
    first, *others = total.stages
    text = (
        f"**{share(first.share)}** of the requests' variance is **{name(first.stage)}**{bounds(first.share_interval)}"
    )
    if first.share < 0.8 and others and others[0].share >= 0.1:
        text += f", {share(others[0].share)} is **{name(others[0].stage)}**{bounds(others[0].share_interval)}"
    known = [part.hardware for part in result.hardware if part.hardware]
    if len(result.hardware) > 1 and known:
        part = result.between_share
        between = (
            "hardly any of it" if part < LEAST_BETWEEN else f"{share(part)}{bounds(result.between_interval)} of it"
        )
        text += f"; {between} lies between hardware types"
    return f"{text}."


def notes(result: Variance) -> str:
    """Say what the figures rest on."""
    total = result.total
    figures = f"mean {duration(total.mean_ms)}, standard deviation {duration(total.sd_ms)}, CV {total.cv:.2f}"
    found = [f"{count(result.requests)} requests: {figures}. “Usual”: the share without the slowest 1 %."]
    if total.slowest_share >= HEAVY:
        found.append(
            f"The slowest 1 % of the requests have {share(total.slowest_share)} of the variance: it speaks of few "
            "requests, and another time may give another answer."
        )
    found += basis(result.requests, result.stored, result.sampled, weighted=result.weighted)
    return " ".join([*found, *missing(result.data)])


def name(stage: str) -> str:
    """Name a stage in Markdown."""
    return plain(stage) or UNACCOUNTED


def bounds(interval: tuple[float, float] | None) -> str:
    """Write an interval of a share, with a space before it; empty where there is none."""
    if interval is None:
        return ""
    low, high = (f"{round(end * 100)}".replace("-", "−") for end in interval)
    return f" [{low} to {high} %]"
