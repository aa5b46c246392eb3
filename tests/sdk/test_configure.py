import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import tailsight
from tailsight import _options
from tailsight._options import Settings, env_name, resolve

DOCS = Path(__file__).parents[2] / "docs" / "sdk.md"
OPTIONS = [field.name for field in dataclasses.fields(Settings)]


def test_an_argument_wins_over_our_variable_over_opentelemetrys_over_the_default() -> None:
    environ = {"OTEL_SERVICE_NAME": "otel"}
    assert resolve({}, {}).service is None
    assert resolve({}, environ).service == "otel"
    environ["TAILSIGHT_SERVICE"] = "ours"
    assert resolve({}, environ).service == "ours"
    assert resolve({"service": "argument"}, environ).service == "argument"
    assert resolve({"service": None}, environ).service == "ours"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "http://127.0.0.1:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c:4318/base/"}, "https://c:4318/base/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/custom"}, "http://c/custom"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, "http://c/"),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/x", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://base"},
            "http://t/x",
        ),
        ({"TAILSIGHT_ENDPOINT": "http://c:1/v1/traces"}, "http://c:1/v1/traces"),
        ({"TAILSIGHT_ENDPOINT": "http://[::1]:4318"}, "http://[::1]:4318/v1/traces"),
        ({"TAILSIGHT_ENDPOINT": "  "}, "http://127.0.0.1:4318/v1/traces"),
    ],
)
def test_the_endpoint_is_completed_as_opentelemetry_specifies(environ: dict[str, str], expected: str) -> None:
    assert resolve({}, environ).endpoint == expected


def test_headers_and_resource_attributes_are_percent_decoded_and_merged_by_key() -> None:
    settings = resolve(
        {"headers": {"X-Key": "mine"}, "resource_attributes": {"team": "search", "n": 3}},
        {
            "OTEL_EXPORTER_OTLP_HEADERS": "x-key=theirs,Authorization=Basic%20abc",
            "OTEL_RESOURCE_ATTRIBUTES": "team=other, deployment.environment.name=pro%2Cd,",
        },
    )
    assert settings.headers == {"x-key": "mine", "authorization": "Basic abc"}
    assert settings.resource_attributes == {"team": "search", "n": 3, "deployment.environment.name": "pro,d"}


def test_the_sdk_can_be_switched_off_by_either_variable() -> None:
    assert resolve({}, {}).enabled
    assert not resolve({}, {"TAILSIGHT_ENABLED": "false"}).enabled
    assert not resolve({}, {"OTEL_SDK_DISABLED": "True"}).enabled
    assert resolve({}, {"OTEL_SDK_DISABLED": "true", "TAILSIGHT_ENABLED": "1"}).enabled


@pytest.mark.parametrize(
    ("arguments", "environ", "line"),
    [
        ({"timeout_s": "soon"}, {}, "configure(timeout_s=…) is ignored: expected a number of at least 0, got 'soon'"),
        ({"timeout_s": 0}, {}, "expected a number greater than 0, got 0"),
        ({"timeout_s": True}, {}, "expected a number of at least 0, got True"),
        ({"timeout_s": float("nan")}, {}, "expected a number of at least 0, got nan"),
        ({}, {"TAILSIGHT_MAX_ATTRIBUTES": "1.5"}, "TAILSIGHT_MAX_ATTRIBUTES is ignored: expected a whole number"),
        ({}, {"TAILSIGHT_ENABLED": "maybe"}, "TAILSIGHT_ENABLED is ignored: expected true or false, got 'maybe'"),
        ({"endpoint": "localhost:4318"}, {}, "expected an address such as http://127.0.0.1:4318, got 'localhost:4318'"),
        ({"endpoint": 4318}, {}, "expected an address such as http://127.0.0.1:4318, got 4318"),
        ({"endpoint": "http://c:99999"}, {}, "got 'http://c:99999'"),
        ({"endpoint": "http://c d"}, {}, "expected an address of printable ASCII characters"),
        ({"endpoint": "http://user:pw@c"}, {}, "use headers for credentials"),
        ({}, {"OTEL_EXPORTER_OTLP_COMPRESSION": "zip"}, "expected one of none, gzip, got 'zip'"),
        ({"service": ["x"]}, {}, "expected a non-empty text, got ['x']"),
        ({"resource_attributes": 3}, {}, "expected a mapping or key=value,key=value, got 3"),
        ({}, {"OTEL_RESOURCE_ATTRIBUTES": "broken"}, "expected key=value,key=value, got 'broken'"),
        ({"serivce": "x"}, {}, "configure(serivce=…) is ignored: there is no such option; did you mean service?"),
        ({"zzz": "x"}, {}, "there is no such option; there are: enabled, service"),
    ],
)
def test_a_wrong_value_is_one_line_and_the_default(
    caplog: pytest.LogCaptureFixture, arguments: dict[str, Any], environ: dict[str, str], line: str
) -> None:
    assert resolve(arguments, environ) == resolve({}, {})
    (record,) = caplog.records
    assert line in record.getMessage()
    assert (record.name, record.exc_info) == ("tailsight", None)


def test_a_wrong_header_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    assert resolve({"headers": {"authorization": "hunter2\n"}}, {}).headers == {"authorization": "hunter2"}
    assert resolve({"headers": {"authorization": "hun\nter2"}}, {}).headers == {}
    assert resolve({}, {"TAILSIGHT_HEADERS": "bad name=hunter2"}).headers == {}
    assert "hunter2" not in caplog.text
    assert "ter2" not in caplog.text
    assert len(caplog.records) == 2


def test_a_value_that_cannot_be_shown_does_not_reach_the_application(caplog: pytest.LogCaptureFixture) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    tailsight.configure(timeout_s=Odd())  # type: ignore[arg-type]
    assert len(caplog.records) == 1


def test_configures_keywords_are_the_table() -> None:
    parameters = inspect.signature(tailsight.configure).parameters
    keywords = [name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    assert keywords == OPTIONS
    assert all(parameters[name].default is None for name in keywords)


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().service = "x"  # type: ignore[misc]


def documented() -> dict[str, list[str]]:
    """Read the table of options: a row per option, its cells without the markup."""
    rows: dict[str, list[str]] = {}
    for line in DOCS.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| `") and len(cells) == 4:
            rows[cells[0].strip("`")] = cells[1:]
    return rows


def test_the_documentation_has_every_option_with_its_variables_default_and_meaning() -> None:
    rows = documented()
    assert list(rows) == OPTIONS
    for field in dataclasses.fields(Settings):
        variables, default, meaning = rows[field.name]
        names = [env_name(field.name), *(source.env for source in field.metadata["otel"])]
        assert variables == ", ".join(f"`{name}`" for name in names)
        value = field.default if field.default is not dataclasses.MISSING else None
        shown = "–" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"
        assert default == shown
        assert meaning == field.metadata["help"]


def test_defaults_have_names() -> None:
    names = {name for name in vars(_options) if name.startswith("DEFAULT_")}
    numeric = {
        f"DEFAULT_{field.name.upper()}"
        for field in dataclasses.fields(Settings)
        if isinstance(field.default, int | float) and not isinstance(field.default, bool)
    }
    assert names == numeric - {"DEFAULT_SAMPLE_RATE"} | {"DEFAULT_ENDPOINT", "DEFAULT_GRPC_ENDPOINT", "DEFAULT_FILE"}
    assert re.fullmatch(r"http://127\.0\.0\.1:4318", _options.DEFAULT_ENDPOINT)


def test_paths_are_absolute_because_the_sidecar_works_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve({}, {}).file == f"{tmp_path}/tailsight-{{pid}}.otlp"
    said = resolve({"file": "a/../b-{pid}.otlp", "spool_dir": "spool"}, {"TAILSIGHT_RUNTIME_DIR": "run"})
    assert said.file == f"{tmp_path}/b-{{pid}}.otlp"
    assert (said.spool_dir, said.runtime_dir) == (f"{tmp_path}/spool", f"{tmp_path}/run")
    assert resolve({"spool_dir": tmp_path / "p"}, {}).spool_dir == f"{tmp_path}/p"
    assert resolve({}, {}).spool_dir is None
