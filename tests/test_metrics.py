"""Quality, fidelity, and the margin of a gain over texts and seeds, against values worked out by hand or by NumPy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_f1_score

from distill_core.analysis.metrics import (
    accuracy,
    bootstrap_interval,
    comparison,
    fidelity,
    gain_margin,
    quality,
    teacher_margin,
)


def logits_for(*probabilities: list[float]) -> Tensor:
    """Logits whose softmax is these rows."""
    return torch.tensor(probabilities).log()


@st.composite
def answered(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Two models' logits on the same texts, and the labels."""
    texts, classes = draw(st.integers(1, 40)), draw(st.integers(2, 4))
    chance = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    first, second = (4 * torch.randn(texts, classes, generator=chance) for _ in range(2))
    return first, second, torch.randint(classes, (texts,), generator=chance)


def reference_ece(logits_NC: Tensor, labels_N: Tensor) -> float:
    probabilities = logits_NC.double().softmax(dim=1).numpy()
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels_N.numpy()
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [
        (bins == number).mean() * abs(confidence[bins == number].mean() - correct[bins == number].mean())
        for number in set(bins)
    ]
    return float(sum(gaps))


def test_accuracy_counts_the_texts_whose_largest_logit_is_their_labels() -> None:
    logits_NC = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, -3.0], [-1.0, 0.0]])
    assert accuracy(logits_NC, torch.tensor([0, 1, 1, 1])) == 0.75


@given(made=answered())
def test_accuracy_does_not_depend_on_scale_or_order(made: tuple[Tensor, Tensor, Tensor]) -> None:
    logits_NC, _, labels_N = made
    expected = float(np.mean(logits_NC.numpy().argmax(axis=1) == labels_N.numpy()))
    assert accuracy(logits_NC, labels_N) == pytest.approx(expected)
    assert accuracy(3 * logits_NC.flip(0) + 1, labels_N.flip(0)) == pytest.approx(expected)


def test_macro_f1_is_the_plain_mean_over_classes() -> None:
    # Class 0: 3 right, 1 wrongly called 1: F1 = 6/7. Class 1: 1 right, 1 wrong: F1 = 2/3. Class 2: never right: 0.
    predicted, labels = [0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 2]
    f1 = {0: 2 * 3 / (2 * 3 + 1 + 1), 1: 2 * 1 / (2 * 1 + 1 + 0), 2: 0.0}
    logits_NC = 5 * torch.nn.functional.one_hot(torch.tensor(predicted), 3).float()
    found = quality(logits_NC, torch.tensor(labels))
    assert found["macro_f1"] == pytest.approx(sum(f1.values()) / 3)
    assert found["test_accuracy"] == pytest.approx(4 / 6)


def test_ece_is_the_mean_gap_between_confidence_and_accuracy() -> None:
    # Two texts at 0.9 of which one is right, two at 0.65 which are both right: ½·|0.9 - ½| + ½·|0.65 - 1| = 0.375.
    logits_NC = logits_for([0.9, 0.1], [0.1, 0.9], [0.65, 0.35], [0.35, 0.65])
    assert quality(logits_NC, torch.tensor([0, 0, 0, 1]))["ece"] == pytest.approx(0.375, abs=1e-6)


def test_ece_is_zero_for_a_model_that_is_sure_and_right_and_one_for_sure_and_wrong() -> None:
    logits_NC = torch.tensor([[60.0, -60.0], [-60.0, 60.0]])
    assert quality(logits_NC, torch.tensor([0, 1]))["ece"] == pytest.approx(0, abs=1e-6)
    assert quality(logits_NC, torch.tensor([1, 0]))["ece"] == pytest.approx(1, abs=1e-6)


@given(made=answered())
def test_ece_agrees_with_numpy(made: tuple[Tensor, Tensor, Tensor]) -> None:
    logits_NC, _, labels_N = made
    assert quality(logits_NC, labels_N)["ece"] == pytest.approx(reference_ece(logits_NC, labels_N), abs=1e-5)


@given(made=answered())
def test_f1_and_ece_agree_with_torchmetrics(made: tuple[Tensor, Tensor, Tensor]) -> None:
    logits_NC, _, labels_N = made
    found, classes = quality(logits_NC, labels_N), logits_NC.shape[1]
    f1 = multiclass_f1_score(logits_NC, labels_N, classes, average="macro")
    ece = multiclass_calibration_error(logits_NC.softmax(dim=1), labels_N, classes, n_bins=15)
    assert found["macro_f1"] == pytest.approx(float(f1), abs=1e-6)
    assert found["ece"] == pytest.approx(float(ece), abs=1e-5)


def test_a_model_that_has_diverged_has_no_calibration_error() -> None:
    found = quality(torch.tensor([[math.nan, 1.0], [2.0, 1.0]]), torch.tensor([0, 0]))
    assert math.isnan(found["ece"])
    assert math.isnan(found["nll"])


def test_nll_is_the_mean_surprise_at_the_labels_in_nats() -> None:
    logits_NC = logits_for([0.9, 0.1], [0.2, 0.8], [0.5, 0.5])
    expected = -(math.log(0.9) + math.log(0.2) + math.log(0.5)) / 3
    assert quality(logits_NC, torch.tensor([0, 0, 1]))["nll"] == pytest.approx(expected, rel=1e-5)


def test_quality_has_the_names_of_the_contract_and_plain_numbers() -> None:
    found = quality(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert list(found) == ["test_accuracy", "test_interval", "macro_f1", "ece", "nll", "confusion"]
    assert found.pop("confusion") == [[1, 0], [0, 0]]
    assert found.pop("test_interval") == [1.0, 1.0]
    assert {type(value) for value in found.values()} == {float}


@given(made=answered())
def test_confusion_counts_each_text_once_by_true_class_and_answer(made: tuple[Tensor, Tensor, Tensor]) -> None:
    logits_NC, _, labels_N = made
    found = quality(logits_NC, labels_N)
    confusion, classes = np.array(found["confusion"]), logits_NC.shape[1]
    assert confusion.shape == (classes, classes)
    assert confusion.sum(axis=1).tolist() == [int((labels_N == label).sum()) for label in range(classes)]
    answers_N = logits_NC.argmax(dim=1)
    assert confusion.sum(axis=0).tolist() == [int((answers_N == label).sum()) for label in range(classes)]
    assert confusion.trace() / confusion.sum() == pytest.approx(found["test_accuracy"])


def test_confusion_has_true_classes_as_rows_and_answers_as_columns() -> None:
    logits_NC = 5 * torch.nn.functional.one_hot(torch.tensor([2, 2, 2, 1]), 3).float()
    assert quality(logits_NC, torch.tensor([0, 0, 2, 1]))["confusion"] == [[0, 0, 2], [0, 1, 0], [0, 0, 1]]


# The interval of an accuracy


@pytest.mark.parametrize(("right", "count"), [(50, 100), (180, 200), (39, 40), (961, 1245)])
def test_the_interval_agrees_with_a_bootstrap_that_draws_texts(right: int, count: int) -> None:
    answers_N = np.zeros(count)
    answers_N[:right] = 1
    draws = np.random.default_rng(3).choice(answers_N, size=(20_000, count)).mean(axis=1)
    expected = np.quantile(draws, [0.025, 0.975])
    found = bootstrap_interval(right / count, count)
    assert found == pytest.approx(tuple(expected), abs=1.01 / count), "a quantile of a lattice is off by one step"
    assert found[0] < right / count < found[1]


@pytest.mark.parametrize("count", [1, 7, 1000])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_accuracy_of_none_or_all_has_no_spread(share: float, count: int) -> None:
    assert bootstrap_interval(share, count) == (share, share)


@given(count=st.integers(1, 500), data=st.data())
def test_an_interval_holds_its_accuracy_and_is_a_pair_of_shares(count: int, data: st.DataObject) -> None:
    share = data.draw(st.integers(0, count)) / count
    low, high = bootstrap_interval(share, count)
    assert 0 <= low <= share <= high <= 1


@given(count=st.integers(1, 5000), data=st.data())
def test_an_interval_is_that_of_the_binomial_distribution(count: int, data: st.DataObject) -> None:
    share = data.draw(st.integers(0, count)) / count
    expected = scipy.stats.binom.ppf([0.025, 0.975], count, share) / count
    assert bootstrap_interval(share, count) == pytest.approx(tuple(expected))


def test_an_interval_shrinks_with_more_texts() -> None:
    widths = [high - low for low, high in (bootstrap_interval(0.8, count) for count in (50, 200, 800, 3200))]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == pytest.approx(8 * widths[3], rel=0.15)


def test_quality_reports_the_interval_of_its_own_accuracy() -> None:
    logits_NC = torch.tensor([[2.0, 1.0]] * 10)
    found = quality(logits_NC, torch.tensor([0] * 7 + [1] * 3))
    assert found["test_interval"] == list(bootstrap_interval(0.7, 10))


# Student against teacher


@given(made=answered())
def test_fidelity_is_perfect_at_identity(made: tuple[Tensor, Tensor, Tensor]) -> None:
    found = fidelity(made[0], made[0].clone())
    assert found["agreement"] == 1
    assert found["kl"] == pytest.approx(0, abs=1e-7)
    assert found["kl_reverse"] == pytest.approx(0, abs=1e-7)


def test_fidelity_is_agreement_and_kl_in_both_directions() -> None:
    student, teacher = [[0.9, 0.1], [0.6, 0.4]], [[0.55, 0.45], [0.2, 0.8]]
    found = fidelity(logits_for(*student), logits_for(*teacher))
    assert found["agreement"] == 0.5
    forward, backward = (
        sum(p * math.log(p / q) for rows in pairs for p, q in zip(*rows, strict=True)) / 2
        for pairs in (zip(student, teacher, strict=True), zip(teacher, student, strict=True))
    )
    assert found["kl"] == pytest.approx(forward, rel=1e-5)
    assert found["kl_reverse"] == pytest.approx(backward, rel=1e-5)
    assert forward != pytest.approx(backward, rel=0.01)


@given(made=answered())
def test_both_kls_agree_with_numpy_in_double_precision(made: tuple[Tensor, Tensor, Tensor]) -> None:
    p, q = (scipy.special.softmax(logits.double().numpy(), axis=1) for logits in made[:2])
    found = fidelity(made[0], made[1])
    assert found["kl"] == pytest.approx(float((p * np.log(p / q)).sum(axis=1).mean()), rel=1e-4, abs=1e-5)
    assert found["kl_reverse"] == pytest.approx(float((q * np.log(q / p)).sum(axis=1).mean()), rel=1e-4, abs=1e-5)
    assert found.keys() == {"agreement", "kl", "kl_reverse"}


# Student against baseline


def answers_of(right: Sequence[bool]) -> Tensor:
    """Logits of texts whose label is 0: right where it says so."""
    return torch.tensor([[1.0, 0.0] if flag else [0.0, 1.0] for flag in right])


def made_seeds(texts: int, rights: Sequence[tuple[int, int]], seed: int = 0) -> list[dict[str, Tensor]]:
    """For each seed a student and a baseline that answer so many texts, at random places, right."""
    chance = np.random.default_rng(seed)
    return [
        {
            role: answers_of(chance.permutation([True] * right + [False] * (texts - right)).tolist())
            for role, right in zip(("student", "baseline"), pair, strict=True)
        }
        for pair in rights
    ]


def reference_margin(test_logits: Sequence[Mapping[str, Tensor]], labels: NDArray[np.int64]) -> float:
    """The margin written out: half a normal 95 % interval of the mean difference."""
    differences = np.array(
        [
            [int(own.argmax() == label) - int(other.argmax() == label) for own, other, label in zip(*rows, strict=True)]
            for rows in (
                (logits["student"].numpy(), logits["baseline"].numpy(), labels.tolist()) for logits in test_logits
            )
        ]
    )
    over_texts = np.var(differences.mean(axis=0)) / differences.shape[1]
    over_seeds = np.var(differences.mean(axis=1), ddof=1) / len(differences) if len(differences) > 1 else 0.0
    return float(scipy.stats.norm.ppf(0.975) * np.sqrt(over_texts + over_seeds))


@given(made=answered())
def test_the_margin_of_one_seed_agrees_with_numpy(made: tuple[Tensor, Tensor, Tensor]) -> None:
    first, second, labels_N = made
    there, back = {"student": first, "baseline": second}, {"student": second, "baseline": first}
    expected = reference_margin([there], labels_N.numpy())
    assert gain_margin([there], labels_N) == pytest.approx(expected, abs=1e-12)
    assert gain_margin([back], labels_N) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_the_margin_of_several_seeds_adds_their_spread_to_that_of_the_texts(count: int) -> None:
    seeds = made_seeds(60, [(40 + 3 * number, 38) for number in range(count)])
    labels_N = torch.zeros(60, dtype=torch.long)
    expected = reference_margin(seeds, labels_N.numpy())
    assert gain_margin(seeds, labels_N) == pytest.approx(expected, rel=1e-9)


def test_seeds_without_a_spread_between_them_add_nothing_to_the_margin() -> None:
    (one,) = made_seeds(40, [(30, 25)])
    labels_N = torch.zeros(40, dtype=torch.long)
    assert gain_margin([one, one, one], labels_N) == pytest.approx(gain_margin([one], labels_N), rel=1e-12)


def test_the_margin_is_zero_for_equal_answers_and_shrinks_with_more_texts() -> None:
    first, second = answers_of([True, True, False, True]), answers_of([True, False, True, True])
    labels_N = torch.zeros(4, dtype=torch.long)
    once = gain_margin([{"student": first, "baseline": second}], labels_N)
    assert gain_margin([{"student": first, "baseline": 2 * first}], labels_N) == 0
    assert once == pytest.approx(1.959964 * math.sqrt(0.5) / 2, rel=1e-6)
    longer = [{"student": first.repeat(4, 1), "baseline": second.repeat(4, 1)}]
    assert gain_margin(longer, labels_N.repeat(4)) == pytest.approx(once / 2)


def test_the_margin_holds_the_true_gain_about_95_times_in_100() -> None:
    chance, held = np.random.default_rng(11), 0
    for _ in range(300):
        draws = (chance.random(400) < 0.8, chance.random(400) < 0.75)
        logits = dict(zip(("student", "baseline"), (answers_of(draw.tolist()) for draw in draws), strict=True))
        gain = draws[0].mean() - draws[1].mean()
        held += abs(gain - 0.05) <= gain_margin([logits], torch.zeros(400, dtype=torch.long))
    assert 0.91 <= held / 300 <= 0.99


# All models side by side


def compared(rights: Sequence[tuple[int, int]], teacher: float = 0.8, texts: int = 20) -> dict[str, Any]:
    seeds = made_seeds(texts, rights)
    seeds[0] = {**seeds[0], "teacher": answers_of([number < teacher * texts for number in range(texts)])}
    entries = {role: {"role": role, "test_accuracy": teacher} for role in ("teacher", "baseline", "student")}
    return comparison(entries, seeds, torch.zeros(texts, dtype=torch.long))


def test_one_seed_is_compared_by_its_own_accuracies_alone() -> None:
    found = compared([(16, 14)])
    assert found["gain"] == pytest.approx(0.1)
    assert found["retention"] == pytest.approx(0.8 / 0.8)
    assert found["gain_margin"] > 0
    assert found["seeds"] is None
    assert [found[role]["role"] for role in ("teacher", "baseline", "student")] == ["teacher", "baseline", "student"]


def test_several_seeds_are_compared_by_their_means_spread_and_a_paired_test() -> None:
    found = compared([(16, 14), (18, 15), (15, 15), (19, 14)])
    students, baselines = [0.8, 0.9, 0.75, 0.95], [0.7, 0.75, 0.75, 0.7]
    seeds = found["seeds"]
    assert seeds["count"] == 4
    for role, values in (("student", students), ("baseline", baselines)):
        assert seeds[role]["values"] == pytest.approx(values)
        assert seeds[role]["mean"] == pytest.approx(np.mean(values))
        assert seeds[role]["std"] == pytest.approx(np.std(values, ddof=1))
    assert seeds["gain"]["values"] == pytest.approx([0.1, 0.15, 0.0, 0.25])
    assert seeds["p_value"] == pytest.approx(scipy.stats.ttest_rel(students, baselines).pvalue, rel=1e-6)
    assert found["gain"] == pytest.approx(np.mean(students) - np.mean(baselines))
    assert found["retention"] == pytest.approx(np.mean(students) / 0.8)


def test_the_margin_of_student_and_teacher_is_that_of_their_paired_differences() -> None:
    right = {"teacher": [True, True, False, False, True], "student": [True, False, True, False, True]}
    logits = [{role: answers_of(rights) for role, rights in right.items()}]
    spread = np.subtract(right["student"], right["teacher"], dtype=float).std()
    expected = scipy.stats.norm.ppf(0.975) * spread / math.sqrt(5)
    assert teacher_margin(logits, torch.zeros(5, dtype=torch.long)) == pytest.approx(expected)


def test_gains_that_are_all_equal_have_no_p_value() -> None:
    seeds = compared([(16, 14), (17, 15), (12, 10)], texts=32)["seeds"]
    assert seeds["gain"]["std"] == 0
    assert seeds["p_value"] is None


def test_without_a_baseline_there_is_neither_gain_nor_test() -> None:
    logits = [{"student": answers_of([True, True, False, right])} for right in (True, False)]
    logits[0]["teacher"] = answers_of([True, False, True, False])
    entries = {"teacher": {"test_accuracy": 0.5}, "student": {}}
    found = comparison(entries, logits, torch.zeros(4, dtype=torch.long))
    assert (found["baseline"], found["gain"], found["gain_margin"]) == (None, None, None)
    assert found["seeds"]["baseline"] is None
    assert found["seeds"]["student"]["mean"] == pytest.approx(0.625)
    assert found["retention"] == pytest.approx(1.25)


def test_nothing_is_kept_of_a_teacher_that_is_never_right() -> None:
    assert compared([(16, 14)], teacher=0.0)["retention"] is None


def test_equal_gains_over_seeds_are_no_proof_whatever_their_rounding() -> None:
    labels_N = torch.zeros(100, dtype=torch.long)

    def right(count: int) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0]] * count + [[0.0, 1.0]] * (100 - count))

    logits = [
        {"teacher": right(80), "student": right(s), "baseline": right(b)} for s, b in ((80, 75), (82, 77), (71, 66))
    ]
    entries = {role: {"test_accuracy": 0.8} for role in ("teacher", "student", "baseline")}
    assert comparison(entries, logits, labels_N)["seeds"]["p_value"] is None
