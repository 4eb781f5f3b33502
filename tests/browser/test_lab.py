"""A person's way through the lab: start a run, watch it, leave and come back, compare, cancel."""

from __future__ import annotations

import json
import re
import statistics
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import served
from tests.runs import write_csv

CHARTS = "document.querySelectorAll('.live-chart.js-plotly-plot')"
POINTS = f"[...{CHARTS}].reduce((n, c) => n + c.data.reduce((m, t) => m + t.x.length, 0), 0)"


def open_train(page: Page, lab: str) -> None:
    page.goto(lab)
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible()


def pick(page: Page, group: int, size: str) -> None:
    page.get_by_test_id("stSidebar").get_by_role("radio", name=size, exact=True).nth(group).click()


def discard(page: Page) -> None:
    page.get_by_role("button", name="Discard", exact=True).click()
    page.get_by_role("button", name="Really discard", exact=True).click()


def small_settings(page: Page) -> None:
    pick(page, 0, "XS")
    pick(page, 1, "XS")


def test_the_first_page_does_not_wait_for_the_texts(page: Page, tmp_path: Path) -> None:
    with served(tmp_path) as address:
        open_train(page, address)
        sidebar = page.get_by_test_id("stSidebar")
        expect(sidebar.get_by_text(re.compile("Reading the texts|Counting words"))).to_be_visible()
        expect(sidebar.get_by_text(re.compile(r"1\.52 M → 0\.12 M"))).to_be_visible()
        assert len(list(tmp_path.glob("tokens/[!.]*"))) == 1


def test_first_run_from_start_to_two_predictions(page: Page, lab: str) -> None:
    open_train(page, lab)
    expect(page.get_by_role("button", name="Start the first run")).to_be_visible()
    small_settings(page)
    page.get_by_role("button", name="Start", exact=True).click()

    started = time.monotonic()
    page.wait_for_function(f"{POINTS} > 0")
    first_point = time.monotonic() - started
    assert first_point < 20  # 3 s on a quiet machine; a test machine may be busy
    seen = page.evaluate(POINTS)
    page.wait_for_function(f"{POINTS} > {seen}")
    expect(page).to_have_url(re.compile(r"run="))
    run = re.search(r"run=[\w-]+-(\w+)", page.url)
    assert run is not None

    page.get_by_role("link", name="Runs").click()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    page.get_by_role("link", name="Train").click()
    expect(page.get_by_text(f"run {run[1]}")).to_be_visible()
    page.wait_for_function(f"{POINTS} > {seen}")

    page.reload()
    expect(page.get_by_text(f"run {run[1]}")).to_be_visible()
    expect(page.get_by_text(re.compile(r"^(The student|The teacher is)")).first).to_be_visible(timeout=300_000)
    expect(page.get_by_role("button", name="Discard")).to_have_count(0)

    page.get_by_role("button", name=re.compile("Compare teacher and student")).click()
    page.get_by_role("textbox", name="Text").fill("a wonderful and moving film")
    answers = page.locator(".lab-answer")
    expect(answers).to_have_count(3)
    for index in range(3):
        expect(answers.nth(index)).to_have_text(re.compile(r"^(fresh|rotten) \d+\.\d %$"))
    expect(page.get_by_text(re.compile(r"^KL \d\.\d{3} nats$"))).to_be_visible()


def test_strange_texts_are_answered_and_shown_as_text(page: Page, lab: str) -> None:
    page.goto(f"{lab}/compare")
    box = page.get_by_role("textbox", name="Text")
    expect(page.get_by_text("Type a text")).to_be_visible()
    hostile = "<img src=x onerror=window.hacked=1> <script>window.hacked=1</script>"
    for text, words in (
        (hostile, "words and signs that it reads"),
        ("zzqx wqzk", "knows none of these words"),
        ("很好看的电影 🎬", "knows none of these words"),
        ("film " * 20_000, "It reads the first 256 of 20,000 words"),
    ):
        box.fill(text)
        expect(page.get_by_text(words)).to_be_visible()
        expect(page.locator(".lab-answer")).to_have_count(3)
    assert page.evaluate("window.hacked") is None
    box.fill("   ")
    expect(page.get_by_text("Type a text")).to_be_visible()


def test_runs_opens_a_run_and_shows_its_charts_again(page: Page, lab: str) -> None:
    page.goto(f"{lab}/runs")
    table = page.get_by_test_id("stDataFrame").first
    expect(table).to_be_visible()
    table.click(position={"x": 20, "y": 52})
    expect(page.get_by_role("heading", name=re.compile("^Run "))).to_be_visible()
    expect(page.get_by_test_id("stPlotlyChart").nth(1)).to_be_visible()
    page.get_by_text("All figures").click()
    for heading in ("On the test texts", "On the training texts", "Right and wrong answers"):
        expect(page.get_by_text(heading)).to_be_visible()
    expect(page.locator(".stPlotlyChart .heatmaplayer .hm")).to_have_count(3)


def test_zoom_stays_while_the_chart_grows_in_one_node(page: Page, lab: str) -> None:
    open_train(page, lab)
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_function(f"{POINTS} > 3")
    whole = page.evaluate(f"{CHARTS}[0].layout.xaxis.range[1]")
    box = page.locator(".live-chart .nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 20, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 30, steps=8)
    page.mouse.up()
    page.wait_for_function(f"{CHARTS}[0].layout.xaxis.range[1] < {whole} * 0.6")
    zoomed = page.evaluate(f"{CHARTS}[0].layout.xaxis.range")
    page.evaluate(f"{CHARTS}[0].dataset.mark = 'same'")
    seen = page.evaluate(POINTS)
    page.wait_for_function(f"{POINTS} > {seen} + 30")
    assert page.evaluate(f"{CHARTS}[0].layout.xaxis.range") == zoomed
    assert page.evaluate(f"{CHARTS}[0].dataset.mark") == "same"


def test_page_answers_within_a_second_while_training_runs(page: Page, lab: str) -> None:
    open_train(page, lab)
    expect(page.get_by_role("button", name="Discard")).to_be_visible()
    caption = page.get_by_text(re.compile(r"^\d\.\d+ M → \d\.\d+ M parameters")).first
    waits = []
    for size in ("L", "S", "XL", "M", "L"):
        before = caption.text_content()
        assert before is not None
        start = time.monotonic()
        pick(page, 0, size)
        expect(caption).not_to_have_text(before)
        waits.append(time.monotonic() - start)
    assert statistics.median(waits) < 1, waits


def test_a_second_browser_sees_the_run_and_cancel_ends_it_for_both(page: Page, browser: Browser, lab: str) -> None:
    open_train(page, lab)
    expect(page.get_by_role("button", name="Discard")).to_be_visible()
    context = browser.new_context()
    other = context.new_page()
    other.goto(page.url)
    expect(other.get_by_text("Started in another browser")).to_be_visible()
    discard(page)
    asked = time.monotonic()
    for each in (page, other):
        expect(each.get_by_text("This run was discarded")).to_be_visible()
    assert time.monotonic() - asked < 6
    context.close()


def choose(page: Page, control: str, option: str) -> None:
    """Picks an option of a select box in the sidebar."""
    sidebar = page.get_by_test_id("stSidebar")
    sidebar.get_by_role("combobox", name=re.compile(control)).click()
    page.get_by_role("option", name=option, exact=True).click()


def test_data_shows_what_the_texts_look_like(page: Page, lab: str) -> None:
    open_train(page, lab)
    page.get_by_role("link", name="Data").click()
    expect(page.get_by_role("heading", name="Movie reviews")).to_be_visible()
    expect(page.get_by_text("Class balance")).to_be_visible()
    charts = page.get_by_test_id("stPlotlyChart")
    expect(charts).to_have_count(3)
    for index in range(3):
        expect(charts.nth(index).locator(".main-svg").first).to_be_visible()
    expect(charts.nth(0).locator(".xtick")).to_have_text(["fresh", "rotten"])
    expect(page.get_by_text("Left out:")).to_be_visible()
    expect(page.locator(".lab-examples li")).to_have_count(5)
    page.get_by_role("button", name="Teach a model on these texts").click()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible()


def test_a_file_in_chinese_goes_from_upload_to_verdict(page: Page, lab: str, tmp_path: Path) -> None:
    words = {"好": ("精彩", "感动", "有趣", "喜欢"), "差": ("无聊", "失望", "乏味", "讨厌")}
    rows = [
        {"text": f"第{number}场：{thing}非常{word}。", "label": label}
        for label, chosen in words.items()
        for word in chosen
        for number, thing in enumerate(("剧情", "演员", "画面", "音乐", "结局", "导演", "对白", "片名"))
    ]
    file = write_csv(tmp_path / "影评.csv", rows)
    open_train(page, lab)
    choose(page, "Data set", "Your own file")
    expect(page.get_by_text("Upload a csv, tsv or jsonl file")).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_disabled()
    page.get_by_test_id("stFileUploader").locator("input[type=file]").set_input_files(file)
    expect(page.get_by_text("In use: 影评.csv")).to_be_visible()
    expect(page.get_by_text("Upload a csv, tsv or jsonl file")).to_have_count(0)
    small_settings(page)
    page.get_by_role("button", name="Start", exact=True).click()
    verdict = page.get_by_text(re.compile(r"^(The student|The teacher is)")).first
    expect(verdict).to_be_visible(timeout=60_000)
    page.get_by_role("button", name=re.compile("Compare teacher and student")).click()
    page.get_by_role("button", name="好", exact=True).click()
    expect(page.locator(".lab-answer")).to_have_count(3)
    expect(page.locator(".lab-answer").first).to_have_text(re.compile(r"^[好差] \d+\.\d %$"))


LOSSES = ("CE of the teacher", "CE of the student", "β·KL", "total")


def test_the_article_shows_the_losses_of_both_models_live(page: Page, lab: str) -> None:
    open_train(page, lab)
    choose(page, "Start from a preset", "article")
    choose(page, "Data set", "Movie reviews")
    sidebar = page.get_by_test_id("stSidebar")
    sidebar.get_by_text("More", exact=True).click()
    sidebar.get_by_test_id("stButtonGroup").last.get_by_text("Data", exact=True).click()
    few = sidebar.get_by_role("spinbutton", name="Training texts used")
    few.fill("6000")
    few.press("Enter")
    small_settings(page)
    page.wait_for_timeout(1000)
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_text("Both learning: CE of each, β·KL and total")).to_be_visible(timeout=60_000)
    names = json.dumps(LOSSES)
    drawn = f"{CHARTS}[0]?.data.map(line => line.name)"
    page.wait_for_function(f"JSON.stringify({drawn}) === JSON.stringify({names})")
    page.wait_for_function(f"{CHARTS}[0]?.data.every(line => [...line.x].at(-1) > 250)", timeout=120_000)
    lines = dict(zip(LOSSES, page.evaluate(f"{CHARTS}[0]?.data.map(line => [...line.y])"), strict=True))
    for name in ("CE of the teacher", "CE of the student", "total"):
        values = lines[name]
        half = len(values) // 2
        assert statistics.fmean(values[half:]) < statistics.fmean(values[:half]), name
    expect(page.get_by_role("button", name="Discard")).to_be_visible()
    discard(page)
    expect(page.get_by_text("This run was discarded")).to_be_visible()


def test_every_page_fits_a_phone(browser: Browser, lab: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    phone = context.new_page()
    for path in ("", "data", "compare", "runs", "storage"):
        phone.goto(f"{lab}/{path}")
        expect(phone.locator(".lab-title").first).to_be_visible(timeout=30_000)
        overflow = phone.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, path
    context.close()


@pytest.mark.parametrize(("path", "heading"), [("data", "Movie reviews"), ("runs", "Runs"), ("storage", "Storage")])
def test_any_page_may_be_the_first_that_a_server_shows(page: Page, tmp_path: Path, path: str, heading: str) -> None:
    with served(tmp_path) as address:
        page.goto(f"{address}/{path}")
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
        expect(page).to_have_url(re.compile(f"/{path}"))
        expect(page.get_by_role("link", name="Compare")).to_be_visible()
        expect(page.get_by_role("link", name="figures")).to_have_count(0)
        expect(page.get_by_text("Page not found")).to_have_count(0)
