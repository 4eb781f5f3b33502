"""Baselines are trained once for all runs that differ in teacher and objective alone."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from distill_core import baselines, files, keys, steering
from distill_core.analysis.verdict import verdict
from distill_core.config import RunConfig
from distill_core.events import Epoch, Event, StageFinished, StageStarted
from distill_core.store import Store
from distill_core.training.reading import logits_of
from distill_core.worker import work
from tests.runs import config_of, made_rows, write_csv


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "reviews.csv", made_rows(64))


def run(store: Store, config: RunConfig) -> str:
    run_id = store.create_run(config, state="running")
    work(run_id, store)
    return run_id


def stage_of(store: Store, run_id: str, stage: str) -> tuple[bool, list[Epoch]]:
    """Whether a stage was found in the home folder, and its epochs."""
    events = [event for _, event in store.read_events(run_id)[0]]
    (started,) = [event for event in events if isinstance(event, StageStarted) and event.stage == stage]
    return started.cached, [event for event in events if isinstance(event, Epoch) and event.stage == stage]


def test_another_beta_finds_the_baseline_with_its_epochs_and_weights(store: Store, file: Path) -> None:
    first, second = (run(store, config_of(file, f"objective.beta={beta}", "training.seeds=2")) for beta in (1, 3))
    (new, epochs), (cached, again) = (stage_of(store, run_id, "baseline") for run_id in (first, second))
    assert (new, cached) == (False, True)
    assert epochs
    assert epochs == again
    weights = [load_file(store.run_folder(run_id) / "baseline.safetensors") for run_id in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    results = [store.result(run_id) for run_id in (first, second)]
    assert results[0] is not None
    assert results[1] is not None
    assert results[0]["seeds"]["baseline"] == results[1]["seeds"]["baseline"]
    assert results[0]["right"]["baseline"] == results[1]["right"]["baseline"]
    repeats = [list(stage_of(store, run_id, "repeat")[1]) for run_id in (first, second)]
    assert [event.role for event in repeats[0]] == [event.role for event in repeats[1]]
    assert [event for event in repeats[0] if event.role == "baseline"] == [
        event for event in repeats[1] if event.role == "baseline"
    ]


def test_what_a_baseline_says_is_asked_once(store: Store, file: Path) -> None:
    first = store.result(run(store, config_of(file, "objective.beta=1")))
    (kept,) = (store.home / "baselines").glob("*/answers.safetensors")
    answers = load_file(kept)
    save_file({**answers, "logits_NC": -answers["logits_NC"]}, kept)
    second = store.result(run(store, config_of(file, "objective.beta=3")))
    assert first is not None
    assert second is not None
    assert second["baseline"]["test_accuracy"] == pytest.approx(1 - first["baseline"]["test_accuracy"])


def test_caches_that_are_cleaned_meanwhile_cost_a_run_nothing(
    store: Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cleaned(*given: Any) -> Any:
        shutil.rmtree(store.home / "baselines", ignore_errors=True)
        return logits_of(*given)

    monkeypatch.setattr(baselines, "logits_of", cleaned)
    run_id = run(store, config_of(file))
    assert store.status(run_id).status == "finished"
    assert not list((store.home / "baselines").glob("*/*"))


@dataclass(frozen=True)
class Elsewhere:
    """Another process at a baseline: it publishes it once a run's student has been trained, or gives up."""

    store: Store
    kept: Path

    def run(
        self, config: RunConfig, *, publishes: bool = False, waits: bool = False, keep_in: str | None = None
    ) -> tuple[dict[str, Any], list[str]]:
        """The result of a run beside it, and the run's stages in their order.

        Args:
            waits: it goes on when the student has been trained.
            keep_in: the stage in whose first epoch the run is stopped and kept; `waiting` is after its student.
        """
        run_id, stages = self.store.create_run(config, state="running"), list[str]()
        away = self.kept.rename(self.store.home / "away")
        with ExitStack() as held:
            assert held.enter_context(files.alone(self.kept.with_name(f".{self.kept.name}.lock"), None))

            def listen(event: Event) -> None:
                if isinstance(event, StageStarted):
                    stages.append(event.stage)
                if isinstance(event, Epoch) and event.stage == keep_in:
                    steering.ask(self.store, run_id, "keep")
                if isinstance(event, StageFinished) and event.stage == "distil":
                    if keep_in == "waiting":
                        steering.ask(self.store, run_id, "keep")
                    if publishes:
                        away.rename(self.kept)
                    if not waits:
                        held.close()

            result = work(run_id, self.store, listen)
        assert result is not None
        return result, stages


@pytest.fixture
def elsewhere(store: Store, file: Path) -> Elsewhere:
    run(store, config_of(file, "objective.beta=1"))
    (kept,) = (folder for folder in (store.home / "baselines").iterdir() if folder.is_dir())
    return Elsewhere(store, kept)


@pytest.mark.parametrize("publishes", [True, False])
def test_a_run_whose_baseline_another_trains_begins_with_its_student(
    store: Store, file: Path, elsewhere: Elsewhere, publishes: bool
) -> None:
    config = config_of(file, "objective.beta=3")
    in_order = store.result(run(store, config))
    found, stages = elsewhere.run(config, publishes=publishes)
    assert stages.index("distil") < stages.index("baseline") < stages.index("test")
    assert in_order is not None
    assert found["right"] == in_order["right"]
    assert found["student"]["kl"] == in_order["student"]["kl"]
    assert ("baseline" in found["seconds"]) is not publishes


@pytest.mark.parametrize(
    ("keep_in", "waits", "stage", "stages"),
    [
        ("distil", True, "distil", []),
        ("waiting", True, "baseline", []),
        ("baseline", False, "baseline", ["baseline"]),
    ],
)
def test_a_run_that_is_stopped_does_without_a_baseline_that_has_not_learned_to_its_end(
    file: Path, elsewhere: Elsewhere, keep_in: str, waits: bool, stage: str, stages: list[str]
) -> None:
    found, seen = elsewhere.run(config_of(file, "training.seeds=2"), waits=waits, keep_in=keep_in)
    assert found["stopped"]["stage"] == stage
    assert found["stopped"]["in_student"] is (stage == "distil")
    assert found["baseline"] is None
    assert found["seeds"] is None
    assert [name for name in seen if name in ("baseline", "repeat")] == stages
    said = verdict(found)
    assert said[0].startswith(
        "The student was" if stage == "distil" else "The student has learned to its end; its base"
    )
    assert said[-1].startswith("No baseline was trained")


def test_a_run_that_is_stopped_takes_a_baseline_that_is_there(file: Path, elsewhere: Elsewhere) -> None:
    config = config_of(file, "objective.beta=3")
    found, seen = elsewhere.run(config, publishes=True, keep_in="waiting")
    assert found["stopped"] is None
    assert found["baseline"] is not None
    assert seen.index("distil") < seen.index("baseline")


@pytest.mark.parametrize(
    ("setting", "same"),
    [
        ("objective.temperature=8", True),
        ("objective.mode=joint", True),
        ("teacher.size=S", True),
        ("student.word_vectors=teacher", True),
        ("training.baseline=false", True),
        ("student.size=S", False),
        ("training.epochs=9", False),
        ("training.learning_rate=0.01", False),
        ("training.label_share=0.5", False),
        ("data.min_frequency=3", False),
    ],
)
def test_what_decides_a_baseline_decides_its_key(store: Store, file: Path, setting: str, same: bool) -> None:
    keys_of = [
        keys.baseline_key(config_of(file, *given), "float32", store.data_folder, 0, 1) for given in ((), (setting,))
    ]
    assert (keys_of[0] == keys_of[1]) is same


def test_few_labels_reach_neither_student_nor_baseline(store: Store, file: Path) -> None:
    all_labels = run(store, config_of(file, "objective.beta=0"))
    few = run(store, config_of(file, "objective.beta=0", "training.label_share=0.1"))
    weights = [load_file(store.run_folder(run_id) / "student.safetensors") for run_id in (all_labels, few)]
    assert not all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    steps = [
        sum(
            event.steps
            for _, event in store.read_events(run_id)[0]
            if isinstance(event, StageStarted) and event.stage == "baseline"
        )
        for run_id in (all_labels, few)
    ]
    assert steps[0] == steps[1] > 0
