"""What a data set looks like, as lines for a terminal: what the Data page shows in charts. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distill_core.data.profile import Profile

LABELLED = ("train", "val", "test")
SPLITS = (*LABELLED, "unlabelled")
EXAMPLES_PER_CLASS = 2
EXAMPLE_WIDTH = 100
LABEL_WIDTH = 20
BAR_WIDTH = 40


def describe_profile(profile: Profile) -> list[str]:
    """Sizes and balance, what was left out, remarks, lengths, unknown words and examples of a data set."""
    return [
        *_sizes(profile),
        "",
        *left_out(profile),
        *profile.notes,
        "",
        "Training texts by their number of tokens:",
        *_lengths(profile.lengths),
        "",
        "Words of the validation texts that a student would not know, by the size of its vocabulary:",
        *(f"{size:>9,}{share:>8.1%}" for size, share in _unknown(profile).items()),
        "",
        "Examples of training texts:",
        *_examples(profile),
    ]


def left_out(profile: Profile) -> list[str]:
    """One line on the rows that were left out and why; no line where none was."""
    if not profile.dropped:
        return []
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in profile.dropped.items())
    return [f"Left out: {sum(profile.dropped.values()):,} of {profile.rows:,} rows ({reasons})"]


def _sizes(profile: Profile) -> list[str]:
    def row(name: str, cells: Sequence[str]) -> str:
        return f"{_cut(name, LABEL_WIDTH):{LABEL_WIDTH}}" + "".join(f"{cell:>12}" for cell in cells)

    answers = "; carries a teacher's answers" if profile.answered else ""
    return [
        f"{len(profile.labels)} classes, a vocabulary of {profile.vocabulary:,} words{answers}",
        "",
        row("", SPLITS),
        row("texts", [f"{profile.texts[split]:,}" for split in SPLITS]),
        row("tokens a text", [f"{profile.mean_tokens[split]:.1f}" for split in SPLITS]),
        row("unknown words", [f"{profile.unknown[split]:.1%}" for split in SPLITS]),
        *(
            row(label, [f"{profile.class_counts[split][number]:,}" for split in LABELLED])
            for number, label in enumerate(profile.labels)
        ),
    ]


def _lengths(lengths: Mapping[int, int]) -> list[str]:
    """A bar for each bin; all of them are equally wide."""
    firsts, most = list(lengths), max(lengths.values())
    width = firsts[1] - firsts[0] if len(firsts) > 1 else 1
    return [
        f"{f'{first} to {first + width - 1}' if width > 1 else first:>14}{count:>9,}  "
        + "#" * -(-BAR_WIDTH * count // most)
        for first, count in lengths.items()
    ]


def _unknown(profile: Profile) -> dict[int, float]:
    return {**profile.unknown_by_size, profile.vocabulary: profile.unknown["val"]}


def _examples(profile: Profile) -> list[str]:
    chosen = [
        example
        for label in profile.labels
        for example in [example for example in profile.examples if example.label == label][:EXAMPLES_PER_CLASS]
    ]
    return [f"  {_cut(example.label, LABEL_WIDTH)}: {_cut(example.text, EXAMPLE_WIDTH)}" for example in chosen]


def _cut(text: str, width: int) -> str:
    """A text in one line, without the signs that would move a terminal's cursor."""
    plain = "".join(sign if sign.isprintable() else " " for sign in " ".join(text.split()))
    return plain if len(plain) <= width else plain[: width - 1] + "…"
