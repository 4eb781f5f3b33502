"""A person's way through Runs: find, name, compare, delete and bring back, hand on and take in, open the settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from distill_core.events import RunCancelled
from distill_core.status import short
from distill_core.store import Store
from distill_core.worker import work
from tests.browser.conftest import served
from tests.runs import config_of, made_rows, write_csv

ROW, HEAD, BOX = 35, 36, 20
"""Pixels of the table: height of a line and of the head, and where the box of a line is."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A home folder with two finished runs."""
    made = Store(tmp_path_factory.mktemp("home"))
    file = write_csv(tmp_path_factory.mktemp("files") / "reviews.csv", made_rows(60))
    for beta in (1, 3):
        work(made.create_run(config_of(file, f"objective.beta={beta}"), state="running"), made)
    return made


@pytest.fixture(scope="module")
def address(store: Store) -> Iterator[str]:
    with served(store.home) as found:
        yield found


@pytest.fixture
def runs(page: Page, address: str) -> Page:
    """The page Runs with nothing chosen."""
    page.goto(address)
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible()
    page.get_by_role("link", name="Runs").click()
    expect(table(page)).to_be_visible()
    expect(page.get_by_text("Choose a run by the box")).to_be_visible()
    return page


def table(page: Page) -> Locator:
    return page.get_by_test_id("stDataFrame").first


def tick(page: Page, line: int) -> None:
    settle(page)
    table(page).click(position={"x": BOX, "y": HEAD + ROW * line + ROW // 2})
    settle(page)


def settle(page: Page) -> None:
    page.wait_for_timeout(300)
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def search(page: Page, words: str) -> None:
    page.get_by_role("textbox", name="Search").fill(words)
    page.get_by_role("textbox", name="Search").press("Enter")
    settle(page)


def test_a_name_outlives_the_page_and_can_be_searched(runs: Page, store: Store) -> None:
    latest = store.run_ids()[-1]
    tick(runs, 0)
    expect(runs.get_by_role("heading", name=f"Run {short(latest)}")).to_be_visible()
    name = runs.get_by_role("textbox", name="Name")
    name.fill("three times the teacher")
    name.press("Enter")
    expect(runs.get_by_role("heading", name="three times the teacher")).to_be_visible()
    runs.reload()
    search(runs, "three teacher")
    expect(runs.get_by_text("1 of 2 runs")).to_be_visible()
    tick(runs, 0)
    expect(runs.get_by_role("heading", name="three times the teacher")).to_be_visible()
    assert store.notes(latest).name == "three times the teacher"
    search(runs, "nothing of that kind")
    expect(runs.get_by_text("0 of 2 runs")).to_be_visible()
    expect(runs.get_by_text("1 of them hidden by the search")).to_be_visible()


def test_two_runs_are_compared_and_the_choice_survives_a_visit_elsewhere(runs: Page) -> None:
    tick(runs, 0)
    tick(runs, 1)
    expect(runs.get_by_role("heading", name="Comparison")).to_be_visible()
    expect(runs.locator(".lab-key li")).to_have_count(2)
    charts = runs.get_by_test_id("stPlotlyChart")
    expect(charts).to_have_count(2)
    expect(charts.nth(0).locator(".scatterlayer .trace")).to_have_count(2)
    colours = runs.evaluate(
        "[...document.querySelectorAll('.stPlotlyChart .js-plotly-plot')].map(c => c.data.map(t => t.line.color))"
    )
    assert len(set(colours[0])) == 2
    assert colours[0] == colours[1]
    runs.get_by_test_id("stButtonGroup").get_by_text("KL", exact=True).click()
    settle(runs)
    expect(runs.get_by_text("Settings that differ")).to_be_visible()
    runs.get_by_role("link", name="Compare").click()
    expect(runs.get_by_role("textbox", name="Text")).to_be_visible()
    runs.get_by_role("link", name="Runs").click()
    expect(runs.get_by_role("heading", name="Comparison")).to_be_visible()
    expect(runs.get_by_text("2 chosen")).to_be_visible()


def test_a_run_travels_by_archive_and_a_deleted_one_comes_back(runs: Page, store: Store, tmp_path: Path) -> None:
    before = store.run_ids()
    tick(runs, 0)
    with runs.expect_download(timeout=90_000) as download:
        runs.get_by_role("button", name="Export").click()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert file.name == f"run-{short(before[-1])}.zip"

    runs.get_by_role("button", name="Delete", exact=True).click()
    expect(runs.get_by_text(re.compile("^Deleted "))).to_be_visible()
    expect(runs.get_by_text("Choose a run by the box")).to_be_visible()
    assert store.run_ids() == before[:-1]
    runs.get_by_role("button", name="Undo").click()
    expect(runs.get_by_text(re.compile("^Deleted "))).to_have_count(0)
    expect(runs.get_by_text("1 chosen")).to_be_visible()
    assert store.run_ids() == before

    runs.get_by_role("button", name="Import").click()
    runs.get_by_test_id("stFileUploader").locator("input[type=file]").set_input_files(file)
    expect(runs.get_by_text("The run has been imported")).to_be_visible(timeout=90_000)
    (arrived,) = set(store.run_ids()) - set(before)
    assert store.result(arrived) == {**(store.result(before[-1]) or {}), "run_id": arrived}
    assert store.notes(arrived) == store.notes(before[-1])
    expect(runs.get_by_text("1 chosen")).to_be_visible()
    store.delete_run(arrived)


def test_settings_of_a_run_are_opened_in_train(runs: Page, store: Store) -> None:
    tick(runs, 1)
    runs.get_by_role("button", name="Open settings in Train").click()
    expect(runs.get_by_role("button", name="Start", exact=True)).to_be_visible()
    expect(runs).to_have_url(re.compile(f"run={store.run_ids()[-2]}"))
    expect(runs.get_by_test_id("stSidebar").get_by_role("combobox", name=re.compile("Data set"))).to_have_value(
        re.compile("Your own file")
    )


def test_a_poll_loses_neither_choice_nor_what_is_being_typed(runs: Page, store: Store) -> None:
    config = store.config(store.run_ids()[0])
    working = store.create_run(config, state="running")
    with store.claim(working):
        runs.reload()
        expect(runs.get_by_text("Choose a run by the box")).to_be_visible()
        tick(runs, 1)
        name = runs.get_by_role("textbox", name="Name")
        name.fill("half a na")
        another = store.create_run(config, state="running")
        store.end_run(another, RunCancelled())
        runs.wait_for_timeout(5000)  # two polls, of which one finds a line more
        expect(name).to_have_value("half a na")
        expect(runs.get_by_text("1 chosen")).to_be_visible()
        search(runs, "cancelled")
        expect(runs.get_by_text("1 of 4 runs")).to_be_visible()
        store.end_run(working, RunCancelled())
    for run_id in (working, another):
        store.delete_run(run_id)
