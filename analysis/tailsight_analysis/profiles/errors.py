"""The errors of profiles.

AnalysisError
└── UnreadableProfileError   a profile is damaged, of another format, or larger than is read
"""

from __future__ import annotations

from tailsight_analysis.errors import AnalysisError


class UnreadableProfileError(AnalysisError):
    """A profile cannot be read: damaged, of another format, or beyond a limit. Exit code 4."""
