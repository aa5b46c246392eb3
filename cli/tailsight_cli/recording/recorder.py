"""Recording: each variant's command runs as often as asked, in turns with the others, and each gets a file."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import IO

from tailsight_cli._errors import NOT_ENOUGH_DATA, UNREADABLE, CommandError
from tailsight_cli.recording.command import Ended, Signals
from tailsight_cli.recording.command_line import without_secrets
from tailsight_cli.recording.environment import environment, with_recording
from tailsight_cli.recording.folders import Folder, private_folder, recording_folder
from tailsight_cli.recording.git import describe_git
from tailsight_cli.recording.header import Git, Header, Run
from tailsight_cli.recording.machine import describe_hardware, describe_machine, versions
from tailsight_cli.recording.order import MIRRORED, SINGLE, order_of
from tailsight_cli.recording.packing import Packed, pack
from tailsight_cli.recording.receiver import receiver
from tailsight_cli.recording.run_file import as_text, write_run_files
from tailsight_cli.recording.settling import settle

SOURCE = "record"
_LEAST_ROOM_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Variant:
    """What is recorded into one file: a command in a folder, under a name."""

    name: str
    out: Path
    command: tuple[str, ...]
    folder: Path


@dataclass(frozen=True, slots=True)
class Recorded:
    """A file that was written."""

    path: Path
    size_bytes: int
    header: Header


@dataclass(frozen=True, slots=True)
class Plan:
    """How often each variant runs; `warmup` more rounds come first and are thrown away.

    `keep_going`: keep runs whose command failed or recorded nothing. `stdout`: the commands', None for our own.
    """

    repeat: int = 1
    warmup: int = 0
    keep_going: bool = False
    stdout: IO[bytes] | int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """A run that has ended; `total` with the warm-up. `run` is None for one that warmed up."""

    done: int
    total: int
    label: str
    took_s: float
    run: Run | None
    left_behind: int


def record(
    variants: Sequence[Variant],
    plan: Plan,
    signals: Signals,
    *,
    random: Random,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> list[Recorded]:
    """Run the variants and write their files.

    Raises CommandError with the command's own exit code where it fails, or where it records nothing, and Interrupted
    where a signal came: then no file is written.
    """
    order = order_of(len(variants), plan.warmup, random) if plan.warmup else []
    total = (plan.warmup + plan.repeat) * len(variants)
    commits = [describe_git(variant.folder) for variant in variants]
    kept: list[list[tuple[Run, Packed]]] = [[] for _ in variants]
    spoke_other = [False] * len(variants)
    with private_folder() as parts:
        for number, index in enumerate([*order, *order_of(len(variants), plan.repeat, random)], 1):
            variant = variants[index]
            warms_up = number <= len(order)
            repetition = len(kept[index]) + 1
            label = variant.name if plan.repeat == 1 else f"{variant.name}#{repetition}"
            run, packed, ended, is_other = _run(
                variant, f"{variant.name}#warmup" if warms_up else label, parts / f"{number}.zst", plan, signals
            )
            spoke_other[index] |= is_other
            if not plan.keep_going:
                _check(variant, run, packed, is_other=is_other)
            if warms_up:
                packed.path.unlink()
            else:
                kept[index].append((run, packed))
            took_s = (ended.end_ns - ended.start_ns) / 1e9
            on_progress(Progress(number, total, run.run, took_s, None if warms_up else run, ended.left_behind))
        created = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        for variant, runs, is_other in zip(variants, kept, spoke_other, strict=True):
            if not sum(run.spans for run, _ in runs):
                raise CommandError(_nothing(variant, runs[-1][1], is_other=is_other), NOT_ENOUGH_DATA)
        headers = [
            header_of(
                variant.name,
                runs,
                source=SOURCE,
                command=variant.command,
                order=SINGLE if len(variants) == 1 else MIRRORED,
                git=commit,
                created=created,
            )
            for variant, runs, commit in zip(variants, kept, commits, strict=True)
        ]
        sizes = write_run_files(
            [
                (variant.out, header, [packed.path for _, packed in runs])
                for variant, header, runs in zip(variants, headers, kept, strict=True)
            ]
        )
        return [
            Recorded(variant.out, size_bytes, header)
            for variant, size_bytes, header in zip(variants, sizes, headers, strict=True)
        ]


def header_of(
    name: str,
    runs: Sequence[tuple[Run, Packed]],
    *,
    source: str,
    command: Sequence[str],
    order: str,
    git: Git | None,
    created: str,
) -> Header:
    """Put a header together for runs that are packed."""
    return Header(
        created=created,
        name=name,
        source=source,
        command=tuple(map(as_text, without_secrets(command))),
        order=order,
        machine=describe_machine(),
        hardware=describe_hardware(),
        versions=versions(),
        services=tuple(sorted({service for _, packed in runs for service in packed.services})),
        git=git,
        runs=tuple(run for run, _ in runs),
        body_bytes=sum(packed.size_bytes for _, packed in runs),
    )


def _run(variant: Variant, label: str, part: Path, plan: Plan, signals: Signals) -> tuple[Run, Packed, Ended, bool]:
    with recording_folder() as folder:
        unread_rings = 0
        load_1m = os.getloadavg()[0]
        with receiver(folder.received) as listening:

            def until_written() -> None:
                nonlocal unread_rings
                unread_rings = settle(folder)

            ended = signals.run(
                variant.command,
                environ=with_recording(os.environ, environment(folder, label, listening.url)),
                folder=variant.folder,
                stdout=plan.stdout,
                settle=until_written,
            )
        packed = _packed(folder, label, part)
        lost = replace(
            packed.lost, unread_rings=unread_rings, refused_requests=sum(listening.refused_requests.values())
        )
    run = Run(label, ended.start_ns, ended.end_ns, ended.exit_code, packed.spans, packed.requests, load_1m, lost)
    return run, packed, ended, listening.heard_something_else


def _packed(folder: Folder, label: str, part: Path) -> Packed:
    where = folder.path.parent
    problem = "there is no room left"
    if shutil.disk_usage(where).free >= _LEAST_ROOM_BYTES:
        try:
            return pack(folder, label, part)
        except OSError as error:
            problem = str(error.strerror or error)
    raise CommandError(
        f"{where}: {problem}, so spans are missing: nothing is written; TMPDIR names another folder", UNREADABLE
    )


def _check(variant: Variant, run: Run, packed: Packed, *, is_other: bool) -> None:
    if run.exit_code:
        raise CommandError(
            f"{shown(variant.command)} ended with {run.exit_code} ({run.run}): nothing is written; --keep-going keeps "
            "runs that fail",
            run.exit_code,
        )
    if not packed.spans:
        raise CommandError(_nothing(variant, packed, is_other=is_other), NOT_ENOUGH_DATA)


def _nothing(variant: Variant, packed: Packed, *, is_other: bool) -> str:
    if dropped := sum(packed.lost.spans.values()):
        return f"{shown(variant.command)}: all of its {dropped:,} spans were dropped ({', '.join(packed.lost.spans)})"
    if packed.tests is not None:
        return f"{shown(variant.command)} ran no test that is marked: put @pytest.mark.tailsight on those to record"
    if is_other:
        return (
            f"{shown(variant.command)} sent something else than OTLP over HTTP (gRPC, most likely), which is not "
            "recorded: use the exporter for http/protobuf, or the tailsight SDK"
        )
    return (
        f"{shown(variant.command)} recorded no spans: instrument it with the tailsight SDK (docs/sdk.md), or have its "
        "OpenTelemetry SDK export to OTEL_EXPORTER_OTLP_ENDPOINT over http/protobuf; what it says in its own code wins "
        "over the environment"
    )


def shown(command: Sequence[str]) -> str:
    """Write a command for a message: short, and without secrets."""
    text = shlex.join(without_secrets(command))
    return f"`{text if len(text) <= 60 else text[:59] + '…'}`"
