"""The lists of a whole set: which texts are in them, a table to open one from, and a file of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from distill_core.analysis import agreement
from distill_core.analysis.agreement import SetAnswers
from distill_core.analysis.asking import Asking, Key
from pages import _exports, _session
from pages._run_actions import plain

SHOWN = 200
"""Lines of a list that are shown; the file has them all."""
WIDE = 160
"""Characters of a text in a list."""
CHOICE, LIST, VERSION = "compare.set.choice", "compare.set.list", "compare.set.version"
"""What was chosen in a chart, the list that is shown, and a number that is raised to take a click back."""
CHOSEN = "chosen"
ROLES = {"teacher": "Teacher", "baseline": "Student alone", "student": "Student"}
OpenText = Callable[[str], None]


def choose(job: Key, what: dict[str, Any] | None) -> None:
    """Shows the list of what was chosen in a chart; nothing chosen brings the first list back."""
    if what is None:
        forget_choice()
    else:
        st.session_state[CHOICE] = {"job": job, **what}
        st.session_state[LIST] = CHOSEN


def forget_choice() -> None:
    """Brings the first list back."""
    st.session_state.pop(CHOICE, None)
    st.session_state.pop(LIST, None)


def show(job: Asking, answers: SetAnswers, open_text: OpenText) -> None:
    """The choice of a list, its table, and its file."""
    lists = _lists(job, answers)
    if st.session_state.get(LIST) not in lists:
        st.session_state[LIST] = next(iter(lists))
    name = st.segmented_control(
        "List",
        list(lists),
        required=True,
        format_func=lambda name: lists[name][0],
        help="Which texts are listed. A click on a line opens its text above.",
        key=LIST,
        persist_state="session",
    )
    rows = lists[name][1]()
    if not rows:
        st.caption("No text is in this list.")
        return
    columns = agreement.listing(answers, rows[:SHOWN])
    key = f"compare.set.rows.{st.session_state.setdefault(VERSION, 0)}"
    st.dataframe(
        _frame(answers, columns),
        hide_index=True,
        on_select=partial(_open, key, columns["text"], open_text),
        selection_mode="single-cell",
        column_config=_column_config(answers),
        height="auto" if len(columns["text"]) <= 9 else 385,
        placeholder="–",
        key=key,
        alt="Texts of the list",
    )
    _below_list(answers, name, rows)


def _lists(job: Asking, answers: SetAnswers) -> dict[str, tuple[str, Callable[[], list[int]]]]:
    """The lists that there are, by key: what each is called, and its rows."""
    other = ROLES[str(answers.reference)]
    lists = {
        "kl": ("Furthest apart", partial(agreement.worst_kl, answers)),
        "sure": ("Sure, but not agreed", partial(agreement.confident_disagreements, answers)),
    }
    if answers.labelled:
        lists["student"] = (f"Student right, {other.lower()} wrong", partial(agreement.student_right, answers))
        lists["teacher"] = (f"{other} right, student wrong", partial(agreement.teacher_right, answers))
    choice = st.session_state.get(CHOICE)
    if choice is not None and choice["job"] == job.key:
        lists[CHOSEN] = _chosen_list(answers, choice)
    return lists


def _chosen_list(answers: SetAnswers, choice: Mapping[str, Any]) -> tuple[str, Callable[[], list[int]]]:
    if "rows" in choice:
        rows: list[int] = choice["rows"]
        return f"Chosen points ({len(rows):,})", partial(agreement.among, answers, rows)
    first, second = choice["cell"]
    names = [plain(one_line(answers.label_names[number], 24)) for number in (first, second)]
    other = ROLES[str(answers.reference)]
    return f"{other} {names[0]}, student {names[1]}", partial(agreement.cell, answers, first, second)


def _open(key: str, texts: Sequence[str], open_text: OpenText) -> None:
    """Opens the text that was clicked, and takes the click back: a table of another key has none."""
    cells = st.session_state[key]["selection"]["cells"]
    if cells:
        st.session_state[VERSION] += 1
        open_text(texts[cells[0][0]][: _session.allowed().text_characters])


def _frame(answers: SetAnswers, columns: Mapping[str, list[Any]]) -> pd.DataFrame:
    """The columns of a list as they are shown."""
    frame = {"Text": [one_line(text) for text in columns["text"]]}
    if answers.labelled:
        frame["Label"] = [None if label is None else one_line(label) for label in columns["label"]]
    for role in (str(answers.reference), "student"):
        frame[ROLES[role]] = [one_line(label) for label in columns[role]]
        frame[f"{ROLES[role]} %"] = [100 * value for value in columns[f"{role}_p"]]
    return pd.DataFrame({**frame, "KL": columns["kl"]})


def _column_config(answers: SetAnswers) -> dict[str, Any]:
    percent = {
        f"{ROLES[role]} %": st.column_config.NumberColumn(
            "sure", format="%.1f %%", width=85, help="Probability of the answer before it"
        )
        for role in (str(answers.reference), "student")
    }
    divergence = st.column_config.NumberColumn(
        format="%.3f", width=80, help="Divergence of the student's answer from the other's, in nats"
    )
    names = ("Label", *(ROLES[role] for role in (str(answers.reference), "student")))
    labels = {name: st.column_config.TextColumn(width=95) for name in names}
    return {"Text": st.column_config.TextColumn(width=620), "KL": divergence, **labels, **percent}


def _below_list(answers: SetAnswers, name: str, rows: Sequence[int]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        many = "1 text" if len(rows) == 1 else f"{len(rows):,} texts"
        st.caption(many if len(rows) <= SHOWN else f"The first {SHOWN} of {many}", width="content")
        st.download_button(
            "Download the list",
            lambda: _exports.as_csv(agreement.listing(answers, rows)),
            file_name=f"texts-{name}.csv",
            mime="text/csv",
            icon=":material/download:",
            help="All texts of the list as a csv file. Texts that a spreadsheet would take for a formula begin "
            "with an apostrophe.",
            on_click="ignore",
            key="compare.set.download",
        )


def one_line(text: str, most: int = WIDE) -> str:
    """The beginning of a text in one line, with spaces in place of control characters."""
    whole = text[: most + 1].encode("utf-8", "replace").decode()
    line = "".join(letter if letter.isprintable() or ord(letter) > 0x9F else " " for letter in whole)
    return line if len(line) <= most else f"{line[: most - 1]}…"
