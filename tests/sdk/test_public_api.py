"""Promises about the package as a whole."""

import importlib
import inspect
import pkgutil
import re
from importlib import metadata
from pathlib import Path

import pytest

import tailsight
from tailsight import attributes, testing
from tailsight.testing import FakeClock, SequentialIds, capture

DESIGNED = {
    "service.name",
    "service.version",
    "deployment.environment.name",
    "host.name",
    "cloud.region",
    "process.pid",
    "tailsight.run",
    "tailsight.hardware",
    "tailsight.stage",
    "tailsight.model",
    "tailsight.batch.size",
    "tailsight.queue.depth",
    "tailsight.deadline_ms",
    "tailsight.intended_start_unix_nano",
    "thread.id",
    "gen_ai.response.time_to_first_chunk",
    "tailsight.stream.items",
    "tailsight.stream.gap_p50_ms",
    "tailsight.stream.gap_p99_ms",
    "tailsight.stream.gap_max_ms",
}


def test_all_is_what_is_public() -> None:
    assert tailsight.__all__ == sorted(tailsight.__all__)
    public = {
        name for name, value in vars(tailsight).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    lazily = {"AsyncQueue"}
    assert public - {"TYPE_CHECKING"} | lazily | {"__version__"} == set(tailsight.__all__)
    assert all(hasattr(tailsight, name) for name in tailsight.__all__)
    assert set(testing.__all__) <= set(vars(testing))


def test_everything_public_is_documented() -> None:
    for module in (tailsight, testing):
        for name in set(module.__all__) - {"__version__"}:
            assert inspect.getdoc(getattr(module, name)), name


def test_the_version_is_the_distributions() -> None:
    assert tailsight.__version__ == metadata.version("tailsight")


def test_the_package_is_typed_and_its_modules_are_short() -> None:
    folder = Path(tailsight.__file__).parent
    assert (folder / "py.typed").exists()
    for module in pkgutil.walk_packages([str(folder)], "tailsight."):
        found = importlib.import_module(module.name)
        assert found.__doc__
        assert found.__file__
        if found.__file__.endswith(".py"):  # the native module is not
            assert len(Path(found.__file__).read_text().splitlines()) < 400


def test_the_attribute_keys_of_the_wire_contract_are_in_one_module() -> None:
    defined = {value for name, value in vars(attributes).items() if name.isupper()}
    assert defined >= DESIGNED


def test_no_other_module_spells_a_key_out() -> None:
    folder = Path(tailsight.__file__).parent
    for path in folder.glob("*.py"):
        if path.name not in {"attributes.py", "_device.py", "_device_metrics.py"}:  # they have metrics' names
            code = re.sub(r'"""[\s\S]*?"""', "", path.read_text())
            assert not re.search(r'"(tailsight\.[a-z]|service\.|exception\.|host\.|process\.)', code), path


def test_captured_spans_are_predictable() -> None:
    clock = FakeClock(unix_ns=10**18, tick_ns=10)
    with capture(clock=clock, ids=SequentialIds()) as captured, tailsight.request("r"), tailsight.stage("compute"):
        pass
    request, compute = captured.spans
    assert (request.trace_id, request.span_id) == (f"{1:032x}", f"{1:016x}")
    assert (compute.span_id, compute.parent_span_id) == (f"{2:016x}", request.span_id)
    assert (request.duration_ns, compute.duration_ns) == (30, 10)
    assert captured.children_of(request) == [compute]
    assert captured.one(name="r") is request
    with pytest.raises(
        LookupError, match=r"2 spans have stage=None and name=None, expected one; captured: r \(request\)"
    ):
        captured.one()
    captured.clear()
    assert captured.find() == []


def test_capturing_is_undone_at_its_end() -> None:
    with capture() as outer:
        with capture() as inner, tailsight.stage("compute"):
            pass
        with tailsight.stage("queue"):
            pass
    assert [span.stage for span in inner.spans] == ["compute"]
    assert [span.stage for span in outer.spans] == ["queue"]
