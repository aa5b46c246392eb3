"""Open the dashboard in Streamlit's AppTest, and read what it shows."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest


def opened(app: AppTest, view: str = "stages", **address: str | list[str]) -> AppTest:
    """Open the address, as a browser with a copied link would."""
    app.query_params.update({"time": "all", **address})
    app.run()
    if view != "stages":
        # the first run draws the default page: AppTest knows pages only after it
        app.switch_page(f"views/{view}.py")
        app.query_params.update({"time": "all", **address})
        app.run()
    assert not app.exception, app.exception
    return app


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def texts(app: AppTest) -> str:
    return "\n".join(element.value for kind in (app.markdown, app.caption, app.subheader) for element in kind)
