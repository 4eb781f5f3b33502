"""The classifier: padding and neighbours never reach an answer, and every weight learns."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from distill_core.config import ModelConfig, StudentConfig
from distill_core.data.batches import EncodedTexts
from distill_core.data.vocabulary import PAD_ID
from distill_core.models.bag import BagOfEmbeddings
from distill_core.models.classifier import TextClassifier, build, reverse
from distill_core.models.convolution import TextCNN

WORDS = 20
Shape = tuple[str, int, bool, str]
every_shape = pytest.mark.parametrize(
    "shape",
    list(product(["max", "last"], [1, 2], [False, True], ["lstm", "gru"])),
    ids=lambda shape: f"{shape[3]}-{shape[0]}-{shape[1]}-{'both' if shape[2] else 'forward'}",
)
token_lists = st.lists(st.integers(1, WORDS - 1), min_size=1, max_size=9)


def model_of(shape: Shape, dropout: float = 0.0) -> TextClassifier:
    """A small model in evaluation mode with weights large enough for every input to matter."""
    pooling, layers, bidirectional, cell = shape
    torch.manual_seed(1)
    model = TextClassifier(
        WORDS,
        3,
        cell=cell,
        embedding_width=5,
        hidden_width=6,
        layers=layers,
        bidirectional=bidirectional,
        pooling=pooling,
        dropout=dropout,
    )
    torch.nn.init.normal_(model.embedding.weight)
    return model.eval()


def batch_of(rows: list[list[int]], extra: int = 0) -> tuple[Tensor, Tensor]:
    """Tokens and lengths, with `extra` more columns of padding than the longest text needs."""
    batch = EncodedTexts.of(range(len(rows)), rows, [0] * len(rows)).gather(torch.arange(len(rows)))
    return torch.nn.functional.pad(batch.tokens_BT, (0, extra), value=PAD_ID), batch.lengths_B


@torch.no_grad()
def answer(model: TextClassifier, rows: list[list[int]], extra: int = 0) -> Tensor:
    return model(*batch_of(rows, extra))


@every_shape
@settings(max_examples=10)
@given(rows=st.lists(token_lists, min_size=1, max_size=4), extra=st.integers(1, 6))
def test_more_padding_changes_no_logits(shape: Shape, rows: list[list[int]], extra: int) -> None:
    model = model_of(shape)
    torch.testing.assert_close(answer(model, rows, extra), answer(model, rows), rtol=0, atol=1e-5)


@every_shape
@settings(max_examples=10)
@given(rows=st.lists(token_lists, min_size=2, max_size=4))
def test_other_texts_of_a_batch_change_no_logits(shape: Shape, rows: list[list[int]]) -> None:
    model = model_of(shape)
    alone = torch.cat([answer(model, [row]) for row in rows])
    torch.testing.assert_close(answer(model, rows), alone, rtol=0, atol=1e-5)


@every_shape
def test_what_stands_in_padded_positions_never_matters(shape: Shape) -> None:
    model = model_of(shape)
    tokens_BT, lengths_B = batch_of([[3, 4, 5], [6, 7, 8, 9, 10]])
    other_BT = tokens_BT.masked_fill(tokens_BT == PAD_ID, 11)
    assert not torch.equal(tokens_BT, other_BT)
    with torch.no_grad():
        torch.testing.assert_close(model(other_BT, lengths_B), model(tokens_BT, lengths_B), rtol=0, atol=1e-6)


@every_shape
@settings(max_examples=10)
@given(row=token_lists)
def test_logits_are_those_of_each_direction_run_by_hand(shape: Shape, row: list[int]) -> None:
    pooling, *_ = shape
    model = model_of(shape)
    pooled = []
    for lstm, reading in zip(model.directions, [row, row[::-1]], strict=False):
        with torch.no_grad():
            states_TH = lstm(model.embedding(torch.tensor(reading)))[0]
        pooled.append(states_TH[-1] if pooling == "last" else states_TH.max(dim=0).values)
    with torch.no_grad():
        expected_C = model.output(torch.cat(pooled))
    torch.testing.assert_close(answer(model, [row, [1] * 9])[0], expected_C, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", list(product(["last"], [1, 2], [False, True], ["lstm", "gru"])))
def test_last_pooling_reads_the_last_real_token(shape: Shape) -> None:
    model = model_of(shape)
    longest = [1] * 9
    one, other = (answer(model, [[4, 5, last], longest])[0] for last in (6, 7))
    assert (one - other).abs().max() > 1e-3


@every_shape
def test_every_token_reaches_the_logits(shape: Shape) -> None:
    model = model_of(("last", *shape[1:]))
    plain = answer(model, [[4, 5, 6]])
    for position in range(3):
        changed = [4, 5, 6]
        changed[position] = 12
        assert (answer(model, [changed]) - plain).abs().max() > 1e-5, position


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_direction_never_sees_the_words_that_come_later_in_its_reading(layers: int, cell: str) -> None:
    model = model_of(("max", layers, True, cell))
    tokens = [[4, 5, 6, 7, 8]]
    with torch.no_grad():
        before = model.states(*batch_of(tokens))
        for position in range(5):
            changed = [list(tokens[0])]
            changed[0][position] = 15
            forward, backward = model.states(*batch_of(changed))
            for states, original, index in ((forward, before[0], position), (backward, before[1], 4 - position)):
                assert torch.equal(states[:, :index], original[:, :index])
                assert not torch.equal(states[:, index:], original[:, index:])


@given(rows=st.lists(token_lists, min_size=1, max_size=5), extra=st.integers(0, 4))
def test_reverse_mirrors_each_text_and_keeps_its_padding_right(rows: list[list[int]], extra: int) -> None:
    tokens_BT, lengths_B = batch_of(rows, extra)
    expected_BT, _ = batch_of([row[::-1] for row in rows], extra)
    mirrored_BT = reverse(tokens_BT, lengths_B)
    assert torch.equal(mirrored_BT, expected_BT)
    assert torch.equal(reverse(mirrored_BT, lengths_B), tokens_BT)


@every_shape
def test_gradient_flows_to_every_parameter_but_the_row_of_padding(shape: Shape) -> None:
    model = model_of(shape).train()
    rows = [list(range(1, WORDS)), [3, 4]]
    logits_BC = model(*batch_of(rows))
    torch.nn.functional.cross_entropy(logits_BC, torch.tensor([0, 2])).backward()
    for name, weights in model.named_parameters():
        assert weights.grad is not None, name
        assert bool(weights.grad.isfinite().all()), name
        assert bool((weights.grad != 0).any()), name
    gradient = model.embedding.weight.grad
    assert gradient is not None
    assert bool((gradient[PAD_ID] == 0).all())
    if shape[0] == "last":
        assert bool((gradient[1:] != 0).any(dim=1).all())


@every_shape
def test_evaluation_is_repeatable_and_training_hides_values(shape: Shape) -> None:
    model = model_of(shape, dropout=0.5)
    rows = [[4, 5, 6, 7]]
    assert torch.equal(answer(model, rows), answer(model, rows))
    model.train()
    assert not torch.equal(answer(model, rows), answer(model, rows))


def test_the_start_depends_on_the_random_state_alone() -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return build(ModelConfig(size="XS"), WORDS, 2).state_dict()

    first, again, other = weights(3), weights(3), weights(4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"bidirectional": False}, lambda model: len(model.directions) == 1),
        ({"bidirectional": True}, lambda model: len(model.directions) == 2),
        ({"layers": 2}, lambda model: model.directions[0].num_layers == 2),
        ({"layers": 2, "dropout": 0.25}, lambda model: model.directions[0].dropout == 0.25),
        ({"pooling": "last"}, lambda model: model.pooling == "last"),
        ({"dropout": 0.25}, lambda model: model.dropout.p == 0.25),
        ({}, lambda model: isinstance(model.directions[0], torch.nn.LSTM)),
    ],
)
def test_build_obeys_its_configuration(changes: dict[str, object], says: Callable[[TextClassifier], bool]) -> None:
    model = build(ModelConfig.model_validate({"size": "XS", **changes}), WORDS, 4)
    assert says(model)
    assert answer(model.eval(), [[1, 2, 3]]).shape == (1, 4)


# Every kind of student

KINDS = ("lstm", "gru", "textcnn", "bag")
CLASSES = {"lstm": TextClassifier, "gru": TextClassifier, "textcnn": TextCNN, "bag": BagOfEmbeddings}
STUDENTS = [
    StudentConfig(kind="lstm", size="S"),
    StudentConfig(kind="lstm", size="S", layers=2, bidirectional=False, pooling="last"),
    StudentConfig(kind="gru", size="S", bidirectional=False, pooling="last"),
    StudentConfig(kind="gru", size="S", layers=2),
    StudentConfig(kind="textcnn", size="S"),
    StudentConfig(kind="bag", size="S"),
]
every_student = pytest.mark.parametrize(
    "config",
    STUDENTS,
    ids=lambda config: f"{config.kind}-{config.layers}-{'both' if config.bidirectional else 'one'}-{config.pooling}",
)
every_kind = pytest.mark.parametrize("kind", KINDS)


def student_of(config: StudentConfig) -> torch.nn.Module:
    """A student in evaluation mode with weights large enough for every input to matter."""
    torch.manual_seed(1)
    model = build(config, WORDS, 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
        for table in model.modules():
            if isinstance(table, torch.nn.Embedding):
                table.weight[PAD_ID] = 0.0
    return model.eval()


@every_student
@settings(max_examples=10)
@given(rows=st.lists(token_lists, min_size=1, max_size=5), extra=st.integers(0, 6))
def test_a_students_logits_depend_on_neither_its_batch_nor_padding(
    config: StudentConfig, rows: list[list[int]], extra: int
) -> None:
    model = student_of(config)
    alone = torch.cat([answer(model, [row]) for row in rows])
    assert alone.shape == (len(rows), 3)
    torch.testing.assert_close(answer(model, rows, extra), alone, rtol=0, atol=1e-5)


@every_student
@given(token=st.integers(1, WORDS - 1))
@settings(max_examples=5)
def test_a_student_can_answer_a_text_of_one_token(config: StudentConfig, token: int) -> None:
    logits_BC = answer(student_of(config), [[token]])
    assert logits_BC.shape == (1, 3)
    assert bool(logits_BC.isfinite().all())
    assert not torch.equal(logits_BC, answer(student_of(config), [[token % (WORDS - 1) + 1]]))


@every_student
def test_a_student_learns_in_every_parameter_but_the_row_of_padding(config: StudentConfig) -> None:
    model = student_of(config).train()
    logits_BC = model(*batch_of([list(range(1, WORDS)), [3, 4], [5]]))
    torch.nn.functional.cross_entropy(logits_BC, torch.tensor([0, 2, 1])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool((parameter.grad != 0).any()), name
    assert bool((model.embedding.weight.grad[PAD_ID] == 0).all())


@every_kind
def test_only_the_bag_forgets_the_order_of_words(kind: str) -> None:
    model = student_of(StudentConfig(kind=kind, size="S"))
    rows = [[3, 4, 5, 6, 7, 8, 9], [9, 8, 3, 4, 7, 6, 5]]
    same_order, other_order = answer(model, rows)
    gap = float((same_order - other_order).abs().max())
    assert gap < 1e-5 if kind == "bag" else gap > 1e-3


@every_kind
def test_build_makes_the_kind_that_was_asked_for(kind: str) -> None:
    model = build(StudentConfig(kind=kind, size="S", dropout=0.25), WORDS, 4)
    assert type(model) is CLASSES[kind]
    assert model.embedding.weight.shape == (WORDS, 8)
    assert model.dropout.p == 0.25
    assert model.output.out_features == 4
    if kind in ("lstm", "gru"):
        assert {type(network) for network in model.directions} == {{"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind]}


@every_kind
def test_a_students_start_depends_on_the_random_state_alone(kind: str) -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return build(StudentConfig(kind=kind, size="XS"), WORDS, 2).state_dict()

    first, again, other = weights(3), weights(3), weights(4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])
    assert bool((first["embedding.weight"][PAD_ID] == 0).all())


@every_kind
def test_training_hides_values_and_evaluation_is_repeatable(kind: str) -> None:
    model = student_of(StudentConfig(kind=kind, size="S", dropout=0.5))
    rows = [[4, 5, 6, 7, 8]]
    assert torch.equal(answer(model, rows), answer(model, rows))
    model.train()
    assert not torch.equal(answer(model, rows), answer(model, rows))
