"""A small transformer in numpy: hashed-token embeddings, layers of attention and MLP, scores over a list of answers.

The weights are random but seeded: the answers mean nothing, the arithmetic is real. A batch is padded to its longest
input, as on an accelerator, and attention grows with the square of that length: one long input makes all of its batch
slow, and whoever waits behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DEFAULT_MAX_TOKENS = 384

Floats = NDArray[np.float32]

_MASKED = np.float32(-1e9)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The model's shape."""

    vocabulary: int = 8192
    width: int = 96
    heads: int = 2
    layers: int = 3
    answers: int = 2048
    max_tokens: int = DEFAULT_MAX_TOKENS
    seed: int = 7

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width={self.width} does not divide into heads={self.heads}: choose a multiple of it")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says about one input."""

    scores: Floats  # one per answer
    embedding: Floats  # of unit length
    saliency: Floats  # one per token, they add up to 1


@dataclass(frozen=True, slots=True)
class _Layer:
    query_key_value: Floats
    output: Floats
    expand: Floats
    contract: Floats


class Model:
    """Deterministic: the same batch gives the same bits, the same input in another batch the same up to rounding."""

    def __init__(self, config: ModelConfig | None = None) -> None:
        self.config = config = config or ModelConfig()
        random = np.random.default_rng(config.seed)
        width = config.width

        def weights(rows: int, columns: int) -> Floats:
            drawn: Floats = (random.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)
            return drawn

        self._embeddings = random.standard_normal((config.vocabulary, width)).astype(np.float32)
        self._positions = _sinusoids(config.max_tokens, width)
        self._layers = [
            _Layer(
                weights(width, 3 * width), weights(width, width), weights(width, 4 * width), weights(4 * width, width)
            )
            for _ in range(config.layers)
        ]
        self._answers = weights(width, config.answers)

    def run(self, batch: Sequence[Sequence[int]]) -> list[Prediction]:
        """Predict for a batch of token ids. Raises ValueError for an empty or an overlong input."""
        lengths = [len(ids) for ids in batch]
        for index, length in enumerate(lengths):
            if not 1 <= length <= self.config.max_tokens:
                raise ValueError(
                    f"input {index} of the batch has {length} tokens: give it 1 to {self.config.max_tokens}"
                )
        longest = max(lengths)
        ids = np.zeros((len(batch), longest), np.intp)
        for row, tokens in zip(ids, batch, strict=True):
            row[: len(tokens)] = tokens
        present = np.arange(longest)[None, :] < np.array(lengths)[:, None]
        mask = np.where(present, np.float32(0), _MASKED)[:, None, None, :]

        x = self._embeddings[ids] + self._positions[:longest]
        for layer in self._layers:
            x = x + self._attention(_normalized(x), layer, mask)
            x = x + _gelu(_normalized(x) @ layer.expand) @ layer.contract
        x = _normalized(x)

        summary: Floats = (x * present[..., None]).sum(axis=1) / np.array(lengths, np.float32)[:, None]
        summary = summary / np.linalg.norm(summary, axis=1, keepdims=True)
        scores = _softmax(summary @ self._answers)
        saliency = _softmax((x @ summary[:, :, None])[..., 0] + mask[:, 0, 0, :])
        return [
            Prediction(scores=scores[row], embedding=summary[row], saliency=saliency[row, :length])
            for row, length in enumerate(lengths)
        ]

    def _attention(self, x: Floats, layer: _Layer, mask: Floats) -> Floats:
        size, length, width = x.shape
        heads = self.config.heads
        split = (x @ layer.query_key_value).reshape(size, length, 3, heads, width // heads)
        query, key, value = split.transpose(2, 0, 3, 1, 4)
        scale = np.float32((width // heads) ** -0.5)
        weights = _softmax((query * scale) @ key.transpose(0, 1, 3, 2) + mask)
        mixed: Floats = (weights @ value).transpose(0, 2, 1, 3).reshape(size, length, width)
        return mixed @ layer.output


def _sinusoids(length: int, width: int) -> Floats:
    angles = np.arange(length)[:, None] / 10_000 ** (np.arange(0, width, 2)[None, :] / width)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, -1)[:, :width].astype(np.float32)


def _normalized(x: Floats) -> Floats:
    centered: Floats = x - x.mean(axis=-1, keepdims=True)
    spread: Floats = np.sqrt((centered * centered).mean(axis=-1, keepdims=True) + np.float32(1e-5))
    return centered / spread


def _softmax(x: Floats) -> Floats:
    raised: Floats = x - x.max(axis=-1, keepdims=True)
    np.exp(raised, out=raised)  # in place: for long inputs the memory's speed decides
    raised /= raised.sum(axis=-1, keepdims=True)
    return raised


def _gelu(x: Floats) -> Floats:
    # The sigmoid form: a single exponential. Its argument is bounded so that it cannot overflow.
    gated: Floats = x / (np.float32(1) + np.exp(np.clip(np.float32(-1.702) * x, -80, 80)))
    return gated
