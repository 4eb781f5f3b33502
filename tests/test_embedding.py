"""Word vectors at the start: random, or another model's along their directions of largest variance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from distill_core.data.batches import EncodedTexts
from distill_core.data.vocabulary import PAD_ID, UNKNOWN_ID
from distill_core.models.embedding import (
    SCALE,
    embedding,
    latent_semantic_vectors,
    principal_components,
    start_from,
)


@st.composite
def vectors(draw: st.DrawFn) -> Tensor:
    """Vectors of words `[V, W]` whose directions have clearly different variances, and a mean that is not 0."""
    words, width, seed = draw(st.integers(12, 40)), draw(st.integers(2, 8)), draw(st.integers(0, 1000))
    chance = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(width, width, generator=chance, dtype=torch.float64))
    plain, _ = torch.linalg.qr(torch.randn(words, width, generator=chance, dtype=torch.float64))
    spreads = 2.0 ** torch.arange(width, 0, -1)
    return (plain * spreads) @ rotation + torch.randn(width, generator=chance)


def by_svd(vectors_VW: Tensor, width: int) -> np.ndarray:
    """Principal components by another way: NumPy's singular values of the centred vectors, not scaled."""
    centred = vectors_VW.double().numpy() - vectors_VW.double().numpy().mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    return (left * values)[:, :width]


def test_random_vectors_have_their_scale_and_padding_is_0() -> None:
    torch.manual_seed(0)
    table = embedding(5000, 20)
    assert float(table.weight[1:].detach().std()) == pytest.approx(SCALE, rel=0.02)
    assert float(table.weight[1:].detach().mean()) == pytest.approx(0, abs=0.002)
    assert bool((table.weight[PAD_ID] == 0).all())
    assert table.padding_idx == PAD_ID


@given(given_VW=vectors(), width=st.integers(1, 10))
def test_principal_components_are_those_of_an_svd_up_to_sign_and_scale(given_VW: Tensor, width: int) -> None:
    found = principal_components(given_VW, width)
    expected = by_svd(given_VW, width)
    assert found.shape == (len(given_VW), min(width, given_VW.shape[1]))
    assert found.dtype == torch.float32
    scaled = expected * (SCALE / expected.std(ddof=1))
    signs = np.sign((scaled * found.numpy()).sum(axis=0))
    np.testing.assert_allclose(found.numpy(), scaled * signs, atol=1e-4)


@given(given_VW=vectors(), width=st.integers(1, 10))
def test_principal_components_are_orthogonal_centred_and_the_largest_first(given_VW: Tensor, width: int) -> None:
    found = principal_components(given_VW, width).double()
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(found.shape[1]).double(), rtol=0, atol=1e-6)
    products = found.T @ found
    sizes = products.diagonal()
    assert bool((sizes.diff() < 0).all())
    off = products - torch.diag(sizes)
    assert float(off.abs().max()) < 1e-4 * float(sizes.max())


@given(given_VW=vectors(), width=st.integers(1, 10))
def test_principal_components_have_the_scale_of_word_vectors_at_the_start(given_VW: Tensor, width: int) -> None:
    assert float(principal_components(given_VW, width).std()) == pytest.approx(SCALE, rel=1e-4)


@given(given_VW=vectors(), width=st.integers(1, 10))
def test_the_sign_of_a_component_is_decided_by_its_largest_entry(given_VW: Tensor, width: int) -> None:
    found = principal_components(given_VW, width)
    largest = found.gather(0, found.abs().argmax(dim=0, keepdim=True))
    assert bool((largest > 0).all())
    # The mirrored vectors have the mirrored components, each with its sign decided anew.
    mirrored = principal_components(-given_VW, width)
    torch.testing.assert_close(mirrored.abs(), found.abs(), rtol=0, atol=1e-4)


@given(given_VW=vectors(), width=st.integers(1, 6), shift=st.floats(-10, 10), factor=st.floats(0.1, 10))
def test_principal_components_ignore_where_the_vectors_lie_and_how_long_they_are(
    given_VW: Tensor, width: int, shift: float, factor: float
) -> None:
    moved = principal_components(factor * given_VW + shift, width)
    torch.testing.assert_close(moved, principal_components(given_VW, width), rtol=0, atol=1e-4)


@given(given_VW=vectors())
def test_all_components_together_keep_the_shape_of_the_vectors(given_VW: Tensor) -> None:
    found = principal_components(given_VW, given_VW.shape[1]).double()
    centred = given_VW - given_VW.mean(dim=0)
    own, kept = torch.pdist(centred), torch.pdist(found)
    torch.testing.assert_close(kept / kept.norm(), own / own.norm(), rtol=0, atol=1e-5)


def test_equal_vectors_become_zero_and_stay_finite() -> None:
    found = principal_components(torch.ones(5, 3), 2)
    assert bool((found == 0).all())


# In a table


def table_of(words: int, width: int) -> torch.nn.Embedding:
    torch.manual_seed(4)
    return embedding(words, width)


@pytest.mark.parametrize(("given_width", "width"), [(6, 3), (3, 3), (3, 6)])
def test_start_from_gives_known_words_their_components_and_leaves_all_else(given_width: int, width: int) -> None:
    torch.manual_seed(2)
    given_VW = torch.randn(10, given_width)
    known = torch.tensor([row not in (UNKNOWN_ID, 4, 7) for row in range(10)])
    table = table_of(10, width)
    start_from(table, given_VW, known)
    plain = table_of(10, width).weight
    rows = [row for row in range(10) if known[row] and row != PAD_ID]
    columns = min(given_width, width)
    expected = principal_components(given_VW[rows], width)
    torch.testing.assert_close(table.weight[rows, :columns], expected)
    assert torch.equal(table.weight[:, columns:], plain[:, columns:])
    assert torch.equal(table.weight[[UNKNOWN_ID, 4, 7]], plain[[UNKNOWN_ID, 4, 7]])
    assert bool((table.weight[PAD_ID] == 0).all())


def test_start_from_changes_neither_its_arguments_nor_what_can_be_learned() -> None:
    given_VW, known = torch.randn(10, 4), torch.ones(10, dtype=torch.bool)
    copies = given_VW.clone(), known.clone()
    table = table_of(10, 4)
    start_from(table, given_VW, known)
    assert torch.equal(given_VW, copies[0])
    assert torch.equal(known, copies[1])
    assert table.weight.requires_grad
    assert table.weight.is_leaf


def test_padding_stays_0_whatever_vector_it_was_given() -> None:
    given_VW = torch.randn(10, 4)
    given_VW[PAD_ID] = 1000.0
    table, other = table_of(10, 4), table_of(10, 4)
    start_from(table, given_VW, torch.ones(10, dtype=torch.bool))
    given_VW[PAD_ID] = -5.0
    start_from(other, given_VW, torch.ones(10, dtype=torch.bool))
    assert bool((table.weight[PAD_ID] == 0).all())
    assert torch.equal(table.weight, other.weight), "padding has no part in the components"


# Latent semantic analysis


def texts_of(rows: list[list[int]]) -> EncodedTexts:
    return EncodedTexts.of(range(len(rows)), rows, [0] * len(rows))


def reference_lsa(rows: list[list[int]], vocabulary: int) -> NDArray[np.float64]:
    """Cosines between words by a full singular value decomposition in float64, the first direction left out."""
    counts = np.zeros((len(rows), vocabulary))
    for number, row in enumerate(rows):
        for word in row:
            counts[number, word] += word > UNKNOWN_ID
    with np.errstate(divide="ignore"):
        weights = np.where(counts > 0, (1 + np.log(counts)) * np.log(len(rows) / (counts > 0).sum(axis=0)), 0)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True).clip(1e-12)
    _, strengths, directions = np.linalg.svd(weights, full_matrices=False)
    vectors = (directions.T * strengths)[:, 1:]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    return np.asarray(vectors @ vectors.T)


def test_latent_semantic_vectors_are_those_of_a_full_decomposition() -> None:
    chance = np.random.default_rng(0)
    rows = [chance.integers(0, 12, size=chance.integers(2, 9)).tolist() for _ in range(40)]
    vectors = latent_semantic_vectors(texts_of(rows), 12, 12, seed=0)
    known = vectors.any(dim=1)
    assert known.tolist() == [False, False] + [True] * 10
    found = (vectors @ vectors.T).double().numpy()
    expected = reference_lsa(rows, 12)
    assert found[2:, 2:] == pytest.approx(expected[2:, 2:], abs=1e-3)


@pytest.mark.parametrize(("vocabulary", "texts", "width"), [(12, 40, 4), (12, 3, 8), (4, 40, 8), (3, 2, 4)])
def test_latent_semantic_vectors_have_length_1_or_are_0(vocabulary: int, texts: int, width: int) -> None:
    chance = np.random.default_rng(1)
    rows = [chance.integers(0, vocabulary, size=6).tolist() for _ in range(texts)]
    vectors = latent_semantic_vectors(texts_of(rows), vocabulary, width, seed=0)
    assert vectors.shape[0] == vocabulary
    assert vectors.shape[1] <= width
    lengths = vectors.norm(dim=1)
    assert bool(((lengths - 1).abs() < 1e-5).logical_or(lengths == 0).all())
    assert lengths[:2].tolist() == [0, 0]


def test_words_in_no_text_or_in_every_text_have_no_latent_semantics() -> None:
    rows = [[2, 3, 4], [2, 4, 5], [2, 3, 5], [2, 5, 3]]
    vectors = latent_semantic_vectors(texts_of(rows), 8, 3, seed=0)
    assert vectors.any(dim=1).tolist() == [False, False, False, True, True, True, False, False]
