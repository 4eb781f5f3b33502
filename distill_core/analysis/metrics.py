"""What a classifier is worth on labelled texts. Shapes: `N` texts, `C` classes.

Written out, since torchmetrics and `scipy.stats` take three seconds to import at the start of every process that tests
a model; the tests compare with both.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import special
from torch import Tensor

from distill_core.training.losses import divergence

CALIBRATION_BINS = 15
LEVEL = 0.95
NORMAL = statistics.NormalDist().inv_cdf(0.5 + LEVEL / 2)


def accuracy(logits_NC: Tensor, labels_N: Tensor) -> float:
    """Share of texts whose largest logit is their label's."""
    return float((logits_NC.argmax(dim=1) == labels_N).float().mean())


def bootstrap_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of an accuracy (Efron 1979).

    Texts drawn again with replacement are right a binomial number of times, so the limits that infinitely many
    draws would give are known exactly.

    Args:
        share: the accuracy, 0 to 1.
        count: number of texts.
    """
    low, high = (_binomial_quantile(level, count, share) / count for level in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return low, high


def _binomial_quantile(level: float, count: int, share: float) -> int:
    """The least number of right texts that is not exceeded with this probability."""
    if share in (0, 1):
        return round(share * count)
    near = math.ceil(float(special.bdtrik(level, count, share)))
    below = float(special.bdtr(near - 1, count, share)) if near > 0 else 0.0
    return near - 1 if below >= level else near


def quality(logits_NC: Tensor, labels_N: Tensor) -> dict[str, Any]:
    """Test accuracy with its interval, macro F1, calibration error, negative log-likelihood, confusion matrix.

    Accuracy, its 95 % bootstrap interval and F1 are shares from 0 to 1. `ece` is the mean gap between confidence and
    accuracy over 15 bins of equal width (Guo et al. 2017, https://arxiv.org/abs/1706.04599). `nll` is in nats a text.
    `confusion` counts texts: a row for each true class, a column for each answer.
    """
    classes = logits_NC.shape[1]
    predicted, right = logits_NC.argmax(dim=1), accuracy(logits_NC, labels_N)
    confusion_CC = torch.bincount(labels_N * classes + predicted, minlength=classes**2).reshape(classes, classes)
    return {
        "test_accuracy": right,
        "test_interval": list(bootstrap_interval(right, len(labels_N))),
        "macro_f1": _macro_f1(confusion_CC),
        "ece": _calibration_error(logits_NC, labels_N),
        "nll": float(F.cross_entropy(logits_NC, labels_N)),
        "confusion": confusion_CC.tolist(),
    }


def _macro_f1(confusion_CC: Tensor) -> float:
    """Mean over the classes that occur among labels or answers."""
    occurrences_C = confusion_CC.sum(dim=0) + confusion_CC.sum(dim=1)
    return float((2 * confusion_CC.diag() / occurrences_C)[occurrences_C > 0].mean())


def _calibration_error(logits_NC: Tensor, labels_N: Tensor) -> float:
    confidence_N, predicted_N = logits_NC.softmax(dim=1).max(dim=1)
    bins_N = (confidence_N * CALIBRATION_BINS).long().clamp(0, CALIBRATION_BINS - 1)
    gaps_N = confidence_N - (predicted_N == labels_N).float()
    sums = torch.zeros(CALIBRATION_BINS, device=gaps_N.device).index_add(0, bins_N, gaps_N)
    return float(sums.abs().sum() / len(labels_N))


def fidelity(student_NC: Tensor, teacher_NC: Tensor) -> dict[str, float]:
    """How closely a student follows its teacher: share of equal answers, and the divergence in nats a text.

    `kl` is KL(student ‖ teacher), `kl_reverse` KL(teacher ‖ student). Following a teacher and being right are
    different things (Stanton et al. 2021, https://arxiv.org/abs/2106.05945).
    """
    return {
        "agreement": float((student_NC.argmax(dim=1) == teacher_NC.argmax(dim=1)).float().mean()),
        "kl": float(divergence(student_NC, teacher_NC, "kl_student_teacher", 1.0)),
        "kl_reverse": float(divergence(student_NC, teacher_NC, "kl_teacher_student", 1.0)),
    }


def comparison(
    entries: Mapping[str, dict[str, Any]], test_logits: Sequence[Mapping[str, Tensor]], labels_N: Tensor
) -> dict[str, Any]:
    """The models' entries, retention, and the gain over the baseline: means over the seeds.

    `gain_margin` is half the 95 % interval of the gain, from the spread of the paired differences over texts and,
    with several seeds, over seeds; `teacher_margin` is the same of what the student gets right more than its teacher.
    `seeds` has the accuracies of each seed, `right` which texts each answered rightly.

    Args:
        test_logits: for each seed the logits of `student` and, where there is one, `baseline`; in the first those of
            `teacher`.
    """
    students = [accuracy(logits["student"], labels_N) for logits in test_logits]
    baselines = [accuracy(logits["baseline"], labels_N) for logits in test_logits if "baseline" in logits]
    teacher = entries["teacher"]["test_accuracy"]
    gain = margin = None
    if baselines:
        gain = statistics.fmean(students) - statistics.fmean(baselines)
        margin = gain_margin(test_logits, labels_N)
    return {
        "teacher": entries["teacher"],
        "baseline": entries.get("baseline"),
        "student": entries["student"],
        "retention": statistics.fmean(students) / teacher if teacher else None,
        "gain": gain,
        "gain_margin": margin,
        "teacher_margin": teacher_margin(test_logits, labels_N),
        "seeds": _by_seed(students, baselines) if len(students) > 1 else None,
        "right": {
            role: [right_texts(logits[role], labels_N) for logits in test_logits if role in logits]
            for role in ("student", "baseline")
        },
    }


def right_texts(logits_NC: Tensor, labels_N: Tensor) -> str:
    """Which texts are answered rightly: a bit each, the first one highest, as hexadecimal digits; 0 fills the last."""
    bits = np.packbits((logits_NC.argmax(dim=1) == labels_N).cpu().numpy())
    return bits.tobytes().hex()


def gain_margin(test_logits: Sequence[Mapping[str, Tensor]], labels_N: Tensor) -> float:
    """Half the 95 % interval of student − baseline accuracy."""
    return _margin(
        torch.stack(
            [_correct(logits["student"], labels_N) - _correct(logits["baseline"], labels_N) for logits in test_logits]
        )
    )


def teacher_margin(test_logits: Sequence[Mapping[str, Tensor]], labels_N: Tensor) -> float:
    """Half the 95 % interval of student − teacher accuracy."""
    teacher_N = _correct(test_logits[0]["teacher"], labels_N)
    return _margin(torch.stack([_correct(logits["student"], labels_N) - teacher_N for logits in test_logits]))


def _margin(differences_SN: Tensor) -> float:
    """Half the 95 % interval of the mean of paired differences, by seed and text.

    Two sources of chance add up: which texts were tested (the spread of the difference a text, averaged over seeds)
    and, with several seeds, where training began (the spread of the difference a seed). Normal approximation.
    """
    seeds, texts = differences_SN.shape
    variance = float(differences_SN.mean(dim=0).var(correction=0)) / texts
    if seeds > 1:
        variance += float(differences_SN.mean(dim=1).var()) / seeds
    return NORMAL * math.sqrt(variance)


def _correct(logits_NC: Tensor, labels_N: Tensor) -> Tensor:
    return (logits_NC.argmax(dim=1) == labels_N).double()


def _by_seed(students: Sequence[float], baselines: Sequence[float]) -> dict[str, Any]:
    """Accuracies of each seed, their mean and standard deviation, and a paired t-test of the gain."""
    summary: dict[str, Any] = {"count": len(students), "student": _spread(students), "baseline": None}
    if baselines:
        gains = [student - baseline for student, baseline in zip(students, baselines, strict=True)]
        # A test of differences without spread is not defined; that of rounding is none: accuracies are float32.
        same = all(math.isclose(gain, gains[0], abs_tol=1e-6) for gain in gains)
        summary |= {
            "baseline": _spread(baselines),
            "gain": _spread(gains),
            "p_value": None if same else _p_value(gains),
        }
    return summary


def _p_value(gains: Sequence[float]) -> float:
    """Of a two-sided t-test that paired differences have the mean 0."""
    t = statistics.fmean(gains) / statistics.stdev(gains) * math.sqrt(len(gains))
    return float(2 * special.stdtr(len(gains) - 1, -abs(t)))


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {"values": list(values), "mean": statistics.fmean(values), "std": statistics.stdev(values)}
