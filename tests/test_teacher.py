"""The teacher's stages, on a made data set that a small model learns within a second."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from distill_core.config import DataConfig, TeacherConfig
from distill_core.data.batches import EncodedDataset, EncodedTexts, SampleLogits, encode
from distill_core.data.sources import Dataset, Split
from distill_core.errors import Cancelled
from distill_core.events import Epoch, Event, StageFinished, StageStarted, Step
from distill_core.models.classifier import TextClassifier, build
from distill_core.training import loop
from distill_core.training.loop import Context, logits_of
from distill_core.training.teacher import cache_logits, finetune, pretrain

CONFIG = TeacherConfig(
    size="XS", dropout=0.1, epochs=4, learning_rate=1e-2, pretrain_epochs=3, pretrain_learning_rate=1e-2, batch_size=8
)


def start(data: EncodedDataset, config: TeacherConfig = CONFIG) -> TextClassifier:
    torch.manual_seed(0)
    return build(config, len(data.vocabulary), len(data.label_names))


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def pretrained(data: EncodedDataset, context: Context, config: TeacherConfig = CONFIG) -> dict[str, Tensor]:
    model = start(data, config)
    pretrain(model, data, config, seed=0, context=context)
    return weights(model)


def finetuned(data: EncodedDataset, context: Context, seed: int = 0) -> dict[str, Tensor]:
    model = start(data)
    finetune(model, data, CONFIG, seed=seed, context=context)
    return weights(model)


def relabelled(texts: EncodedTexts) -> EncodedTexts:
    return replace(texts, labels_N=1 - texts.labels_N)


def garbled(texts: EncodedTexts) -> EncodedTexts:
    """Other words and other labels under the same ids."""
    return replace(texts, labels_N=1 - texts.labels_N, flat=texts.flat.flip(0))


def epochs_of(reported: list[Event]) -> list[Epoch]:
    return [event for event in reported if isinstance(event, Epoch)]


def language(sequences: list[list[str]]) -> EncodedDataset:
    """A data set for pre-training alone: most sequences without a label, one to learn from, the rest held out."""
    texts = [" ".join(sequence) for sequence in sequences]
    held_out = tuple(texts[-8:])
    return encode(
        Dataset(
            ("bad", "good"),
            train=Split((100,), (texts[0],), (0,)),
            val=Split(tuple(range(8)), held_out, (0,) * 8),
            test=Split((200,), (texts[0],), (1,)),
            unlabelled=tuple(texts[1:-8]),
        ),
        DataConfig(min_frequency=1),
    )


# Pre-training


def test_pretrain_reads_no_labels(encoded: EncodedDataset, context: Context) -> None:
    other = replace(encoded, train=relabelled(encoded.train), val=relabelled(encoded.val))
    assert same(pretrained(encoded, context), pretrained(other, context))


def test_pretrain_never_opens_the_test_split(encoded: EncodedDataset, context: Context) -> None:
    other = replace(encoded, test=garbled(encoded.test))
    assert same(pretrained(encoded, context), pretrained(other, context))


@pytest.mark.parametrize("part", ["unlabelled", "train"])
def test_pretrain_learns_from_unlabelled_and_training_texts(
    encoded: EncodedDataset, context: Context, part: str
) -> None:
    changes: dict[str, Any] = {part: garbled(getattr(encoded, part))}
    assert not same(pretrained(encoded, context), pretrained(replace(encoded, **changes), context))


def test_pretrain_changes_the_word_vectors_and_leaves_the_output_layer(
    encoded: EncodedDataset, context: Context
) -> None:
    before, after = weights(start(encoded)), pretrained(encoded, context)
    assert not torch.equal(before["embedding.weight"], after["embedding.weight"])
    assert torch.equal(before["output.weight"], after["output.weight"])
    assert torch.equal(before["output.bias"], after["output.bias"])


def test_pretrain_is_the_same_for_a_seed_whatever_came_before(encoded: EncodedDataset, context: Context) -> None:
    model = start(encoded)
    torch.manual_seed(99)
    pretrain(model, encoded, CONFIG, seed=0, context=context)
    other = start(encoded)
    pretrain(other, encoded, CONFIG, seed=1, context=context)
    first = pretrained(encoded, context)
    assert same(first, weights(model))
    assert not same(first, weights(other))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_pretrain_lowers_the_language_models_loss(
    encoded: EncodedDataset, context: Context, reported: list[Event], bidirectional: bool
) -> None:
    pretrained(encoded, context, CONFIG.model_copy(update={"bidirectional": bidirectional, "pretrain_epochs": 10}))
    losses = [epoch.ce for epoch in epochs_of(reported)]
    assert len(losses) == 10
    assert losses[-1] < 0.75 * losses[0]
    assert losses[-1] < 0.6 * math.log(len(encoded.vocabulary))
    assert {epoch.accuracy for epoch in epochs_of(reported)} == {None}


@pytest.mark.parametrize("bidirectional", [False, True])
def test_pretrain_predicts_what_can_be_predicted(context: Context, reported: list[Event], bidirectional: bool) -> None:
    cycle = list("abcdefgh")
    data = language([(cycle * 4)[first : first + 20] for first in range(8)] * 5)
    config = CONFIG.model_copy(update={"pretrain_epochs": 40, "dropout": 0.0, "bidirectional": bidirectional})
    pretrained(data, context, config)
    assert epochs_of(reported)[-1].ce < 0.2, "after the first word, every next word is certain in both directions"


@pytest.mark.parametrize("bidirectional", [False, True])
def test_pretrain_cannot_see_the_words_that_it_predicts(
    context: Context, reported: list[Event], bidirectional: bool
) -> None:
    chance = random.Random(0)
    data = language([[chance.choice("abcdefgh") for _ in range(20)] for _ in range(40)])
    config = CONFIG.model_copy(update={"pretrain_epochs": 20, "dropout": 0.0, "bidirectional": bidirectional})
    pretrained(data, context, config)
    best = min(epoch.ce for epoch in epochs_of(reported))
    assert best > 0.97 * math.log(8), "nobody can predict independent words better than by chance"


def test_pretrain_needs_no_unlabelled_texts(encoded: EncodedDataset, context: Context, reported: list[Event]) -> None:
    pretrained(replace(encoded, unlabelled=EncodedTexts.of(range(0), [], [])), context)
    assert len(epochs_of(reported)) == 3


def test_pretrain_works_with_the_smallest_vocabulary(context: Context, reported: list[Event]) -> None:
    pretrained(language([["a"] * 5 for _ in range(12)]), context)
    assert math.isfinite(epochs_of(reported)[-1].ce)


# Fine-tuning


def test_finetune_learns_the_labels(encoded: EncodedDataset, context: Context, reported: list[Event]) -> None:
    model = start(encoded)
    finetune(model, encoded, CONFIG.model_copy(update={"epochs": 12}), seed=0, context=context)
    first = next(event for event in reported if isinstance(event, Step))
    best = max(epoch.accuracy or 0.0 for epoch in epochs_of(reported))
    assert first.ce == pytest.approx(math.log(2), abs=0.15)
    assert min(epoch.ce for epoch in epochs_of(reported)) < 0.3
    answers = logits_of(model, encoded.val, context).argmax(dim=1)
    assert float((answers == encoded.val.labels_N).float().mean()) == best > 0.9


def test_finetune_trains_the_whole_teacher(encoded: EncodedDataset, context: Context) -> None:
    before, after = weights(start(encoded)), finetuned(encoded, context)
    assert [name for name in before if torch.equal(before[name], after[name])] == []


def test_finetune_is_the_same_for_a_seed(encoded: EncodedDataset, context: Context) -> None:
    first = finetuned(encoded, context)
    assert same(first, finetuned(encoded, context))
    assert not same(first, finetuned(encoded, context, seed=1))


def test_finetune_never_opens_the_test_split(encoded: EncodedDataset, context: Context) -> None:
    other = replace(encoded, test=garbled(encoded.test), unlabelled=garbled(encoded.unlabelled))
    assert same(finetuned(encoded, context), finetuned(other, context))


def test_finetune_reports_the_accuracy_of_the_epoch_that_it_keeps(
    encoded: EncodedDataset, context: Context, reported: list[Event]
) -> None:
    seconds = finetune(start(encoded), encoded, CONFIG, seed=0, context=context)
    best = max(epoch.accuracy or 0.0 for epoch in epochs_of(reported))
    assert reported[0] == StageStarted("finetune", 4 * 6)
    assert reported[-1] == StageFinished("finetune", seconds, best)


# Cached logits


def test_cached_logits_are_the_teachers_own_for_every_labelled_text(encoded: EncodedDataset, context: Context) -> None:
    model = start(encoded)
    cached, _ = cache_logits(model, encoded, context)
    assert len(cached.ids_N) == 48 + 16 + 16
    assert bool((cached.ids_N.diff() > 0).all())
    for texts in (encoded.train, encoded.val, encoded.test):
        torch.testing.assert_close(cached.of_ids(texts.ids_N), logits_of(model, texts, context))


def test_caching_reads_no_labels_and_changes_no_weights(encoded: EncodedDataset, context: Context) -> None:
    model = start(encoded)
    before = weights(model)
    parts: dict[str, Any] = {name: relabelled(getattr(encoded, name)) for name in ("train", "val", "test")}
    first, other = (cache_logits(model, data, context)[0] for data in (encoded, replace(encoded, **parts)))
    assert torch.equal(first.logits_NC, other.logits_NC)
    assert same(before, weights(model))


def test_cached_logits_carry_no_gradient(encoded: EncodedDataset, context: Context) -> None:
    cached: SampleLogits = cache_logits(start(encoded), encoded, context)[0]
    assert not cached.logits_NC.requires_grad
    assert not cached.logits_NC.is_inference()


def test_caching_reports_each_batch(
    encoded: EncodedDataset, context: Context, reported: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "EVALUATION_BATCH", 16)
    monkeypatch.setattr("distill_core.training.teacher.EVALUATION_BATCH", 16)
    _, seconds = cache_logits(start(encoded), encoded, context)
    assert reported[0] == StageStarted("cache", 5)
    assert [event.step for event in reported if isinstance(event, Step)] == [1, 2, 3, 4, 5]
    assert reported[-1] == StageFinished("cache", seconds)


@pytest.mark.parametrize(
    "stage",
    [
        lambda model, data, context: pretrain(model, data, CONFIG, seed=0, context=context),
        lambda model, data, context: finetune(model, data, CONFIG, seed=0, context=context),
        cache_logits,
    ],
    ids=["pretrain", "finetune", "cache"],
)
def test_every_stage_can_be_cancelled(
    encoded: EncodedDataset,
    context: Context,
    reported: list[Event],
    stage: Callable[[TextClassifier, EncodedDataset, Context], object],
) -> None:
    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        stage(start(encoded), encoded, replace(context, check=check))
    assert [type(event) for event in reported] == [StageStarted]
