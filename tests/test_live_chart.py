"""What the live chart sends to the browser, and what it costs."""

from __future__ import annotations

import copy
import json
import math
import time
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from pages import _live_chart
from pages._live_chart import MAX_POINTS, live_chart, thinned


def spec_of(points: int, lines: int = 1, **trace: Any) -> dict[str, Any]:
    steps = list(range(points))
    values = [0.1 + math.sin(step) / 7 for step in steps]
    data = [{"x": steps, "y": values, "name": f"line {number}", **trace} for number in range(lines)]
    return {"data": data, "layout": {"height": 300, "xaxis": {"title": {"text": "step"}}}}


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What Streamlit's component is called with, call by call."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(_live_chart, "_mount", lambda **given: calls.append(given))
    return calls


def sent(figure: Any, calls: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    """The message of a chart."""
    live_chart(figure, key="chart", label="Loss", **options)
    return json.loads(calls[-1]["data"])


def test_a_figure_and_its_dictionary_send_the_same(mounted: list[dict[str, Any]]) -> None:
    spec = spec_of(5, type="scatter")
    figure = go.Figure(spec)
    assert sent(figure, mounted)["spec"] == sent(spec, mounted)["spec"] == spec
    assert figure.layout.template is not None


def test_options_label_and_height_reach_the_browser(mounted: list[dict[str, Any]]) -> None:
    told = sent(spec_of(3), mounted, smooth=True, log=True)
    assert mounted[-1]["key"] == "chart"
    assert mounted[-1]["height"] == 300
    assert (told["label"], told["height"], told["smooth"], told["log"]) == ("Loss", 300, True, True)
    told = sent({"data": [], "layout": {}}, mounted)
    assert (told["height"], told["smooth"], told["log"]) == (_live_chart.HEIGHT, False, False)


def test_the_given_dictionary_is_left_as_it_was(mounted: list[dict[str, Any]]) -> None:
    spec = spec_of(2500, lines=2)
    spec["layout"]["template"] = {"layout": {"font": {"size": 40}}}
    before = copy.deepcopy(spec)
    assert "template" not in sent(spec, mounted)["spec"]["layout"]
    assert spec == before


@pytest.mark.parametrize("points", [1, 999, 1000, 1001, 1002, 1999, 2000, 12_345])
def test_a_line_has_at_most_a_thousand_points_with_its_first_and_last(points: int) -> None:
    trace = spec_of(points)["data"][0]
    drawn = thinned(trace)
    assert len(drawn["x"]) == len(drawn["y"]) <= MAX_POINTS
    assert (drawn["x"][0], drawn["x"][-1]) == (0, points - 1)
    assert all(drawn["y"][place] == trace["y"][x] for place, x in enumerate(drawn["x"]))
    assert len(drawn["x"]) >= min(points, MAX_POINTS // 2)


def test_thinning_takes_every_value_of_a_point_with_it() -> None:
    count = 3001
    spread = {"array": list(range(count)), "visible": True}
    drawn = thinned({"y": np.arange(count), "error_y": spread, "customdata": [str(n) for n in range(count)]})
    assert drawn["x"] == drawn["y"] == drawn["error_y"]["array"] == [int(text) for text in drawn["customdata"]]
    assert drawn["error_y"]["visible"] is True


def test_arrays_are_sent_as_numbers_and_what_is_no_number_as_null(mounted: list[dict[str, Any]]) -> None:
    figure = go.Figure(go.Scatter(x=np.arange(3), y=np.array([0.5, 0.25, 0.125])))
    assert sent(figure, mounted)["spec"]["data"][0]["y"] == [0.5, 0.25, 0.125]
    spec = {"data": [{"x": [1, 2, 3], "y": [0.5, math.nan, -math.inf]}], "layout": {}}
    assert sent(spec, mounted)["spec"]["data"][0]["y"] == [0.5, None, None]
    packed = json.loads(go.Figure(go.Scatter(y=np.array([0.5, 0.25]))).to_json())
    assert sent(packed, mounted)["spec"]["data"][0]["y"] == [0.5, 0.25]


def test_what_is_not_json_is_named() -> None:
    with pytest.raises(TypeError, match="a chart's complex is not JSON"):
        _live_chart._messages.of({"data": [{"y": [1j]}], "layout": {}}, "Loss", False, False)


def test_the_next_dictionary_is_read_anew_also_where_python_reuses_an_address() -> None:
    for points in range(1, 200):
        told = json.loads(_live_chart._messages.of(spec_of(points), "Loss", False, False))
        assert len(told["spec"]["data"][0]["y"]) == points
    assert len(_live_chart._messages._kept) <= _live_chart._KEPT


def test_a_further_watcher_of_the_same_chart_costs_well_under_two_milliseconds(mounted: list[dict[str, Any]]) -> None:
    spec = spec_of(MAX_POINTS, lines=3)
    live_chart(spec, key="first", label="Loss")
    times = []
    for watcher in range(40):
        began = time.perf_counter()
        live_chart(spec, key=f"watcher {watcher}", label="Loss")
        times.append(time.perf_counter() - began)
    assert sorted(times)[20] < 0.0005
    assert all(each["data"] is mounted[0]["data"] for each in mounted)
