"""The teacher's stages, on a made data set that a small model learns within a second."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill_core.config import FROZEN_PASSES, DataConfig, TeacherConfig
from distill_core.control import Control
from distill_core.data.batches import EncodedDataset, EncodedTexts, SampleLogits, encode
from distill_core.data.sources import Dataset, Split
from distill_core.data.vocabulary import PAD_ID
from distill_core.errors import Cancelled
from distill_core.events import Epoch, Event, StageFinished, StageStarted, Step, Warned
from distill_core.models.classifier import TextClassifier, build
from distill_core.models.pretrained import build as transformer
from distill_core.training import reading
from distill_core.training.context import Context
from distill_core.training.reading import logits_of, reading_rows
from distill_core.training.teacher import (
    WARMUP,
    WEIGHT_DECAY,
    cache_logits,
    finetune,
    finetune_head,
    parameter_groups,
    pretrain,
    read_words,
)
from tests.encoders import save_tiny

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
    finetune(model, data.train, data.val, CONFIG, seed=seed, context=context)
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


ANALYSED = CONFIG.model_copy(update={"pretrain_task": "lsa"})


def test_analysis_gives_like_vectors_to_words_of_the_same_texts(context: Context, reported: list[Event]) -> None:
    chance = random.Random(0)
    shared, *topics = [[f"{letter}{number}" for number in range(30)] for letter in "sab"]
    rows = [[*chance.sample(topics[number % 2], 8), *chance.sample(shared, 8)] for number in range(200)]
    data = language([[*shared, *topics[0], *topics[1]], *rows])  # the vocabulary is that of the training texts
    vectors = pretrained(data, context, ANALYSED)["embedding.weight"]
    numbers = {token: number for number, token in enumerate(data.vocabulary.tokens)}

    def alike(first: list[str], second: list[str]) -> float:
        pairs = [(numbers[one], numbers[other]) for one in first for other in second if one != other]
        ones, others = torch.tensor(pairs).T
        return float(torch.cosine_similarity(vectors[ones], vectors[others]).mean())

    for topic, other in (topics, topics[::-1]):
        assert alike(topic, topic) > alike(topic, other) + 0.2
    assert [type(event) for event in reported] == [StageStarted, StageFinished]


def test_analysis_reads_no_labels_and_never_opens_the_test_split(encoded: EncodedDataset, context: Context) -> None:
    other = replace(encoded, train=relabelled(encoded.train), val=garbled(encoded.val), test=garbled(encoded.test))
    assert same(pretrained(encoded, context, ANALYSED), pretrained(other, context, ANALYSED))


def test_analysis_changes_the_word_vectors_and_nothing_else(encoded: EncodedDataset, context: Context) -> None:
    before, after = weights(start(encoded, ANALYSED)), pretrained(encoded, context, ANALYSED)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"embedding.weight"}
    assert bool((after["embedding.weight"][PAD_ID] == 0).all())


def test_analysis_can_be_cancelled(encoded: EncodedDataset, context: Context) -> None:
    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        pretrained(encoded, replace(context, control=Control(heed=check)), ANALYSED)


def test_pretrain_is_left_out_where_texts_have_one_word(context: Context, reported: list[Event]) -> None:
    data = language([["a"], ["b"]] * 10)
    before = weights(start(data, CONFIG))
    assert same(pretrained(data, context), before)
    assert any(isinstance(event, Warned) and "no next word" in event.message for event in reported)
    assert [event.stage for event in reported if isinstance(event, StageFinished)] == ["pretrain"]


# Fine-tuning


def test_finetune_learns_the_labels(encoded: EncodedDataset, context: Context, reported: list[Event]) -> None:
    model = start(encoded)
    config = CONFIG.model_copy(update={"epochs": 12})
    finetune(model, encoded.train, encoded.val, config, seed=0, context=context)
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


def test_finetune_reports_the_accuracy_of_the_epoch_that_it_keeps(
    encoded: EncodedDataset, context: Context, reported: list[Event]
) -> None:
    seconds = finetune(start(encoded), encoded.train, encoded.val, CONFIG, seed=0, context=context)
    best = max(epoch.accuracy or 0.0 for epoch in epochs_of(reported))
    assert reported[0] == StageStarted("finetune", 4 * 6)
    assert reported[-1] == StageFinished("finetune", seconds, best)


def test_an_lstm_teacher_learns_by_adam_without_a_warm_up(
    encoded: EncodedDataset, context: Context, reported: list[Event]
) -> None:
    finetuned(encoded, context)
    rates = [event.lr for event in reported if isinstance(event, Step)]
    assert rates == pytest.approx([1e-2 * (1 - step / 24) for step in range(24)])


# Cached logits


def parts_of(data: EncodedDataset) -> list[EncodedTexts]:
    return [data.train, data.val, data.test]


def test_cached_logits_are_the_teachers_own_for_every_labelled_text(encoded: EncodedDataset, context: Context) -> None:
    model = start(encoded)
    cached, _ = cache_logits(model, parts_of(encoded), context)
    assert len(cached.ids_N) == 48 + 16 + 16
    assert bool((cached.ids_N.diff() > 0).all())
    for texts in (encoded.train, encoded.val, encoded.test):
        torch.testing.assert_close(cached.of_ids(texts.ids_N), logits_of(model, texts, context))


def test_caching_reads_no_labels_and_changes_no_weights(encoded: EncodedDataset, context: Context) -> None:
    model = start(encoded)
    before = weights(model)
    own = parts_of(encoded)
    others = [relabelled(texts) for texts in own]
    first, other = (cache_logits(model, parts, context)[0] for parts in (own, others))
    assert torch.equal(first.logits_NC, other.logits_NC)
    assert same(before, weights(model))


def test_cached_logits_carry_no_gradient(encoded: EncodedDataset, context: Context) -> None:
    cached: SampleLogits = cache_logits(start(encoded), parts_of(encoded), context)[0]
    assert not cached.logits_NC.requires_grad
    assert not cached.logits_NC.is_inference()


def test_caching_reports_each_batch(
    encoded: EncodedDataset, context: Context, reported: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "READING_TOKENS", 64)
    _, seconds = cache_logits(start(encoded), parts_of(encoded), context)
    steps = sum(len(reading_rows(part, "other")) for part in parts_of(encoded))
    assert steps > len(parts_of(encoded))
    assert reported[0] == StageStarted("cache", steps)
    assert [event.step for event in reported if isinstance(event, Step)] == [*range(1, steps + 1)]
    assert reported[-1] == StageFinished("cache", seconds)


def test_cached_logits_are_found_by_id_in_whatever_order_the_texts_came(
    encoded: EncodedDataset, context: Context
) -> None:
    model = start(encoded)
    first, other = (cache_logits(model, parts, context)[0] for parts in (parts_of(encoded), parts_of(encoded)[::-1]))
    assert torch.equal(first.ids_N, other.ids_N)
    assert torch.equal(first.logits_NC, other.logits_NC)
    for row in range(len(encoded.train)):
        alone = encoded.train.gather(torch.tensor([row]))
        with torch.no_grad():
            expected_BC = model.eval()(alone.tokens_BT, alone.lengths_B)
        torch.testing.assert_close(first.of_ids(alone.ids_B), expected_BC, rtol=0, atol=1e-5)


def test_a_transfer_set_is_answered_under_its_own_name(
    encoded: EncodedDataset, context: Context, reported: list[Event]
) -> None:
    cached, seconds = cache_logits(start(encoded), [encoded.unlabelled], context, stage="transfer")
    assert cached.ids_N.tolist() == sorted(encoded.unlabelled.ids_N.tolist())
    assert reported == [
        StageStarted("transfer", 1),
        Step("transfer", 1, 8, None, None, None, None),
        StageFinished("transfer", seconds),
    ]


# Pre-trained encoders

ENCODER = TeacherConfig(kind="pretrained", epochs=4, encoder_learning_rate=2e-3, batch_size=8)


class Encoded:
    """A tiny BERT under a new head, and the made data set in its word pieces."""

    def __init__(self, folder: Path, data: EncodedDataset) -> None:
        torch.manual_seed(1)
        self.model, self.pieces = transformer(str(folder), 2, 256)
        self.train, self.val = (self.read(data, texts) for texts in (data.train, data.val))

    def read(self, data: EncodedDataset, texts: EncodedTexts) -> EncodedTexts:
        rows = [
            self.pieces.encode(" ".join(data.vocabulary.tokens[number] for number in piece.tolist()))
            for piece in torch.split(texts.flat, texts.lengths_N.tolist())
        ]
        return EncodedTexts.of(texts.ids_N.tolist(), rows, texts.labels_N.tolist())


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def bert(bert_folder: Path, encoded: EncodedDataset) -> Encoded:
    return Encoded(bert_folder, encoded)


def test_parameter_groups_of_an_encoder_hold_every_parameter_once_at_its_rate(bert: Encoded) -> None:
    groups = parameter_groups(bert.model, ENCODER)
    settings = {id(weights): (group["lr"], group["weight_decay"]) for group in groups for weights in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(settings) == len(list(bert.model.parameters()))
    for name, parameter in bert.model.named_parameters():
        rate = 10 * 2e-3 if name.startswith("output.") else 2e-3
        bias_or_norm = name.endswith("bias") or "LayerNorm" in name
        assert settings[id(parameter)] == (pytest.approx(rate), 0.0 if bias_or_norm else WEIGHT_DECAY), name
    assert {decay for _, decay in settings.values()} == {0.0, WEIGHT_DECAY}


def test_parameter_groups_without_decay_decay_nothing(bert: Encoded) -> None:
    assert {group["weight_decay"] for group in parameter_groups(bert.model, ENCODER, decay=0.0)} == {0.0}


def test_an_lstm_has_one_parameter_group(encoded: EncodedDataset) -> None:
    model = start(encoded)
    (group,) = parameter_groups(model, CONFIG)
    assert [id(weights) for weights in group["params"]] == [id(weights) for weights in model.parameters()]
    assert group["lr"] == CONFIG.learning_rate


def test_finetune_of_an_encoder_learns_the_labels_and_moves_encoder_and_head(
    bert: Encoded, context: Context, reported: list[Event]
) -> None:
    before = weights(bert.model)
    seconds = finetune(bert.model, bert.train, bert.val, ENCODER, seed=0, context=context)
    best = max(epoch.accuracy or 0.0 for epoch in epochs_of(reported))
    still = [name for name, tensor in weights(bert.model).items() if torch.equal(tensor, before[name])]
    assert best > 0.9
    assert reported[-1] == StageFinished("finetune", seconds, best)
    assert [name for name in still if "pooler" not in name] == [], "the pooler is not used"


def test_finetune_of_an_encoder_warms_up(bert: Encoded, context: Context, reported: list[Event]) -> None:
    finetune(bert.model, bert.train, bert.val, ENCODER, seed=0, context=context)
    rates = [event.lr for event in reported if isinstance(event, Step)]
    assert len(rates) == 24
    top = WARMUP * 24
    expected = [2e-3 * (step / top if step < top else (24 - step) / (24 - top)) for step in range(24)]
    assert rates == pytest.approx(expected)


# A frozen encoder

FROZEN = ENCODER.model_copy(update={"frozen": True, "epochs": 2})


def test_finetune_head_leaves_the_encoder_bit_identical_and_trains_the_head(bert: Encoded, context: Context) -> None:
    before = weights(bert.model)
    finetune_head(bert.model, bert.train, bert.val, FROZEN, seed=0, context=context)
    after = weights(bert.model)
    moved = [name for name, tensor in after.items() if not torch.equal(tensor, before[name])]
    assert moved == ["output.weight", "output.bias"]
    assert {parameter.grad is None for parameter in bert.model.encoder.parameters()} == {True}


def test_finetune_head_reads_each_text_once(bert: Encoded, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    pool = bert.model.pool

    def counted(tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        read.append(len(lengths_B))
        return pool(tokens_BT, lengths_B)

    monkeypatch.setattr(bert.model, "pool", counted)
    finetune_head(bert.model, bert.train, bert.val, FROZEN, seed=0, context=context)
    assert sum(read) == len(bert.train) + len(bert.val)


def test_finetune_head_reports_reading_and_training_as_one_stage(
    bert: Encoded, context: Context, reported: list[Event]
) -> None:
    seconds = finetune_head(bert.model, bert.train, bert.val, FROZEN, seed=0, context=context)
    epochs = FROZEN_PASSES * 2
    steps = [event for event in reported if isinstance(event, Step)]
    best = max(epoch.accuracy or 0.0 for epoch in epochs_of(reported))
    assert reported[0] == StageStarted("finetune", 2 + epochs * 6)
    assert [step.step for step in steps] == list(range(1, 2 + epochs * 6 + 1))
    assert [step.loss for step in steps[:2]] == [None, None]
    assert len(epochs_of(reported)) == epochs
    assert reported[-1] == StageFinished("finetune", seconds, best)


def test_finetune_head_keeps_the_head_of_its_best_epoch(bert: Encoded, context: Context, reported: list[Event]) -> None:
    longer = FROZEN.model_copy(update={"epochs": 10})
    finetune_head(bert.model, bert.train, bert.val, longer, seed=0, context=context)
    best = max(epoch.accuracy or 0.0 for epoch in epochs_of(reported))
    answers = logits_of(bert.model, bert.val, context).argmax(dim=1)
    assert float((answers == bert.val.labels_N).float().mean()) == best
    losses = [epoch.ce for epoch in epochs_of(reported)]
    assert best > 0.9
    assert losses[-1] < 0.95 * losses[0]


def test_finetune_head_never_mixes_up_features_and_labels(bert: Encoded, context: Context) -> None:
    """Features are looked up by sample id, so the order of the texts changes nothing but the shuffle."""

    def pool(tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        named_B = (tokens_BT[:, 0] % 2).float() * 2 - 1
        return torch.stack([named_B] * 16, dim=1)

    bert.model.pool = pool
    ids = list(range(500, 540))
    texts = EncodedTexts.of(
        ids[::-1], [[number] * (1 + number % 5) for number in ids[::-1]], [n % 2 for n in ids[::-1]]
    )
    finetune_head(bert.model, texts, texts, FROZEN.model_copy(update={"epochs": 10}), seed=0, context=context)
    assert bool((logits_of(bert.model, texts, context).argmax(dim=1) == texts.labels_N).all())


def test_finetune_head_can_be_cancelled(bert: Encoded, context: Context, reported: list[Event]) -> None:
    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        finetune_head(
            bert.model, bert.train, bert.val, FROZEN, seed=0, context=replace(context, control=Control(heed=check))
        )
    assert [type(event) for event in reported] == [StageStarted]


# Words


def test_read_words_gives_the_pooled_states_of_each_word_by_itself_in_order(
    bert: Encoded, context: Context, reported: list[Event]
) -> None:
    words = ["film", "a", "unheard", "dull", "zzz", "films"]
    rows = bert.pieces.encode_all(words)
    vectors_VW = read_words(bert.model.train(), EncodedTexts.without_labels(rows), context)
    assert vectors_VW.shape == (6, 16)
    assert not vectors_VW.requires_grad
    for row, vector_W in zip(rows, vectors_VW, strict=True):
        with torch.no_grad():
            states_BTW = bert.model.encoder(input_ids=torch.tensor([row])).last_hidden_state
        torch.testing.assert_close(vector_W, states_BTW[0].mean(dim=0), rtol=0, atol=1e-5)
    assert reported[0] == StageStarted("words", 1)
    assert [type(event) for event in reported] == [StageStarted, Step, StageFinished]


@pytest.mark.parametrize(
    "stage",
    [
        lambda model, data, context: pretrain(model, data, CONFIG, seed=0, context=context),
        lambda model, data, context: finetune(model, data.train, data.val, CONFIG, seed=0, context=context),
        lambda model, data, context: cache_logits(model, parts_of(data), context),
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
        stage(start(encoded), encoded, replace(context, control=Control(heed=check)))
    assert [type(event) for event in reported] == [StageStarted]
