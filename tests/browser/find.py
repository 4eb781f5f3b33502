"""Finds a Chromium; `python -m tests.browser.find` prints its path."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> Path | None:
    """A Chromium or Chrome of this machine, else Playwright's own; None where there is none."""
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return Path(found)
    from playwright.sync_api import Error, sync_playwright

    with contextlib.suppress(Error), sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        if own.is_file():
            return own
    return None


if __name__ == "__main__":
    print(chromium() or "")
