"""Attributions: complete for every kind of model, and right where we know what decides."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
import torch

from distill_core.analysis.explain import LEAST, Attribution, attribute, explain
from distill_core.analysis.predict import Predictor, Reader, VocabularyReading
from distill_core.analysis.words import Words
from distill_core.config import MINILM, DataConfig
from distill_core.data import sources
from distill_core.data.batches import EncodedDataset
from distill_core.errors import Cancelled, ConfigError, DataError
from distill_core.models import pretrained
from distill_core.presets import load
from distill_core.store import Store
from tests.encoders import save_tiny
from tests.runs import config_of, run, write_csv
from tests.test_predict import finished_run

KINDS = ("lstm", "gru", "textcnn", "bag")
COMPLETE = 0.05
"""Most that attributions may miss of the difference of scores."""
NEUTRAL = ("the", "film", "about", "people", "who", "went", "there", "with", "a", "story", "in", "many", "ways", "kind")
PLANTED = {"bad": "zorkful", "good": "blipsome"}


def planted_rows(count: int) -> list[dict[str, str]]:
    """Texts of words that say nothing, but for one that gives the label; a third label has none such.

    Were there two, a model could know one of both words and take its absence for the other label.
    """
    chance, rows = random.Random(3), dict[str, str]()
    while len(rows) < count:
        label = ("bad", "good", "odd")[len(rows) % 3]
        words = chance.choices(NEUTRAL, k=chance.randint(5, 18))
        if label in PLANTED:
            words.insert(chance.randrange(len(words) + 1), PLANTED[label])
        rows.setdefault(" ".join(words), label)
    return [{"text": text, "label": label} for text, label in rows.items()]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("explained"))


@pytest.fixture(scope="module", params=KINDS)
def planted(request: pytest.FixtureRequest, home: Store) -> Predictor:
    """A run whose models have learned what the planted words mean."""
    path = write_csv(home.home / "planted.csv", planted_rows(600))
    settings = (f"student.kind={request.param}", "student.size=M", "training.epochs=6")
    return Predictor.load(home, run(home, config_of(path, *settings)).run_id)


@pytest.mark.slow
def test_the_word_that_decides_comes_first(planted: Predictor) -> None:
    chance, firsts = random.Random(9), {role: [] for role in planted.readers}
    for number in range(40):
        label = ("bad", "good")[number % 2]
        words = chance.choices(NEUTRAL, k=15)
        place = chance.randrange(15)
        words[place] = PLANTED[label]
        found = explain(planted, " ".join(words), label)
        for role, made in found.models.items():
            strongest = max(range(15), key=lambda place, made=made: made.values[place] or 0.0)
            firsts[role].append(strongest == place)
    assert all(sum(found) / len(found) >= 0.95 for found in firsts.values()), firsts


# Completeness


@pytest.fixture(scope="module")
def reviews() -> tuple[str, ...]:
    """Test texts of the default data set, each explained by every kind of model."""
    return sources.load(DataConfig(), Path("unused")).test.texts[:80]


@pytest.fixture(scope="module")
def reviewed(home: Store) -> dict[str, Reader]:
    """A student of each kind and their teacher, who have learned from 1,500 reviews."""
    settings = ["data.train_limit=1500", "teacher.size=S", "teacher.pretrain=false", "teacher.epochs=2"]
    settings += ["student.size=L", "training.epochs=4", "training.baseline=false"]
    readers = dict[str, Reader]()
    for kind in KINDS:
        made = run(home, load(settings=[*settings, f"student.kind={kind}"]))
        found = Predictor.load(home, made.run_id).readers
        readers |= {kind: found["student"], "teacher": found["teacher"]}
    return readers


def assert_complete(made: Attribution) -> None:
    """Values add up to the difference of scores, and the error is the one that is told."""
    total, difference = sum(value or 0.0 for value in made.values), made.score - made.reference
    assert made.error <= COMPLETE
    assert total == pytest.approx(difference, abs=COMPLETE * max(abs(difference), LEAST) + 1e-5)
    assert made.missing == pytest.approx(total - difference, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "teacher"])
def test_attributions_add_up_on_real_texts(reviewed: dict[str, Reader], reviews: tuple[str, ...], kind: str) -> None:
    for text in reviews:
        assert_complete(attribute(reviewed[kind], Words.of(text), 1))


@pytest.mark.slow
def test_attributions_of_minilm_add_up(reviews: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    model, pieces = pretrained.build(MINILM, 3, 64)
    reader = Reader(model.eval().requires_grad_(False), pieces, torch.device("cpu"))
    for text in reviews[:12]:
        assert_complete(attribute(reader, Words.of(text), 2))


# What is told


@pytest.fixture
def predictor(store: Store, encoded: EncodedDataset) -> Predictor:
    """Models that have never learned anything, but are sure of what they say."""
    return Predictor.load(store, finished_run(store, encoded))


def test_scores_are_the_log_odds_of_the_answer(predictor: Predictor) -> None:
    text = "a bright film"
    (answer,) = predictor.predict([text])
    for label in predictor.label_names:
        found = explain(predictor, text, label)
        for role, made in found.models.items():
            share = torch.tensor(answer[role][label])
            assert made.score == pytest.approx(float(share.logit()), rel=1e-3, abs=1e-3)
    assert explain(predictor, text).label == max(answer["teacher"], key=answer["teacher"].__getitem__)


def test_the_classes_of_two_mirror_each_other(predictor: Predictor) -> None:
    one, other = (explain(predictor, "a dull film", label).models["student"].values for label in ("bad", "good"))
    assert one == pytest.approx([-value for value in other if value is not None], abs=1e-3)


def test_words_beyond_what_a_model_reads_have_no_value(predictor: Predictor) -> None:
    found = explain(predictor, "a dull plot and a weak cast and a bright ending")
    values = found.models["student"].values
    assert [value is None for value in values] == [False] * 8 + [True] * 3
    assert all(row["student"] is None for row in found.facts()["words"][8:])


def test_disputed_words_count_for_one_and_against_the_other(predictor: Predictor) -> None:
    text = " ".join(predictor.vocabulary.tokens[2:10])
    found = explain(predictor, text)
    teacher, student = (found.models[role].shares for role in ("teacher", "student"))
    expected = {
        place
        for place in range(8)
        if teacher[place] * student[place] < 0 and min(abs(teacher[place]), abs(student[place])) >= 0.1
    }
    assert expected, "the text must have some"
    assert found.disputed == expected
    assert [row["disputed"] for row in found.facts()["words"]] == [place in expected for place in range(8)]


def test_pieces_of_a_word_are_joined(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, pieces = pretrained.build(str(save_tiny(tmp_path / "bert")), 2, 32)
    for text in ("a good film , unknownword [MASK] x", "goodgood  film", "..."):
        words = Words.of(text)
        ids, owners = pieces.align(text, words.spans)
        assert ids == pieces.encode(text)
        assert owners[0] == owners[-1] == -1
        inner = owners[1:-1]
        assert inner == sorted(inner)
        assert set(inner) == set(range(len(words)))
    reader = Reader(model.eval(), pieces, torch.device("cpu"))
    assert all(value is not None for value in attribute(reader, Words.of("a good film [MASK]"), 0).values)


def test_a_vocabulary_aligns_its_tokens_with_words(encoded: EncodedDataset) -> None:
    reading = VocabularyReading(encoded.vocabulary, 6)
    words = Words.of("a film, don't miss it")
    ids, owners = reading.align(words.text, words.spans)
    assert ids == encoded.vocabulary.encode(words.text, 6)
    assert owners == [0, 1, 2, 3, 3, 3]
    assert reading.align('""', Words.of('""').spans) == (encoded.vocabulary.encode('""', 6), [-1])


def test_explaining_changes_no_answer_that_others_get_meanwhile(predictor: Predictor) -> None:
    text, seen = "a bright plot and a weak cast", list[bool]()
    before = predictor.predict([text])
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            seen.append(predictor.predict([text]) == before)

    asking = threading.Thread(target=ask)
    asking.start()
    for _ in range(5):
        explain(predictor, text)
    over.set()
    asking.join()
    assert seen
    assert all(seen)


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_an_empty_text_is_refused(predictor: Predictor, text: str) -> None:
    with pytest.raises(DataError, match="text must not be empty"):
        explain(predictor, text)


def test_an_unknown_class_is_refused(predictor: Predictor) -> None:
    with pytest.raises(ConfigError, match="label must be one of bad, good, got 'odd'"):
        explain(predictor, "a film", "odd")


def test_an_explanation_can_be_cancelled(predictor: Predictor) -> None:
    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        explain(predictor, "a film", "bad", check=check)
