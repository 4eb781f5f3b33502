"""Times the first page of a fresh lab, beside a Streamlit app of one button: `python -m tests.benchmarks.first_page`.

JSON on standard output. Seconds run from the start of the server, in a browser that is open and has cached nothing,
until a person can press Start.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browser.conftest import FLAGS, served
from tests.browser.find import chromium

EMPTY = 'import streamlit as st\nst.button("Start")\n'
"""The least that an app with a button can be."""


def seconds_to_start(browser: Browser, script: str) -> float:
    """One fresh server with an empty home folder, and one fresh visitor."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    with tempfile.TemporaryDirectory() as home:
        started = time.perf_counter()
        with served(Path(home), script) as address:
            page.goto(address)
            page.get_by_role("button", name="Start", exact=True).wait_for()
            seconds = time.perf_counter() - started
            context.close()
    return seconds


def measured(rounds: int) -> dict[str, object]:
    """Medians of the lab and the empty app, in turn, and their ratio."""
    executable = chromium()
    if executable is None:
        sys.exit("no Chromium; install it with: apt-get install chromium chromium-driver")
    seconds: Mapping[str, list[float]] = {"lab": [], "empty app": []}
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.py"
        empty.write_text(EMPTY, encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=str(executable), args=FLAGS)
        for _ in range(rounds):
            for name, script in (("lab", "app.py"), ("empty app", str(empty))):
                seconds[name].append(seconds_to_start(browser, script))
        browser.close()
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {"seconds": seconds, "medians": medians, "ratio": medians["lab"] / medians["empty app"]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="servers of each, in turn (default 5)")
    print(json.dumps(measured(parser.parse_args().rounds)))
