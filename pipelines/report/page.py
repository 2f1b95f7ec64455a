"""The page of `untrimmed report`: markup, style and script that travel with the package, around one payload.

The script is plain JavaScript in a few files, in the order below; each uses only what stands before it or is called
after all are there.
"""

from importlib.resources import files
from typing import Any

from pipelines.report.html import html_page

_SCRIPTS = (
    "rules.js",
    "labels.js",
    "dom.js",
    "lanes.js",
    "player.js",
    "review.js",
    "plots.js",
    "overview.js",
    "list.js",
    "page.js",
)


def report_page(payload: dict[str, Any]) -> str:
    """A self-contained HTML document that shows ``payload`` (see `pipelines.report.payload`)."""
    here = files("pipelines.report")
    return html_page(
        title=str(payload["title"]),
        body=(here / "page.html").read_text("utf-8"),
        style=(here / "page.css").read_text("utf-8"),
        script=_alone("\n".join((here / name).read_text("utf-8") for name in _SCRIPTS)),
        data=payload,
    )


def _alone(script: str) -> str:
    """In a scope of its own, so that none of its names meets one of the browser's."""
    return f"(() => {{\n{script}\n}})();"
