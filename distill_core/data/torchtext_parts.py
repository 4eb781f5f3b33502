"""All that is taken from torchtext: tokenizer, vocabulary, where IMDB comes from, and the reading of GloVe's vectors.

No other module imports torchtext, which is the last release in pure Python and no longer maintained.
"""

from __future__ import annotations

import ssl
import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from torch import Tensor
from torchtext.data.utils import _patterns, _replacements
from torchtext.vocab import Vectors, Vocab

from distill_core.errors import DataError

_REPLACED = [
    (pattern.replace("\\", ""), replacement)
    for pattern, replacement in zip(_patterns, _replacements, strict=True)
    if pattern != r"\s+"  # spaces, at which the text is split
]


def basic_english(text: str) -> list[str]:
    """Lower-case words and punctuation marks of a text; `<br />` is a space.

    By torchtext's own rules. It takes them for regular expressions, of which they make no use; this is three times as
    fast.
    """
    text = text.lower()
    for written, read in _REPLACED:
        text = text.replace(written, read)
    return text.split()


def frequent_words(counts: Counter[str], *, min_frequency: int, max_size: int, specials: Sequence[str]) -> list[str]:
    """`specials`, then at most `max_size` words that occur `min_frequency` times or more, the most frequent first."""
    words: list[str] = Vocab(counts, max_size=max_size, min_freq=min_frequency, specials=list(specials)).itos
    return words


def imdb_address() -> str:
    """Where torchtext downloads the IMDB reviews from."""
    from torchtext.datasets import IMDB

    address: str = IMDB.urls[0]
    return address


def glove(words: Collection[str], folder: Path) -> dict[str, Tensor]:
    """GloVe's vectors, `[D]` each, of those of the words that it knows (Pennington et al. 2014).

    Reads `glove*.txt` in `folder`; of several files the one with the widest vectors, which `glove.6B.300d.txt` would
    be. The lines of the words are copied into a temporary folder first, so that torchtext reads a small file and puts
    its pickled copy, which nobody reads again, there as well.

    Raises:
        DataError: there is no such file, or it is not one of GloVe's.
    """
    files = sorted(folder.glob("glove*.txt"))
    if not files:
        expected = folder / "glove.6B.100d.txt"
        remedy = "unpack it there from https://nlp.stanford.edu/data/glove.6B.zip"
        raise DataError(f"student.word_vectors 'glove' needs the file {str(expected)!r}, which is not there; {remedy}")
    path = max(files, key=_width)
    width, wanted = _width(path), {word.encode() for word in words}
    if width < 2:
        raise _no_vectors(path, "its first line is not a word and its numbers")
    with tempfile.TemporaryDirectory() as aside:
        part = Path(aside) / path.name
        with path.open("rb") as source, part.open("wb") as target:
            lines = (line.rstrip() for line in source)
            kept = (line for line in lines if line[: line.find(b" ")] in wanted and line.count(b" ") == width)
            count = sum(target.write(line + b"\n") > 0 for line in kept)
        return _read_vectors(part, path) if count else {}


def _width(path: Path) -> int:
    """Numbers of the vector in the first line of a file of vectors."""
    with path.open("rb") as file:
        return file.readline(100_000).rstrip().count(b" ")


def _read_vectors(part: Path, path: Path) -> dict[str, Tensor]:
    checks_certificates = ssl._create_default_https_context
    try:
        vectors = Vectors(str(part), cache=str(part.parent))
    except (ValueError, RuntimeError, TypeError) as error:
        raise _no_vectors(path, error) from error
    finally:
        # torchtext turns the checking of certificates off for the whole process as it reads vectors.
        ssl._create_default_https_context = checks_certificates
    return {word: vectors.vectors[number] for word, number in vectors.stoi.items()}


def _no_vectors(path: Path, reason: object) -> DataError:
    remedy = "unpack it again from https://nlp.stanford.edu/data/glove.6B.zip"
    return DataError(f"{str(path)!r} is not a file of GloVe's vectors ({reason}); {remedy}")
