"""A real Chromium for tests of pages. Where there is none they are skipped, or fail if UNTRIMMED_BROWSER=1 is set."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

NAMES = ("chromium", "google-chrome", "chromium-browser")


@contextmanager
def chromium() -> Iterator["Browser"]:
    """The browser of this machine, without a window."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        without("playwright is not installed")
    if path is None:
        without(f"none of {', '.join(NAMES)} is on the PATH")
    # Files of videos may be played at once; root has no sandbox, and small machines little shared memory.
    options = ["--autoplay-policy=no-user-gesture-required", "--no-sandbox", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options)
        try:
            yield browser
        finally:
            browser.close()


def without(reason: str) -> None:
    """Skip the test, or fail where a browser must be."""
    if os.environ.get("UNTRIMMED_BROWSER") == "1":
        pytest.fail(f"UNTRIMMED_BROWSER=1, but {reason}")
    pytest.skip(f"{reason}; UNTRIMMED_BROWSER=1 makes this fail")


class Watched:
    """A page, and all that it asked for or complained of."""

    def __init__(self, context: "BrowserContext") -> None:
        self.page: Page = context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._console)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)
