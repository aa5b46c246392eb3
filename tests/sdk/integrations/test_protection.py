"""The host is protected, from defects of the hooks as well, and the bare SDK from the frameworks."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from sdk.integrations.http_apps import asgi_app, wsgi_app
from sdk.integrations.http_clients import CLIENTS, Client
from sdk.integrations.servers import asgi_server, grpc_server, wsgi_server
from sdk.integrations.test_grpc import HANDLERS

import tailsight.integrations.asgi
import tailsight.integrations.grpc
import tailsight.integrations.wsgi
from tailsight._stats import counters
from tailsight.integrations import _grpc, _http
from tailsight.testing import Capture


def broken(*args: Any, **kwargs: Any) -> Any:
    raise ZeroDivisionError("a defect of ours")


@pytest.mark.parametrize("client", list(CLIENTS.values()), ids=list(CLIENTS))
@pytest.mark.parametrize("serve", [lambda: asgi_server(asgi_app()), lambda: wsgi_server(wsgi_app())], ids=["asgi", "wsgi"])  # fmt: skip
def test_a_defect_of_the_hooks_for_http_stays_inside(
    captured: Capture, monkeypatch: pytest.MonkeyPatch, client: Client, serve: Any
) -> None:
    for module in (_http, tailsight.integrations.asgi, tailsight.integrations.wsgi):
        monkeypatch.setattr(module, "method_names", broken)
        monkeypatch.setattr(module, "set_outcome", broken)
    with serve() as url:
        assert client("POST", f"{url}/echo", b"abc") == (200, b"abc")
    assert counters.internal_errors > 0
    assert len(captured.spans) == 3  # both halves are there, with less in them


@pytest.mark.parametrize("where", [(_grpc.GrpcCall, "describe"), (_grpc, "status_number")], ids=["end", "status"])
def test_a_defect_of_the_hooks_for_grpc_stays_inside(
    captured: Capture, monkeypatch: pytest.MonkeyPatch, where: Any
) -> None:
    monkeypatch.setattr(*where, broken)
    server = grpc_server(HANDLERS, [tailsight.integrations.grpc.server_interceptor()])
    with server as address, grpc.insecure_channel(address) as channel:
        call = tailsight.integrations.grpc.instrument(channel).unary_unary("/test.Echo/Echo")
        assert call(b"x") == b"xx"
    assert counters.internal_errors > 0
    assert len(captured.spans) == 3


def test_the_sdk_alone_imports_none_of_the_frameworks() -> None:
    code = (
        "import sys, tailsight, tailsight.integrations, tailsight.integrations.asgi, tailsight.integrations.wsgi;"
        "print([m for m in ('httpx', 'requests', 'aiohttp', 'grpc', 'starlette') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


EXAMPLES = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[3] / "docs/integrations.md").read_text(), re.DOTALL
)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_in_the_documentation_run(example: str) -> None:
    made: dict[str, Any] = {}
    exec(compile(example, "integrations.md", "exec"), made)
    assert made.keys() & {"client", "session", "rank", "app", "server"}
