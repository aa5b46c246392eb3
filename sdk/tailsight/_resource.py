"""The resource: what is true of every span of this process."""

import os
import socket
from functools import cache
from importlib import metadata

from . import attributes as keys
from ._hardware import Hardware, detect
from ._options import Settings
from ._values import Value

SDK_NAME = "tailsight"


@cache
def sdk_version() -> str:
    """Return the installed version of this package, or "unknown" where its metadata is missing (a vendored copy)."""
    try:
        return metadata.version(SDK_NAME)
    except metadata.PackageNotFoundError:
        return "unknown"


@cache
def _hardware() -> Hardware:
    return detect()


def resource_attributes(settings: Settings, *, pid: int | None = None) -> dict[str, Value]:
    """Collect the resource's attributes: what is found on the machine, then the user's attributes, then the options.

    Takes milliseconds the first time (host name, GPU driver): not for the application's thread. `pid` is the service's,
    where another process asks on its behalf.
    """
    given = {
        keys.SERVICE_NAME: settings.service,
        keys.SERVICE_VERSION: settings.version,
        keys.DEPLOYMENT_ENVIRONMENT: settings.environment,
        keys.CLOUD_REGION: settings.region,
        keys.HOST_NAME: settings.host,
        keys.RUN: settings.run,
        keys.HARDWARE: settings.hardware,
    }
    resource: dict[str, Value] = {
        keys.SERVICE_NAME: "unknown_service:python",  # the name that OpenTelemetry prescribes
        keys.HOST_NAME: socket.gethostname(),
        keys.PROCESS_PID: os.getpid() if pid is None else pid,
        **settings.resource_attributes,
        **{key: value for key, value in given.items() if value is not None},
        keys.TELEMETRY_SDK_NAME: SDK_NAME,
        keys.TELEMETRY_SDK_LANGUAGE: "python",
        keys.TELEMETRY_SDK_VERSION: sdk_version(),
    }
    if keys.HARDWARE not in resource:
        found = _hardware()
        resource[keys.HARDWARE] = found.name
        resource.setdefault(keys.HW_TYPE, found.kind)
        resource.setdefault(keys.HW_NAME, found.name)
        if found.vendor:
            resource.setdefault(keys.HW_VENDOR, found.vendor)
    return resource
