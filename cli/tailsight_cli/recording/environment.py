"""What makes a process write its spans into a recording: variables that every OpenTelemetry SDK, and ours, reads."""

from __future__ import annotations

from collections.abc import Mapping

from tailsight_cli.recording.folders import Folder

RECORDING_ENV = "TAILSIGHT_RECORDING"
_LOOPBACK = ("127.0.0.1", "localhost")
# What would win over what is set here, or switch recording off.
_REMOVED = (
    "OTEL_SDK_DISABLED",
    *(
        f"OTEL_EXPORTER_OTLP_{signal}{what}"
        for signal in ("", "TRACES_", "METRICS_", "LOGS_")
        for what in ("ENDPOINT", "PROTOCOL", "HEADERS", "CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE", "INSECURE")
    ),
)


def environment(folder: Folder, run: str, otlp_url: str = "") -> dict[str, str]:
    """Name the variables for a process to record; with `otlp_url`, also for OpenTelemetry's own SDKs."""
    variables = {
        RECORDING_ENV: str(folder.path),
        "TAILSIGHT_ENABLED": "true",
        "TAILSIGHT_TRANSPORT": "file",
        "TAILSIGHT_FILE": str(folder.spans / "{pid}.otlp"),
        "TAILSIGHT_RUNTIME_DIR": str(folder.rings),
        "TAILSIGHT_SPOOL_DIR": str(folder.path / "spool"),
        "TAILSIGHT_RUN": run,
    }
    if otlp_url:
        variables |= {
            "TAILSIGHT_PROTOCOL": "http/protobuf",  # for a program that chooses another transport than the file
            "TAILSIGHT_ENDPOINT": otlp_url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": otlp_url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_EXPORTER": "otlp",
        }
    return variables


def with_recording(environ: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """Return a process's whole environment: `environ` with these variables and without what would win over them."""
    whole = {name: value for name, value in environ.items() if name not in _REMOVED} | dict(variables)
    for name in ("NO_PROXY", "no_proxy"):  # a proxy would not find our loopback address
        whole[name] = ",".join(filter(None, (environ.get(name, ""), *_LOOPBACK)))
    return whole
