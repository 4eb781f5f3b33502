"""Steering a run as a class does: pause, single batches, stop and keep, two browsers, settings that stay."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

SETTINGS = (
    "teacher.size=XS&teacher.pretrain=false&teacher.epochs=15&student.size=XS&training.epochs=200&data.train_limit=2000"
    "&training.baseline=false&objective.beta=3.5"
)
STUDENT = "Student: CE, β·KL and total"
ACCURACIES = "[...document.querySelectorAll('.js-plotly-plot')].at(-1)"
EPOCHS = f"({ACCURACIES}.data.find(line => line.name === 'student')?.x.length ?? 0)"
STEP = re.compile(r"One batch: step ([\d,]+)")


@pytest.fixture
def visitor(browser: Browser) -> Iterator[BrowserContext]:
    """Another person's browser."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    yield context
    context.close()


def button(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def start(page: Page, lab: str) -> None:
    """Starts a run whose student learns for a while, from a link with its settings."""
    page.goto(f"{lab}/?{SETTINGS}")
    expect(page.get_by_text("3.50", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    button(page, "Start")
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()


def pause_in_student(page: Page) -> float:
    """Pauses once the student learns; returns the seconds until that was acknowledged."""
    expect(page.get_by_text(STUDENT)).to_be_visible(timeout=120_000)
    began = time.monotonic()
    button(page, "Pause")
    expect(page.get_by_text(re.compile("Pausing…|Paused"))).to_be_visible()
    seconds = time.monotonic() - began
    expect(page.get_by_role("button", name="Go on", exact=True)).to_be_visible()
    return seconds


def shown_step(page: Page) -> int:
    found = STEP.search(page.get_by_text(STEP).text_content() or "")
    assert found is not None
    return int(found[1].replace(",", ""))


def discard(page: Page) -> None:
    button(page, "Discard")
    button(page, "Really discard")
    expect(page.get_by_text("This run was discarded")).to_be_visible()


def test_a_class_follows_single_batches_and_keeps_the_student(page: Page, lab: str) -> None:
    start(page, lab)
    expect(page.get_by_role("button", name="Stop and keep", exact=True)).to_be_disabled()
    assert pause_in_student(page) < 2  # within a second on a quiet machine
    button(page, "One batch")
    expect(page.get_by_text(STEP)).to_be_visible()
    first = shown_step(page)
    expect(page.get_by_text(re.compile(r"CE \d+\.\d{4} \+ β 3\.5 · T² 4 · KL \d+\.\d{4} = \d+\.\d{4}"))).to_be_visible()
    expect(page.get_by_text(re.compile(r"after this update the same batch gives \d+\.\d{4}"))).to_be_visible()
    for taken in range(1, 4):
        button(page, "One batch")
        expect(page.get_by_text(f"One batch: step {first + taken:,}")).to_be_visible()
    page.wait_for_timeout(1500)
    assert shown_step(page) == first + 3, "nothing goes on by itself"

    epochs = page.evaluate(EPOCHS)
    page.evaluate(f"{ACCURACIES}.classList.add('seen')")
    button(page, "One epoch")
    page.wait_for_function(f"{EPOCHS} === {epochs} + 1")
    page.wait_for_timeout(1500)
    assert page.evaluate(EPOCHS) == epochs + 1, "one, and then it stands still"
    assert page.evaluate(f"{ACCURACIES}.classList.contains('seen')"), "the chart stays the same node"

    button(page, "Go on")
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    button(page, "Stop and keep")
    expect(page.get_by_text(re.compile(r"^The student was stopped at step [\d,]+ of [\d,]+"))).to_be_visible()
    page.get_by_role("button", name=re.compile("Compare teacher and student")).click()
    page.get_by_role("textbox", name="Text").fill("a wonderful and moving film")
    expect(page.locator(".lab-answer")).to_have_count(2)


def test_another_browser_watches_but_cannot_stop_the_run(page: Page, lab: str, visitor: BrowserContext) -> None:
    start(page, lab)
    pause_in_student(page)
    run = page.url
    other = visitor.new_page()
    other.goto(run)
    expect(other.get_by_text("Started in another browser")).to_be_visible()
    for name in ("Go on", "One batch", "Stop and keep", "Discard"):
        expect(other.get_by_role("button", name=name, exact=True)).to_have_count(0)
    expect(other.get_by_text("3.50", exact=True)).to_be_visible()  # its settings

    tab = page.context.new_page()
    tab.goto(run)
    button(tab, "Go on")
    expect(tab.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    expect(other.get_by_text(re.compile(r"\d+ % · .* left"))).to_be_visible()
    discard(tab)
    expect(other.get_by_text("This run was discarded")).to_be_visible()


def test_settings_survive_page_switches_and_refresh_and_open_elsewhere(
    page: Page, lab: str, visitor: BrowserContext
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(lab)
    sidebar = page.get_by_test_id("stSidebar")
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible()
    slider = sidebar.get_by_role("slider").first
    before = slider.input_value()
    slider.press("ArrowRight")
    sidebar.get_by_role("radio", name="GRU", exact=True).click()
    expect(slider).not_to_have_value(before)
    chosen = slider.input_value()
    page.wait_for_timeout(1500)

    def settings_are_shown(shown: Page) -> None:
        expect(shown.get_by_test_id("stSidebar").get_by_role("slider").first).to_have_value(chosen)
        expect(shown.get_by_test_id("stSidebar").get_by_role("radio", name="GRU", exact=True)).to_be_checked()

    page.get_by_role("link", name="Data").click()
    expect(page.get_by_role("heading", name="Movie reviews")).to_be_visible()
    page.get_by_role("link", name="Train").click()
    settings_are_shown(page)
    page.reload()
    settings_are_shown(page)

    button(page, "Copy link")
    expect(page.get_by_role("button", name="Copied", exact=True)).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    assert parse_qs(urlsplit(link).query)["student.kind"] == ["gru"]
    elsewhere = visitor.new_page()
    elsewhere.goto(link)
    settings_are_shown(elsewhere)


def test_a_link_with_a_bad_setting_says_so_and_the_lab_works(page: Page, lab: str) -> None:
    page.goto(f"{lab}/?objective.beta=-4")
    expect(
        page.get_by_text(re.compile("The settings cannot be opened.*must be greater than or equal to 0"))
    ).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()


def test_runs_wait_in_a_queue_that_says_for_how_long(page: Page, lab: str) -> None:
    start(page, lab)
    expect(page.get_by_text(STUDENT)).to_be_visible(timeout=120_000)
    first = page.url
    button(page, "Start")
    expect(page.get_by_text(re.compile(r"^Waiting: 1 before this one · starts in about \d+"))).to_be_visible()
    second = page.url
    page.goto(first)
    pause_in_student(page)
    page.goto(second)
    expect(page.get_by_text("a paused run has to make way")).to_be_visible()
    page.goto(first)
    discard(page)
    page.goto(second)
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    discard(page)
