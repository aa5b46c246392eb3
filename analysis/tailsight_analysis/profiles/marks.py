"""Which stages a stack says that it is in: by the source, or by what has been learned from the spans.

Learned: a frame identifies a stage if the stage is innermost and open (almost) whenever the frame is seen, and is not
open as often otherwise, nor any other stage as reliably. That is association by confidence and lift (Agrawal,
Imieliński and Swami 1993; Brin, Motwani, Ullman and Tsur 1997), with frames for baskets' items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tailsight_analysis.profiles.model import Frame, Recording, Stack
from tailsight_analysis.profiles.sites import Site, Sites
from tailsight_analysis.profiles.timeline import OpenStages

Ints = npt.NDArray[np.int64]

_LEAST_SEEN = 20  # observations of a frame, before anything is concluded from it
_CONFIDENCE = 0.9
_LIFT = 1.2
_CLEARLY = 0.15  # by how much the next best stage must be less reliable


def marks_by_source(stacks: Sequence[Stack], sites: Sequence[Site]) -> list[tuple[str, ...]]:
    """Return of each stack the stages that it is in, the outermost first."""
    known = Sites(sites)
    return [known.stages_of(stack) for stack in stacks]


def marks_learned(recording: Recording, chosen: Ints, masks: Ints, stages: OpenStages) -> list[tuple[str, ...]]:
    """Return of each stack the stage that its innermost telling frame identifies, if there is one.

    `chosen` are observations, and `masks` the innermost open stages at each one's time.
    """
    names = [""] * (max(stages.bit.values(), default=-1) + 1)
    for stage, bit in stages.bit.items():
        names[bit] = stage if bit not in {stages.bit[other] for other in stages.bit if other != stage} else ""
    open_then = ((masks[:, None] >> np.arange(len(names))) & 1).astype(float)
    tokens, rows = frame_tokens(recording, chosen)
    seen = np.zeros(len(tokens))
    together = np.zeros((len(tokens), len(names)))
    for at, tokens_of in enumerate(rows):
        seen[tokens_of] += 1
        together[tokens_of] += open_then[at]
    base = open_then.mean(axis=0) if len(masks) else np.zeros(len(names))
    told: dict[Frame, str] = {}
    for frame, at in tokens.items():
        if seen[at] < _LEAST_SEEN or not len(names):
            continue
        confidence = together[at] / seen[at]
        # The rarest of the stages that are as reliable: one that is always open says nothing.
        lift = confidence / np.maximum(base, 1e-9)
        best = int(np.argmax(np.where(confidence >= _CONFIDENCE, lift, 0.0)))
        others = np.delete(np.where(lift >= _LIFT, confidence, 0.0), best)
        clear = not len(others) or others.max() <= confidence[best] - _CLEARLY
        if confidence[best] >= _CONFIDENCE and lift[best] >= _LIFT and names[best] and clear:
            told[frame] = names[best]
    marks: list[tuple[str, ...]] = []
    for stack in recording.stacks:
        innermost = next((told[frame] for frame in reversed(stack) if frame in told), None)
        marks.append(() if innermost is None else (innermost,))
    return marks


def frame_tokens(recording: Recording, chosen: Ints) -> tuple[dict[Frame, int], list[Ints]]:
    """Give the frames of the chosen observations numbers; return each observation's frames, every one once."""
    tokens: dict[Frame, int] = {}
    of_stack: dict[int, Ints] = {}
    rows: list[Ints] = []
    for stack in recording.stack_index[chosen].tolist():
        if stack not in of_stack:
            numbers = {tokens.setdefault(frame, len(tokens)) for frame in recording.stacks[stack]}
            of_stack[stack] = np.array(sorted(numbers), dtype=np.int64)
        rows.append(of_stack[stack])
    return tokens, rows
