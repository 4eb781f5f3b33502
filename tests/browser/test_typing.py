"""The text box that is followed while one types, and the coloured words with their menu, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import ROOT, served

APP = Path(__file__).parent / "apps" / "typing_app.py"
MOST = 2000
"""UTF-16 units that the app's box takes."""
LATEST_MS = 1500
"""How late an answer may be on a machine that does other things too; alone it takes about 200 ms."""
# Notes when the box was last typed into, and when the script last answered.
CLOCK = """() => {
  addEventListener("input", () => { window.typedAt = performance.now(); }, true);
  const echo = document.querySelector("[data-testid=stCode]").closest("[data-testid=stVerticalBlock]");
  window.answers = [];
  new MutationObserver(() => {
    const said = document.querySelector("[data-testid=stCode] code")?.textContent;
    if (said && said !== window.answers.at(-1)?.said) window.answers.push({ said, at: performance.now() });
  }).observe(echo, { subtree: true, childList: true, characterData: true });
}"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a box and of words that follow it."""
    home = tmp_path_factory.mktemp("typing")
    with served(home, str(APP), PYTHONPATH=str(ROOT)) as address:
        yield address


def open_app(page: Page, app: str, text: str = "none", slow: float = 0) -> Locator:
    page.goto(f"{app}/?text={text}&slow={slow}")
    expect(page.locator("[data-testid=stCode]")).to_be_visible()
    found = page.get_by_role("textbox", name="Text", exact=True)
    expect(found).to_be_visible()
    return found


def runs(page: Page) -> int:
    return int((page.locator("[data-testid=stCode] code").text_content() or "").split("|")[0])


def expect_answer(page: Page, text: str) -> None:
    expect(page.locator("[data-testid=stCode] code")).to_have_text(re.compile(rf"^\d+\|{re.escape(text)}$"))


def word(page: Page, text: str, line: int = 0) -> Locator:
    found = page.locator(".words-line").nth(line).locator(".words-word")
    return found.filter(has_text=re.compile(f"^{re.escape(text)}$"))


def menu(page: Page) -> Locator:
    return page.get_by_role("dialog")


@contextmanager
def phone(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    yield page
    context.close()


@pytest.mark.parametrize(("pause", "text"), [(20, "a fast typist, crc"), (260, "slow crc")])
def test_the_answer_follows_the_last_key(page: Page, app: str, pause: int, text: str) -> None:
    box = open_app(page, app)
    box.focus()
    page.evaluate(CLOCK)
    delays = []
    for turn in range(3):
        page.keyboard.type(text, delay=pause)
        expect_answer(page, text * (turn + 1))
        delays.append(page.evaluate("window.answers.at(-1).at - window.typedAt"))
    print(f"{pause} ms between keys: answered {', '.join(f'{delay:.0f}' for delay in delays)} ms after the last")
    assert max(delays) < LATEST_MS
    if pause == 260:
        assert runs(page) > 12  # not only at the end
    else:
        assert runs(page) < 30
    expect(page.get_by_text("whole runs: 1")).to_be_visible()  # only the fragment has run
    expect(page.get_by_role("dialog")).to_have_count(0)  # c and r are Streamlit's shortcuts


def test_typing_in_the_middle_of_a_text_is_not_disturbed_by_late_answers(page: Page, app: str) -> None:
    box = open_app(page, app, text="film", slow=0.4)
    before = box.input_value()
    place = before.index("funny")
    box.evaluate("(box, at) => { box.focus(); box.setSelectionRange(at, at); box.mark = 'same'; }", place)
    typed = "really, truly and "
    seen = runs(page)
    for sign in typed:
        page.keyboard.type(sign)
        page.wait_for_timeout(170)
    assert box.input_value() == before[:place] + typed + before[place:]
    assert runs(page) > seen
    expect_answer(page, box.input_value())
    page.wait_for_timeout(600)
    assert box.evaluate("b => [b.selectionStart, b.selectionEnd, b.mark, document.activeElement === b]") == [
        place + len(typed),
        place + len(typed),
        "same",
        True,
    ]
    page.keyboard.press("Control+z")
    assert len(box.input_value()) < len(before + typed)


def test_blur_and_control_enter_tell_at_once_and_nothing_is_told_twice(page: Page, app: str) -> None:
    box = open_app(page, app)
    page.evaluate("window.setTimeout = (real => (f, ms, ...a) => real(f, ms === 150 ? 1e7 : ms, ...a))(setTimeout)")
    box.press_sequentially("one")
    seen = runs(page)
    page.wait_for_timeout(500)
    assert runs(page) == seen
    page.keyboard.press("Control+Enter")
    expect_answer(page, "one")
    box.press_sequentially(" two")
    box.blur()
    expect_answer(page, "one two")
    seen = runs(page)
    box.focus()
    page.keyboard.press("Control+Enter")
    box.blur()
    page.wait_for_timeout(500)
    assert runs(page) == seen


def test_a_text_of_the_script_replaces_what_is_typed(page: Page, app: str) -> None:
    box = open_app(page, app)
    box.press_sequentially("mine")
    expect_answer(page, "mine")
    page.get_by_role("button", name="Push", exact=True).click()
    expect(box).to_have_value("pushed from the script")
    expect_answer(page, "pushed from the script")
    box.press_sequentially(", and more")
    expect_answer(page, "pushed from the script, and more")
    page.get_by_role("button", name="Push", exact=True).click()
    expect(box).to_have_value("pushed from the script")
    expect_answer(page, "pushed from the script")


def test_the_text_is_there_again_after_another_page(page: Page, app: str) -> None:
    box = open_app(page, app)
    box.press_sequentially("still here")
    expect_answer(page, "still here")
    page.get_by_text("elsewhere").click()
    expect(box).to_have_count(0)
    page.get_by_text("elsewhere").click()
    expect(box).to_have_value("still here")
    expect_answer(page, "still here")
    box.press_sequentially(", and on")
    expect_answer(page, "still here, and on")


def test_a_composition_is_told_once_it_is_complete(page: Page, app: str) -> None:
    box = open_app(page, app)
    box.press_sequentially("x")
    expect_answer(page, "x")
    seen = runs(page)
    session = page.context.new_cdp_session(page)
    for part in ("n", "ni", "nih", "niha", "你好"):
        session.send("Input.imeSetComposition", {"text": part, "selectionStart": len(part), "selectionEnd": len(part)})
        page.wait_for_timeout(250)
    assert runs(page) == seen
    session.send("Input.insertText", {"text": "你好"})
    expect_answer(page, "x你好")
    assert box.input_value() == "x你好"
    assert runs(page) == seen + 1


def test_a_pasted_text_is_cut_with_a_note_and_near_the_limit_signs_are_counted(page: Page, app: str) -> None:
    box = open_app(page, app)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    count, note = page.locator(".typed-text-count"), page.locator(".typed-text-note")
    box.fill("y" * int(0.9 * MOST))
    expect(count).to_be_hidden()
    top = box.bounding_box()
    box.press("End")
    box.press_sequentially("yy")
    expect(count).to_have_text("1,802 of 2,000")
    expect(note).to_be_hidden()
    page.evaluate("navigator.clipboard.writeText('z'.repeat(500))")
    page.keyboard.press("Control+v")
    expect(note).to_have_text("Cut to 2,000 characters")
    expect(count).to_have_text("2,000 of 2,000")
    assert box.bounding_box() == top
    expect_answer(page, "y" * 1802 + "z" * 198)
    expect(note).to_be_visible()
    page.keyboard.press("Backspace")
    expect(note).to_be_hidden()


def test_the_box_grows_to_ten_lines_and_knows_where_a_text_begins(page: Page, app: str) -> None:
    box = open_app(page, app)
    heights = []
    for lines in (1, 3, 6, 10, 30):
        box.fill("\n".join("line" for _ in range(lines)))
        heights.append(box.evaluate("box => box.offsetHeight"))
    assert heights[0] == heights[1] < heights[2] < heights[3] == heights[4]
    assert heights[3] - heights[1] == pytest.approx(7 * 19.6, abs=1)
    assert box.evaluate("b => getComputedStyle(b).direction") == "ltr"
    box.fill("שלום עולם")
    assert box.evaluate("b => getComputedStyle(b).direction") == "rtl"


STYLE = """node => {
  const { backgroundColor, textDecorationLine, textDecorationStyle, outlineStyle } = getComputedStyle(node);
  return [backgroundColor.match(/[\\d.]+/g).map(Number), textDecorationLine, textDecorationStyle, outlineStyle];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_have_the_colour_and_the_line_of_their_sign(page: Page, app: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    open_app(page, app, text="film")
    colour, line, style, outline = word(page, "A").evaluate(STYLE)
    assert colour == [0, 158, 115, pytest.approx(0.9 * 0.65, abs=0.01)]
    assert (line, style, outline) == ("underline", "solid", "none")
    colour, line, style, outline = word(page, "tender").evaluate(STYLE)
    assert colour == [204, 121, 167, pytest.approx(0.5 * 0.65, abs=0.01)]
    assert (line, style, outline) == ("underline", "dashed", "solid")
    weak = word(page, "funny").evaluate(STYLE)
    assert weak[0][:3] == [204, 121, 167]
    assert weak[1] == "none"
    assert word(page, "tender", 1).evaluate(STYLE)[3] == "solid"
    assert word(page, "tender").get_attribute("title") == "tender: −50 % · the models disagree"
    said = "tender: Teacher −50 %, Student +5 %, Student alone −50 %, the models disagree"
    expect(word(page, "tender")).to_have_accessible_name(said)
    unread = word(page, "and")
    assert unread.get_attribute("title") == "and: not read · the models disagree"
    assert unread.evaluate("n => getComputedStyle(n).fontStyle") == "italic"
    expect(page.locator(".words-head").first).to_have_text("Teachererror 0.4 % after 32 steps")
    text = page.locator(".words-line p").first
    assert text.inner_text() == "A tender, funny and beautifully acted film that stays with you.\nBut oh, it is slow."


def test_words_of_a_new_text_come_without_a_new_node_or_a_collapse(page: Page, app: str) -> None:
    box = open_app(page, app, text="film", slow=0.7)
    expect(word(page, "slow")).to_be_visible()
    page.evaluate("""() => {
      const frame = document.querySelector(".words");
      frame.mark = frame.querySelector(".words-word").mark = "same";
      window.least = Infinity;
      window.palest = 1;
      const watch = () => {
        window.least = Math.min(window.least, frame.offsetHeight);
        for (const part of document.querySelectorAll(".words, .typed-text")) {
          const holder = part.closest("[data-stale]");
          if (holder) window.palest = Math.min(window.palest, getComputedStyle(holder).opacity);
        }
        requestAnimationFrame(watch);
      };
      watch();
    }""")
    height = page.evaluate("window.least")
    box.press("Control+End")
    box.press_sequentially(" Really")
    expect(word(page, "Really")).to_be_visible()
    assert page.evaluate("document.querySelector('.words').mark + document.querySelector('.words-word').mark") == (
        "samesame"
    )
    assert page.evaluate("window.least") >= height
    assert page.evaluate("window.palest") == 1


def edits(page: Page) -> Locator:
    return page.get_by_text(re.compile("^edits:"))


def test_drop_mask_and_replace_are_each_delivered_once(page: Page, app: str) -> None:
    box = open_app(page, app, text="film")
    word(page, "tender").click()
    expect(menu(page)).to_have_accessible_name("Change the word tender")
    expect(menu(page)).to_contain_text("−50 %")
    menu(page).get_by_role("button", name="Drop").click()
    expect(edits(page)).to_have_text("edits: drop 1")
    expect(box).to_have_value(re.compile("^A, funny"))
    expect(menu(page)).to_be_hidden()
    word(page, "film", 2).click()
    menu(page).get_by_role("button", name="Mask").click()
    expect(edits(page)).to_have_text("edits: drop 1, mask 6")
    word(page, "film", 1).click()
    replacement = menu(page).get_by_role("textbox", name="Replacement")
    replacement.fill("  ")
    menu(page).get_by_role("button", name="Replace").click()
    expect(menu(page)).to_be_visible()
    replacement.fill("<b>picture</b>")
    replacement.press("Enter")
    expect(edits(page)).to_have_text("edits: drop 1, mask 6, replace 6 <b>picture</b>")
    expect(box).to_have_value(re.compile("acted <b>picture</b> that"))
    box.press("Control+End")
    box.press_sequentially(" on")
    expect_answer(page, box.input_value())
    expect(edits(page)).to_have_text("edits: drop 1, mask 6, replace 6 <b>picture</b>")
    expect(page.get_by_text("whole runs: 1")).to_be_visible()


def test_the_menu_is_worked_with_keys_and_closed_from_outside(page: Page, app: str) -> None:
    open_app(page, app, text="film")
    stops = page.locator(".words-word[tabindex='0']")
    expect(stops).to_have_count(1)
    stops.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    expect(word(page, "tender")).to_be_focused()
    expect(stops).to_have_count(1)
    page.keyboard.press("Enter")
    expect(word(page, "tender")).to_have_attribute("aria-expanded", "true")
    expect(menu(page).get_by_role("button", name="Drop")).to_be_focused()
    page.keyboard.press("Escape")
    expect(menu(page)).to_be_hidden()
    expect(word(page, "tender")).to_be_focused()
    assert word(page, "tender").get_attribute("aria-expanded") is None
    page.keyboard.press("Space")
    expect(menu(page)).to_be_visible()
    page.mouse.click(1200, 60)
    expect(menu(page)).to_be_hidden()
    word(page, "acted").click()
    expect(menu(page)).to_contain_text("acted")
    word(page, "tender").click()
    expect(menu(page)).to_contain_text("tender")
    word(page, "tender").click()
    expect(menu(page)).to_be_hidden()
    word(page, "tender").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(edits(page)).to_have_text("edits: mask 1")


def test_a_menu_closes_when_its_word_has_gone(page: Page, app: str) -> None:
    open_app(page, app, text="film")
    word(page, "stays").click()
    expect(menu(page)).to_be_visible()
    page.get_by_role("button", name="Push", exact=True).evaluate("button => button.click()")
    expect(word(page, "pushed")).to_be_visible()
    expect(menu(page)).to_be_hidden()


def test_hostile_words_are_shown_as_text(page: Page, app: str) -> None:
    box = open_app(page, app, text="hostile")
    line = page.locator(".words-line p").first
    shown = line.locator(".words-word").all_text_contents()
    assert shown == box.input_value().replace("\x07", "␇").replace("\x00", "␀").split(" ")
    assert shown[0].startswith("<img/src=x/onerror=")
    assert {"␇bell", "␀", "&amp;", "e\u0301a\u0323\u0302", "שלום"} <= set(shown)
    assert page.evaluate("document.querySelectorAll('.words img, .words script').length") == 0
    assert page.evaluate("document.title") != "hacked"
    word(page, shown[0], 1).click()
    expect(menu(page)).to_contain_text("<img/src=x")
    menu(page).get_by_role("button", name="Mask").click()
    expect(edits(page)).to_have_text("edits: mask 0")
    reversed_word = line.locator(".words-contained")
    assert reversed_word.evaluate("n => getComputedStyle(n).unicodeBidi") == "isolate"
    page.wait_for_timeout(300)
    assert page.evaluate("document.title") != "hacked"
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440


def test_a_text_from_right_to_left_stands_right_and_arrows_go_as_one_sees(page: Page, app: str) -> None:
    open_app(page, app, text="right")
    line = page.locator(".words-line p").first
    places = line.locator(".words-word").evaluate_all("all => all.map(w => w.getBoundingClientRect().x)")
    assert places[0] > places[1] > places[2]
    line.locator(".words-word").first.focus()
    page.keyboard.press("ArrowLeft")
    expect(line.locator(".words-word").nth(1)).to_be_focused()


def test_of_a_long_text_four_hundred_words_are_drawn(page: Page, app: str) -> None:
    open_app(page, app, text="long")
    line = page.locator(".words-line").first
    expect(line.locator(".words-word")).to_have_count(400)
    expect(line.locator(".words-more")).to_have_text("… and 80 more words")
    assert (line.locator(".words-word").last.get_attribute("title") or "").startswith("w99: ")


def test_on_a_phone_the_menu_stays_in_the_window(browser: Browser, app: str) -> None:
    with phone(browser) as page:
        open_app(page, app, text="long")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for place in (0, 5, 150, 399):
            chosen = page.locator(".words-line").nth(2).locator(".words-word").nth(place)
            chosen.scroll_into_view_if_needed()
            chosen.tap()
            expect(menu(page)).to_be_visible()
            seen = menu(page).bounding_box()
            assert seen is not None
            assert 0 <= seen["x"] <= seen["x"] + seen["width"] <= 390
            assert 0 <= seen["y"] <= seen["y"] + seen["height"] <= 844
            page.keyboard.press("Escape")
