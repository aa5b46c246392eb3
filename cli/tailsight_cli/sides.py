"""Which requests are meant: `run=A,hardware=L4`, as `compare` and `gate` have it on their command lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields

import click

from tailsight_analysis import Filters, Window
from tailsight_cli.options import chosen_window

KEYS = tuple(field.name for field in fields(Filters))
WINDOW = ("since", "until")


@dataclass(frozen=True, slots=True)
class Asked:
    """A side as it was written: filters, and its own window, if it names one."""

    filters: dict[str, tuple[str, ...]]
    since: str | None
    until: str | None

    def window(self, now_ns: int) -> Window | None:
        """Return its own window, None where it names none. Raises UsageError where that is none."""
        return chosen_window(self.since, self.until, all_time=False, now_ns=now_ns, names=("since=", "until="))


def read_side(option: str, texts: Sequence[str]) -> Asked:
    """Read `run=A,hardware=L4`; what follows a comma without a key of its own belongs to the value before it.

    Raises BadParameter.
    """
    pairs: list[tuple[str, str]] = []
    for text in texts:
        for number, part in enumerate(text.split(",")):
            key, equals, value = part.partition("=")
            if equals and key.strip() in (*KEYS, *WINDOW):
                pairs.append((key.strip(), value.strip()))
            elif number and pairs and not equals:
                pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]},{part}")
            else:
                known = ", ".join((*KEYS, *WINDOW))
                raise click.BadParameter(f"{part!r} is no KEY=VALUE of a side: keys are {known}, like run=nightly")
    empty = [key for key, value in pairs if not value]
    if empty or not pairs:
        raise click.BadParameter(f"{empty[0]}= has no value" if empty else "name a side, like run=nightly")
    windows = {name: [value for key, value in pairs if key == name] for name in WINDOW}
    if twice := [name for name, values in windows.items() if len(values) > 1]:
        raise click.BadParameter(f"{twice[0]} is given twice for {option}: a side has one window")
    asked = Asked(
        {key: tuple(value for other, value in pairs if other == key) for key in KEYS},
        *(windows[name][0] if windows[name] else None for name in WINDOW),
    )
    try:
        asked.window(time.time_ns())
    except click.UsageError as error:
        raise click.BadParameter(error.message) from None
    return asked
