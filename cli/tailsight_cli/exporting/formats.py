"""The formats: one table says their names, endings, and what writes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import click

from tailsight_analysis import Store
from tailsight_analysis.exporting.choosing import Chosen, linked_spans
from tailsight_analysis.exporting.reading import Page
from tailsight_cli._errors import missing_extra

PACKINGS = (".gz", ".zst")


class Writer(Protocol):
    """What writes one format, page by page."""

    def page(self, page: Page) -> None:
        """Take some spans; pages come as `read_spans` gives them."""

    def finish(self) -> None:
        """Write what is left, and the end."""


@dataclass(frozen=True, slots=True)
class Format:
    """`endings`: names of files that are meant to be of it; `is_text`: it may go to a terminal."""

    name: str
    title: str
    endings: tuple[str, ...]
    is_text: bool
    writer: Callable[[BinaryIO, Store, Chosen], Writer]


def _perfetto(file: BinaryIO, store: Store, chosen: Chosen) -> Writer:
    from tailsight_cli.exporting.perfetto import PerfettoWriter

    return PerfettoWriter(file.write, linked_spans(store, chosen))


def _otlp(file: BinaryIO, _store: Store, _chosen: Chosen) -> Writer:
    from tailsight_cli.exporting.otlp import OtlpWriter

    return OtlpWriter(file.write)


def _otlp_json(file: BinaryIO, _store: Store, _chosen: Chosen) -> Writer:
    from tailsight_cli.exporting.otlp import OtlpJsonWriter

    return OtlpJsonWriter(file.write)


def _jaeger(file: BinaryIO, _store: Store, _chosen: Chosen) -> Writer:
    from tailsight_cli.exporting.jaeger import JaegerWriter

    return JaegerWriter(file.write)


def _parquet(file: BinaryIO, _store: Store, _chosen: Chosen) -> Writer:
    from tailsight_cli.exporting.parquet import ParquetWriter

    return ParquetWriter(file)


FORMATS = {
    each.name: each
    for each in (
        Format("perfetto", "Perfetto/Chrome trace", (".perfetto.json", ".trace.json"), True, _perfetto),
        Format("otlp", "OTLP protobuf", (".otlp",), False, _otlp),
        Format("otlp-json", "OTLP JSON lines", (".otlp.json", ".otlp.jsonl", ".jsonl"), True, _otlp_json),
        Format("jaeger", "Jaeger JSON", (".jaeger.json",), True, _jaeger),
        Format("parquet", "Parquet", (".parquet",), False, _parquet),
    )
}


def chosen_format(name: str | None, output: str) -> tuple[Format, str]:
    """Return the format, and how the file is packed ("", ".gz" or ".zst"); raises UsageError where that is not said."""
    plain = output.lower()
    packing = next((each for each in PACKINGS if plain.endswith(each)), "")
    plain = plain.removesuffix(packing)
    if name is None:
        name = next((each.name for each in FORMATS.values() if plain.endswith(each.endings)), None)
    if name is None:
        raise click.UsageError(_unsaid(output, plain))
    if name == "parquet":
        if packing:
            raise click.UsageError(f"--output {output}: Parquet is packed inside; leave out {packing}")
        try:
            import tailsight_cli.exporting.parquet  # noqa: F401
        except ModuleNotFoundError as error:
            raise missing_extra("export --format parquet", "parquet", error.name) from None
    return FORMATS[name], packing


def _unsaid(output: str, plain: str) -> str:
    names = ", ".join(FORMATS)
    if output == "-":
        return f"say what is written: --format {names}; or name a file with --output"
    if plain.endswith(".json"):
        endings = ", ".join(each.endings[0] for each in FORMATS.values() if each.endings[0].endswith(".json"))
        return f"--output {output}: .json can be several formats; end it in {endings}, or say --format"
    endings = ", ".join(each.endings[0] for each in FORMATS.values())
    return f"--output {output}: its ending says no format; end it in {endings}, or say --format ({names})"
