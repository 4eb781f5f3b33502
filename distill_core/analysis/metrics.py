"""What a classifier is worth on labelled texts. Shapes: `N` texts, `C` classes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from distill_core.training.losses import divergence

CALIBRATION_BINS = 15


def accuracy(logits_NC: Tensor, labels_N: Tensor) -> float:
    """Share of texts whose largest logit is their label's."""
    return float((logits_NC.argmax(dim=1) == labels_N).float().mean())


def paired_margin(first_NC: Tensor, second_NC: Tensor, labels_N: Tensor) -> float:
    """Half the width of the 95 % interval of the difference between two models' accuracies on the same texts.

    From the spread of the paired differences (1, 0 or -1 a text), normal approximation.
    """
    correct = [(logits.argmax(dim=1) == labels_N).double() for logits in (first_NC, second_NC)]
    return float(1.96 * (correct[0] - correct[1]).std(correction=0) / len(labels_N) ** 0.5)


def quality(logits_NC: Tensor, labels_N: Tensor) -> dict[str, float]:
    """Test accuracy, macro F1, expected calibration error and negative log-likelihood.

    Accuracy and F1 are shares from 0 to 1. `ece` is the mean gap between confidence and accuracy over 15 bins of
    equal width (Guo et al. 2017, https://arxiv.org/abs/1706.04599). `nll` is in nats a text.
    """
    from torchmetrics.functional import classification  # takes over a second to import

    classes = logits_NC.shape[1]
    probabilities = logits_NC.softmax(dim=1)
    predicted = logits_NC.argmax(dim=1)
    return {
        "test_accuracy": accuracy(logits_NC, labels_N),
        "macro_f1": float(classification.multiclass_f1_score(predicted, labels_N, classes, average="macro")),
        "ece": float(
            classification.multiclass_calibration_error(probabilities, labels_N, classes, n_bins=CALIBRATION_BINS)
        ),
        "nll": float(F.cross_entropy(logits_NC, labels_N)),
    }


def fidelity(student_NC: Tensor, teacher_NC: Tensor) -> dict[str, float]:
    """How closely a student follows its teacher: share of equal answers, and KL(student ‖ teacher) in nats a text."""
    return {
        "agreement": float((student_NC.argmax(dim=1) == teacher_NC.argmax(dim=1)).float().mean()),
        "kl": float(divergence(student_NC, teacher_NC, "kl_student_teacher", 1.0)),
    }
