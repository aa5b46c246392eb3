from collections.abc import Iterator

import pytest
from tailsight_storage import Store, open_store


@pytest.fixture(scope="session")
def _engine(tmp_path_factory) -> Iterator[Store]:
    """One embedded engine for the whole process: chDB allows one folder."""
    with open_store(f"chdb://{tmp_path_factory.mktemp('engine')}", create=True) as store:
        yield store


@pytest.fixture
def store(_engine: Store) -> Store:
    """A real store whose tables are empty."""
    for table in ("spans", "rejected_spans", "stage_latency_1m"):
        _engine.run(f"TRUNCATE TABLE {table}")
    return _engine
