"""What the cells of a sweep say together, in sentences that their numbers support. Needs no PyTorch.

What is best is chosen by validation accuracy and told by test accuracy, so that luck in the choice flatters nobody.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from distill_core.analysis.verdict import FEW_TEXTS, NOTHING
from distill_core.comparison import setting_titles
from distill_core.data.sources import SOURCES
from distill_core.sweep.cells import Cell, Measured, measured
from distill_core.sweep.contrast import Contrast, Finished, by_texts, contrast, holm, levels, pooled, right
from distill_core.sweep.space import SweepConfig

SHORT = {
    "objective.beta": "β",
    "objective.temperature": "temperature",
    "student.size": "student size",
    "student.kind": "student kind",
    "teacher.size": "teacher size",
}
"""Settings whose titles say too much for the middle of a sentence."""
ALONE = "the same student without a teacher"
VALIDATION = "on the validation texts"
WORDS: Mapping[str, Mapping[str, str]] = {
    "objective.divergence": {
        "kl_teacher_student": "KL(teacher‖student)",
        "kl_student_teacher": "KL(student‖teacher)",
        "jensen_shannon": "Jensen–Shannon",
        "logit_mse": "logit MSE",
    },
    "student.kind": {"lstm": "LSTM", "gru": "GRU", "textcnn": "CNN", "bag": "bag"},
    "student.word_vectors": {"random": "random", "teacher": "from the teacher", "glove": "GloVe"},
    "data.name": {name: source.title for name, source in SOURCES.items()},
}
"""What people call the values of settings that are texts."""


def progress(config: SweepConfig, cells: Sequence[Cell]) -> list[str]:
    """How many cells an answer rests on, unless that is all of them or none has ended."""
    states = Counter[str](cell.state for cell in cells)
    finished, total = states["finished"], max(config.planned, len(cells))
    lost = states["failed"] + states["pruned"] + states["cancelled"]
    if finished == total or not finished + lost:
        return []
    words = {"failed": "failed", "pruned": "stopped early as hopeless", "cancelled": "cancelled"}
    said = [f"{states[state]:,} {word}" for state, word in words.items() if states[state]]
    so_far = "So far, " if finished + lost < total else ""
    return [f"{'; '.join([f'{so_far}{finished:,} of {total:,} cells finished', *said])}."]


def cautions(cells: Sequence[Cell]) -> list[str]:
    """What forbids to conclude more from the cells that have finished."""
    found = [result for _, result in measured(cells)]
    said = list[str]()
    if found and (fewest := min(result.test_texts for result in found)) < FEW_TEXTS:
        said.append(f"With {fewest} test texts nobody can tell cells apart; {FEW_TEXTS} would be the least.")
    if found and max(len(result.accuracies) for result in found) == 1:
        said.append("With one seed a cell, nobody knows how much of this is the luck of where training began.")
    groups = by_texts(measured(cells))
    for group in groups:
        where = f"On {data_title(group[0][1])}, " if len(groups) > 1 else ""
        warnings = (_nothing_learned(group), _weak_teacher(group))
        said += [_capital(where + sentence) for sentence in warnings if sentence is not None]
    return said


def _nothing_learned(group: Sequence[Finished]) -> str | None:
    """Where one answer for all texts would be right as often as the best student."""
    commonest = max(found.commonest or 0.0 for _, found in group)
    if max(found.accuracy for _, found in group) > commonest + NOTHING:
        return None
    return f"no student has learned anything of use: one answer for all texts is right for {percent(commonest)} too."


def _weak_teacher(group: Sequence[Finished]) -> str | None:
    """Where even the best teacher is no better than the students are by themselves."""
    teacher = max(found.teacher_accuracy for _, found in group)
    alone = [found.alone for _, found in group if found.alone is not None]
    if not alone or teacher > statistics.fmean(alone):
        return None
    return (
        f"a teacher has little to teach here: it gets {percent(teacher)} of the test texts right, and {ALONE} "
        f"{percent(statistics.fmean(alone))}."
    )


def data_title(found: Measured) -> str:
    """What people call the data set of a cell."""
    return value_text("data.name", found.dataset)


def overall(config: SweepConfig, cells: Sequence[Cell]) -> list[str]:
    """For each set of test texts the best cell: what it gets right, against its baseline and the other cells."""
    groups = by_texts(measured(cells))
    return [best_cell(group, f"On {data_title(group[0][1])}, " if len(groups) > 1 else "") for group in groups]


def best_cell(group: Sequence[Finished], where: str = "") -> str:
    """The sentence on the best of some cells that were tested on the same texts."""
    best, found = max(group, key=lambda pair: pair[1].val_accuracy)
    reached = f"gets {percent(found.accuracy)} of the test texts right, {against_alone(found)}"
    sentence = f"{where}{named(best.values)} {_rank(group, found)}{reached}"
    others = [result for cell, result in group if cell.number != best.number]
    return "; ".join([_capital(sentence), *_against_others(found, others)]) + "."


def _rank(group: Sequence[Finished], best: Measured) -> str:
    """How the best cell stands on validation; cells of one run count as one."""
    runs = {_run(cell) for cell, _ in group}
    equal = {_run(cell) for cell, found in group if found.val_accuracy == best.val_accuracy}
    if len(runs) == 1:
        return ""
    if len(equal) == len(runs):
        return f"does as well as all others {VALIDATION} and "
    return f"{'does best' if len(equal) == 1 else 'is one of the best'} {VALIDATION} and "


def _run(cell: Cell) -> Hashable:
    return cell.number if cell.run_id is None else cell.run_id


def _against_others(best: Measured, others: Sequence[Measured]) -> list[str]:
    """How many cells are clearly worse than the best, or better, and how many cannot be told from it."""
    best_SN = right(best)
    found = [apart for other in others if (apart := contrast(best_SN, right(other))) is not None]
    clear = [apart for apart, is_clear in zip(found, holm([apart.p_value for apart in found]), strict=True) if is_clear]
    if found and not clear:
        return [
            f"none of {len(found):,} other cells can be told from it"
            if len(found) > 1
            else "the other cannot be told from it"
        ]
    worse = sum(apart.difference > 0 for apart in clear)
    said = [f"{count:,} {'is' if count == 1 else 'are'} {words}" for count, words in _parts(worse, len(clear) - worse)]
    if len(found) > len(clear):
        said.append(f"{len(found) - len(clear):,} cannot be told from it")
    total = "1 other cell" if len(found) == 1 else f"{len(found):,} other cells"
    return [f"of {total}, {listed(said)}"] if said else []


def _parts(worse: int, better: int) -> list[tuple[int, str]]:
    parts = ((worse, "clearly worse"), (better, "clearly better on the test texts"))
    return [(count, words) for count, words in parts if count]


def best_level(group: Sequence[Finished], field: str) -> str | None:
    """The sentence on the best value of an axis, averaged over the others; None where all are as good, or alone."""
    by_value = levels(group, field)
    if len(by_value) < 2 or len(next(iter(by_value.values()))) < 2:
        return None
    scores = {value: val_accuracy(results) for value, results in by_value.items()}
    best = max(scores, key=scores.__getitem__)
    if min(scores.values()) == scores[best]:
        return None
    best_SN = pooled(map(right, by_value[best]))
    found = {
        value: apart
        for value, results in by_value.items()
        if value != best and (apart := contrast(best_SN, pooled(map(right, results)))) is not None
    }
    clear = dict(zip(found, holm([apart.p_value for apart in found.values()]), strict=True))
    said = [f"{value_text(field, value)} {_apart(found[value])}" for value in found if clear[value]]
    alike = [value_text(field, value) for value in found if not clear[value]]
    if alike:
        said.append(f"{listed(alike)} cannot be told from it")
    head = f"On average over the other settings, {title(field)} = {value_text(field, best)} is best {VALIDATION}"
    return "; ".join([head, *said]) + "."


def _apart(best_minus_other: Contrast) -> str:
    worse = best_minus_other.difference > 0
    return f"gets {points(best_minus_other)} {'fewer' if worse else 'more'} of the test texts right"


def val_accuracy(found: Sequence[Measured]) -> float:
    """Validation accuracy on the average of some cells, by which the best is chosen."""
    return statistics.fmean(result.val_accuracy for result in found)


def accuracy(found: Sequence[Measured]) -> float:
    """The students' test accuracy on the average of some cells and their seeds."""
    return statistics.fmean(result.accuracy for result in found)


def against_alone(found: Measured) -> str:
    """A cell's gain over its baseline in words."""
    if found.gain is None or found.gain_margin is None:
        return "but no baseline was trained, so nobody can say whether the teacher helped"
    gain = Contrast(found.gain, found.gain_margin)
    if gain.difference == gain.margin == 0:
        return f"as many as {ALONE}"
    chance = "" if gain.clear and found.test_texts >= FEW_TEXTS else ", which may be chance"
    return f"{points(gain)} {more(gain)} than {ALONE}{chance}"


# Words and numbers


def percent(share: float) -> str:
    """A share of texts, as in `78.1 %`."""
    return f"{100 * share:.1f} %"


def points(apart: Contrast) -> str:
    """The size of a difference with its margin, as in `1.2 ± 0.9 points`; the words around it say its direction."""
    return f"{100 * abs(apart.difference):.1f} ± {100 * apart.margin:.1f} points"


def more(apart: Contrast) -> str:
    """The direction of a difference in texts that are right."""
    return "more" if apart.difference >= 0 else "fewer"


def amount(count: int) -> str:
    """A number of parameters, as in `31 k` or `1.5 M`."""
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k" if count >= 1e4 else f"{count:,}"


def listed(words: Sequence[str]) -> str:
    """Words as people list them, as in `1, 2 and 5`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def title(field: str) -> str:
    """What a setting is called within a sentence."""
    full = setting_titles().get(field, field)
    return SHORT.get(field) or (full[0].lower() + full[1:] if full[1:2].islower() else full)


def _capital(sentence: str) -> str:
    """The sentence with a capital letter, but a Greek one is a symbol."""
    return sentence[0].upper() + sentence[1:] if sentence[0].isascii() else sentence


def value_text(field: str, value: Any) -> str:
    """A setting's value for people."""
    if field == "training.label_share":
        return f"{100 * value:g} %"
    return f"{value:.4g}" if isinstance(value, float) else WORDS.get(field, {}).get(str(value), str(value))


def named(values: Mapping[str, Any]) -> str:
    """A cell by its settings, as in `β = 2, temperature = 4`."""
    return ", ".join(f"{title(field)} = {value_text(field, value)}" for field, value in values.items())
