"""What decides a cached thing, as a hash. Needs no PyTorch, so that pages can ask what is cached at once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from distill_core import processor
from distill_core.config import RunConfig, digest
from distill_core.data.sources import fingerprint
from distill_core.models.sizes import student_model

ENCODER_FIELDS = ("model", "frozen", "encoder_learning_rate", "encoder_max_tokens")
"""Settings that say nothing about an LSTM teacher."""
LSTM_FIELDS = (
    "size",
    "bidirectional",
    "layers",
    "pooling",
    "dropout",
    "pretrain",
    "pretrain_task",
    "pretrain_epochs",
    "pretrain_learning_rate",
    "learning_rate",
)
"""Settings that say nothing about a pre-trained encoder."""


def data_key(config: RunConfig, folder: Path) -> str:
    """Hash of all that decides the token ids of a data set; `folder` holds downloaded data.

    Where a file lies does not matter, only what is in it.
    """
    settings = config.data.model_dump(mode="json", exclude={"path"})
    return digest([settings, fingerprint(config.data, folder), code_version("data")])


def texts_key(config: RunConfig, folder: Path) -> str:
    """Hash of all that decides which labelled texts there are and how they are split, whatever reads them."""
    reading = {"path", "max_tokens", "max_vocabulary", "min_frequency", "unlabelled_limit"}
    settings = config.data.model_dump(mode="json", exclude=reading)
    return digest([settings, fingerprint(config.data, folder), code_version("data")])


def teacher_key(config: RunConfig, precision: str, folder: Path) -> str:
    """Hash of all that decides a teacher: data, seed, its configuration, precision, and the code that trains it.

    A pre-trained encoder has word pieces of its own, so the student's vocabulary says nothing about it.
    """
    encoder = config.teacher.kind == "pretrained"
    return digest(
        [
            texts_key(config, folder) if encoder else data_key(config, folder),
            config.training.seed,
            config.teacher.model_dump(mode="json", exclude=set(LSTM_FIELDS if encoder else ENCODER_FIELDS)),
            _own_encoder(config),
            precision,
            _version("torch"),
            _version("transformers") if encoder else None,
            code_version("models", "training", "teachers", "teaching"),
        ]
    )


def transfer_key(config: RunConfig, precision: str, folder: Path) -> str:
    """Hash of all that decides the texts without labels and their teacher's answers to them."""
    return digest(
        [
            teacher_key(config, precision, folder),
            data_key(config, folder),
            config.training.transfer,
            config.training.augment,
        ]
    )


def words_key(config: RunConfig, precision: str, folder: Path) -> str:
    """Hash of all that decides what a teacher makes of the vocabulary's words."""
    return digest([teacher_key(config, precision, folder), data_key(config, folder), "words"])


def baseline_key(config: RunConfig, precision: str, folder: Path, seed: int, threads: int) -> str:
    """Hash of all that decides a baseline; the number of threads decides its last digits."""
    training = {"epochs", "learning_rate", "batch_size", "average_weights", "label_share"}
    return digest(
        [
            data_key(config, folder),
            student_model(config).model_dump(mode="json", exclude={"word_vectors", "like_teacher"}),
            config.training.model_dump(mode="json", include=training),
            [seed, precision, threads],
            _version("torch"),
            code_version("models", "training", "students", "baselines"),
        ]
    )


def machine_key() -> str:
    """Hash of all that decides how fast this kind of machine computes in one precision and in another."""
    return digest([processor.name(), _version("torch"), code_version("bfloat16", "device")])


@lru_cache(maxsize=8)
def _version(package: str) -> str:
    """The installed version of a package, looked up once: pages ask at every look."""
    return version(package)


def _own_encoder(config: RunConfig) -> list[tuple[str, int, int]]:
    """The files of a pre-trained encoder that lies in a folder, by name, size and time; nothing for other teachers."""
    folder = Path(config.teacher.model)
    if config.teacher.kind != "pretrained" or not folder.is_dir():
        return []
    return _stamps(file for file in folder.iterdir() if file.is_file())


def _stamps(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    found = [(str(file), file.stat()) for file in sorted(files)]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]


def code_version(*names: str) -> str:
    """Hash of the source text of some of our packages and modules, so that what old code did is not taken for new."""
    folder = Path(__file__).parent
    files = [file for name in names for file in (folder / f"{name}.py", *(folder / name).glob("*.py"))]
    return _digest_of(folder, tuple(_stamps(file for file in files if file.is_file())))


def training_version(*names: str) -> str:
    """The same, and the version of PyTorch: what decides the next step of a training."""
    return digest([code_version(*names), _version("torch")])


@lru_cache(maxsize=16)
def _digest_of(folder: Path, stamps: tuple[tuple[str, int, int], ...]) -> str:
    """Hash of the text of files, read again only once one of them has changed: pages ask at every look."""
    texts = [(Path(name).relative_to(folder).as_posix(), Path(name).read_text(encoding="utf-8")) for name, *_ in stamps]
    return digest(texts)
