"""In which order variants and repetitions run: mirrored rounds, each pair of rounds in an order drawn anew.

A machine warms up, and its neighbours come and go. If A always ran before B, whatever rises in time would look like B.
So of each two rounds the second is the first one backwards (A B | B A): a drift that is linear over these two rounds
takes as much from A as from B, exactly. Whether A or B begins is drawn for each pair of rounds, so that nothing
periodic on the machine falls into step with it. A last odd round is drawn too.
"""

from __future__ import annotations

from random import Random

SINGLE = "single"
MIRRORED = "mirrored"


def order_of(variants: int, repetitions: int, random: Random) -> list[int]:
    """Return the variants' indices in the order in which they run, `repetitions` of each."""
    order: list[int] = []
    drawn: list[int] = []
    for number in range(repetitions):
        if number % 2 == 0:
            drawn = random.sample(range(variants), variants)
            order += drawn
        else:
            order += reversed(drawn)
    return order
