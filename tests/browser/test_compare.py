"""A person compares teacher and student: types, softens, edits words, lists a cell, goes on with one of its texts."""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from distill_core.analysis.predict import Predictor
from distill_core.analysis.softened import ask
from distill_core.store import Store
from distill_core.worker import work
from tests.browser.conftest import served
from tests.browser.test_whole_set import click_line
from tests.runs import config_of, made_rows, write_csv

TEXT = "a bright film and a dull plot and a warm scene"
CHART = "document.querySelectorAll('.js-plotly-plot')"
FOLLOWS = 0.5
"""Seconds from the last key to the answer that are allowed here, where a browser works beside; 0.2 were measured."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A home folder with two students of one teacher."""
    made = Store(tmp_path_factory.mktemp("home"))
    file = write_csv(tmp_path_factory.mktemp("files") / "reviews.csv", made_rows(300))
    for beta in (0.5, 3):
        work(made.create_run(config_of(file, "training.epochs=2", f"objective.beta={beta}"), state="running"), made)
    return made


@pytest.fixture(scope="module")
def address(store: Store) -> Iterator[str]:
    with served(store.home) as found:
        yield found


@pytest.fixture
def compare(page: Page, address: str, store: Store) -> Page:
    """Compare with the first run chosen and nothing typed."""
    page.goto(f"{address}/compare?run={store.run_ids()[0]}")
    expect(box(page)).to_be_visible()
    return page


def box(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Text", exact=True)


def said(page: Page) -> list[str]:
    return page.locator(".lab-answer").all_inner_texts()


def expected(store: Store, text: str, temperature: float = 1.0) -> list[str]:
    """What the cards of the first run should say."""
    found = ask([Predictor.load(store, store.run_ids()[0])], text).softened(temperature)
    return [f"{answer.label} {100 * answer.confidence:.1f} %" for answer in found]


def expect_answers(page: Page, found: list[str]) -> None:
    expect(page.locator(".lab-answer")).to_have_text(found)


def words_of(page: Page, line: int = 0) -> Locator:
    return page.locator(".words-line").nth(line).get_by_role("button")


def test_answers_follow_the_typing(compare: Page, store: Store) -> None:
    box(compare).press_sequentially("a bright film", delay=30)
    expect_answers(compare, expected(store, "a bright film"))
    compare.evaluate("document.querySelector('.lab-answer').closest('[data-testid=stApp]').dataset.mark = 'same'")
    waits = []
    for word in (" and", " a", " dull", " clumsy", " plot"):
        box(compare).press_sequentially(word, delay=10)
        began, text = time.monotonic(), box(compare).input_value()
        expect_answers(compare, expected(store, text))
        waits.append(time.monotonic() - began)
    print(f"answers {', '.join(f'{wait:.2f}' for wait in waits)} s after the last key")
    assert sorted(waits)[len(waits) // 2] <= FOLLOWS
    assert compare.evaluate("document.querySelector('[data-testid=stApp]').dataset.mark") == "same"
    expect(compare.get_by_text(re.compile(r"^KL \d\.\d{3} nats$"))).to_be_visible()


def test_temperature_softens_and_changes_no_answer(compare: Page, store: Store) -> None:
    box(compare).fill(TEXT)
    sharp = expected(store, TEXT)
    expect_answers(compare, sharp)
    slider = compare.get_by_role("slider", name="Temperature")
    for _ in range(6):
        slider.press("ArrowRight")
    soft = expected(store, TEXT, 4.0)
    expect_answers(compare, soft)
    assert [answer.split()[0] for answer in sharp] == [answer.split()[0] for answer in soft]
    assert sharp != soft


def test_a_click_on_a_word_drops_masks_or_replaces_it(compare: Page, store: Store) -> None:
    box(compare).fill(TEXT)
    expect(words_of(compare)).to_have_count(11)
    expect(compare.locator(".words-line")).to_have_count(3)
    words_of(compare).filter(has_text="dull").click()
    compare.get_by_role("button", name="Drop", exact=True).click()
    dropped = TEXT.replace(" dull", "")
    expect(box(compare)).to_have_value(dropped)
    expect_answers(compare, expected(store, dropped))
    words_of(compare, 1).filter(has_text="bright").click()
    compare.get_by_role("button", name="Mask", exact=True).click()
    masked = dropped.replace("bright", "[MASK]")
    expect(box(compare)).to_have_value(masked)
    expect_answers(compare, expected(store, masked))
    words_of(compare).filter(has_text="warm").click()
    compare.get_by_placeholder("Another word").fill("tired")
    compare.get_by_role("button", name="Replace", exact=True).click()
    replaced = masked.replace("warm", "tired")
    expect(box(compare)).to_have_value(replaced)
    expect_answers(compare, expected(store, replaced))


def test_what_flips_it_names_words_without_which_the_student_answers_otherwise(compare: Page, store: Store) -> None:
    box(compare).fill(TEXT)
    before = expected(store, TEXT)[1].split()[0]
    expect_answers(compare, expected(store, TEXT))
    compare.get_by_role("button", name="What flips it?").click()
    other = {"good": "bad", "bad": "good"}[before]
    expect(compare.get_by_text(re.compile(rf"^Without .+ the student says {other}\."))).to_be_visible()
    compare.get_by_role("button", name="Try this text").click()
    expect(compare.locator(".lab-answer").nth(1)).to_have_text(re.compile(f"^{other} "))
    assert len(box(compare).input_value()) < len(TEXT)


def test_texts_tried_are_kept_pinned_and_exported_without_formulas(compare: Page) -> None:
    formula = "=HYPERLINK(0) bright film"
    box(compare).fill(formula)
    expect(compare.locator(".lab-answer")).to_have_count(3)
    compare.get_by_role("button", name="Pin", exact=True).click()
    expect(compare.get_by_role("button", name="Take the pin off")).to_be_visible()
    box(compare).fill("a dull plot")
    expect(compare.get_by_text("Texts tried")).to_be_visible()
    compare.get_by_role("link", name="Data").click(delay=90)
    expect(compare.get_by_text("In use: reviews.csv")).to_be_visible()
    compare.get_by_role("link", name="Compare").click(delay=90)
    expect(box(compare)).to_have_value("a dull plot")
    with compare.expect_download() as started:
        compare.get_by_role("button", name="CSV", exact=True).click()
    with started.value.path().open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["Pinned"], row["Text"]) for row in rows] == [("★", f"'{formula}"), ("", "a dull plot")]
    assert re.fullmatch(r"(good|bad) \d+\.\d %", rows[0]["Teacher"])


def test_students_of_one_teacher_answer_side_by_side(compare: Page, store: Store) -> None:
    box(compare).fill(TEXT)
    expect(compare.locator(".lab-answer")).to_have_count(3)
    compare.get_by_role("combobox", name="Beside it").click()
    compare.get_by_role("option", name=re.compile("β 3")).click()
    expect(compare.locator(".lab-answer")).to_have_count(4)
    found = ask([Predictor.load(store, store.run_ids()[1], ["student"])], TEXT).softened(1.0)[0]
    expect(compare.locator(".lab-answer").nth(3)).to_have_text(f"{found.label} {100 * found.confidence:.1f} %")
    expect(compare.locator(".words-line")).to_have_count(4)
    for note in ("β 0.5", "β 3"):
        expect(compare.locator(".lab-card em").get_by_text(note, exact=True)).to_be_visible()


def test_from_a_cell_to_its_list_to_the_typed_view(compare: Page) -> None:
    compare.get_by_text("Whole sets").click()
    compare.get_by_role("button", name=re.compile("^Ask")).first.click()
    expect(compare.get_by_text("Teacher against student")).to_be_visible()
    compare.wait_for_function(f"{CHART}[0]?.querySelectorAll('.points path').length === 4")
    compare.locator(".js-plotly-plot").first.locator(".points path").first.click(force=True)
    expect(compare.get_by_text(re.compile("Teacher (bad|good), student"))).to_be_visible()
    click_line(compare, 0)
    expect(box(compare)).not_to_have_value("")
    expect(compare.locator(".lab-answer")).to_have_count(3)


def test_hostile_text_is_shown_as_text_in_every_part(compare: Page) -> None:
    hostile = "<img src=x onerror='window.hacked=1'> \u202e\u0301 \x07 <script>window.hacked=1</script> film"
    box(compare).fill(hostile)
    expect(compare.locator(".lab-answer")).to_have_count(3)
    expect(words_of(compare).filter(has_text="<img")).to_be_visible()
    compare.get_by_role("button", name="What flips it?").click()
    expect(compare.locator(".lab-flip")).to_be_visible()
    box(compare).fill("film " * 40_000 + hostile)
    expect(compare.get_by_text(re.compile("up to 400 words can be explained"))).to_be_visible()
    assert compare.evaluate("window.hacked") is None


@pytest.fixture(scope="module")
def encoder_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Compare with a run whose teacher is all-MiniLM-L6-v2, frozen, and slow to explain."""
    home = Store(tmp_path_factory.mktemp("encoder"))
    file = write_csv(tmp_path_factory.mktemp("files") / "reviews.csv", made_rows(60))
    teacher = ("teacher.kind=pretrained", "teacher.frozen=true", "teacher.epochs=1", "training.epochs=1")
    run_id = home.create_run(config_of(file, *teacher), state="running")
    work(run_id, home)
    with served(home.home) as found:
        yield f"{found}/compare?run={run_id}"


def test_a_key_does_not_wait_for_an_explanation(page: Page, encoder_address: str) -> None:
    page.goto(encoder_address)
    box(page).fill(" ".join(TEXT.split() * 12))
    expect(page.locator(".lab-answer")).to_have_count(3)
    expect(page.get_by_text("Looking at each word…")).to_be_visible()
    before = page.locator(".lab-bars").inner_html()
    box(page).press("End")
    began = time.monotonic()
    box(page).press_sequentially(" clumsy")
    page.wait_for_function("before => document.querySelector('.lab-bars').innerHTML !== before", arg=before)
    waited = time.monotonic() - began
    print(f"an answer {waited:.2f} s after the last key, while the text before was being explained")
    assert waited <= 1.0
    expect(page.locator(".words-line")).to_have_count(3)
    expect(words_of(page).last).to_have_text("clumsy")


def test_what_was_typed_survives_a_click_elsewhere_at_once(compare: Page) -> None:
    box(compare).fill(TEXT)
    expect(compare.locator(".lab-answer")).to_have_count(3)
    box(compare).press_sequentially(" and a film")
    compare.get_by_text("Whole sets").click(delay=90)
    expect(compare.get_by_role("radio", name="Test texts")).to_be_visible()
    compare.get_by_text("One text").click()
    expect(box(compare)).to_have_value(f"{TEXT} and a film")
