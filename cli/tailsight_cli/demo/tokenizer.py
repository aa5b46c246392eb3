"""Text to token ids and back, and a cache of texts that were tokenized before.

A document is a graph whose parts know each other, as in most text libraries. So the documents that the cache lets go
are cycles that only the garbage collector can free, and those that it keeps are what a full collection walks through:
an ordinary service's ordinary pauses.
"""

import re
import zlib
from collections import OrderedDict
from dataclasses import dataclass, field

DEFAULT_CACHED_DOCUMENTS = 512

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_WORD = re.compile(r"\w+|[^\w\s]")
_PIECE_LENGTH = 5


@dataclass(slots=True, eq=False)
class Token:
    """A piece of a word."""

    text: str
    id: int
    sentence: "Sentence"


@dataclass(slots=True, eq=False)
class Sentence:
    """The tokens of one sentence."""

    document: "Document"
    tokens: list[Token] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The sentence as words again."""
        return " ".join(token.text for token in self.tokens).replace(" ##", "")


@dataclass(slots=True, eq=False)
class Document:
    """A tokenized text."""

    sentences: list[Sentence] = field(default_factory=list)
    truncated: bool = False

    @property
    def tokens(self) -> list[Token]:
        """All tokens, in order."""
        return [token for sentence in self.sentences for token in sentence.tokens]


class Tokenizer:
    """Splits text into pieces, and gives each the id that its hash says: no vocabulary file is needed."""

    def __init__(self, *, vocabulary: int, max_tokens: int) -> None:
        self._vocabulary = vocabulary
        self._max_tokens = max_tokens

    def document(self, text: str) -> Document:
        """Tokenize `text`. What is over the model's limit is cut off."""
        document = Document()
        room = self._max_tokens
        for part in _SENTENCE_END.split(text):
            sentence = Sentence(document)
            for word in _WORD.findall(part.lower()):
                for piece in _pieces(word):
                    if not room:
                        document.truncated = True
                        break
                    sentence.tokens.append(Token(piece, zlib.crc32(piece.encode()) % self._vocabulary, sentence))
                    room -= 1
            if sentence.tokens:
                document.sentences.append(sentence)
        return document


class DocumentCache:
    """The most recently used documents, by their text."""

    def __init__(self, tokenizer: Tokenizer, capacity: int = DEFAULT_CACHED_DOCUMENTS) -> None:
        self._tokenizer = tokenizer
        self._capacity = capacity
        self._documents: OrderedDict[str, Document] = OrderedDict()

    def get(self, text: str) -> tuple[Document, bool]:
        """Return the text's document, and whether it was in the cache."""
        document = self._documents.get(text)
        if document is not None:
            self._documents.move_to_end(text)
            return document, True
        document = self._documents[text] = self._tokenizer.document(text)
        if len(self._documents) > self._capacity:
            self._documents.popitem(last=False)
        return document, False


def _pieces(word: str) -> list[str]:
    """Cut a word as WordPiece does: the first piece bare, the others marked as continuations."""
    return [word[:_PIECE_LENGTH]] + [
        "##" + word[start : start + _PIECE_LENGTH] for start in range(_PIECE_LENGTH, len(word), _PIECE_LENGTH)
    ]
