"""Whole sets in a real browser: the test texts are asked, a square lists its texts, a line opens one, points filter."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from distill_core.analysis import agreement, asking, textset
from distill_core.analysis.agreement import SetAnswers
from distill_core.analysis.predict import Predictor
from distill_core.store import Store
from distill_core.worker import work
from tests.browser.conftest import ROOT, served
from tests.runs import config_of, made_rows, write_csv

APP = "tests/browser/apps/whole_set_app.py"
ROW, HEAD = 35, 36
"""Pixels of the table: height of a line and of the head."""
CHART = "document.querySelectorAll('.js-plotly-plot')"
HOSTILE = (
    "<script>document.title = 'taken'</script>",
    "<img src=x onerror=\"document.title = 'taken'\">",
    "=1+1",
    "\u202eabc \u05d0",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A home folder with a finished run whose models disagree here and there."""
    made = Store(tmp_path_factory.mktemp("home"))
    file = write_csv(tmp_path_factory.mktemp("files") / "reviews.csv", made_rows(300))
    work(made.create_run(config_of(file, "training.epochs=1"), state="running"), made)
    return made


@pytest.fixture(scope="module")
def expected(store: Store) -> SetAnswers:
    """What the models say about the test texts."""
    (run_id,) = store.run_ids()
    given = textset.read_test_split(store, run_id, lambda: None, lambda words, part: None)
    return asking.ask(Predictor.load(store, run_id), given)


@pytest.fixture(scope="module")
def address(store: Store) -> Iterator[str]:
    with served(store.home, APP, PYTHONPATH=str(ROOT)) as found:
        yield found


def settle(page: Page) -> None:
    page.wait_for_timeout(300)
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def ask_test_texts(page: Page, address: str) -> None:
    """The answers to the test texts, which another test may have asked for already."""
    page.goto(address)
    results, button = page.get_by_text("Teacher against student"), page.get_by_role("button", name="Ask about the")
    expect(results.or_(button).first).to_be_visible(timeout=60_000)
    if button.is_visible():
        button.click()
    expect(page.get_by_text("Reliability")).to_be_visible(timeout=60_000)
    page.wait_for_function(f"{CHART}.length === 4")
    settle(page)


def table(page: Page) -> Locator:
    return page.get_by_test_id("stDataFrame").first


def click_line(page: Page, line: int) -> None:
    """Moves over the table and clicks, as a hand does: a click without any movement before it is not taken."""
    table(page).scroll_into_view_if_needed()
    settle(page)
    box = table(page).bounding_box()
    assert box is not None
    x, y = box["x"] + 100, box["y"] + HEAD + ROW * line + ROW // 2
    page.mouse.move(x + 60, y + 40)
    page.wait_for_timeout(100)
    page.mouse.move(x, y, steps=5)
    page.wait_for_timeout(200)
    page.mouse.down()
    page.wait_for_timeout(50)
    page.mouse.up()


def place(page: Page, chart: int, x: float, y: float) -> tuple[float, float]:
    """Where a point of a chart is on the screen."""
    page.get_by_test_id("stPlotlyChart").nth(chart).scroll_into_view_if_needed()
    found = page.evaluate(
        f"""(chart => {{
          const box = chart.getBoundingClientRect(), {{ xaxis, yaxis }} = chart._fullLayout;
          return [box.x + xaxis._offset + xaxis.l2p({x}), box.y + yaxis._offset + yaxis.l2p({y})];
        }})({CHART}[{chart}])"""
    )
    return found[0], found[1]


def downloaded(page: Page) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the list").click()
    content = Path(download.value.path()).read_bytes().decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(content, newline="")))


def test_a_square_lists_its_texts_and_a_line_opens_one(page: Page, address: str, expected: SetAnswers) -> None:
    ask_test_texts(page, address)
    matrix = agreement.agreement_matrix(expected)
    row, column = max(((r, c) for r in range(2) for c in range(2) if matrix[r][c]), key=lambda at: matrix[at[0]][at[1]])
    page.mouse.click(*place(page, 0, column, row))
    names = expected.label_names
    chosen = page.get_by_role("radio", name=f"Teacher {names[row]}, student {names[column]}")
    expect(chosen).to_be_visible()
    expect(chosen).to_be_checked()
    settle(page)
    rows = agreement.cell(expected, row, column)
    assert [line["text"] for line in downloaded(page)] == [expected.texts[number] for number in rows]
    click_line(page, 0)
    expect(page.get_by_role("textbox", name="Text")).to_have_value(expected.texts[rows[0]])
    page.get_by_text("Whole sets").click()
    expect(page.get_by_text("Reliability")).to_be_visible()
    settle(page)
    expect(page.get_by_role("textbox", name="Text")).to_have_count(0)
    page.reload()
    expect(page.get_by_text("Reliability")).to_be_visible()


def test_a_box_around_points_filters_the_list(page: Page, address: str, expected: SetAnswers) -> None:
    ask_test_texts(page, address)
    inside = [
        row
        for row, (teacher, student) in enumerate(
            zip(*(expected.probabilities[role][:, 1].tolist() for role in ("teacher", "student")), strict=True)
        )
        if teacher < 0.5 and student < 1
    ]
    assert inside
    left, bottom = place(page, 1, -0.01, -0.01)
    right, top = place(page, 1, 0.5, 1.01)
    page.mouse.move(left, bottom)
    page.mouse.down()
    page.mouse.move((left + right) / 2, (bottom + top) / 2, steps=4)
    page.mouse.move(right, top, steps=4)
    page.mouse.up()
    expect(page.get_by_role("radio", name=f"Chosen points ({len(inside)})")).to_be_checked()
    settle(page)
    assert {line["text"] for line in downloaded(page)} == {expected.texts[row] for row in inside}


def test_hostile_texts_are_shown_and_handed_on_as_texts(page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_text("Pasted list").click()
    page.get_by_role("textbox", name="Texts, one a line").fill("\n".join(HOSTILE))
    page.get_by_role("textbox", name="Texts, one a line").press("Control+Enter")
    settle(page)
    page.get_by_role("button", name="Ask about these texts").click()
    expect(page.get_by_text("none with a label")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("nobody can say who is right")).to_be_visible()
    settle(page)
    texts = {line["text"] for line in downloaded(page)}
    assert texts == {line if line != "=1+1" else "'=1+1" for line in HOSTILE}
    assert page.title() != "taken"
    table(page).hover()
    expect(page.get_by_role("button", name=re.compile("^Fullscreen: Texts of the list"))).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^Download as CSV"))).to_have_count(0)


def test_all_is_in_reach_on_a_phone(browser: Browser, address: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    ask_test_texts(page, address)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    charts = page.get_by_test_id("stPlotlyChart")
    boxes = [box for box in (chart.bounding_box() for chart in charts.all()) if box is not None]
    assert [box["x"] for box in boxes] == [boxes[0]["x"]] * 4
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes)
    page.mouse.click(*place(page, 0, 0, 0))
    expect(page.get_by_role("radio", name=re.compile("^Teacher bad, student bad"))).to_be_checked()
    context.close()
