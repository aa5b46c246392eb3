import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from testkit.processes import CollectorProcess

from tailsight_storage import Store, open_store

# A machine that is shared is slow now and then, which says nothing of what is tested.
settings.register_profile(
    "shared machine",
    max_examples=int(os.environ.get("TAILSIGHT_EXAMPLES", "50")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("shared machine")


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Iterator[Store]:
    """One embedded engine a module: chDB allows one folder a process, and other modules need theirs."""
    with open_store(f"chdb://{tmp_path_factory.mktemp('engine')}", create=True) as store:
        yield store


@pytest.fixture
def store(engine: Store) -> Store:
    """A real store whose tables are empty."""
    for table in (
        "spans",
        "rejected_spans",
        "stage_latency_1m",
        "hardware_samples",
        "sender_batches",
        "alerts",
        "gate_reports",
        "profile_samples",
        "profile_requests",
        "profiles",
    ):
        engine.run(f"TRUNCATE TABLE {table}")
    return engine


@pytest.fixture(scope="session")
def collector(tmp_path_factory) -> Iterator[CollectorProcess]:
    """A running collector that tests share: they tell their spans apart by service or run."""
    with CollectorProcess(tmp_path_factory.mktemp("collector")) as running:
        yield running
