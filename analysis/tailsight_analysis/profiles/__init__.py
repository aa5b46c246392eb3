"""Profiles joined to stages: which code ran while a request was slow. Pure functions over plain data."""

from tailsight_analysis.profiles.chrometrace import read_chrometrace
from tailsight_analysis.profiles.clock import ClockFit, fit_clock
from tailsight_analysis.profiles.difference import DifferenceEntry, FlameDifference, FlameSide, difference
from tailsight_analysis.profiles.errors import UnreadableProfileError
from tailsight_analysis.profiles.flame import Flame, FlameNode, flame_of, lines_of
from tailsight_analysis.profiles.html import difference_html, flame_html
from tailsight_analysis.profiles.joining import join
from tailsight_analysis.profiles.model import (
    Frame,
    JoinedSample,
    Match,
    Observation,
    Recording,
    Stack,
    StageSpan,
    State,
    Thread,
)
from tailsight_analysis.profiles.profile_files import (
    ProfileFile,
    WeighedStack,
    read_profile,
    to_collapsed,
    to_speedscope,
)
from tailsight_analysis.profiles.sites import Site, find_sites
from tailsight_analysis.profiles.states import StateReading, interpreter_data, state_of

__all__ = [
    "ClockFit",
    "DifferenceEntry",
    "Flame",
    "FlameDifference",
    "FlameNode",
    "FlameSide",
    "Frame",
    "JoinedSample",
    "Match",
    "Observation",
    "ProfileFile",
    "Recording",
    "Site",
    "Stack",
    "StageSpan",
    "State",
    "StateReading",
    "Thread",
    "UnreadableProfileError",
    "WeighedStack",
    "difference",
    "difference_html",
    "find_sites",
    "fit_clock",
    "flame_html",
    "flame_of",
    "interpreter_data",
    "join",
    "lines_of",
    "read_chrometrace",
    "read_profile",
    "state_of",
    "to_collapsed",
    "to_speedscope",
]
