"""What is taken from torchtext: the address of IMDB, and GloVe's vectors without its unsafe habits."""

from __future__ import annotations

import pickle
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from torchtext.data.utils import get_tokenizer

from distill_core.data.torchtext_parts import basic_english, glove, imdb_address
from distill_core.errors import DataError

VECTORS = {"film": [0.5, -1.0, 2.0], "plot": [1.0, 1.5, -2.0], "the": [0.0, 0.25, 1.0]}


def put(file: Path, vectors: dict[str, list[float]] | None = None, more: Sequence[str] = ()) -> None:
    lines = [f"{word} {' '.join(map(str, row))}" for word, row in (vectors or VECTORS).items()]
    file.write_text("\n".join([*lines, *more]) + "\n", encoding="utf-8")


def plain(found: dict[str, object]) -> dict[str, list[float]]:
    return {word: row.tolist() for word, row in found.items()}


MARKED = st.lists(st.sampled_from([*"'\".,()!?;:\\/<> \n\u00a0\u2028İß", "<br />", "<BR />", "word", "A"])).map("".join)


@given(st.text() | MARKED)
@example('It\'s <br />"fine"... (really)!')
def test_words_are_those_of_torchtext(text: str) -> None:
    assert basic_english(text) == get_tokenizer("basic_english")(text)


def test_imdb_comes_from_where_it_is_published() -> None:
    assert imdb_address() == "http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"


def test_vectors_of_known_words_are_read(tmp_path: Path) -> None:
    put(tmp_path / "glove.6B.3d.txt")
    assert plain(glove(["film", "the", "unheard"], tmp_path)) == {"film": VECTORS["film"], "the": VECTORS["the"]}
    assert glove(["unheard", ""], tmp_path) == {}


def test_the_widest_vectors_are_taken(tmp_path: Path) -> None:
    put(tmp_path / "glove.6B.3d.txt")
    put(tmp_path / "glove.wide.txt", {"film": [1.0] * 100})
    put(tmp_path / "glove.6B.50d.txt", {"film": [2.0] * 50})
    assert glove(["film"], tmp_path)["film"].tolist() == [1.0] * 100


def test_lines_of_another_width_are_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "glove.840B.3d.txt", more=["at name 1 2 3", "plot 1", "scene 1 2 3"])
    assert set(glove(["at", "film", "scene"], tmp_path)) == {"film", "scene"}


def test_a_missing_file_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        glove(["film"], tmp_path)
    assert f"needs the file '{tmp_path / 'glove.6B.100d.txt'}', which is not there; unpack it there" in str(
        caught.value
    )


@pytest.mark.parametrize("row", ["film 1 two 3", "film"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, row: str) -> None:
    (tmp_path / "glove.6B.3d.txt").write_text(f"{row}\n", encoding="utf-8")
    with pytest.raises(DataError, match="is not a file of GloVe's vectors"):
        glove(["film"], tmp_path)


def test_no_pickle_is_written_beside_the_file_and_none_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "glove.6B.3d.txt")
    for name in ("glove.6B.3d.txt.pt", "glove.6B.3d.pt"):
        (tmp_path / name).write_bytes(pickle.dumps(("not", "to", "be", "read")))
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    assert plain(glove(["film"], tmp_path)) == {"film": VECTORS["film"]}
    assert sorted(tmp_path.iterdir()) == before


def test_certificates_are_still_checked_afterwards(tmp_path: Path) -> None:
    put(tmp_path / "glove.6B.3d.txt")
    before = ssl._create_default_https_context
    glove(["film"], tmp_path)
    assert ssl._create_default_https_context is before is not ssl._create_unverified_context
