"""The sentences of the Profiles view, in Markdown: which code, how much more of it, how sure, and what is missing."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from tailsight_analysis.flames import (
    FlameSideOf,
    FunctionTotals,
    ProfiledStage,
    RecordedProfile,
    StageDifference,
    StageFlame,
)
from tailsight_analysis.profiles import DifferenceEntry
from tailsight_dashboard.format import count, duration, p_value, plain, share, signed_duration
from tailsight_dashboard.tables import signed

MOST_NAMED = 3  # functions beside the first
SPREAD = 0.05  # share of the time below which no function is named as the one that runs most
EXPLANATION = (
    "Samples of the stacks of all requests together: a stage of 2 ms has no profile of its own, a thousand of them "
    "have one. Wide: much time. Click a function to zoom in, one above it or “Whole graph” to go back."
)
DIFFERENCE_EXPLANATION = (
    "Both sides laid on each other. Widths: time per request of both sides together; red and +: the first takes more; "
    "blue and −: the second."
)
DIFFERENCE_HELP = (
    "Time per request with the function on the stack = samples ÷ rate ÷ requests, those without a sample included. "
    "p-values are corrected for all functions; each 95 % interval stands alone. Samples: of both sides."
)
FUNCTIONS_HELP = (
    "Self: samples in which the function ran itself. Total: in which it, or what it called, ran. GIL, Waits: the part "
    "of Self in which it waited for Python's interpreter lock, or for something else. Line: that most samples were at."
)
RECORDINGS_HELP = (
    "Joined: of a stage or request. Ambiguous: of one of several stages, and in no flame graph. Lost: that could not "
    "be read. Clock: whether spans and samples could be laid on each other; where not, nothing is joined. Agreement: "
    "share of samples whose frames and spans name the same stage; By chance: what it would be at other offsets."
)
NOTHING = "No profile here"
NONE = "A profile tells which functions a slow stage runs. To take one of a running Python service, on its machine:"
COMMANDS = """\
pip install 'tailsight[collector,profile]'
tailsight profile --service {service} --duration 1m    # --on-tail: when the p99 rises
"""
THEN = (
    "Its samples are here some seconds after it ends. Where reading another process' memory is refused, the command "
    "says what permits it. The SDK's sidecar records too, without anybody there: `TAILSIGHT_PROFILE=on_tail`."
)
RECORD_MORE = (
    "Record for longer, or at a higher rate: `tailsight profile --service NAME --duration 5m --rate 250`; or look at "
    "more time, or at all stages."
)
TWO_RUNS = "Two runs can be compared once samples of two are here: `tailsight.run` names them."
SAME_FUNCTIONS = "Every function that was seen often enough is on every stack of both sides."


def difference_headline(found: StageDifference, a: FlameSideOf, b: FlameSideOf, stage: str) -> Iterator[str]:
    """Give the answer: the function that sets the sides apart, with interval and p; then what else is to be known."""
    where = f" of {plain(stage)}" if stage else ""
    certain = [each for each in found.functions if each.certain]
    if certain:
        first = next((each for each in certain if each.difference_ms > 0), certain[0])
        by = f"{duration(abs(first.difference_ms))} {'more' if first.difference_ms > 0 else 'less'}"
        than = f"{_other_side(b)} {_interval(first)}, {_p(first)}"
        yield f"{_side(a)} spend **{by}** in {code(first)}{where} than {than}."
        yield _others([each for each in certain if each is not first])
    else:
        yield f"No function{where} differs for certain between {plain(a.name)} and {plain(b.name)} requests."
        if found.functions:
            most = found.functions[0]
            by = f"{signed_duration(most.difference_ms)} a request {_interval(most)}, {_p(most)}"
            yield f"Of {_functions(len(found.functions))}, {code(most)} differs most: {by}. More requests may tell."
    if found.everywhere:
        whole, number = found.everywhere[-1], len(found.everywhere)
        by = f"{signed_duration(whole.difference_ms)} {_interval(whole)}"
        rest = f"{_functions(number)} on every stack of both {'is' if number == 1 else 'are'} left out"
        yield f"In all they take {by} a request here; {rest}."


def flame_headline(found: StageFlame, functions: Sequence[FunctionTotals], stage: str) -> str:
    """Say which function ran most itself: `61 % of the time of compute is spin (app.py:40) itself`."""
    where = f" of {plain(stage)}" if stage else ""
    most = functions[0]
    part = most.self_ms / (found.flame.ms or 1.0)
    if part < SPREAD:
        return f"The time{where} is spread over {_functions(len(functions))}; the most of one itself is {share(part)}."
    return f"**{share(part)}** of the time{where} is {code(most)} itself."


def flame_basis(found: StageFlame) -> str:
    """Say what a flame graph rests on."""
    flame = found.flame
    taken = f"{count(flame.samples)} samples of {_requests(flame.requests)}, {duration(flame.ms)}"
    return f"{taken}. Times are samples ÷ rate: rough. How long a stage lasts, its spans say."


def difference_basis(found: StageDifference) -> str:
    """Say what a difference rests on."""
    result = found.difference
    sides = (
        (result.name_a, result.samples_a, result.requests_a),
        (result.name_b, result.samples_b, result.requests_b),
    )
    said = "; ".join(f"{plain(name)}: {count(samples)} samples of {_requests(of)}" for name, samples, of in sides)
    unassigned = result.unassigned_a + result.unassigned_b
    rest = f" {count(unassigned)} samples are of no known request: drawn, not compared." if unassigned else ""
    return f"{said}.{rest}"


def left_out(nodes: int) -> str:
    """Say how many branches are not drawn; empty where all are."""
    return f"The {count(nodes)} smallest branches are not drawn." if nodes else ""


def rests_on(profiles: Sequence[RecordedProfile], stages: Sequence[ProfiledStage]) -> Iterator[str]:
    """Say what must be known of the recordings, before one believes them."""
    if ambiguous := sum(each.ambiguous for each in stages):
        part = share(ambiguous / (ambiguous + sum(each.samples for each in stages)))
        yield f"{part} of the samples here ({count(ambiguous)}) may be of several stages: they are left out."
    if bad := sum(not each.trusted and each.trigger != "import" for each in profiles):
        yield f"Of {_recordings(bad)} the clock could not be fitted: their samples are of no stage."


def recorded(profiles: Sequence[RecordedProfile]) -> str:
    """Say how many recordings there are, with how many samples."""
    return f"{_recordings(len(profiles)).capitalize()}, {count(sum(each.samples for each in profiles))} samples."


def nothing_here(where: str, elsewhere: str) -> str:
    """Say that no recording is here, and when there are some."""
    return f"No samples of stacks in {where}." + (f" The store holds some of {elsewhere}." if elsewhere else "")


def commands(service: str) -> str:
    """Write the commands that take a profile, for a shell."""
    return COMMANDS.format(service=shlex.quote(" ".join(service.split())))


def code(each: DifferenceEntry | FunctionTotals) -> str:
    """Name a function, with the end of its file and its line."""
    return f"**{plain(each.function)}**" + (f" ({plain(place(each.file, each.line))})" if each.file else "")


def place(file: str, line: int, parts: int = 2) -> str:
    """Name a line of code by the last parts of its file."""
    shown = "/".join(file.split("/")[-parts:])
    return f"{shown}:{line}" if line else shown


def _side(side: FlameSideOf) -> str:
    return f"{plain(side.name).capitalize()} requests" if side.classes else f"Requests of run {plain(side.name)}"


def _other_side(side: FlameSideOf) -> str:
    return f"{plain(side.name)} ones" if side.classes else f"those of run {plain(side.name)}"


def _interval(each: DifferenceEntry) -> str:
    return f"[{signed(each.low_ms)} to {signed(each.high_ms)} ms]"


def _p(each: DifferenceEntry) -> str:
    text = p_value(each.p_value)
    return f"p\u00a0{text}" if text.startswith("<") else f"p\u00a0=\u00a0{text}"


def _others(certain: Sequence[DifferenceEntry]) -> str:
    if not certain:
        return "No other function differs for certain."
    named = ", ".join(f"{code(each)} {signed_duration(each.difference_ms)}" for each in certain[:MOST_NAMED])
    more = len(certain) - MOST_NAMED
    return f"Also for certain: {named}{f', and {_functions(more)} more' if more > 0 else ''}."


def _functions(number: int) -> str:
    return "1 function" if number == 1 else f"{count(number)} functions"


def _requests(number: int) -> str:
    return "1 request" if number == 1 else f"{count(number)} requests"


def _recordings(number: int) -> str:
    return "1 recording" if number == 1 else f"{count(number)} recordings"
