"""How long a run takes: what is cached costs nothing, and past runs teach the speed of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_core import keys
from distill_core.config import RunConfig, load, parse
from distill_core.data.profile import Profile
from distill_core.estimate import (
    DEFAULT_RATE,
    learned_rates,
    remaining,
    seconds_by_stage,
    teacher_is_cached,
    work_by_stage,
)
from distill_core.events import STAGES, Event, History, StageFinished, StageStarted, Step, stages_of
from distill_core.store import Store

PROFILE = Profile(
    ("fresh", "rotten"),
    8000,
    {"train": 10_000, "val": 1000, "test": 1000, "unlabelled": 1000},
    {"train": 20.0, "val": 20.0, "test": 20.0, "unlabelled": 150.0},
)
EXPECTED = {"pretrain": 20.0, "finetune": 10.0, "cache": 2.0, "baseline": 8.0, "distil": 8.0, "test": 2.0}


def finished_run(store: Store, seconds: dict[str, float], config: RunConfig | None = None) -> str:
    run_id = store.create_run(config or RunConfig())
    store.write_result(run_id, {"seconds": seconds})
    return run_id


def publish_teacher(store: Store, config: RunConfig, precision: str) -> None:
    def fill(folder: Path) -> None:
        (folder / "model.safetensors").touch()

    store.publish("teachers", keys.teacher_key(config, precision), fill)


def history_of(*events: tuple[float, Event]) -> History:
    history = History()
    history.feed(events)
    return history


def finished(*stages: str, seconds: float = 5.0) -> list[tuple[float, Event]]:
    events: list[tuple[float, Event]] = []
    for stage in stages:
        events += [(0.0, StageStarted(stage, 10)), (seconds, StageFinished(stage, seconds))]
    return events


# Work


@pytest.mark.parametrize(
    "values",
    [{}, {"teacher": {"pretrain": False}}, {"training": {"baseline": False}}],
    ids=["all", "no_pretraining", "no_baseline"],
)
def test_work_is_counted_for_the_stages_of_the_run_in_their_order(values: dict[str, Any]) -> None:
    config = parse(values)
    work = work_by_stage(config, PROFILE)
    assert tuple(work) == stages_of(config)
    assert all(amount > 0 for amount in work.values())


@pytest.mark.parametrize(
    ("setting", "grows"),
    [
        ("teacher.size=L", {"pretrain", "finetune", "cache"}),
        ("teacher.layers=2", {"pretrain", "finetune", "cache"}),
        ("teacher.pretrain_epochs=3", {"pretrain"}),
        ("teacher.epochs=9", {"finetune"}),
        ("teacher.batch_size=8", {"pretrain", "finetune"}),
        ("student.size=XL", {"baseline", "distil"}),
        ("training.epochs=9", {"baseline", "distil"}),
        ("training.batch_size=8", {"baseline", "distil"}),
    ],
)
def test_more_work_is_counted_where_it_falls(setting: str, grows: set[str]) -> None:
    before, after = work_by_stage(RunConfig(), PROFILE), work_by_stage(load(settings=[setting]), PROFILE)
    assert {stage for stage in STAGES if after[stage] > before[stage]} == grows
    assert {stage for stage in STAGES if after[stage] < before[stage]} == set()


@pytest.mark.parametrize(
    ("setting", "shrinks"),
    [
        ("data.train_limit=100", {"pretrain", "finetune", "baseline", "distil"}),
        ("data.unlabelled_limit=0", {"pretrain"}),
        ("data.train_limit=99999", set()),
        ("data.unlabelled_limit=99999", set()),
    ],
)
def test_limits_on_the_data_spare_work(setting: str, shrinks: set[str]) -> None:
    before, after = work_by_stage(RunConfig(), PROFILE), work_by_stage(load(settings=[setting]), PROFILE)
    assert {stage for stage in STAGES if after[stage] < before[stage]} == shrinks
    assert {stage for stage in STAGES if after[stage] > before[stage]} == set()


def test_work_grows_with_the_number_of_epochs() -> None:
    once, thrice = (work_by_stage(load(settings=[f"training.epochs={n}"]), PROFILE) for n in (1, 3))
    assert thrice["distil"] == pytest.approx(3 * once["distil"])


# Expected seconds


def test_without_past_runs_the_default_rate_counts(store: Store) -> None:
    seconds = seconds_by_stage(RunConfig(), PROFILE, store)
    expected = {stage: work / DEFAULT_RATE for stage, work in work_by_stage(RunConfig(), PROFILE).items()}
    assert seconds == pytest.approx(expected)


def test_a_run_like_a_past_one_is_expected_to_take_as_long(store: Store) -> None:
    finished_run(store, EXPECTED)
    assert seconds_by_stage(RunConfig(), PROFILE, store) == pytest.approx(EXPECTED)


def test_a_longer_run_is_expected_to_take_longer_by_its_work(store: Store) -> None:
    finished_run(store, EXPECTED)
    seconds = seconds_by_stage(load(settings=["training.epochs=12"]), PROFILE, store)
    assert seconds["distil"] == pytest.approx(2 * EXPECTED["distil"])
    assert seconds["finetune"] == pytest.approx(EXPECTED["finetune"])


def test_rates_are_medians_over_past_runs(store: Store) -> None:
    for seconds in (1.0, 4.0, 1000.0):
        finished_run(store, {"distil": seconds})
    work = work_by_stage(RunConfig(), PROFILE)["distil"]
    assert learned_rates(store, PROFILE) == pytest.approx({"distil": work / 4.0})


def test_runs_without_a_result_and_stages_without_seconds_teach_nothing(store: Store) -> None:
    store.create_run(RunConfig())
    finished_run(store, {"pretrain": 0.0, "distil": 8.0, "a stage of a later version": 3.0})
    assert set(learned_rates(store, PROFILE)) == {"distil"}


def test_what_past_runs_did_not_show_is_taken_from_the_default(store: Store) -> None:
    finished_run(store, {"distil": 8.0})
    seconds = seconds_by_stage(RunConfig(), PROFILE, store)
    work = work_by_stage(RunConfig(), PROFILE)
    assert seconds["distil"] == pytest.approx(8.0)
    assert seconds["finetune"] == pytest.approx(work["finetune"] / DEFAULT_RATE)


def test_unfinished_runs_do_not_make_a_machine_forget_its_speed(store: Store) -> None:
    folder = store.run_folder(finished_run(store, EXPECTED))
    folder.rename(folder.with_name("20000101-000000-aaaaaa"))
    for _ in range(20):
        store.create_run(RunConfig())
    assert set(learned_rates(store, PROFILE)) == set(STAGES)


@pytest.mark.parametrize("broken", ["config.json", "result.json"])
def test_a_past_run_that_cannot_be_read_is_passed_over(store: Store, broken: str) -> None:
    finished_run(store, EXPECTED)
    other = finished_run(store, EXPECTED)
    store.write_text(other, broken, '{"data": {"a setting": "of another version"')
    assert seconds_by_stage(RunConfig(), PROFILE, store) == pytest.approx(EXPECTED)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_stages_of_a_cached_teacher_cost_nothing(store: Store, precision: str) -> None:
    config = RunConfig()
    before = seconds_by_stage(config, PROFILE, store)
    assert not teacher_is_cached(config, store)
    publish_teacher(store, config, precision)
    after = seconds_by_stage(config, PROFILE, store)
    assert teacher_is_cached(config, store)
    assert {stage for stage, seconds in after.items() if seconds == 0} == {"pretrain", "finetune", "cache"}
    assert {stage: after[stage] for stage in ("baseline", "distil", "test")} == {
        stage: before[stage] for stage in ("baseline", "distil", "test")
    }


def test_another_teacher_or_precision_is_not_the_cached_one(store: Store) -> None:
    publish_teacher(store, RunConfig(), "bfloat16")
    assert teacher_is_cached(load(settings=["training.precision=bfloat16", "objective.beta=7"]), store)
    assert not teacher_is_cached(load(settings=["training.precision=float32"]), store)
    assert not teacher_is_cached(load(settings=["teacher.epochs=9"]), store)


# What is left


def test_before_the_first_event_all_is_left() -> None:
    assert remaining(History(), EXPECTED) == (0.0, pytest.approx(sum(EXPECTED.values())))


def test_what_is_left_falls_to_zero_and_the_fraction_rises_to_one() -> None:
    as_expected = [event for stage in STAGES for event in finished(stage, seconds=EXPECTED[stage])]
    states = [remaining(history_of(*as_expected[: 2 * count]), EXPECTED) for count in range(len(STAGES) + 1)]
    fractions, left = [state[0] for state in states], [state[1] for state in states]
    assert fractions == sorted(set(fractions))
    assert left == sorted(set(left), reverse=True)
    assert states[-1] == (1.0, 0.0)


def test_a_cached_teacher_adds_nothing_to_what_is_over_or_left() -> None:
    expected = {**EXPECTED, "pretrain": 0.0, "finetune": 0.0, "cache": 0.0}
    history = history_of(*finished("pretrain", "finetune", "cache", seconds=0.0))
    assert remaining(history, expected) == (0.0, pytest.approx(8 + 8 + 2))


def under_way(step: int, elapsed: float) -> History:
    """Fine-tuning, after `step` of 100 steps and `elapsed` seconds."""
    return history_of(
        *finished("pretrain", seconds=20.0),
        (100.0, StageStarted("finetune", 100)),
        (100.0 + elapsed, Step("finetune", step, 8 * step, 0.5, None, 0.5, 1e-3)),
    )


def test_a_stage_under_way_counts_by_its_own_speed_once_enough_of_it_is_done() -> None:
    fraction, left = remaining(under_way(50, elapsed=10.0), EXPECTED)
    assert left == pytest.approx(10.0 + 2 + 8 + 8 + 2), "half of it took 10 s, whatever was expected"
    assert fraction == pytest.approx(30.0 / (30.0 + left))


def test_a_stage_that_has_hardly_begun_counts_as_expected() -> None:
    _, left = remaining(under_way(1, elapsed=1.0), EXPECTED)
    assert left == pytest.approx(10.0 + 20, rel=0.15), "one slow step does not make it 100 s"
    begun = history_of(*finished("pretrain", seconds=20.0), (100.0, StageStarted("finetune", 100)))
    assert remaining(begun, EXPECTED)[1] == pytest.approx(10.0 + 20)


@given(
    done=st.integers(0, len(STAGES) - 1),
    step=st.integers(0, 100),
    elapsed=st.floats(0, 1e4),
    seconds=st.floats(0.001, 1e4),
)
def test_the_fraction_stays_between_zero_and_one_and_time_is_never_negative(
    done: int, step: int, elapsed: float, seconds: float
) -> None:
    stage = STAGES[done]
    history = history_of(
        *finished(*STAGES[:done], seconds=seconds),
        (50.0, StageStarted(stage, 100)),
        (50.0 + elapsed, Step(stage, step, step, 0.5, None, 0.5, 1e-3)),
    )
    fraction, left = remaining(history, EXPECTED)
    assert 0 <= fraction <= 1
    assert left >= 0


def test_stages_to_come_are_as_slow_as_those_that_are_over() -> None:
    half_speed = history_of(*finished("pretrain", seconds=40.0))
    assert remaining(half_speed, EXPECTED)[1] == pytest.approx(2 * (10 + 2 + 8 + 8 + 2))


def test_stages_that_a_run_leaves_out_are_not_waited_for() -> None:
    expected = {stage: EXPECTED[stage] for stage in ("finetune", "cache", "distil", "test")}
    assert remaining(history_of(*finished(*expected)), expected) == (1.0, 0.0)
