"""A person's way through Sweep: charts of cells, a click on one, its run; a small sweep from start to end."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from distill_core import presets
from distill_core.store import Store
from distill_core.sweep.cells import Cell
from distill_core.sweep.questions import QUESTIONS
from distill_core.sweep.record import Sweeps
from distill_core.sweep.space import SweepConfig, grid
from tests.browser.conftest import served
from tests.made_cells import sweep_of
from tests.test_sweep_figures import BETA, filled, measured

OPENS_SECONDS = 2.0
"""Within which 2,000 cells that nobody has read yet are on the screen."""


@dataclass(frozen=True)
class Lab:
    """A lab with sweeps that nobody has run: of two axes, of three, and one of 2,000 cells."""

    address: str
    store: Store
    small: str
    sizes: str
    large: str


@pytest.fixture(scope="module")
def lab_with_sweeps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    store = Store(tmp_path_factory.mktemp("home"))
    run_id = store.create_run(presets.load("tiny"))
    store.update_status(run_id, status="cancelled")
    two = sweep_of(objective__beta=(0, 1, 2), objective__temperature=(1, 4))
    cells = filled(two, lambda values: measured(0.72 + values[BETA] / 100, 0.73 + values[BETA] / 100))
    cells = [Cell(**{**vars(cell), "run_id": run_id}) for cell in cells]
    kinds = QUESTIONS["how-small"].config
    many = sweep_of(objective__beta=tuple(range(40)), objective__temperature=tuple(range(1, 51)))
    ids = [
        kept(store, two, [*cells[:5], Cell(5, grid(two)[5], "failed", run_id, "there was no room")], "paused"),
        kept(
            store,
            kinds,
            filled(kinds, lambda values: measured(0.75, 0.77, parameters=1000 * len(str(values)))),
        ),
        kept(store, many, filled(many, lambda values: measured(0.7 + values[BETA] / 400, 0.71 + values[BETA] / 400))),
    ]
    with served(store.home) as address:
        yield Lab(address, store, *ids)


def kept(store: Store, config: SweepConfig, cells: list[Cell], state: str = "finished") -> str:
    sweeps = Sweeps(store)
    if sweeps.ids():
        time.sleep(1.1)  # ids are told apart by their second, and the latest is shown first
    sweep_id = sweeps.create(config, None, 60.0)
    for cell in cells:
        sweeps.append(sweep_id, cell)
    sweeps.update(sweep_id, status=state, worked=10.0)
    return sweep_id


def open_sweep(page: Page, lab: Lab, sweep_id: str) -> None:
    page.goto(f"{lab.address}/sweep?sweep={sweep_id}")
    expect(drawn(page)).to_be_visible()


def drawn(page: Page) -> Locator:
    return page.locator(".live-chart.js-plotly-plot").first


def choose_chart(page: Page, name: str) -> None:
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    page.get_by_test_id("stButtonGroup").get_by_text(name, exact=True).click()
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def square(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where a value of both axes lies on the screen."""
    return page.evaluate(
        """([x, y]) => {
            const chart = document.querySelector(".live-chart.js-plotly-plot");
            const { xaxis, yaxis } = chart._fullLayout;
            const box = chart.getBoundingClientRect();
            return [box.left + xaxis._offset + xaxis.d2p(x), box.top + yaxis._offset + yaxis.d2p(y)];
        }""",
        [x, y],
    )


def traces(page: Page) -> list[str]:
    return page.evaluate(
        "[...document.querySelectorAll('.live-chart.js-plotly-plot')].flatMap(c => c.data.map(t => t.name ?? t.type))"
    )


def test_a_click_on_a_square_opens_its_run(page: Page, lab_with_sweeps: Lab) -> None:
    open_sweep(page, lab_with_sweeps, lab_with_sweeps.small)
    expect(page.get_by_text("Paused · 5 of 6 cells")).to_be_visible()
    expect(page.get_by_text("there was no room", exact=False).first).to_be_visible()
    page.mouse.click(*square(page, 2, 0))
    panel = page.locator(".st-key-sweep-panel")
    expect(panel).to_contain_text("β 2, temperature 1")
    expect(panel).to_contain_text("74.5\u00a0% ± 0.7 of the test texts right")
    page.mouse.click(*square(page, 0, 1))
    expect(panel).to_contain_text("β 0, temperature 4")
    page.get_by_role("button", name="Open its run").click()
    expect(page.get_by_text("1 chosen")).to_be_visible()
    run_id = lab_with_sweeps.store.run_ids()[0]
    expect(page).to_have_url(re.compile(f"run={run_id}"))
    page.get_by_role("link", name="Sweep").click()
    expect(page).to_have_url(re.compile(f"sweep={lab_with_sweeps.small}"))
    expect(panel).to_contain_text("β 0, temperature 4")


def test_settings_of_a_cell_are_taken_to_train(page: Page, lab_with_sweeps: Lab) -> None:
    open_sweep(page, lab_with_sweeps, lab_with_sweeps.small)
    page.mouse.click(*square(page, 1, 1))
    expect(page.locator(".st-key-sweep-panel")).to_contain_text("β 1, temperature 4")
    page.get_by_role("button", name="Use its settings").click()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible()
    expect(page.get_by_role("slider", name=re.compile("β"))).to_have_value("1")


def test_a_tap_chooses_a_cell_on_a_phone(browser: Browser, lab_with_sweeps: Lab) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    open_sweep(page, lab_with_sweeps, lab_with_sweeps.small)
    drawn(page).scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    page.touchscreen.tap(*square(page, 1, 0))
    expect(page.locator(".st-key-sweep-panel")).to_contain_text("β 1, temperature 1")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()


def test_every_chart_of_a_sweep_is_drawn(page: Page, lab_with_sweeps: Lab) -> None:
    open_sweep(page, lab_with_sweeps, lab_with_sweeps.sizes)
    assert {"teacher", "alone", "student kind LSTM", "student kind bag"} == set(traces(page))
    choose_chart(page, "Heat map")
    page.wait_for_function("document.querySelector('.live-chart.js-plotly-plot')?.data[0].type === 'heatmap'")
    choose_chart(page, "Trade-offs")
    expect(page.locator(".live-chart.js-plotly-plot")).to_have_count(2)
    assert traces(page) == ["student", "best trades", "alone", "teacher"] * 2
    choose_chart(page, "All axes")
    page.wait_for_function("document.querySelector('.live-chart.js-plotly-plot')?.data[0].type === 'parcoords'")
    frame = page.locator(".live-chart-frame").first
    frame.get_by_role("button", name="Table").click()
    heads = frame.locator("thead th")
    expect(heads).to_have_text(["student size", "student kind", "accuracy", "parameters", "ms a text"])
    expect(frame.locator("tbody tr").first).to_contain_text("XS")
    with page.expect_download():
        frame.get_by_role("button", name="PNG").click()


def test_two_thousand_cells_open_at_once_and_can_be_clicked(page: Page, lab_with_sweeps: Lab) -> None:
    open_sweep(page, lab_with_sweeps, lab_with_sweeps.small)
    page.get_by_role("combobox", name="Sweep").click()
    began = time.perf_counter()
    page.get_by_role("option", name=re.compile("^β × temperature")).first.click()  # the latest, which has 2,000 cells
    page.wait_for_function("document.querySelector('.live-chart.js-plotly-plot')?.data[0].z?.flat().length === 2000")
    assert time.perf_counter() - began < OPENS_SECONDS
    choose_chart(page, "Trade-offs")
    page.wait_for_function(
        "document.querySelector('.live-chart.js-plotly-plot')?.data.some(t => t.customdata?.length === 2000)"
    )
    choose_chart(page, "Heat map")
    page.wait_for_function("document.querySelector('.live-chart.js-plotly-plot')?.data[0].type === 'heatmap'")
    began = time.perf_counter()
    page.mouse.click(*square(page, 39, 49))
    expect(page.locator(".st-key-sweep-panel")).to_contain_text("β 39, temperature 50")
    assert time.perf_counter() - began < OPENS_SECONDS


def test_a_sweep_that_works_fills_its_chart(page: Page, lab_with_sweeps: Lab) -> None:
    """Cells that somebody else's driver writes appear in the same chart, and what was chosen stays."""
    store, config = lab_with_sweeps.store, sweep_of(objective__beta=(0, 1), objective__temperature=(1, 4))
    cells, sweeps = filled(config, lambda _: measured(0.75, 0.77)), Sweeps(lab_with_sweeps.store)
    sweep_id = kept(store, config, [cells[0], Cell(1, grid(config)[1], "running")], "running")
    sweeps.update(sweep_id, started=time.time())
    with sweeps.claim(sweep_id):
        open_sweep(page, lab_with_sweeps, sweep_id)
        expect(page.get_by_text("1 of 4 cells ·")).to_be_visible()
        page.mouse.click(*square(page, 0, 0))
        expect(page.locator(".st-key-sweep-panel")).to_contain_text("β 0, temperature 1")
        page.evaluate("document.querySelector('.live-chart.js-plotly-plot').mark = 7")
        for cell in cells[1:]:
            sweeps.append(sweep_id, cell)
        expect(page.get_by_text("4 of 4 cells ·").first).to_be_visible()
        page.wait_for_function(
            "document.querySelector('.live-chart.js-plotly-plot')?.data[0].z.flat().every(z => z !== null)"
        )
        assert page.evaluate("document.querySelector('.live-chart.js-plotly-plot').mark") == 7
        sweeps.update(sweep_id, status="finished")
    expect(page.get_by_text("Finished · 4 of 4 cells")).to_be_visible()
    expect(page.locator(".st-key-sweep-panel")).to_contain_text("β 0, temperature 1")


TINY = {
    "data.train_limit": 400,
    "data.unlabelled_limit": 20,
    "teacher.size": "XS",
    "teacher.epochs": 2,
    "teacher.pretrain": "false",
    "student.size": "XS",
    "training.epochs": 2,
}


@pytest.mark.slow
def test_a_small_sweep_is_started_and_its_cell_opens(browser: Browser, tmp_path: Path) -> None:
    """The whole way with a real driver: the draft of Train, two cells of one seed, a click, the run."""
    with served(tmp_path) as address:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(60_000)
        page.goto(f"{address}/?{'&'.join(f'{name}={value}' for name, value in TINY.items())}")
        expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible()
        page.get_by_role("link", name="Sweep").click()
        page.get_by_role("combobox", name="Question").click()
        page.get_by_role("option", name="Your own").click()
        take_off(page, "β", "1", "2", "5")
        take_off(page, "Temperature", "2", "4", "8")
        page.get_by_role("spinbutton", name="Seeds").fill("1")
        page.get_by_role("spinbutton", name="Seeds").press("Enter")
        expect(page.get_by_text("2 cells × 1 seed").first).to_be_visible()
        page.get_by_role("button", name="Start the sweep").click()
        expect(page).to_have_url(re.compile("sweep="))
        expect(page.get_by_text("Finished · 2 of 2 cells")).to_be_visible(timeout=120_000)
        store = Store(tmp_path)
        (sweep_id,) = Sweeps(store).ids()
        cells = Sweeps(store).cells(sweep_id)
        assert [cell.state for cell in cells] == ["finished", "finished"]
        page.wait_for_function("document.querySelector('.live-chart.js-plotly-plot')?.data[0].z?.[0]?.length === 2")
        page.mouse.click(*square(page, 1, 0))
        expect(page.locator(".st-key-sweep-panel")).to_contain_text("β 0.5, temperature 1")
        page.get_by_role("button", name="Open its run").click()
        expect(page).to_have_url(re.compile(f"run={cells[1].run_id}"))
        expect(page.get_by_text("1 chosen")).to_be_visible()
        expect(page.get_by_role("button", name="Open settings in Train")).to_be_visible()
        page.close()


def take_off(page: Page, name: str, *values: str) -> None:
    """Takes values off an axis."""
    box = page.get_by_test_id("stMultiSelect").filter(has_text=re.compile(f"^{name}"))
    for value in values:
        box.get_by_role("button", name=f"Remove {value}", exact=True).click()
        expect(box.get_by_role("button", name=f"Remove {value}", exact=True)).to_have_count(0)
