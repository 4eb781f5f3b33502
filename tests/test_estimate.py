"""How long a run takes: what is cached costs nothing, and past runs teach the speed of this machine."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill_core import device, estimate, keys, machine, processor
from distill_core.computing import narrow_here
from distill_core.config import DATA_SETS, DataConfig, RunConfig, parse
from distill_core.data.profile import Profile
from distill_core.estimate import (
    DEFAULT_RATE,
    assumed,
    known_profile,
    learned_rates,
    precisions,
    remaining,
    seconds_by_stage,
    teacher_is_cached,
    teaching_is_kept,
    work_by_stage,
)
from distill_core.events import Event, History, StageFinished, StageStarted, Step, stages_of
from distill_core.models.sizes import WORKS, Work
from distill_core.presets import PRESETS, load
from distill_core.store import TEACHER_LOGITS, CacheKind, Store
from distill_core.teaching import prepare_data

PROFILE = Profile(
    ("fresh", "rotten"),
    8000,
    {"train": 10_000, "val": 1000, "test": 1000, "unlabelled": 1000},
    {"train": 20.0, "val": 20.0, "test": 20.0, "unlabelled": 150.0},
)
STAGES = stages_of(RunConfig())
"""What the default run goes through."""
EXPECTED = {"pretrain": 20.0, "finetune": 10.0, "cache": 2.0, "baseline": 8.0, "distil": 8.0, "test": 2.0}


def finished_run(store: Store, seconds: dict[str, float], config: RunConfig | None = None) -> str:
    run_id = store.create_run(config or RunConfig())
    store.write_result(run_id, {"seconds": seconds})
    return run_id


def publish(store: Store, kind: CacheKind, key: str) -> None:
    def fill(folder: Path) -> None:
        (folder / "something").touch()

    store.publish(kind, key, fill)


def publish_teacher(store: Store, config: RunConfig, precision: str) -> None:
    publish(store, "teachers", keys.teacher_key(config, precision, store.data_folder))


@pytest.mark.parametrize("name", [name for name in DATA_SETS if DataConfig(name=name).comes_along])
def test_what_comes_with_the_lab_is_assumed_to_be_what_it_is(store: Store, name: str) -> None:
    config = RunConfig(data=DataConfig(name=name))
    guessed = assumed(name)
    prepare_data(config, store)
    read = known_profile(config, store)
    assert read is not None
    assert (guessed.labels, guessed.vocabulary, guessed.texts) == (read.labels, read.vocabulary, read.texts)
    assert guessed.mean_tokens == pytest.approx(read.mean_tokens, abs=0.06)


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
    [
        {},
        {"teacher": {"pretrain": False}},
        {"training": {"baseline": False}},
        {"training": {"seeds": 3, "transfer": True, "augment": 1, "assistant": "S"}},
        {"student": {"word_vectors": "teacher", "kind": "bag"}, "teacher": {"kind": "pretrained", "frozen": True}},
        {"teacher": {"kind": "file"}, "data": {"name": "csv", "path": "mine.csv"}},
        {"data": {"name": "imdb"}, "objective": {"mode": "joint"}},
    ],
    ids=["all", "no_pretraining", "no_baseline", "further_texts", "pretrained", "file", "joint"],
)
@pytest.mark.parametrize("profile", [PROFILE, None], ids=["read", "unread"])
def test_work_is_counted_for_the_stages_of_the_run_in_their_order(
    values: dict[str, Any], profile: Profile | None
) -> None:
    config = parse(values)
    work = work_by_stage(config, profile)
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
        ("student.size=XL", {"baseline", "distil", "test"}),
        ("training.epochs=9", {"baseline", "distil"}),
        ("training.batch_size=8", {"baseline", "distil"}),
        ("training.augment=2", {"distil"}),
        ("training.transfer=true", {"distil"}),
        ("student.like_teacher=true", {"baseline", "distil", "test"}),
        ("objective.mode=joint", {"distil"}),
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
    assert learned_rates(store, PROFILE) == pytest.approx({"distil lstm": work / 4.0})


def test_runs_without_a_result_and_stages_without_seconds_teach_nothing(store: Store) -> None:
    store.create_run(RunConfig())
    finished_run(store, {"pretrain": 0.0, "distil": 8.0, "a stage of a later version": 3.0})
    assert set(learned_rates(store, PROFILE)) == {"distil lstm"}


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
    of_lstm = {f"{stage} lstm" for stage in STAGES if stage != "test"}
    assert set(learned_rates(store, PROFILE)) == of_lstm | {"test"}


@pytest.mark.parametrize("broken", ["config.json", "result.json"])
def test_a_past_run_that_cannot_be_read_is_passed_over(store: Store, broken: str) -> None:
    finished_run(store, EXPECTED)
    other = finished_run(store, EXPECTED)
    store.write_text(other, broken, '{"data": {"a setting": "of another version"')
    assert seconds_by_stage(RunConfig(), PROFILE, store) == pytest.approx(EXPECTED)


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in /dev that looks like a GPU."""
    monkeypatch.setattr(estimate, "GPUS", ("null",))


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "GPUS", ("nothing-of-the-kind",))


def has_flags(patch: pytest.MonkeyPatch, folder: Path, flags: str) -> None:
    """A processor that says so of itself, as Linux passes it on."""
    facts = folder / f"cpuinfo-{len(flags)}"
    facts.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: amx_tile\n", encoding="utf-8")
    patch.setattr(processor, "FACTS", facts)


UNKNOWN = ("float32", "bfloat16")


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize(
    ("flags", "work", "settings", "expected"),
    [
        ("fpu avx512f", "encoder", [], ("float32",)),
        ("fpu avx512f avx512_bf16", "encoder", [], UNKNOWN),
        ("fpu avx512f avx512_bf16", "lstm", [], UNKNOWN),
        ("fpu avx512f avx512_bf16", "other", [], ("float32",)),
        ("amx_tile fpu", "lstm", [], UNKNOWN),
        ("fpu avx512_bf16_of_another_kind", "lstm", [], ("float32",)),
        ("fpu", "other", ["training.precision=bfloat16"], ("bfloat16",)),
        ("fpu amx_tile", "encoder", ["training.precision=float32"], ("float32",)),
    ],
)
def test_without_a_gpu_a_processor_with_instructions_for_it_may_compute_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    store: Store,
    flags: str,
    work: Work,
    settings: list[str],
    expected: tuple[str, ...],
) -> None:
    has_flags(monkeypatch, tmp_path, flags)
    assert precisions(load(settings=settings), work, store) == expected


@pytest.mark.usefixtures("without_gpu")
def test_what_was_tried_before_is_certain_on_the_same_kind_of_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Store
) -> None:
    has_flags(monkeypatch, tmp_path, "amx_tile")
    machine.keep_narrow(store, ["encoder"])
    found = {work: precisions(RunConfig(), work, store) for work in WORKS}
    assert found == {"encoder": ("bfloat16",), "lstm": ("float32",), "other": ("float32",)}
    assert precisions(load(settings=["training.precision=float32"]), "encoder", store) == ("float32",)
    has_flags(monkeypatch, tmp_path, "amx_tile avx512_bf16")
    assert precisions(RunConfig(), "encoder", store) == UNKNOWN


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize("tried", [False, True])
@pytest.mark.parametrize("work", WORKS)
def test_the_precision_that_this_machine_chooses_is_among_those_that_were_thought_possible(
    monkeypatch: pytest.MonkeyPatch, store: Store, work: Work, tried: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    compute = device.choose(faster=partial(narrow_here, store)) if tried else device.choose()
    assert compute.precision_of(work) in (known := precisions(RunConfig(), work, store))
    assert not tried or len(known) == 1


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize("facts", ["", "processor: 0\nFeatures: fp asimd bf16\n", None])
def test_a_system_that_says_nothing_of_its_processor_may_have_any(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Store, facts: str | None
) -> None:
    file = tmp_path / "cpuinfo"
    if facts is not None:
        file.write_text(facts, encoding="utf-8")
    monkeypatch.setattr(processor, "FACTS", file)
    assert precisions(RunConfig(), "lstm", store) == UNKNOWN


@pytest.mark.usefixtures("with_gpu")
def test_a_gpu_may_compute_in_bfloat16(store: Store) -> None:
    machine.keep_narrow(store, [])
    assert precisions(RunConfig(), "other", store) == UNKNOWN
    assert precisions(load(settings=["training.precision=float32"]), "other", store) == ("float32",)


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize("missing", ["", "tokens", "teachers", "answers", "words", "transfer"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_student_can_begin_once_all_that_it_learns_from_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Store, precision: str, missing: str
) -> None:
    has_flags(monkeypatch, tmp_path, "avx512_bf16")
    machine.keep_narrow(store, ["lstm"] if precision == "bfloat16" else [])
    config = load(settings=["training.transfer=true", "student.word_vectors=teacher"])
    folder = store.data_folder
    found: dict[CacheKind, str] = {
        "tokens": keys.data_key(config, folder),
        "teachers": keys.teacher_key(config, precision, folder),
        "transfer": keys.transfer_key(config, precision, folder),
        "words": keys.words_key(config, precision, folder),
    }
    for kind, key in found.items():
        if kind != missing:
            publish(store, kind, key)
    if missing not in ("teachers", "answers"):
        store.complete("teachers", found["teachers"], TEACHER_LOGITS, {"logits": torch.zeros(1)})
    assert teaching_is_kept(config, store) is (not missing)


@pytest.mark.usefixtures("with_gpu")
def test_where_only_pytorch_can_tell_the_precision_a_student_needs_a_teacher_of_each(store: Store) -> None:
    config = RunConfig()
    publish(store, "tokens", keys.data_key(config, store.data_folder))
    for precision, enough in (("float32", False), ("bfloat16", True)):
        publish_teacher(store, config, precision)
        key = keys.teacher_key(config, precision, store.data_folder)
        store.complete("teachers", key, TEACHER_LOGITS, {"logits": torch.zeros(1)})
        assert teaching_is_kept(config, store) is enough
        assert teaching_is_kept(load(settings=[f"training.precision={precision}"]), store)


@pytest.mark.usefixtures("with_gpu")
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


# Kinds of models


@pytest.mark.parametrize(
    ("setting", "stages"),
    [
        ("teacher.kind=pretrained", {"finetune", "cache"}),
        ("student.kind=bag", {"baseline", "distil"}),
        ("student.kind=gru", {"baseline", "distil"}),
        ("objective.mode=joint", {"distil"}),
    ],
)
def test_the_speed_of_one_kind_of_model_is_not_taken_for_that_of_another(
    store: Store, setting: str, stages: set[str]
) -> None:
    finished_run(store, dict.fromkeys(STAGES, 1e-3))
    config = load(settings=[setting])
    seconds, work = seconds_by_stage(config, PROFILE, store), work_by_stage(config, PROFILE)
    by_default = {stage for stage in work if seconds[stage] == pytest.approx(work[stage] / DEFAULT_RATE)}
    assert by_default == stages


def test_each_kind_of_model_is_known_by_its_own_past_runs(store: Store) -> None:
    encoder = load(settings=["teacher.kind=pretrained", "student.kind=bag"])
    finished_run(store, EXPECTED)
    of_encoder = {"finetune": 100.0, "cache": 30.0, "baseline": 3.0, "distil": 4.0}
    finished_run(store, of_encoder, encoder)
    assert seconds_by_stage(RunConfig(), PROFILE, store) == pytest.approx(EXPECTED)
    found = seconds_by_stage(encoder, PROFILE, store)
    assert {stage: found[stage] for stage in of_encoder} == pytest.approx(of_encoder)


def test_a_frozen_encoder_is_expected_to_be_faster() -> None:
    moved, frozen = (
        work_by_stage(load(settings=["teacher.kind=pretrained", f"teacher.frozen={flag}"]), PROFILE)
        for flag in ("false", "true")
    )
    assert frozen["finetune"] < moved["finetune"] / 3
    assert {stage: work for stage, work in frozen.items() if stage != "finetune"} == {
        stage: work for stage, work in moved.items() if stage != "finetune"
    }


def test_an_encoder_that_stops_reading_early_is_expected_to_be_faster() -> None:
    long = replace(PROFILE, mean_tokens=dict.fromkeys(PROFILE.mean_tokens, 260.0))
    whole, short = (
        work_by_stage(load(settings=["teacher.kind=pretrained", f"teacher.encoder_max_tokens={limit}"]), long)
        for limit in (4096, 169)
    )
    assert short["cache"] == pytest.approx(whole["cache"] / 2, rel=0.01)
    assert short["finetune"] == pytest.approx(whole["finetune"] / 2, rel=0.01)
    assert short["distil"] == whole["distil"]


def test_an_encoder_of_unknown_size_is_counted_like_the_one_that_comes_with_the_lab() -> None:
    known, unknown = (
        work_by_stage(load(settings=["teacher.kind=pretrained", *more]), PROFILE)
        for more in ([], ["teacher.model=some/encoder"])
    )
    assert unknown == known


@pytest.mark.parametrize("profile", [PROFILE, None], ids=["read", "unread"])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_stage_of_every_preset_takes_some_time(store: Store, preset: str, profile: Profile | None) -> None:
    config = PRESETS[preset].config
    seconds = seconds_by_stage(config, profile, store)
    assert tuple(seconds) == stages_of(config)
    assert min(seconds.values()) > 0
    assert sum(seconds.values()) < 24 * 3600


def test_a_data_set_that_nobody_has_read_is_taken_for_a_large_one(store: Store) -> None:
    config = load(settings=["data.name=hf:ag_news"])
    assert sum(seconds_by_stage(config, None, store).values()) > sum(seconds_by_stage(config, PROFILE, store).values())


@pytest.mark.parametrize(
    ("settings", "kind", "stages"),
    [
        (["data.name=hf:ag_news"], "tokens", {"read"}),
        (["training.transfer=true"], "transfer", {"transfer"}),
        (["training.augment=2"], "transfer", {"transfer"}),
        (["student.word_vectors=teacher"], "words", {"words"}),
    ],
)
def test_what_lies_in_the_home_folder_takes_no_time(
    store: Store, monkeypatch: pytest.MonkeyPatch, settings: list[str], kind: CacheKind, stages: set[str]
) -> None:
    monkeypatch.setattr("distill_core.data.sources.version", lambda package: "1.0")
    config = load(settings=settings)
    assert 0 not in seconds_by_stage(config, PROFILE, store).values()
    key = {
        "tokens": lambda: keys.data_key(config, store.data_folder),
        "transfer": lambda: keys.transfer_key(config, "float32", store.data_folder),
        "words": lambda: keys.words_key(config, "float32", store.data_folder),
    }[kind]()
    publish(store, kind, key)
    seconds = seconds_by_stage(config, PROFILE, store)
    assert {stage for stage, expected in seconds.items() if expected == 0} == stages


def test_a_past_run_is_measured_by_its_own_data(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("text,label\na,b\n", encoding="utf-8")
    small = load(settings=["data.name=csv", f"data.path={file}"])
    profile = Profile(("a", "b"), 100, {**PROFILE.texts, "train": 100}, PROFILE.mean_tokens)
    store.publish("tokens", keys.data_key(small, store.data_folder), profile.write)
    finished_run(store, {"distil": 1.0}, small)
    expected = work_by_stage(small, profile)["distil"] / 1.0
    assert learned_rates(store, PROFILE)["distil lstm"] == pytest.approx(expected)
    file.unlink()
    assert learned_rates(store, PROFILE)["distil lstm"] == pytest.approx(work_by_stage(small, PROFILE)["distil"])


@given(
    epochs=st.integers(1, 20),
    augment=st.integers(0, 5),
    seeds=st.integers(1, 5),
    transfer=st.booleans(),
    kind=st.sampled_from(["lstm", "gru", "textcnn", "bag"]),
    teacher=st.sampled_from(["lstm", "pretrained"]),
    more=st.sampled_from(["epochs", "augment", "seeds", "transfer"]),
    profile=st.sampled_from([PROFILE, None]),
)
def test_more_to_do_never_takes_less_time(
    epochs: int, augment: int, seeds: int, transfer: bool, kind: str, teacher: str, more: str, profile: Profile | None
) -> None:
    training: dict[str, Any] = {"epochs": epochs, "augment": augment, "seeds": seeds, "transfer": transfer}
    settings = {"teacher": {"kind": teacher}, "student": {"kind": kind}}
    before = work_by_stage(parse({**settings, "training": training}), profile)
    training[more] = True if more == "transfer" else training[more] + 1
    after = work_by_stage(parse({**settings, "training": training}), profile)
    assert all(after[stage] >= work for stage, work in before.items())
    assert sum(after.values()) > sum(before.values()) or (more == "transfer" and transfer)


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


def test_a_run_whose_file_is_gone_is_still_estimated(tmp_path: Path) -> None:
    config = load("tiny", settings=["data.name=csv", f"data.path={tmp_path / 'gone.csv'}"])
    expected = seconds_by_stage(config, None, Store(tmp_path / "home"))
    assert set(expected) == set(stages_of(config))
    assert all(seconds > 0 for seconds in expected.values())
