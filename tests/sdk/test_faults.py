"""Every internal function is made to raise, one after the other, and the application notices nothing."""

import contextvars
import gc
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from sdk.fake_collector import FakeCollector
from sdk.test_guard import EXPECTED, InjectedError, application

import tailsight
from tailsight import _core, _pace, _propagate, _runtime, _span, _stream
from tailsight._recorder import current

NOT_INTERNAL = {
    "attributes": "constants",
    "integrations": "has a test of its own, tests/sdk/integrations/test_protection.py",
    "testing": "for tests",
    "_fake_device": "for tests",
    "_guard": "the guard itself",
    "_signals": "part of the guard",
    "_sidecar_main": "runs in another process",
    "_sidecar_loop": "runs in another process",
    "_sidecar_devices": "runs in another process",
    "_profiler": "runs in another process",
    "_profile_recording": "runs in another process",
    "_profile_sending": "runs in another process",
    "_profile_states": "runs in another process",
    "_profile_words": "runs in another process",
    "_tail_watch": "runs in another process",
    "_left_behind": "runs in another process",
    "_courier": "runs in another process",
    "_spool": "runs in another process",
    "_destination": "runs in another process",
    "_device": "runs in another process",
    "_device_machine": "runs in another process",
    "_device_nvml": "runs in another process",
    "_device_rapl": "runs in another process",
    "_otlp_metrics": "runs in another process",
}
ENTRANCES = {  # what the application itself calls: there is nothing of ours around it
    (_span.Span, name)
    for name, found in vars(_span.Span).items()
    if inspect.isfunction(found) and (not name.startswith("_") or name.startswith("__"))
} | {
    (_core.Core, "__enter__"),
    (_core.Core, "__exit__"),
    (_core.Core, "set"),
    (_propagate.RemoteContext, "__enter__"),
    (_propagate.RemoteContext, "__exit__"),
    # A few assignments, each the last resort of what is around it.
    (_span, "new_span"),
    (_pace.Pace, "__init__"),
    (_stream._Steps, "__init__"),
    (_stream._Steps, "begin"),  # what it does beyond them has its own try
    # They run the host's generator: what comes out of them is the host's.
    (_stream._Steps, "throw"),
    (_stream._Steps, "athrow"),
    (_stream, "_first_asend"),
}
THE_SIDECARS = ("_sidecar", "_sidecar_start", "_sidecar_config", "_ring", "_folders")

Place = tuple[Any, str]


def internal_functions(module: Any) -> Iterator[Place]:
    """Yield each function of a module and each method of its classes, and where it can be replaced."""
    for name, found in vars(module).items():
        if inspect.isfunction(found) and found.__module__ == module.__name__:
            yield module, name
        elif inspect.isclass(found) and found.__module__ == module.__name__:
            for method, function in vars(found).items():
                plain = function.__func__ if isinstance(function, staticmethod | classmethod) else function
                if inspect.isfunction(plain) and not issubclass(found, Exception):
                    yield found, method


def public(place: Place) -> bool:
    where, name = place
    found = getattr(where, name)
    return any(found is getattr(tailsight, exported) for exported in tailsight.__all__) or place in ENTRANCES


def modules() -> list[str]:
    package = pkgutil.iter_modules(tailsight.__path__)
    return sorted(module.name for module in package if module.name not in NOT_INTERNAL)


def replace(monkeypatch: pytest.MonkeyPatch, place: Place, fail: Any) -> None:
    """Replace a function where it is defined and wherever it was imported to."""
    where, name = place
    original = vars(where)[name]
    monkeypatch.setattr(where, name, fail)
    if inspect.ismodule(where):
        for module in [module for key, module in sys.modules.items() if key.startswith("tailsight.")]:
            for alias, found in list(vars(module).items()):
                if found is original:
                    monkeypatch.setattr(module, alias, fail)


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # what cannot close a socket leaves it open
@pytest.mark.parametrize("name", modules())
def test_no_internal_function_that_raises_reaches_the_application(
    monkeypatch: pytest.MonkeyPatch, collector: FakeCollector, name: str
) -> None:
    module = importlib.import_module(f"tailsight.{name}")
    options: dict[str, Any] = {
        "endpoint": collector.url,
        "transport": "sidecar" if name in THE_SIDECARS else "thread",
        "sample_rate": 0.5,
        "flush_timeout_s": 0.05,
        "send_interval_s": 0.01,
        "retry_initial_s": 0.01,
    }
    broken = []
    for place in internal_functions(module):
        if public(place):
            continue

        def fail(*args: object, place: Place = place, **kwargs: object) -> Any:
            raise InjectedError(place)

        with monkeypatch.context() as patched:
            tailsight.configure(service="before", **options)
            replace(patched, place, fail)
            try:
                tailsight.configure(service="broken", **options)
                # In a context of its own: where leaving a span fails, the span stays current.
                assert contextvars.copy_context().run(application, 0.1) == EXPECTED
            except Exception as error:
                broken.append(f"{getattr(place[0], '__name__', place[0])}.{place[1]}: {error!r}")
        tailsight.shutdown(timeout=0.05)
        _runtime._runtime.recorder = current.recorder = None
    gc.collect()  # what could not close its socket warns here, and not in the next test
    assert broken == []
