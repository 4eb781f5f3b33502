"""A lab of its own for each test module, and a real Chromium to drive it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from pages._identity import COOKIE
from tests.browser.find import chromium

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

expect.set_options(timeout=30_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="package")  # while Playwright runs, no other test of this process can use asyncio.run
def browser() -> Iterator[Browser]:
    executable = chromium()
    if executable is None:
        message = "no Chromium; install it with: apt-get install chromium chromium-driver"
        if os.environ.get("DISTILL_REQUIRE_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(executable), args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running lab with an empty home folder."""
    with served(tmp_path_factory.mktemp("lab")) as address:
        yield address


@contextmanager
def served(home: Path, script: str = "app.py", **environment: str) -> Iterator[str]:
    """The address of a lab, or of another script, that runs on a home folder for a while."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.headless", "true"]
    command += ["--server.port", str(port), "--server.address", "127.0.0.1"]
    with (home / "server.log").open("wb") as log:
        own = {**os.environ, "DISTILL_HOME": str(home), **environment}
        server = subprocess.Popen(command, cwd=ROOT, env=own, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_served(address, server)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=20)


def _wait_until_served(address: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert server.poll() is None, "the lab has ended"
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the lab was not served in time")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page at desktop width, the same person's in every test, that fails if the browser reports an error."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.add_cookies([{"name": COOKIE, "value": "p" * 32, "domain": "127.0.0.1", "path": "/"}])
    opened = context.new_page()
    opened.set_default_timeout(30_000)
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert errors == []
