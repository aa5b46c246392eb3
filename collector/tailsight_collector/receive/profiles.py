"""Profiles that were joined to spans, sent by `tailsight profile`: `POST /tailsight/profiles`, beside OTLP."""

from __future__ import annotations

from tailsight_collector.receive.kept_documents import Kind
from tailsight_storage import Store
from tailsight_storage.profiles import MAX_PROFILE_BYTES, insert_profile, read_profile

PATH = "/tailsight/profiles"


def _keep(store: Store, sent: bytes) -> tuple[str, bool]:
    profile = read_profile(sent)
    return profile.id, insert_profile(store, profile)


PROFILES = Kind(PATH, "profile", MAX_PROFILE_BYTES, "profiles and profile_samples", _keep)
