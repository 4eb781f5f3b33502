"""Word vectors at the start of a model.

Shapes: `V` words, `E` embedding width, `W` width of given vectors, `N` texts, `R` directions followed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from distill_core.data.batches import EncodedTexts
from distill_core.data.vocabulary import PAD_ID, UNKNOWN_ID

SCALE = 0.1
"""Standard deviation of word vectors at the start."""
OVERSAMPLING = 32
"""Directions that are followed beside those asked for, which makes those exact."""
POWER_ITERATIONS = 6


def embedding(vocabulary_size: int, width: int) -> nn.Embedding:
    """Random vectors; that of padding is 0 and stays so."""
    table = nn.Embedding(vocabulary_size, width, padding_idx=PAD_ID)
    nn.init.normal_(table.weight, std=SCALE)
    with torch.no_grad():
        table.weight[PAD_ID] = 0.0
    return table


def principal_components(vectors_VW: Tensor, width: int) -> Tensor:
    """The vectors `[V, W]` along their `width` directions of largest variance, `[V, min(width, W)]`, centred.

    Principal component analysis (Jolliffe 2002); a static embedding made of a sentence encoder in this way is that of
    Model2Vec. Scaled as a whole to the standard deviation that word vectors have at the start of training.
    """
    centred = vectors_VW.double() - vectors_VW.double().mean(dim=0)
    _, directions = torch.linalg.eigh(centred.T @ centred)  # ascending
    projected = centred @ directions.flip(1)[:, :width]
    # An eigenvector's sign is arbitrary; the largest entry is made positive, so that every machine agrees.
    signs = projected.gather(0, projected.abs().argmax(dim=0, keepdim=True)).sign()
    scaled: Tensor = projected * signs * (SCALE / projected.std().clamp(min=1e-12))
    return scaled.float()


def latent_semantic_vectors(
    texts: EncodedTexts, vocabulary_size: int, width: int, *, seed: int, check: Callable[[], None] = lambda: None
) -> Tensor:
    """Vectors `[V, R]`, R ≤ `width`, of length 1, alike for words of the same texts; 0 for words that are in none.

    Latent semantic analysis (Deerwester et al. 1990): the singular vectors of the matrix of texts × words, weighted by
    (1 + log count) · log(texts / texts with the word), found by randomised subspace iteration (Halko et al. 2011,
    https://arxiv.org/abs/0909.4061, algorithm 4.4). The first direction, which all texts share, is left out.

    Args:
        check: called between passes over the texts; what it raises ends the work.
    """
    matrix_NV = _tf_idf(texts, vocabulary_size)
    matrix_VN = matrix_NV.t().coalesce()
    rank = min(width + 1 + OVERSAMPLING, *matrix_NV.shape)
    generator = torch.Generator().manual_seed(seed)
    sketch_NR = matrix_NV @ torch.randn(vocabulary_size, rank, generator=generator)
    for _ in range(POWER_ITERATIONS):
        check()
        basis_VR = torch.linalg.qr(matrix_VN @ torch.linalg.qr(sketch_NR).Q).Q
        check()
        sketch_NR = matrix_NV @ basis_VR
    _, strengths, directions_RR = torch.linalg.svd(sketch_NR, full_matrices=False)
    vectors_VE = (basis_VR @ directions_RR.T * strengths)[:, 1 : width + 1]
    lengths_V1 = vectors_VE.norm(dim=1, keepdim=True)
    known_V1 = lengths_V1 > 1e-6 * lengths_V1.max()
    return torch.where(known_V1, vectors_VE / lengths_V1, 0.0)


def _tf_idf(texts: EncodedTexts, vocabulary_size: int) -> Tensor:
    """The sparse matrix of texts × words, rows of length 1; padding and unknown words do not count."""
    rows = torch.repeat_interleave(torch.arange(len(texts)), texts.lengths_N)
    words = texts.flat.long()
    real = words > UNKNOWN_ID
    places = torch.stack([rows[real], words[real]])
    ones = torch.ones(places.shape[1])
    counts = torch.sparse_coo_tensor(places, ones, (len(texts), vocabulary_size), check_invariants=True).coalesce()
    (rows, words), weights = counts.indices(), counts.values()
    texts_V = torch.bincount(words, minlength=vocabulary_size)
    weights = (1 + weights.log()) * (len(texts) / texts_V[words]).log()
    lengths_N = torch.zeros(len(texts)).index_add_(0, rows, weights**2).sqrt().clamp(min=1e-12)
    weights = weights / lengths_N[rows]
    return torch.sparse_coo_tensor(counts.indices(), weights, counts.shape, is_coalesced=True, check_invariants=True)


def start_from(table: nn.Embedding, vectors_VW: Tensor, known_V: Tensor) -> None:
    """Gives the words that `known_V` marks the vectors of the same rows, reduced to the table's width.

    Where the given vectors are narrower, the remaining columns stay as they were. Padding stays 0.
    """
    rows = known_V.clone()
    rows[PAD_ID] = False
    reduced = principal_components(vectors_VW[rows], table.embedding_dim)
    with torch.no_grad():
        columns = table.weight[:, : reduced.shape[1]]
        columns[rows] = reduced.to(table.weight)
