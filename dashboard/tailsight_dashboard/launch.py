"""How to start the dashboard: the arguments for `python -m streamlit`. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

APP_PATH = Path(__file__).with_name("app.py")
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8501

# Streamlit's own configuration, which wins over any config.toml in the working folder. Light or dark follows the
# browser; both get an accent that does not read as an alarm, because red is for errors.
STREAMLIT_OPTIONS = {
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.runOnSave": "false",
    "server.showEmailPrompt": "false",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "viewer",
    "client.showErrorDetails": "type",  # the whole of it goes to the console
    "client.showErrorLinks": "false",
    "runner.magicEnabled": "false",
    "logger.level": "warning",  # less is news to nobody: `tailsight up` says itself where it is
    "theme.light.primaryColor": "#0b6bb0",
    "theme.dark.primaryColor": "#4aa8e8",
    "theme.metricValueFontSize": "1.75rem",
}


def streamlit_arguments(port: int, host: str = DEFAULT_HOST) -> list[str]:
    """Return the arguments for `python -m streamlit` that serve the dashboard at this address.

    The store is told by the environment's TAILSIGHT_STORE. There is no authentication: keep `host` on loopback.
    """
    options = {**STREAMLIT_OPTIONS, "server.address": host, "server.port": str(port)}
    return ["run", str(APP_PATH), *(f"--{name}={value}" for name, value in options.items())]
