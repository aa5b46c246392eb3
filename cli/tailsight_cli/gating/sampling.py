"""From sources to runs: each run of each file, and of each part of the store, with what its recording says of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, takewhile

from rich.markup import escape

from tailsight_analysis import Filters, NoSpansError, Store, connect, whole_time
from tailsight_analysis import Side as AnalysisSide
from tailsight_analysis.gate import fetch_runs
from tailsight_analysis.gating.samples import REQUESTS
from tailsight_analysis.gating.strata import StratifiedRun
from tailsight_cli._errors import NOT_ENOUGH_DATA, CommandError, without_controls
from tailsight_cli.gating.loading import private_store
from tailsight_cli.gating.sharing import Part, refuse_same_runs, refuse_shared_requests
from tailsight_cli.gating.sources import FileSource, Source, StoreSource
from tailsight_cli.nothing_found import way_out
from tailsight_cli.progress import steps
from tailsight_cli.recording.header import Header, Run
from tailsight_cli.sides import KEYS

_ABOUT = ("hardware", "model", "machine")


@dataclass(frozen=True, slots=True)
class Side:
    """What was found of one side. `notes` are sentences about what is missing; `machines` the ids of where it ran.

    `commits`, `branches` and `versions` (`ranker 1.4.0`) are what recordings say.
    """

    sources: tuple[str, ...]
    runs: tuple[StratifiedRun, ...]
    notes: tuple[str, ...] = ()
    machines: frozenset[str] = frozenset()
    commits: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()


@dataclass(slots=True)
class _Found:
    runs: list[StratifiedRun] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@contextmanager
def saying_steps() -> Iterator[Callable[[str], None]]:
    """Give what says which step begins; names of files in it are only names."""
    with steps("Reading …") as said:
        yield lambda text: said(escape(without_controls(text)))


def fetch_sides(
    sides: Sequence[Sequence[Source]], dsn: str, filters: Filters, said: Callable[[str], None]
) -> list[Side]:
    """Fetch the runs of each side. `said` is told which step begins.

    The store is opened only where a source is a part of it, and closed before files are read: of embedded engines, a
    process has one at a time. Raises CommandError where a source has no request or one that another has as well,
    CollectorError, StorageError.
    """
    sources = [source for side in sides for source in side]
    found: dict[int, _Found] = {}
    parts = [(number, each) for number, each in enumerate(sources) if isinstance(each, StoreSource)]
    files = [(number, each) for number, each in enumerate(sources) if isinstance(each, FileSource)]
    now_ns = time.time_ns()
    if parts:
        with connect(dsn) as store:
            meant = {number: _meant(store, each, filters, now_ns) for number, each in parts}
            refuse_shared_requests(store, list(meant.values()))
            for number, part in meant.items():
                said(f"Reading {part.text}")
                found[number] = _of_store(store, part)
    if files:
        with private_store() as private:
            for number, file in files:
                said(f"Reading {file.text}")
                private.load_only(file, number)
                found[number] = _of_file(private.store, file, filters)
    result, first = [], 0
    for side in sides:
        mine = [found[first + place] for place in range(len(side))]
        first += len(side)
        result.append(_side(side, mine))
    refuse_same_runs([side.runs for side in result])
    return result


def _side(sources: Sequence[Source], found: Sequence[_Found]) -> Side:
    headers = [source.header for source in sources if isinstance(source, FileSource) and source.header]
    commits = [_commit(header) for header in headers if header.git]
    return Side(
        tuple(source.text for source in sources),
        tuple(run for each in found for run in each.runs),
        tuple(note for each in found for note in each.notes),
        frozenset(header.machine.id for header in headers),
        tuple(dict.fromkeys(commits)),
        tuple(dict.fromkeys(header.git.branch for header in headers if header.git and header.git.branch)),
        tuple(
            dict.fromkeys(
                f"{each.name} {each.version}" for header in headers for each in header.services if each.version
            )
        ),
    )


def _commit(header: Header) -> str:
    git = header.git
    return "" if git is None else f"{git.commit[:12]}{' (dirty)' if git.dirty else ''}"


def requests_of(run: StratifiedRun) -> int:
    """Count a run's requests."""
    return sum(int(cells.count.sum()) for cells in run.series.get(REQUESTS, {}).values())


def unlike(baseline: Side, candidate: Side) -> list[str]:
    """Say of what the sides are, where that differs: hardware, model, machine."""
    said = [{key: {run.about.get(key, "") for run in side.runs} for key in _ABOUT} for side in (baseline, candidate)]
    return [
        f"{key}: baseline {_listed(said[0][key])}, candidate {_listed(said[1][key])}"
        for key in _ABOUT
        if said[0][key] != said[1][key]
    ]


def _listed(values: set[str]) -> str:
    return " and ".join(sorted(value or "not said" for value in values))


def _meant(store: Store, source: StoreSource, filters: Filters, now_ns: int) -> Part:
    """Say which requests a part of the store is. Raises CommandError where the store has none of them."""
    asked = source.asked
    window = asked.window(now_ns)
    filters = replace(filters, **{name: (*getattr(filters, name), *asked.filters[name]) for name in KEYS})
    runs = tuple(name for asked_run in asked.filters["run"] for name in _named(store, asked_run))
    for run in runs if len(runs) > 1 else ():  # the others would look like all that were asked for
        if whole_time(store, run) is None:
            raise _nothing(store, f"run={run}", replace(filters, run=(run,)))
    filters = replace(filters, run=runs)
    window = window or whole_time(store, runs)
    if window is None:
        raise _nothing(store, source.text, filters)
    return Part(source.text, window, filters)


def _of_store(store: Store, part: Part) -> _Found:
    try:
        return _Found(fetch_runs(store, AnalysisSide(part.window, part.filters)))
    except NoSpansError:
        raise _nothing(store, part.text, part.filters) from None


def _nothing(store: Store, text: str, filters: Filters) -> CommandError:
    return CommandError(f"no request is {text}; {way_out(store, filters)}", NOT_ENOUGH_DATA)


def _named(store: Store, name: str) -> list[str]:
    """Find a run; where there is none of this name, its repetitions NAME#1, NAME#2, … that `record` made."""
    if whole_time(store, name) is not None or whole_time(store, f"{name}#1") is None:
        return [name]
    return list(takewhile(lambda each: whole_time(store, each) is not None, (f"{name}#{n}" for n in count(1))))


def _of_file(store: Store, source: FileSource, filters: Filters) -> _Found:
    window = whole_time(store)
    try:
        if window is None:
            raise NoSpansError(f"{source.text} has no spans")
        samples = fetch_runs(store, AnalysisSide(window, filters))
    except NoSpansError:
        limit = f" with {filters.label}" if filters.label else ""
        raise CommandError(
            f"{source.text} has no request{limit}: `tailsight record -o {source.path.name} -- COMMAND` records some",
            NOT_ENOUGH_DATA,
        ) from None
    said = {run.run: run for run in source.header.runs} if source.header else {}
    found = _Found([_described(sample, source, said.get(sample.label)) for sample in samples])
    labels = {sample.label for sample in samples}
    for run in said.values():
        found.notes += _said_of(run, source, is_there=run.run in labels)
    return found


def _described(sample: StratifiedRun, source: FileSource, run: Run | None) -> StratifiedRun:
    about = dict(sample.about)
    if source.header is not None:
        machine = source.header.machine
        about["machine"] = f"{machine.cpu}, {machine.cores} cores"
    start_ns = run.start_ns if run else sample.start_ns
    return replace(sample, label=sample.label or source.path.name, start_ns=start_ns, about=about)


def _said_of(run: Run, source: FileSource, *, is_there: bool) -> list[str]:
    notes = [] if is_there else [f"run {run.run} of {source.text} has no request: it is not compared"]
    if run.exit_code:
        notes.append(f"run {run.run} ended with exit code {run.exit_code}")
    if run.lost.anything:
        lost = sum(run.lost.spans.values())
        what = f"{lost:,} spans were" if lost else "some of it was"
        notes.append(f"run {run.run} is not complete: {what} lost while recording")
    return notes
