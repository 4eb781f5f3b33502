"""The live chart in a real browser, while its data grow each 0.3 s: a person's choices stay."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from pages._live_chart import _plotly_file, _source
from tests.browser.conftest import ROOT, served

APP = Path(__file__).parent / "apps" / "live_chart_app.py"
CHARTS = "document.querySelectorAll('.live-chart.js-plotly-plot')"
LOSS, ACCURACY = 0, 1


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of two growing charts; Streamlit serves static files from beside the script."""
    home = tmp_path_factory.mktemp("live_chart")
    (home / "static").mkdir()
    shutil.copy(APP, home / "app.py")
    shutil.copy(ROOT / "static" / _plotly_file(), home / "static")
    with served(home, str(home / "app.py"), PYTHONPATH=str(ROOT)) as address:
        yield address


def open_charts(page: Page, app: str, points: int = 20) -> None:
    page.goto(f"{app}/?points={points}")
    page.wait_for_function(f"{CHARTS}.length === 2 && [...{CHARTS}].every(c => c.data?.[0].x.length)")


def points(page: Page, chart: int) -> int:
    """How many points the last line has."""
    return page.evaluate(f"{CHARTS}[{chart}].data.at(-1).x.length")


def wait_for_updates(page: Page, count: int, chart: int = LOSS) -> None:
    seen = points(page, chart)
    page.wait_for_function(f"{CHARTS}[{chart}].data.at(-1).x.length >= {seen + count}", timeout=60_000)


def ranges(page: Page, chart: int) -> list[list[float]]:
    return page.evaluate(f"(({{xaxis, yaxis}}) => [xaxis.range, yaxis.range])({CHARTS}[{chart}]._fullLayout)")


def plot(page: Page, chart: int) -> dict[str, float]:
    box = page.locator(".live-chart .nsewdrag").nth(chart).bounding_box()
    assert box is not None
    return dict(box)


def tool(page: Page, chart: int, name: str) -> Locator:
    return page.locator(".live-chart-frame").nth(chart).get_by_role("button", name=name)


def zoom(page: Page, chart: int) -> list[list[float]]:
    """Drags from the upper left to the middle, slowly enough for updates to come in between."""
    whole, box = ranges(page, chart), plot(page, chart)
    page.mouse.move(box["x"] + 20, box["y"] + 15)
    page.mouse.down()
    for part in (0.2, 0.35, 0.5):
        page.mouse.move(box["x"] + part * box["width"], box["y"] + (0.3 + part) * box["height"], steps=3)
        page.wait_for_timeout(400)
    page.mouse.up()
    limit = (whole[0][1] - whole[0][0]) * 0.6
    page.wait_for_function(f"(r => r[1] - r[0] < {limit})({CHARTS}[{chart}]._fullLayout.xaxis.range)")
    return ranges(page, chart)


def test_zoom_stays_over_thirty_updates_in_one_node(page: Page, app: str) -> None:
    open_charts(page, app)
    zoomed = [zoom(page, chart) for chart in (LOSS, ACCURACY)]
    page.evaluate(f"[...{CHARTS}].forEach((c, place) => {{ c.mark = place; }})")
    nodes = page.evaluate("document.querySelectorAll('*').length")
    wait_for_updates(page, 30)
    assert [ranges(page, chart) for chart in (LOSS, ACCURACY)] == zoomed
    assert page.evaluate(f"[...{CHARTS}].map(c => c.mark)") == [LOSS, ACCURACY]
    assert page.evaluate(f"{CHARTS}[0]._ev.listeners('plotly_relayout').length") == 1
    assert page.evaluate("document.querySelectorAll('*').length") < nodes + 60  # two epochs' markers come into view


@pytest.mark.parametrize("way", ["button", "double click"])
def test_following_is_left_by_zooming_and_taken_up_again(page: Page, app: str, way: str) -> None:
    open_charts(page, app)
    follow = tool(page, ACCURACY, "Follow")
    expect(follow).to_be_hidden()
    before = ranges(page, ACCURACY)
    wait_for_updates(page, 3, ACCURACY)
    assert ranges(page, ACCURACY)[0][1] >= before[0][1] + 3
    top = plot(page, ACCURACY)
    zoomed = zoom(page, ACCURACY)
    expect(follow).to_be_visible()
    assert plot(page, ACCURACY) == top
    if way == "button":
        follow.click()
    else:
        page.mouse.dblclick(top["x"] + top["width"] / 2, top["y"] + top["height"] / 2)
    expect(follow).to_be_hidden()
    moving = f"(c => c._fullLayout.xaxis.range[1] === c.data.at(-1).x.length + 0.5)({CHARTS}[{ACCURACY}])"
    page.wait_for_function(moving)
    wait_for_updates(page, 3, ACCURACY)
    page.wait_for_function(moving)
    assert ranges(page, ACCURACY)[0][1] > zoomed[0][1]


def test_a_hidden_line_stays_hidden(page: Page, app: str) -> None:
    open_charts(page, app)
    line = tool(page, LOSS, "CE")
    expect(line).to_have_attribute("aria-pressed", "true")
    line.click()
    wait_for_updates(page, 5)
    expect(line).to_have_attribute("aria-pressed", "false")
    shown = "c => c._fullData.map(line => [line.name, line.visible])"
    assert page.evaluate(f"({shown})({CHARTS}[0])") == [["CE", "legendonly"], ["β·KL", True], ["total", True]]
    line.focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"{CHARTS}[0]._fullData.every(line => line.visible === true)")


def test_log_and_smoothing_stay_and_leave_out_zeros(page: Page, app: str) -> None:
    open_charts(page, app)
    raw = page.evaluate(f"{CHARTS}[0].data.map(line => line.y.slice(0, 15))")
    assert raw[1][0] == 0
    tool(page, LOSS, "Log").click()
    smooth = page.locator(".live-chart-frame select").first
    smooth.select_option("more")
    wait_for_updates(page, 5)
    expect(tool(page, LOSS, "Log")).to_have_attribute("aria-pressed", "true")
    expect(smooth).to_have_value("2")
    assert page.evaluate(f"{CHARTS}[0]._fullLayout.yaxis.type") == "log"
    lines = page.evaluate(
        f"{CHARTS}[0]._fullData.map(l => [l.name, l.showlegend, l.opacity, l.zorder, l.hoverinfo, l.line.dash])"
    )
    assert [line[0] for line in lines] == ["CE", "β·KL", "total"] * 2
    assert [line[1] for line in lines] == [True] * 3 + [False] * 3
    assert all(line[2:] == [0.25, -1, "skip", "solid"] for line in lines[3:])
    assert lines[1][5] == "dot"
    drawn = page.evaluate(f"{CHARTS}[0].data.map(line => line.y.slice(0, 15))")
    assert drawn[1][:3] == drawn[4][:3] == [None] * 3
    assert drawn[3] == raw[0]
    assert drawn[0] == pytest.approx(average(raw[0], 10, 0.05 * 3000))
    smooth.select_option("off")
    page.wait_for_function(f"{CHARTS}[0].data.length === 3")


def average(values: list[float], stride: float, steps: float) -> list[float]:
    """Each value is the mean of those before it, weighted by exp(-distance / steps)."""
    kept = 2.718281828459045 ** (-stride / steps)
    result = []
    for place in range(len(values)):
        weights = [kept ** (place - before) for before in range(place + 1)]
        total = sum(weight * value for weight, value in zip(weights, values, strict=False))
        result.append(total / sum(weights))
    return result


def test_smoothing_and_scale_are_offered_where_the_script_says_so(page: Page, app: str) -> None:
    open_charts(page, app)
    expect(tool(page, LOSS, "Log")).to_be_visible()
    expect(tool(page, ACCURACY, "Log")).to_have_count(0)
    expect(page.locator(".live-chart-frame select").nth(ACCURACY)).to_be_hidden()


def test_the_hover_label_stays_while_data_grow(page: Page, app: str) -> None:
    open_charts(page, app)
    box = plot(page, LOSS)
    page.mouse.move(box["x"] + 12, box["y"] + box["height"] / 2)
    label = page.locator(".live-chart").first.locator(".hoverlayer .legend")
    expect(label).to_be_visible()
    said = label.text_content()
    wait_for_updates(page, 8)
    expect(label).to_be_visible()
    assert label.text_content() == said


def test_the_table_shows_the_latest_values(page: Page, app: str) -> None:
    open_charts(page, app, points=300)
    button = tool(page, LOSS, "Table")
    top = page.locator(".live-chart-frame").nth(LOSS).bounding_box()
    button.focus()
    page.keyboard.press("Space")
    expect(button).to_have_attribute("aria-pressed", "true")
    table = page.get_by_role("table", name=re.compile("^Student: CE"))
    expect(table).to_be_visible()
    assert page.locator(".live-chart-frame").nth(LOSS).bounding_box() == top
    assert table.locator("thead th[scope=col]").all_text_contents() == ["step", "CE", "β·KL", "total"]
    rows = table.locator("tbody tr")
    assert 20 <= rows.count() <= 51
    assert rows.first.locator("th[scope=row]").text_content() == "10"
    first = page.evaluate(f"{CHARTS}[0].data.map(line => line.y[0].toFixed(4))")
    cells = rows.first.locator("td").all_text_contents()
    assert [float(cell) for cell in cells] == pytest.approx([float(value) for value in first], abs=0.001)
    wait_for_updates(page, 10)  # longer than the table waits
    last = int(rows.last.locator("th").text_content() or 0)
    assert last >= 10 * points(page, LOSS) - 120
    assert last >= 3100


def test_the_text_alternative_tells_the_latest_values(page: Page, app: str) -> None:
    open_charts(page, app)
    image = page.get_by_role("img", name=re.compile("^Student: CE, β·KL and total. Line chart of"))
    words = re.compile(r"Latest values: CE (\d\.\d+), β·KL (\d\.\d+), total (\d\.\d+) at step (\d+)\.$")
    expect(image).to_have_accessible_name(words)
    wait_for_updates(page, 1)
    found = words.search(image.get_attribute("aria-label") or "")
    assert found is not None
    *said, step = (float(number) for number in found.groups())
    assert step > 190
    drawn = page.evaluate(f"{CHARTS}[0].data.map(line => line.y[line.x.indexOf({step})])")
    assert said == pytest.approx(drawn, abs=0.001)
    tool(page, LOSS, "CE").click()
    expect(image).to_have_accessible_name(re.compile(r"2 lines by step. Latest values: β·KL"))
    other = page.get_by_role("img", name=re.compile("^Accuracy"))
    expect(other).to_have_accessible_name(re.compile(r"teacher 80.0 %, =student \d\d.\d % at epoch \d+\.$"))


def saved(page: Page, button: Locator) -> tuple[str, bytes]:
    with page.expect_download() as download:
        button.click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def test_csv_holds_every_value_and_no_formula(page: Page, app: str) -> None:
    open_charts(page, app)
    name, content = saved(page, tool(page, LOSS, "CSV"))
    assert name == "student-ce-β-kl-and-total.csv"
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
    assert rows[0] == ["step", "CE", "β·KL", "total"]
    drawn = page.evaluate(f"{CHARTS}[0].data.map(line => line.y)")
    assert len(rows) > 20
    for place, row in enumerate(rows[1:]):
        assert [float(cell) for cell in row] == [10 * (place + 1), *(line[place] for line in drawn)]
    _, content = saved(page, tool(page, ACCURACY, "CSV"))
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
    assert rows[0] == ["epoch", "teacher", "'=student"]
    assert [row[:2] for row in rows[1:4]] == [["1", "0.8"], ["2", "0.8"], ["3", "0.8"]]


@pytest.mark.parametrize(("scheme", "paper"), [("light", (255, 255, 255)), ("dark", (18, 18, 18))])
def test_png_has_the_view_on_the_themes_background(browser: Browser, app: str, scheme: Any, paper: Any) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    open_charts(page, app)
    name, content = saved(page, tool(page, ACCURACY, "PNG"))
    context.close()
    assert name == "accuracy-on-validation-texts.png"
    picture = Image.open(io.BytesIO(content)).convert("RGBA")
    assert picture.size == (1600, 900)
    assert picture.getpixel((2, 897)) == (*paper, 255)
    colours = {colour for _, colour in picture.getcolors(1 << 20) or []}
    assert {(0, 0x72, 0xB2, 255), (0xD5, 0x5E, 0, 255)} <= colours


def test_a_long_line_is_drawn_with_at_most_a_thousand_points(page: Page, app: str) -> None:
    open_charts(page, app, points=2500)
    lines = page.evaluate(f"{CHARTS}[0].data.map(line => [line.x.length, line.y.length, line.x[0], line.x.at(-1)])")
    for xs, ys, first, last in lines:
        assert 500 <= xs == ys <= 1000
        assert first == 10
        assert last >= 25_000


def test_colours_are_those_of_the_theme_also_when_it_changes(page: Page, app: str) -> None:
    open_charts(page, app)
    look = f"(c => [c._fullLayout.font.color, c._fullLayout.paper_bgcolor, c.data[2].line.color])({CHARTS}[0])"
    light, dark = ["#1B1B1B", "#FFFFFF", "#1B1B1B"], ["#EDEDED", "#121212", "#EDEDED"]
    assert [colour.upper() for colour in page.evaluate(look)] == light
    page.evaluate(f"{CHARTS}[0].mark = 'same'")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"{look}.map(c => c.toUpperCase()).join() === '{','.join(dark)}'")
    button = tool(page, LOSS, "Table")
    expect(button).to_have_css("color", "rgb(237, 237, 237)")
    assert page.evaluate(f"{CHARTS}[0].mark") == "same"


def test_without_plotly_the_values_are_still_there(page: Page, app: str) -> None:
    page.route("**/plotly-*.js", lambda route: route.abort())
    page.goto(f"{app}/?points=20")
    expect(page.get_by_text("The chart cannot be drawn: cannot load").first).to_be_visible()
    table = page.get_by_role("table", name=re.compile("^Student: CE"))
    latest = table.locator("tbody tr").last.locator("th")
    expect(latest).to_have_text(re.compile(r"^[2-9]\d\d$"))
    seen = latest.text_content()
    expect(latest).not_to_have_text(seen or "")
    assert len(saved(page, tool(page, LOSS, "CSV"))[1]) > 500
    assert page.evaluate("document.querySelectorAll('head script[src*=plotly]').length") == 0


def test_a_chart_that_leaves_the_page_is_taken_down(page: Page, app: str) -> None:
    open_charts(page, app)
    zoom(page, LOSS)
    page.evaluate(f"window.left = [...{CHARTS}]")
    page.get_by_text("without charts").click()
    expect(page.locator(".live-chart-frame")).to_have_count(0)
    page.wait_for_function("window.left.every(node => !node._fullLayout && !node._ev)")
    page.set_viewport_size({"width": 1000, "height": 800})
    page.get_by_text("without charts").click()
    page.wait_for_function(f"{CHARTS}.length === 2")
    expect(tool(page, LOSS, "Follow")).to_be_hidden()


def test_all_is_in_reach_on_a_phone(browser: Browser, app: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    open_charts(page, app)
    frame = page.locator(".live-chart-frame").first
    zoom(page, LOSS)
    expect(tool(page, LOSS, "Follow")).to_be_visible()
    tools = frame.locator(".live-chart-tools > *, .live-chart-legend > *").all()
    boxes = [box for box in (each.bounding_box() for each in tools) if box is not None]
    assert len(boxes) == 9
    for place, box in enumerate(boxes):
        assert 0 <= box["x"] <= box["x"] + box["width"] <= 390
        assert not any(overlap(box, other) for other in boxes[place + 1 :])
        assert not overlap(box, plot(page, LOSS))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def overlap(one: Any, other: Any) -> bool:
    across = one["x"] < other["x"] + other["width"] and other["x"] < one["x"] + one["width"]
    return across and one["y"] < other["y"] + other["height"] and other["y"] < one["y"] + one["height"]


def test_hundreds_of_updates_leave_no_more_nodes_listeners_or_memory(page: Page) -> None:
    """The component by itself, without Streamlit, as fast as it draws."""
    page.set_content(f'<div id="here">{_source("live_chart.html")}</div>')
    page.add_script_tag(path=ROOT / "static" / _plotly_file())
    page.evaluate(GROW, _source("values.js", "words.js", "live_chart.js"))
    page.locator("select").select_option("more")
    page.get_by_role("button", name="Table").click()
    used = []
    for _ in range(2):
        page.evaluate("window.update(200)")
        used.append(usage(page))
    (nodes, listeners, heap), (nodes_later, listeners_later, heap_later) = used
    assert (nodes_later, listeners_later) == (nodes, listeners)
    assert heap_later - heap < 2e6


GROW = """async (source) => {
  const chart = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  const parentElement = document.getElementById("here");
  const x = [...Array(300).keys()];
  window.update = async (count) => {
    for (let turn = 0; turn < count; turn++) {
      const data = ["CE", "total"].map((name) => ({ x, y: x.map(Math.random), name, mode: "lines" }));
      const told = { spec: { data, layout: {} }, label: "Loss", height: 340, smooth: true, log: true };
      chart.default({ data: new TextEncoder().encode(JSON.stringify(told)), parentElement });
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  };
  await window.update(1);
}"""


def usage(page: Page) -> tuple[int, int, int]:
    """Nodes, listeners and bytes that are in use once all that can be thrown away is gone."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    for _ in range(3):
        session.send("HeapProfiler.collectGarbage")
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    heap = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return metrics["Nodes"], metrics["JSEventListeners"], heap
