"""The whole suite of the store runs in both ways: in the engine's process, and through a collector's SQL port."""

from collections.abc import Iterator

import pytest
from testkit.ports import BOTH, PortHere, as_caller, write_tokens

from tailsight_storage import Store, open_store

IN_PROCESS, THROUGH_THE_PORT = "in-process", "through-the-port"
# Modules about what only the engine's own process does.
IN_PROCESS_ONLY = {
    "test_decoder": "segments are decoded in C where the engine is in the same process",
    "test_migrations": "the port lets nobody change tables",
    "test_gate_reports": "the port takes no reports: they come by OTLP's",
    "test_profiles": "the port takes no profiles: they come by OTLP's",
}
TABLES = (
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
)


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        one = metafunc.module.__name__.rpartition(".")[2] in IN_PROCESS_ONLY
        ways = [IN_PROCESS] if one else [IN_PROCESS, THROUGH_THE_PORT]
        metafunc.parametrize("engine", ways, indirect=True, scope="module")


@pytest.fixture(scope="module")
def admin(tmp_path_factory) -> Iterator[Store]:
    """The engine itself, for what the port refuses: emptying tables between tests, and changing them."""
    with open_store(f"chdb://{tmp_path_factory.mktemp('engine')}", create=True) as store:
        yield store


@pytest.fixture(scope="module")
def engine(request, admin, tmp_path_factory) -> Iterator[Store]:
    """A store as it is opened: in this process, or through the port with a token that may send and read."""
    if request.param == IN_PROCESS:
        yield admin
        return
    tokens = write_tokens(tmp_path_factory.mktemp("tokens") / "tokens.txt")
    with PortHere(admin, tokens) as port, open_store(as_caller(BOTH, port.store), create=True) as store:
        yield store


@pytest.fixture
def store(engine, admin) -> Store:
    """A real store whose tables are empty."""
    for table in TABLES:
        admin.run(f"TRUNCATE TABLE {table}")
    return engine
