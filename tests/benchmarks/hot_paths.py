"""Times what a run spends its time on: `make bench`. Medians in milliseconds, as JSON on standard output."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from distill_core import device
from distill_core.config import ModelConfig, RunConfig
from distill_core.data.batches import shuffled_batches
from distill_core.data.vocabulary import tokenize
from distill_core.models import classifier
from distill_core.store import Store
from distill_core.teaching import prepare_data

REPEATS = 30


def median_ms(action: Callable[[], object]) -> float:
    for _ in range(3):
        action()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        action()
        times.append((time.perf_counter() - start) * 1000)
    return round(statistics.median(times), 3)


def main() -> None:
    config, compute, cores = RunConfig(), device.choose(), device.use_all_cores()
    with tempfile.TemporaryDirectory() as home:
        data = prepare_data(config, Store(Path(home)))
    batches = list(shuffled_batches(data.train, 64, torch.Generator().manual_seed(0)))
    batch = sorted(batches, key=lambda item: item.tokens_BT.shape[1])[len(batches) // 2].to(compute.device)

    def built(settings: ModelConfig) -> classifier.TextClassifier:
        return classifier.build(settings, len(data.vocabulary), len(data.label_names)).to(compute.device)

    def step(settings: ModelConfig) -> Callable[[], None]:
        model = built(settings)
        optimizer = torch.optim.Adam(model.parameters())

        def take() -> None:
            with compute.autocast():
                logits_BC = model(batch.tokens_BT, batch.lengths_B)
            optimizer.zero_grad()
            F.cross_entropy(logits_BC.float(), batch.labels_B).backward()
            optimizer.step()

        return take

    def answers(settings: ModelConfig) -> Callable[[], object]:
        model = built(settings).eval()

        def take() -> object:
            with torch.inference_mode(), compute.autocast():
                return model(batch.tokens_BT, batch.lengths_B)

        return take

    text = "A tender, funny and beautifully acted film that stays with you long after the credits."
    figures = {
        "device": compute.device.type,
        "precision": compute.precision,
        "cores": cores,
        "teacher step of 64 texts": median_ms(step(config.teacher)),
        "teacher answers 64 texts": median_ms(answers(config.teacher)),
        "student step of 64 texts": median_ms(step(config.student)),
        "student answers 64 texts": median_ms(answers(config.student)),
        "tokenising one text": median_ms(lambda: tokenize(text)),
    }
    json.dump(figures, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
