"""Cleaning in a real browser: the sizes, the second question, and what is gone afterwards."""

from __future__ import annotations

import os
import time
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import served


def press(page: Page, name: str) -> None:
    """Clicks a button once it stands still: one that Streamlit is still drawing loses the click."""
    button = page.get_by_role("button", name=name)
    expect(button).to_be_visible()
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    button.click()


def test_kept_teachers_go_after_a_second_click(page: Page, tmp_path: Path) -> None:
    teacher = tmp_path / "teachers" / "k" / "teacher.safetensors"
    teacher.parent.mkdir(parents=True)
    teacher.write_bytes(bytes(3_000_000))
    for path in (teacher, teacher.parent):
        os.utime(path, (time.time() - 9999,) * 2)
    with served(tmp_path) as address:
        page.goto(address)
        page.get_by_role("link", name="Storage").click()
        expect(page.get_by_role("heading", name="Storage")).to_be_visible()
        press(page, "Free 3.0 MB")
        press(page, "Keep")
        press(page, "Free 3.0 MB")
        assert teacher.is_file()
        press(page, "Delete 3.0 MB")
        expect(page.get_by_text("Freed 3.0 MB")).to_be_visible()
        assert not teacher.exists()
        expect(page.get_by_role("button", name="Delete 3.0 MB")).to_have_count(0)
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate(overflow) <= 0
