"""Profiles, as they are kept: read from JSON that anybody may have sent, and written into three tables.

A document holds one recording (docs/profiles.md#what-is-sent): frames, stacks of them, the places where samples were
taken, and columns of samples and of requests. Its id is a hash of what it says, so that the same one, sent twice, is
there once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from tailsight_storage.errors import InvalidProfileError
from tailsight_storage.profile_shape import NS_PER_S, check_profile
from tailsight_storage.queries import NamedQuery, load_query

PROFILES_TABLE, SAMPLES_TABLE, REQUESTS_TABLE = "profiles", "profile_samples", "profile_requests"
MAX_PROFILE_BYTES = 32 * 1024 * 1024
ID_DIGITS = 32


class ProfileRows(Protocol):
    """What keeping a profile needs of a store."""

    def ask(self, query: NamedQuery, **parameters: object) -> list[dict[str, Any]]:
        """Run a named query."""

    def insert_once(self, table: str, rows: Sequence[Mapping[str, object]], token: str) -> None:
        """Store rows of a table; the same token again changes nothing."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A recording that may be kept. `plain` was checked."""

    id: str
    plain: Mapping[str, Any]


def read_profile(data: bytes, now: datetime | None = None) -> Profile:
    """Check what claims to be a profile; raises InvalidProfileError, which says what is wrong and where."""
    if len(data) > MAX_PROFILE_BYTES:
        raise InvalidProfileError(f"the profile has {len(data):,} bytes, more than {MAX_PROFILE_BYTES:,}")
    try:
        plain = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InvalidProfileError(f"this is no JSON: {error}") from None
    return checked_profile(plain, now)


def checked_profile(plain: Any, now: datetime | None = None) -> Profile:
    """Check a profile that is there as plain data, and give it its id; raises InvalidProfileError."""
    check_profile(plain, now or datetime.now(UTC))
    try:
        encoded = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidProfileError("a text of the profile holds half a character (a lone surrogate)") from None
    except RecursionError:
        raise InvalidProfileError("the profile is nested too deeply") from None
    return Profile(hashlib.sha256(encoded).hexdigest()[:ID_DIGITS], plain)


def encode_profile(plain: Mapping[str, Any]) -> bytes:
    """Write a profile as it is sent."""
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False).encode()


def insert_profile(store: ProfileRows, profile: Profile, now: datetime | None = None) -> bool:
    """Write a profile; False where it is there already. Returns when it is stored. Raises StorageError.

    Each table under a token: who was cut off between them sends the same again, and nothing is there twice.
    """
    [answer] = store.ask(load_query("tailsight_storage", "profile_is_kept"), id=profile.id)
    if answer["is_kept"]:
        return False
    received_at = _moment(int((now or datetime.now(UTC)).timestamp() * NS_PER_S))
    if samples := list(_samples(profile, received_at)):
        store.insert_once(SAMPLES_TABLE, samples, f"{profile.id}-samples")
    if requests := list(_requests(profile, received_at)):
        store.insert_once(REQUESTS_TABLE, requests, f"{profile.id}-requests")
    said = profile.plain["profile"]
    columns = {name: value for name, value in said.items() if name not in ("started_ns", "notes")}
    row = {"received_at": received_at, "id": profile.id, "started_at": _moment(said["started_ns"]), **columns}
    store.insert_once(PROFILES_TABLE, [{**row, "notes": said["notes"]}], profile.id)
    return True


def _samples(profile: Profile, received_at: str) -> Iterator[dict[str, object]]:
    plain = profile.plain
    frames: list[str] = plain["frames"]
    stacks = [[frames[number] for number in stack] for stack in plain["stacks"]]
    places = [_place(place) for place in plain["places"]]
    columns = plain["samples"]
    for time_ns, place, stack, state, count in zip(
        columns["time_ns"], columns["place"], columns["stack"], columns["state"], columns["count"], strict=True
    ):
        yield {
            "received_at": received_at,
            "time": f"{time_ns // NS_PER_S}.{time_ns % NS_PER_S:09}",
            "profile": profile.id,
            **places[place],
            "state": state,
            "stack": stacks[stack],
            "count": count,
        }


def _requests(profile: Profile, received_at: str) -> Iterator[dict[str, object]]:
    columns = profile.plain["requests"]
    for trace_id, kind, run, duration_ns in zip(
        columns["trace_id"], columns["class"], columns["run"], columns["duration_ns"], strict=True
    ):
        yield {
            "received_at": received_at,
            "profile": profile.id,
            "sent_trace_id": trace_id,
            "class": kind,
            "run": run,
            "duration_ns": duration_ns,
        }


def _place(place: Mapping[str, object]) -> dict[str, object]:
    ids = {"sent_trace_id": place["trace_id"], "sent_span_id": place["span_id"]}
    return {name: value for name, value in place.items() if name not in ("trace_id", "span_id")} | ids


def _moment(time_ns: int) -> str:
    return f"{time_ns // NS_PER_S}.{time_ns % NS_PER_S // 1_000_000:03}"


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
