"""Data sets of the Hugging Face Hub, made in memory: no test asks the network."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from distill_core.config import DataConfig
from distill_core.data import sources
from distill_core.data.sources import Dataset, Split
from distill_core.errors import Cancelled, DataError

datasets = pytest.importorskip("datasets")

Columns = Mapping[str, Sequence[object]]
NAMES = ["bad", "good"]


class Hub:
    """What `load_dataset` is asked for, and what it answers or raises."""

    def __init__(self) -> None:
        self.answer: Any = None
        self.asked: list[tuple[tuple[object, ...], dict[str, object]]] = []

    def load_dataset(self, *arguments: object, **options: object) -> Any:
        self.asked.append((arguments, options))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    made = Hub()
    monkeypatch.setattr(datasets, "load_dataset", made.load_dataset)
    monkeypatch.chdir(tmp_path)
    return made


def columns(start: int, count: int, **more: Sequence[object]) -> dict[str, Sequence[object]]:
    numbers = range(start, start + count)
    return {"text": [f"film {number}" for number in numbers], "label": [number % 2 for number in numbers], **more}


def made(parts: Mapping[str, Columns], names: Sequence[str] = NAMES) -> Any:
    """Splits whose labels are numbers with names, or whatever they are where no names are given."""
    found = datasets.DatasetDict({split: datasets.Dataset.from_dict(dict(part)) for split, part in parts.items()})
    return found.cast_column("label", datasets.ClassLabel(names=list(names))) if names else found


def load(name: str = "someone/films", folder: Path = Path("downloads"), **more: Any) -> Dataset:
    return sources.load(DataConfig(name=f"hf:{name}", **more), folder)


def refusal(name: str = "someone/films", **more: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(name, **more)
    message = str(caught.value)
    assert "; " in message, "says what to do"
    assert "\n" not in message
    return message


def splits(dataset: Dataset) -> tuple[Split, Split, Split]:
    return dataset.train, dataset.val, dataset.test


def test_splits_and_names_are_those_of_the_hub(hub: Hub) -> None:
    hub.answer = made({"test": columns(100, 10), "train": columns(0, 40), "validation": columns(200, 6)})
    dataset = load()
    assert dataset.label_names == ("bad", "good")
    assert [len(part) for part in splits(dataset)] == [40, 6, 10]
    assert dataset.test.ids == tuple(range(1, 11))
    assert dataset.train.ids == tuple(range(11, 51))
    for start, part in zip((0, 200, 100), splits(dataset), strict=True):
        assert part.texts == tuple(f"film {start + row}" for row in range(len(part)))
        assert part.labels == tuple((start + row) % 2 for row in range(len(part)))
    assert dataset.report.rows == 56


def test_the_hub_is_asked_for_the_name_alone_and_keeps_its_files_in_the_data_folder(hub: Hub, tmp_path: Path) -> None:
    hub.answer = made({"train": columns(0, 40)})
    load(folder=tmp_path / "data")
    assert hub.asked == [(("someone/films",), {"cache_dir": str(tmp_path / "data" / "huggingface")})]


def test_splits_that_are_missing_are_cut_from_train(hub: Hub) -> None:
    hub.answer = made({"train": columns(0, 40)})
    dataset = load()
    assert [len(part) for part in splits(dataset)] == [32, 4, 4]
    assert load(split_seed=1).test.ids != dataset.test.ids
    assert sum("cut off" in note for note in dataset.report.notes) == 2


def test_unsupervised_texts_and_the_label_minus_one_are_unlabelled(hub: Hub) -> None:
    secret = columns(100, 4) | {"label": [-1] * 4}
    hub.answer = made({"train": columns(0, 40), "unsupervised": columns(200, 5), "test": secret})
    dataset = load()
    assert dataset.unlabelled == (
        *(f"film {200 + row}" for row in range(5)),
        *(f"film {100 + row}" for row in range(4)),
    )
    assert [len(part) for part in splits(dataset)] == [32, 4, 4]
    assert "9 rows have no label; their texts are kept as unlabelled." in dataset.report.notes


def test_other_splits_are_left_alone_and_named(hub: Hub) -> None:
    hub.answer = made({"train": columns(0, 40), "extra": columns(200, 5), "ood": columns(300, 5)})
    dataset = load()
    assert dataset.report.rows == 40
    assert "Not used: the splits extra, ood." in dataset.report.notes


def test_labels_without_names_follow_the_rules_of_files(hub: Hub) -> None:
    words = columns(0, 40) | {"label": [("yes", "no", None)[row % 3] for row in range(40)]}
    hub.answer = made({"train": words}, names=[])
    dataset = load(label_names={"yes": "agreed"})
    assert dataset.label_names == ("no", "agreed")
    assert len(dataset.unlabelled) == 13
    hub.answer = made({"train": columns(0, 40) | {"label": [row % 3 - 1 for row in range(40)]}}, names=[])
    assert load().label_names == ("0", "1")


@pytest.mark.parametrize("given", [{"0": "rotten"}, {"bad": "rotten"}])
def test_classes_can_be_renamed_by_number_or_by_name(hub: Hub, given: dict[str, str]) -> None:
    hub.answer = made({"train": columns(0, 40)})
    dataset = load(label_names=given)
    assert dataset.label_names == ("rotten", "good")
    assert not [note for note in dataset.report.notes if "No text has" in note]


def test_classes_keep_the_numbers_of_the_hub(hub: Hub) -> None:
    hub.answer = made({"train": columns(0, 40)}, names=["zebra", "ape", "unused"])
    assert load().label_names == ("zebra", "ape", "unused")


def test_columns_are_found_or_named(hub: Hub) -> None:
    part = {"body": [f"film {row}" for row in range(40)], "text": ["no"] * 40, "label": [row % 2 for row in range(40)]}
    hub.answer = made({"train": part})
    assert load(text_column="body").train.texts[0].startswith("film ")
    hub.answer = hub.answer.remove_columns("text")
    assert "got none called text, sentence, review or content; choose one of 'body', 'label'" in refusal()
    assert "data.label_column must be a column of the data, got 'stars'" in refusal(
        text_column="body", label_column="stars"
    )


def test_a_split_column_goes_before_the_splits_of_the_hub(hub: Hub) -> None:
    hub.answer = made({"train": columns(0, 40, fold=["train", "train", "test", "test"] * 10)})
    dataset = load(split_column="fold")
    assert len(dataset.test) == 20
    assert all((number - 1) % 4 >= 2 for number in dataset.test.ids)


def test_test_stays_whole_and_its_texts_leave_train(hub: Hub) -> None:
    tested = {"text": ["film 3", "twice", "twice"], "label": [1, 0, 0]}
    hub.answer = made({"train": columns(0, 40), "test": tested})
    dataset = load()
    assert dataset.test.texts == ("film 3", "twice", "twice")
    assert dataset.report.dropped == {"duplicate text": 1}


def test_large_sets_are_drawn_from_once_and_for_all(hub: Hub) -> None:
    hub.answer = made({"train": columns(0, 3000), "test": columns(5000, 1000), "extra": columns(9000, 9)})
    dataset = load(max_rows=400)
    assert dataset == load(max_rows=400)
    assert dataset.report.rows == 4000
    assert dataset.report.dropped == {"over max_rows": 3600}
    assert 60 < len(dataset.test) < 140
    texts = {number: text for part in splits(dataset) for number, text in zip(part.ids, part.texts, strict=True)}
    assert all(
        text == f"film {number - 1 if number <= 3000 else number - 3001 + 5000}" for number, text in texts.items()
    )


def test_a_teachers_answers_are_read(hub: Hub) -> None:
    answers = {"teacher_good": [0.75] * 40, "teacher_bad": [0.25] * 40}
    hub.answer = made({"train": columns(0, 40, **answers)})
    assert load().train.answers[0] == pytest.approx((math.log(0.25), math.log(0.75)))


def test_lists_as_labels_are_refused(hub: Hub) -> None:
    hub.answer = made({"train": columns(0, 40) | {"label": [[0, 1]] * 40}}, names=[])
    assert "row 1: column 'label' must hold text, got a list" in refusal()


def test_a_set_without_the_usual_splits_is_refused(hub: Hub) -> None:
    hub.answer = made({"all": columns(0, 40)})
    assert "data.name 'hf:someone/films' must have a split train, got all; choose another" in refusal()
    hub.answer = datasets.DatasetDict()
    assert "must hold splits such as train and test, got none" in refusal()


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Couldn't reach 'someone/films' on the Hub"),
        ValueError("Config name is missing.\nPlease pick one among the available configs: ['a', 'b']"),
        RuntimeError("Dataset scripts are no longer supported, but found films.py"),
        datasets.exceptions.DatasetNotFoundError("Dataset 'someone/films' doesn't exist on the Hub"),
        datasets.exceptions.DatasetGenerationError("An error occurred while generating the dataset"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_hub_refuses_is_told_with_a_remedy(hub: Hub, error: Exception) -> None:
    hub.answer = error
    message = refusal()
    assert message.startswith(f"data.name 'hf:someone/films' cannot be loaded ({type(error).__name__}: ")
    assert " ".join(str(error).split())[:40] in message
    assert message.endswith("check its name and the network, or save it as a csv file and set data.path")


@pytest.mark.parametrize("name", ["csv", "json", "parquet", "text", "imagefolder", "pandas", "here", "a/b", ".", ".."])
def test_files_of_this_machine_are_not_taken_for_the_hub(hub: Hub, tmp_path: Path, name: str) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert f"data.name must be a data set of the Hub, got 'hf:{name}'; for a file of yours use csv" in refusal(name)
    assert hub.asked == []


def test_without_the_library_its_installation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert (
        refusal() == "data.name hf:NAME needs the library 'datasets', which is not installed; run pip install datasets"
    )


def test_reading_can_be_cancelled_and_says_how_far_it_is(hub: Hub) -> None:
    hub.answer = made({"train": columns(0, 3000)})
    told: list[tuple[str, float]] = []
    config = DataConfig(name="hf:someone/films")
    sources.load(config, Path("downloads"), progress=lambda words, part: told.append((words, part)))
    assert told[0] == ("Fetching someone/films from the Hugging Face Hub", 0.0)
    assert told[1:] == [("Reading texts", 0.0), ("Reading texts", 1 / 3), ("Reading texts", 2 / 3)]

    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        sources.load(config, Path("downloads"), check)


def test_the_fingerprint_needs_no_network(hub: Hub) -> None:
    prints = {sources.fingerprint(DataConfig(name=f"hf:{name}"), Path("downloads")) for name in ("a/b", "c")}
    assert prints == {f"hf:{name} datasets=={datasets.__version__}" for name in ("a/b", "c")}
    assert sources.found("hf:a/b", Path("downloads"))
    assert hub.asked == []
