"""Whole runs, from a file to the result: every kind of student, loss and teacher, and what is left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from distill_core import device, pipeline
from distill_core.analysis.metrics import accuracy, fidelity
from distill_core.analysis.predict import Predictor
from distill_core.analysis.verdict import verdict
from distill_core.config import Divergence, RunConfig
from distill_core.control import Control
from distill_core.data import sources
from distill_core.errors import Cancelled, ConfigError, DataError
from distill_core.events import Epoch, Event, Pace, RunStarted, Step, stages_of
from distill_core.models.sizes import describe, parameter_count
from distill_core.store import ENCODER, TEACHER_WEIGHTS, Store
from tests.encoders import save_tiny
from tests.runs import (
    Finished,
    config_of,
    current_stage,
    made_rows,
    run,
    stages_begun,
    stages_found,
    timeless,
    write_csv,
)

ROLES = ("teacher", "baseline", "student")
EVERYTHING = (
    "teacher.pretrain=true",
    "training.transfer=true",
    "training.augment=1",
    "teacher.size=S",
    "training.assistant=XS",
    "training.seeds=2",
    "training.epochs=1",
    "teacher.epochs=1",
)
"""Settings that lead through every stage but the vectors of words."""


@pytest.fixture(autouse=True, scope="module")
def one_thread_and_all_steps() -> Iterator[None]:
    """Models this small are slower on several threads; every step is reported, whatever the clock says."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(device, "use_all_cores", lambda: torch.set_num_threads(1))
        patched.setattr(Pace, "due", lambda self: True)
        yield


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 labelled texts and 16 without a label."""
    unlabelled = [{**row, "label": ""} for row in made_rows(40, seed=9)]
    return write_csv(tmp_path_factory.mktemp("data") / "reviews.csv", [*made_rows(96), *unlabelled[:16]])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A home folder that the runs of this module share, so that each teacher is trained once."""
    return Store(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def plain(home: Store, file: Path) -> Finished:
    """The default way through, small."""
    return run(home, config_of(file))


@pytest.fixture(scope="module")
def everything(home: Store, file: Path) -> Finished:
    return run(home, config_of(file, *EVERYTHING))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("bert"))


def of_bert(file: Path, bert: Path, *settings: str) -> RunConfig:
    return config_of(
        file, "teacher.kind=pretrained", f"teacher.model={bert}", "teacher.encoder_learning_rate=0.005", *settings
    )


def test_split(store: Store, config: RunConfig) -> sources.Split:
    return sources.load(config.data, store.data_folder).test


test_split.__test__ = False


def saved_logits(store: Store, finished: Finished) -> dict[str, Tensor]:
    """What the models in the run's folder say about the test texts."""
    texts = test_split(store, finished.config).texts
    return {role: reader.logits(texts) for role, reader in Predictor.load(store, finished.run_id).readers.items()}


def assert_saved_models_are_those_of_the_result(store: Store, finished: Finished) -> None:
    """Every accuracy and distance of the result follows from the weights on disk."""
    labels_N = torch.tensor(test_split(store, finished.config).labels)
    logits, result = saved_logits(store, finished), finished.result
    for role, logits_NC in logits.items():
        assert result[role]["test_accuracy"] == pytest.approx(accuracy(logits_NC, labels_N))
        nll = float(torch.nn.functional.cross_entropy(logits_NC, labels_N))
        assert result[role]["nll"] == pytest.approx(nll, rel=1e-4)
        if role != "teacher" and "teacher" in logits:
            expected = fidelity(logits_NC, logits["teacher"])
            found = {name: result[role][name] for name in expected}
            assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)


# The result


def test_a_result_holds_what_the_contract_promises(plain: Finished, home: Store) -> None:
    result = plain.result
    facts = {"run_id": plain.run_id, "status": "finished", "device": "cpu", "precision": "float32", "dataset": "csv"}
    assert facts.items() <= result.items()
    assert result["labels"] == ["bad", "good"]
    assert result["sizes"] == {"train": 76, "val": 10, "test": 10, "classes": 2}
    assert result["retention"] == result["student"]["test_accuracy"] / result["teacher"]["test_accuracy"]
    assert result["gain"] == result["student"]["test_accuracy"] - result["baseline"]["test_accuracy"]
    assert json.loads((home.run_folder(plain.run_id) / "result.json").read_text(encoding="utf-8")) == result
    assert len(verdict(result)) == 2


def test_models_learn_what_the_adjectives_give_away(home: Store, file: Path) -> None:
    longer = run(home, config_of(file, "training.epochs=8"))
    assert min(longer.result[role]["test_accuracy"] for role in ROLES) >= 0.8


def test_the_saved_models_are_those_of_the_result(plain: Finished, home: Store) -> None:
    assert_saved_models_are_those_of_the_result(home, plain)


def test_each_models_entry_counts_its_weights_and_bytes(plain: Finished, home: Store) -> None:
    vocabulary = Predictor.load(home, plain.run_id).vocabulary
    for role in ROLES:
        settings = plain.config.teacher if role == "teacher" else plain.config.student
        entry = plain.result[role]
        assert entry["parameters"] == parameter_count(settings, len(vocabulary), 2)
        assert entry["bytes"] == (home.run_folder(plain.run_id) / f"{role}.safetensors").stat().st_size
        assert entry["latency_ms"] > 0
        assert sum(map(sum, entry["confusion"])) == 10
        assert entry["test_interval"][0] <= entry["test_accuracy"] <= entry["test_interval"][1]
        assert 0 <= entry["train"]["accuracy"] <= 1
        assert ("kl" in entry["train"]) == ("agreement" in entry) == (role != "teacher")


def test_the_same_run_in_another_home_gives_the_same_numbers(plain: Finished, file: Path, store: Store) -> None:
    again = run(store, config_of(file))
    assert {role: timeless(again.result[role]) for role in ROLES} == {
        role: timeless(plain.result[role]) for role in ROLES
    }


def test_the_same_run_again_takes_its_teacher_from_the_home_folder(plain: Finished, home: Store, file: Path) -> None:
    again = run(home, config_of(file))
    assert stages_found(again.events) == ["finetune", "cache", "baseline"]
    assert set(again.result["seconds"]) == {"distil", "test"}
    for role in ROLES:
        assert timeless(again.result[role]) == timeless(plain.result[role])


def test_another_seed_gives_another_run(plain: Finished, home: Store, file: Path) -> None:
    other = run(home, config_of(file, "training.seed=1"))
    assert all(other.result[role]["nll"] != plain.result[role]["nll"] for role in ROLES)


# Stages


def test_the_first_run_on_a_file_reads_it_and_the_next_does_not(store: Store, file: Path) -> None:
    config = config_of(file)
    first, second = run(store, config), run(store, config)
    for finished, stages in ((first, ("read", *stages_of(config))), (second, stages_of(config))):
        assert isinstance(finished.events[0], RunStarted)
        assert finished.events[0].stages == stages
    assert stages_begun(first.events) == ["read", *stages_of(config)]


def test_a_run_goes_through_the_stages_that_it_announces_in_their_order(everything: Finished) -> None:
    history = everything.history
    assert list(history.progress) == list(history.stages)
    assert all(stage.finished for stage in history.progress.values())
    assert {"pretrain", "transfer", "assistant", "repeat"} <= set(history.stages)
    assert set(everything.result["seconds"]) == set(stages_of(everything.config))


@pytest.mark.parametrize("role", ["finetune", "baseline", "distil", "assistant", "repeat", "pretrain", "transfer"])
def test_a_stage_never_reports_more_steps_than_it_has(everything: Finished, role: str) -> None:
    stage = everything.history.progress[role]
    done = [event.step for event in everything.events if isinstance(event, Step) and event.stage == role]
    assert done == sorted(done)
    assert all(0 < step <= stage.steps for step in done)


def test_stages_can_be_left_out(home: Store, file: Path) -> None:
    finished = run(home, config_of(file, "training.baseline=false"))
    assert finished.result["baseline"] is None
    assert finished.result["gain"] is None
    assert "baseline" not in stages_begun(finished.events)
    assert not (home.run_folder(finished.run_id) / "baseline.safetensors").exists()


# Students and losses


@pytest.mark.parametrize("kind", ["lstm", "gru", "textcnn", "bag"])
def test_every_kind_of_student_can_be_taught_and_asked(home: Store, file: Path, kind: str) -> None:
    finished = run(home, config_of(file, f"student.kind={kind}"))
    vocabulary = Predictor.load(home, finished.run_id).vocabulary
    for role in ("student", "baseline"):
        assert finished.result[role]["architecture"] == describe(finished.config.student)
        parameters = parameter_count(finished.config.student, len(vocabulary), 2)
        assert finished.result[role]["parameters"] == parameters
    assert_saved_models_are_those_of_the_result(home, finished)


@pytest.mark.parametrize("divergence", get_args(Divergence))
@pytest.mark.parametrize("mode", ["offline", "joint"])
def test_every_loss_adds_up_as_its_formula_says(home: Store, file: Path, divergence: str, mode: str) -> None:
    settings = (f"objective.divergence={divergence}", f"objective.mode={mode}", "objective.beta=3")
    weights = ("objective.temperature=1.5", "objective.student_ce_weight=0.5", "objective.teacher_ce_weight=0.25")
    finished = run(home, config_of(file, *settings, *weights))
    steps = finished.history.progress["distil"].curve
    assert steps
    for step in steps:
        assert step.ce is not None
        assert step.kl is not None
        expected = 0.5 * step.ce + 3 * 1.5**2 * step.kl
        if mode == "joint":
            assert step.teacher_ce is not None
            expected += 0.25 * step.teacher_ce
        else:
            assert step.teacher_ce is None
        assert step.loss == pytest.approx(expected, rel=1e-4)
        assert step.kl >= 0


def test_a_beta_of_zero_teaches_what_the_labels_teach_alone(home: Store, file: Path) -> None:
    finished = run(home, config_of(file, "objective.beta=0"))
    folder = home.run_folder(finished.run_id)
    student, baseline = (load_file(folder / f"{role}.safetensors") for role in ("student", "baseline"))
    assert all(torch.equal(student[name], baseline[name]) for name in baseline)
    assert finished.result["gain"] == 0


def test_self_distillation_gives_the_student_its_teachers_shape(home: Store, file: Path) -> None:
    finished = run(home, config_of(file, "student.like_teacher=true", "teacher.layers=2", "student.size=S"))
    result = finished.result
    for role in ("student", "baseline"):
        assert result[role]["parameters"] == result["teacher"]["parameters"]
        assert result[role]["architecture"] == result["teacher"]["architecture"]
    assert_saved_models_are_those_of_the_result(home, finished)


# Joint training


@pytest.fixture(scope="module")
def joint(home: Store, file: Path, plain: Finished) -> Finished:
    return run(home, config_of(file, "objective.mode=joint"))


def test_the_teacher_of_the_result_is_the_one_after_joint_training(joint: Finished, home: Store) -> None:
    assert_saved_models_are_those_of_the_result(home, joint)


def test_joint_training_moves_the_teacher_and_leaves_the_kept_one_alone(
    plain: Finished, joint: Finished, home: Store, file: Path
) -> None:
    before, after = (load_file(home.run_folder(finished.run_id) / TEACHER_WEIGHTS) for finished in (plain, joint))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert joint.result["teacher"]["nll"] != plain.result["teacher"]["nll"]
    again = run(home, config_of(file, "training.baseline=false"))
    assert timeless(again.result["teacher"]) == timeless(plain.result["teacher"])


def test_joint_training_tells_how_good_both_are_after_each_epoch(joint: Finished, plain: Finished) -> None:
    epochs = joint.history.progress["distil"].epochs
    assert len(epochs) == joint.config.training.epochs
    assert all(epoch.teacher_accuracy is not None for epoch in epochs)
    assert all(epoch.teacher_accuracy is None for epoch in plain.history.progress["distil"].epochs)
    best = max(epochs, key=lambda epoch: epoch.accuracy or 0)
    assert joint.result["student"]["val_accuracy"] == pytest.approx(best.accuracy)
    assert joint.result["teacher"]["val_accuracy"] == pytest.approx(best.teacher_accuracy)


def test_an_encoder_can_learn_beside_its_student(home: Store, file: Path, bert: Path, of_encoder: Finished) -> None:
    finished = run(home, of_bert(file, bert, "objective.mode=joint"))
    assert_saved_models_are_those_of_the_result(home, finished)
    before, after = (load_file(home.run_folder(name.run_id) / TEACHER_WEIGHTS) for name in (of_encoder, finished))
    assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith("encoder."))


# Several seeds


@pytest.fixture(scope="module")
def seeds(home: Store, file: Path, plain: Finished) -> Finished:
    return run(home, config_of(file, "training.seeds=3"))


def test_the_first_of_several_seeds_is_the_run_with_one(seeds: Finished, plain: Finished) -> None:
    for role in ROLES:
        assert timeless(seeds.result[role]) == timeless(plain.result[role])
    assert plain.result["seeds"] is None
    for role in ("student", "baseline"):
        assert seeds.result["seeds"][role]["values"][0] == plain.result[role]["test_accuracy"]


def test_a_further_seed_is_a_student_of_that_seed_and_the_first_teacher(
    seeds: Finished, home: Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = seeds.result["seeds"]
    assert found["count"] == 3
    assert {len(found[role]["values"]) for role in ("student", "baseline")} == {3}
    # The baseline does not depend on the teacher, so a run of its own says what seed 2 must give.
    alone = run(home, config_of(file, "training.seed=2"))
    assert found["baseline"]["values"][2] == alone.result["baseline"]["test_accuracy"]
    epochs = seeds.history.progress["repeat"].epochs
    expected = alone.history.progress["baseline"].epochs
    repeated = [epoch for epoch in epochs if (epoch.role, epoch.seed) == ("baseline", 2)]
    assert [(epoch.epoch, epoch.accuracy, epoch.ce) for epoch in repeated] == [
        (epoch.epoch, epoch.accuracy, epoch.ce) for epoch in expected
    ]


def test_epochs_of_the_repeats_carry_role_and_seed(seeds: Finished) -> None:
    epochs = [event for event in seeds.events if isinstance(event, Epoch)]
    repeated = [(epoch.seed, epoch.role, epoch.epoch) for epoch in epochs if epoch.stage == "repeat"]
    assert repeated == [
        (seed, role, epoch)
        for seed in (1, 2)
        for role in ("baseline", "student")
        for epoch in range(1, seeds.config.training.epochs + 1)
    ]
    assert {(epoch.seed, epoch.role) for epoch in epochs if epoch.stage != "repeat"} == {(None, None)}


def test_gain_and_retention_of_several_seeds_are_means(seeds: Finished) -> None:
    result, found = seeds.result, seeds.result["seeds"]
    assert result["gain"] == pytest.approx(found["student"]["mean"] - found["baseline"]["mean"])
    assert result["retention"] == pytest.approx(found["student"]["mean"] / result["teacher"]["test_accuracy"])
    assert "of 3 seeds" in verdict(result)[0]


def test_several_seeds_without_a_baseline(home: Store, file: Path) -> None:
    finished = run(home, config_of(file, "training.seeds=2", "training.baseline=false"))
    assert finished.result["seeds"]["baseline"] is None
    assert finished.result["gain"] is None
    assert {epoch.role for epoch in finished.history.progress["repeat"].epochs} == {"student"}


def test_a_run_whose_file_goes_while_it_learns_still_ends_with_a_result(store: Store, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "reviews.csv", made_rows(60))
    config, events = config_of(file), list[Event]()
    run_id = store.create_run(config, state="running")

    def check() -> None:
        if "finetune" in stages_begun(events):
            file.unlink(missing_ok=True)

    result = pipeline.run(run_id, store, events.append, Control(heed=check))
    assert not file.exists()
    assert all(result[role]["latency_ms"] > 0 for role in ROLES)


# Pre-trained teachers


@pytest.fixture(scope="module")
def of_encoder(home: Store, file: Path, bert: Path) -> Finished:
    return run(home, of_bert(file, bert))


def test_a_pretrained_teacher_is_fine_tuned_and_can_be_asked(of_encoder: Finished, home: Store, bert: Path) -> None:
    assert [stage for stage in stages_begun(of_encoder.events) if stage != "baseline"][-4:] == [
        "finetune",
        "cache",
        "distil",
        "test",
    ]
    assert of_encoder.result["teacher"]["architecture"] == str(bert)
    assert_saved_models_are_those_of_the_result(home, of_encoder)
    folder = home.run_folder(of_encoder.run_id)
    assert (folder / ENCODER / "config.json").is_file()
    tuned, given = load_file(folder / TEACHER_WEIGHTS), load_file(bert / "model.safetensors")
    assert any(not torch.equal(tuned[f"encoder.{name}"], given[name]) for name in given)


def test_a_frozen_encoder_learns_its_last_layer_alone(home: Store, file: Path, bert: Path) -> None:
    finished = run(home, of_bert(file, bert, "teacher.frozen=true"))
    tuned = load_file(home.run_folder(finished.run_id) / TEACHER_WEIGHTS)
    given = load_file(bert / "model.safetensors")
    assert all(torch.equal(tuned[f"encoder.{name}"], given[name]) for name in given)
    assert finished.result["teacher"]["architecture"] == f"{bert}, frozen"
    assert_saved_models_are_those_of_the_result(home, finished)


def test_a_second_run_with_an_encoder_finds_its_teacher_and_repeats_its_numbers(
    of_encoder: Finished, home: Store, file: Path, bert: Path
) -> None:
    again = run(home, of_bert(file, bert))
    assert stages_found(again.events) == ["finetune", "cache", "baseline"]
    assert {role: timeless(again.result[role]) for role in ROLES} == {
        role: timeless(of_encoder.result[role]) for role in ROLES
    }


def test_an_encoder_that_is_nowhere_is_refused_with_a_remedy(store: Store, file: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"teacher\.model must be an encoder .* try all-MiniLM-L6-v2"):
        run(store, of_bert(file, tmp_path / "empty"))
    assert store.cached("teachers", "x") is None
    assert not (store.home / "teachers").exists()


# A teacher that is a file


def answered_rows(count: int = 80) -> list[dict[str, Any]]:
    """Rows with the answers of a teacher that is 90 % sure of the right label, and wrong on every fifth text."""
    rows: list[dict[str, Any]] = []
    for number, row in enumerate(made_rows(count)):
        good = (row["label"] == "good") != (number % 5 == 0)
        rows.append({**row, "teacher_bad": 0.1 if good else 0.9, "teacher_good": 0.9 if good else 0.1})
    return rows


def as_logits(row: dict[str, Any]) -> dict[str, Any]:
    """The same answers as raw scores."""
    sure = 1.0986122886681098  # half the log-odds of 0.9
    return {
        **row,
        "teacher_bad": sure if row["teacher_bad"] > 0.5 else -sure,
        "teacher_good": -sure if row["teacher_bad"] > 0.5 else sure,
    }


@pytest.fixture(scope="module")
def of_file(home: Store, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    file = write_csv(tmp_path_factory.mktemp("answers") / "answers.csv", answered_rows())
    return run(home, config_of(file, "teacher.kind=file"))


def test_a_file_teaches_without_any_model_being_trained(of_file: Finished, home: Store) -> None:
    assert stages_begun(of_file.events) == ["read", "baseline", "distil", "test"]
    assert set(of_file.result["seconds"]) == {"baseline", "distil", "test"}
    teacher = of_file.result["teacher"]
    assert teacher["architecture"] == "file"
    assert (teacher["parameters"], teacher["bytes"], teacher["latency_ms"]) == (None, None, None)
    folder = home.run_folder(of_file.run_id)
    assert not (folder / TEACHER_WEIGHTS).exists()
    assert not (folder / ENCODER).exists()
    assert verdict(of_file.result)[0].endswith("which is a file and cannot answer new texts.")


def test_a_file_is_judged_by_the_answers_in_its_columns(of_file: Finished, home: Store) -> None:
    answers = {row["text"]: [row["teacher_bad"], row["teacher_good"]] for row in answered_rows()}
    split = test_split(home, of_file.config)
    teacher_NC = torch.tensor([answers[text] for text in split.texts]).log()
    assert of_file.result["teacher"]["test_accuracy"] == pytest.approx(accuracy(teacher_NC, torch.tensor(split.labels)))
    logits = saved_logits(home, of_file)
    for role in ("student", "baseline"):
        expected = fidelity(logits[role], teacher_NC)
        assert {name: of_file.result[role][name] for name in expected} == pytest.approx(expected, rel=1e-3)
    assert_saved_models_are_those_of_the_result(home, of_file)


def test_raw_scores_teach_what_the_same_probabilities_teach(of_file: Finished, home: Store, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "scores.csv", [as_logits(row) for row in answered_rows()])
    scores = run(home, config_of(file, "teacher.kind=file"))
    for role in ("teacher", "student"):
        assert scores.result[role]["nll"] == pytest.approx(of_file.result[role]["nll"], rel=1e-3)
        assert scores.result[role]["test_accuracy"] == of_file.result[role]["test_accuracy"]


def test_a_file_without_answers_is_refused_by_the_names_of_its_columns(store: Store, file: Path) -> None:
    with pytest.raises(DataError, match=r"columns teacher_bad, teacher_good when .* is file, got none"):
        run(store, config_of(file, "teacher.kind=file"))


def test_a_file_that_answers_for_some_classes_is_refused_by_the_missing_column(store: Store, tmp_path: Path) -> None:
    rows = [{name: value for name, value in row.items() if name != "teacher_good"} for row in answered_rows()]
    file = write_csv(tmp_path / "half.csv", rows)
    with pytest.raises(DataError, match=r"got teacher_bad; add teacher_good"):
        run(store, config_of(file, "teacher.kind=file"))


def test_a_file_may_also_answer_texts_without_a_label(home: Store, tmp_path: Path) -> None:
    rows = answered_rows(100)
    for row in rows[80:]:
        row["label"] = ""
    config = config_of(write_csv(tmp_path / "more.csv", rows), "teacher.kind=file", "training.transfer=true")
    finished = run(home, config)
    assert finished.result["sizes"]["train"] == 64
    examples = [event.examples for event in finished.events if isinstance(event, Step) and event.stage == "distil"]
    epochs = config.training.epochs
    assert finished.history.progress["distil"].steps == epochs * -(-(64 + 20) // 8)
    assert examples[-1] == epochs * (64 + 20)
    assert "transfer" not in stages_begun(finished.events)
    assert "finetune" not in stages_begun(finished.events)


def test_a_file_that_answers_no_other_texts_has_none_to_add(store: Store, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "answers.csv", answered_rows())
    with pytest.raises(DataError, match=r"training\.transfer must be false .* no rows without a label"):
        run(store, config_of(file, "teacher.kind=file", "training.transfer=true"))


def test_a_file_can_have_an_assistant_and_several_seeds(home: Store, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "answers.csv", answered_rows())
    config = config_of(file, "teacher.kind=file", "training.assistant=S", "training.seeds=2")
    finished = run(home, config)
    assert [stage for stage in stages_begun(finished.events) if stage != "baseline"][-4:] == [
        "assistant",
        "distil",
        "repeat",
        "test",
    ]
    assert finished.result["seeds"]["count"] == 2


# Stopping


class Stop:
    """A check that asks a run to stop at its third call within a stage; the texts to add are a single batch."""

    def __init__(self, stage: str, events: list[Any]) -> None:
        self._stage, self._events, self._calls = stage, events, 0

    def __call__(self) -> None:
        if current_stage(self._events) == self._stage:
            self._calls += 1
            if self._calls >= (1 if self._stage == "transfer" else 3):
                raise Cancelled


CACHES = {"read": "tokens", "pretrain": "teachers", "finetune": "teachers", "transfer": "transfer"}


@pytest.mark.parametrize(
    "stage",
    ["read", "pretrain", "finetune", "cache", "transfer", "assistant", "baseline", "distil", "repeat", "test"],
)
def test_a_run_that_is_stopped_in_any_stage_leaves_nothing_half_done(
    everything: Finished, store: Store, file: Path, stage: str
) -> None:
    config, events = config_of(file, *EVERYTHING), list[Any]()
    run_id = store.create_run(config, state="running")
    with pytest.raises(Cancelled):
        pipeline.run(run_id, store, events.append, Control(heed=Stop(stage, events)))
    assert current_stage(events) == stage
    assert store.result(run_id) is None
    if stage in CACHES:
        folder = store.home / CACHES[stage]
        assert not folder.exists() or list(folder.iterdir()) == []
    assert [path for path in store.home.rglob("*") if path.name.startswith(".")] == []
    again = run(store, config)
    assert {role: timeless(again.result[role]) for role in ROLES} == {
        role: timeless(everything.result[role]) for role in ROLES
    }


def test_an_encoder_that_reads_words_can_be_stopped(store: Store, file: Path, bert: Path) -> None:
    config, events = of_bert(file, bert, "student.word_vectors=teacher"), list[Any]()
    run_id = store.create_run(config, state="running")

    def stop() -> None:
        if current_stage(events) == "words":
            raise Cancelled

    with pytest.raises(Cancelled):
        pipeline.run(run_id, store, events.append, Control(heed=stop))
    assert not (store.home / "words").exists()
    assert stages_begun(run(store, config).events)[0] == "words"
