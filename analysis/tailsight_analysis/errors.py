"""The analysis' errors.

AnalysisError
├── QuestionError        the question itself makes no sense, whatever the data
└── NotEnoughDataError   the data cannot decide it yet; `missing` says how much more is needed
    ├── NoSpansError     nothing at all was found where the question looked
    └── NoSendersError   nobody who numbers batches was heard where the question looked
"""

from __future__ import annotations


class AnalysisError(Exception):
    """Base of all errors of this package; its text is one line that names the thing, the value and the way out."""


class QuestionError(AnalysisError):
    """The question itself makes no sense, whatever the data: a quantile of 3, a dimension that does not exist."""


class NotEnoughDataError(AnalysisError):
    """The data cannot decide the question yet. `missing` counts the requests that are still needed, where known.

    `quantile` is the one that was asked for, where a lower one would need fewer. `choose` names the parameter of the
    question that should have another value, where that would help; each face has its own words for it.
    """

    def __init__(
        self, message: str, missing: int | None = None, quantile: float | None = None, choose: str | None = None
    ) -> None:
        super().__init__(message)
        self.missing = missing
        self.quantile = quantile
        self.choose = choose


class NoSpansError(NotEnoughDataError):
    """No span (or no request) was found in the window, with these filters."""


class NoSendersError(NotEnoughDataError):
    """No sender that numbers its batches was heard in the window, with these filters."""
