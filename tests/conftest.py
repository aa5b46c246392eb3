from collections.abc import Iterator

import pytest
from testkit.processes import CollectorProcess


@pytest.fixture(scope="session")
def collector(tmp_path_factory) -> Iterator[CollectorProcess]:
    """A running collector that tests share: they tell their spans apart by service or run."""
    with CollectorProcess(tmp_path_factory.mktemp("collector")) as running:
        yield running
