"""What the client asks, and when. Seeded: the same seed gives the same requests at the same intervals."""

import random
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

DEFAULT_SEED = 2024
DEFAULT_RATE = 120.0

# Words of a question: log-normal. Most are short, and a few are entire documents.
_MEDIAN_WORDS = 40
_SIGMA = 0.8
_MAX_WORDS = 400

_POPULAR_SHARE = 0.2
_POPULAR_QUESTIONS = 64
_WORDS_PER_SENTENCE = (5, 18)

_SYLLABLES = ("ra", "to", "mi", "la", "ne", "ku", "so", "vi", "da", "pe", "lo", "shi", "ter", "an", "is", "qu", "ben")
_TEMPLATE = "Context:\n{context}\n\nQuestion:   {question}\nAnswer with the best label."
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Call:
    """One request to be made."""

    index: int
    at_s: float  # since the beginning
    words: int
    popular: bool
    seed: int

    def prompt(self) -> str:
        """Write the prompt's text, as an application would: pick passages, fill a template, normalize."""
        # A generator of its own: calls are made by several threads, in no certain order.
        chance = random.Random(self.seed)  # noqa: S311  no secret, and it must be repeatable
        text = _TEMPLATE.format(context=_passage(chance, self.words), question=_passage(chance, 8))
        return _SPACES.sub(" ", unicodedata.normalize("NFKC", text)).strip()


def calls(*, rate: float, seed: int = DEFAULT_SEED) -> Iterator[Call]:
    """Return calls without end: Poisson arrivals, `rate` a second on average. Raises ValueError if that is none."""
    if not rate > 0:
        raise ValueError(f"rate={rate} is not a number of requests a second: give one above 0")
    return _calls(rate, seed)


def _calls(rate: float, seed: int) -> Iterator[Call]:
    chance = random.Random(seed)  # noqa: S311  no secret, and it must be repeatable
    at_s = 0.0
    index = 0
    while True:
        at_s += chance.expovariate(rate)
        popular = chance.random() < _POPULAR_SHARE
        # Popular questions are asked again and again, word for word: all that they are follows from their number.
        text_seed = chance.randrange(_POPULAR_QUESTIONS) if popular else chance.getrandbits(63)
        length = random.Random(text_seed).lognormvariate(0.0, _SIGMA)  # noqa: S311
        yield Call(index, at_s, max(4, min(_MAX_WORDS, round(_MEDIAN_WORDS * length))), popular, text_seed)
        index += 1


def _passage(chance: random.Random, words: int) -> str:
    sentences = []
    while words > 0:
        length = min(words, chance.randint(*_WORDS_PER_SENTENCE))
        sentences.append(" ".join(_word(chance) for _ in range(length)).capitalize() + ".")
        words -= length
    return "\n".join(sentences)


def _word(chance: random.Random) -> str:
    return "".join(chance.choices(_SYLLABLES, k=chance.randint(1, 4)))
