"""Which store `tailsight up` gives to whom. No ClickHouse server is at hand: its children are recorded instead of run."""

import pytest

from tailsight_cli import stack as module
from tailsight_cli.processes import Event
from tailsight_cli.stack import Ports, Stack

SERVER = "clickhouse://me:secret@db.example:8123/tailsight"


@pytest.fixture
def children(monkeypatch):
    """The children that a stack starts; the collector says where it listens, with no SQL port of its own."""
    started = {}

    class RecordedChild:
        def __init__(self, name, _module, arguments, events, *, environment, **_):
            started[name] = (arguments, environment)
            if name == "collector":
                events.put(
                    Event(
                        self,
                        {"otlp_url": "http://127.0.0.1:4318", "grpc_target": "127.0.0.1:4317", "store": self.sql_port},
                    )
                )

        sql_port = ""

        def ask_to_stop(self):
            pass

        stop = ask_to_stop

    monkeypatch.setattr(module, "Child", RecordedChild)
    monkeypatch.setattr(module, "_await_answer", lambda url, child: None)
    monkeypatch.setenv("TAILSIGHT_STORE", "clickhouse://other-readers:8123/tailsight")
    return started, RecordedChild


def test_with_a_server_the_dashboard_reads_that_server(children, tmp_path):
    started, _ = children
    with Stack(Ports(), data=tmp_path, store=SERVER) as stack:
        stack.start_dashboard()
    assert started["collector"][0][-2:] == ["--store", SERVER]
    arguments, environment = started["dashboard"]
    assert environment["TAILSIGHT_STORE"] == SERVER
    assert not any("secret" in argument for argument in arguments)


def test_with_the_embedded_store_the_dashboard_reads_the_collectors_sql_port(children, tmp_path):
    started, child = children
    child.sql_port = "clickhouse://127.0.0.1:8123/tailsight"
    with Stack(Ports(), data=tmp_path) as stack:
        stack.start_dashboard()
    assert "TAILSIGHT_STORE" not in started["collector"][1]
    assert started["dashboard"][1]["TAILSIGHT_STORE"] == child.sql_port
