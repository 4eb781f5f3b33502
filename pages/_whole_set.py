"""Compare, many texts at once: where teacher and student agree, and where not; any text opens in the typed view."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from distill_core.analysis import agreement, asking, textset
from distill_core.analysis.agreement import SetAnswers
from distill_core.analysis.asking import Asking, Key, Kind
from distill_core.analysis.predict import Predictor
from distill_core.errors import Cancelled, DistillError
from pages import _exports, _figures, _identity, _looks, _session, _set_figures
from pages._run_actions import plain

SOURCES: Mapping[str, Kind] = {"Test texts": "test", "Pasted list": "pasted", "A file": "file"}
WHAT: Mapping[Kind, str] = {"test": "test texts", "pasted": "texts of the list", "file": "texts of the file"}
FILE_TYPES = ["csv", "tsv", "jsonl", "txt"]
PASTED = 2_000_000
"""Characters that can be pasted; a file may be longer."""
POLL_SECONDS = 0.5
SHOWN = 200
"""Lines of a list that are shown; the file has them all."""
WIDE = 160
"""Characters of a text in a list."""
CHOICE, LIST, VERSION = "compare.set.choice", "compare.set.list", "compare.set.version"
"""What was chosen in a chart, the list that is shown, and a number that is raised to take a click back."""
ROLES = {"teacher": "Teacher", "baseline": "Student alone", "student": "Student"}
CHOSEN = "chosen"
STYLE = '.st-key-compare-set-results button[aria-label^="Download as CSV"] { display: none; }'
"""Hides the tables' own export, in which a spreadsheet would find formulas."""
OpenText = Callable[[str], None]


def show(run_id: str, open_text: OpenText) -> None:
    """Everything below the choice of the run.

    Args:
        open_text: shows a text in the typed view. It is called in a callback, before the page is drawn again: it may
            set the state of any widget, and needs no `st.rerun`.
    """
    if not _can_compare(run_id):
        st.info(
            "The teacher of this run is a file, which cannot be asked about new texts, and no student was trained "
            "alone: there is nobody to compare the student with. Choose another run, or train one with a model as "
            "teacher or with a student alone beside it.",
            icon=":material/description:",
        )
        return
    source = st.segmented_control(
        "Texts",
        list(SOURCES),
        default="Test texts",
        required=True,
        help="What the models are asked about: the texts that none of them has seen in training, or texts of your own.",
        key="compare.set.source",
        persist_state="session",
    )
    kind = SOURCES[source]
    {"test": _offer_test, "pasted": _offer_pasted, "file": _offer_file}[kind](run_id)
    job = asking.latest(_home(), run_id, kind, _identity.owner())
    if job is not None:
        _job(job, open_text)


def _can_compare(run_id: str) -> bool:
    result = _session.store().result(run_id)
    return _session.store().config(run_id).teacher.kind != "file" or bool(result and result["baseline"])


def _home() -> str:
    return str(_session.store().home)


def _labels(run_id: str) -> list[str]:
    result = _session.store().result(run_id)
    assert result is not None
    return list(result["labels"])


# Which texts


def _offer_test(run_id: str) -> None:
    result = _session.store().result(run_id) or {}
    count = min(result.get("sizes", {}).get("test", 0), textset.MAX_TEXTS)
    store = _session.store()
    _ask_button(
        f"Ask about the {count:,} test texts",
        Key(_home(), run_id, "test"),
        partial(textset.test_split, store, run_id),
        "Reads the run's test texts again and puts each of them to every model of the run.",
    )


def _offer_pasted(run_id: str) -> None:
    st.session_state.setdefault("compare.set.pasted", st.session_state.get("compare.set.kept", ""))
    text: str = st.text_area(
        "Texts, one a line",
        placeholder="One text on each line",
        height=140,
        max_chars=PASTED,
        help="Up to 100,000 texts. Where a line ends with a tab and the name of a class, as copied from a table, "
        "that is its label.",
        key="compare.set.pasted",
    )
    st.session_state["compare.set.kept"] = text
    text = textset.clean(text)
    labels, most = _labels(run_id), _session.allowed().text_characters
    _ask_button(
        "Ask about these texts",
        Key(_home(), run_id, "pasted", hashlib.sha256(text.encode()).hexdigest()),
        lambda check, progress: textset.from_lines(text, labels, most, check),
        "Puts each line to every model of the run.",
        disabled=not text.strip(),
    )


def _offer_file(run_id: str) -> None:
    upload = st.file_uploader(
        "File of texts",
        type=FILE_TYPES,
        help="A csv, tsv or jsonl file with a column text, and if you have them a column label; or a txt file with a "
        "text on each line. Up to 100,000 texts. It stays on this machine.",
        max_upload_size=_session.allowed().upload_megabytes,
        key="compare.set.upload",
    )
    if upload is not None:
        kept = _session.store().keep_upload(upload.name, upload.getvalue())
        st.session_state["compare.set.file"] = (str(kept), upload.name)
    path, name = st.session_state.get("compare.set.file", ("", ""))
    if name and upload is None:
        st.caption(f"In use: {plain(name)}")
    labels, most = _labels(run_id), _session.allowed().text_characters
    named = _session.store().config(run_id).data.label_names
    _ask_button(
        "Ask about this file",
        Key(_home(), run_id, "file", Path(path).name),
        lambda check, progress: textset.from_file(
            Path(path), name, labels, most, named=named, check=check, progress=progress
        ),
        "Puts each text of the file to every model of the run.",
        disabled=not path,
    )


def _ask_button(words: str, key: Key, read: asking.Read, help_text: str, *, disabled: bool = False) -> None:
    """Begins the job of a key, and takes back what was chosen in another."""
    job = asking.latest(key.home, key.run_id, key.kind, _identity.owner())
    answered = job is not None and job.key == key and job.result is not None
    if answered and key.kind == "test":
        return
    st.button(
        words,
        type="primary",
        disabled=disabled or answered or (job is not None and not job.done),
        help=help_text,
        key="compare.set.ask",
        on_click=_begin,
        args=(key, read),
    )


def _begin(key: Key, read: asking.Read) -> None:
    store = _session.store()
    asking.begin(key, read, partial(Predictor.load, store, key.run_id), _identity.owner())
    st.session_state.pop(CHOICE, None)
    st.session_state.pop(LIST, None)


# How far it is, and what came of it


def _job(job: Asking, open_text: OpenText) -> None:
    if not job.done:
        st.fragment(_progress, run_every=POLL_SECONDS, key="compare.set.progress")(job)
    elif isinstance(job.error, Cancelled):
        st.info("Cancelled. Nothing was kept; ask again when you like.", icon=":material/cancel:")
    elif isinstance(job.error, DistillError):
        st.error(plain(_looks.named(job.error)))  # it may quote what stands in a file
    elif job.error is not None:
        raise job.error
    elif job.result is not None:
        st.html(f"<style>{STYLE}</style>")
        with st.container(key="compare.set.results"):
            _results(job, job.result, open_text)


def _progress(job: Asking) -> None:
    if job.done:
        st.rerun()
    words = "Cancelling" if job.cancelled else job.words
    st.progress(job.part, text=plain(words))
    st.button(
        "Cancel",
        icon=":material/close:",
        disabled=job.cancelled,
        help="Ends it at the next batch; nothing is kept.",
        key="compare.set.cancel",
        on_click=job.cancel,
    )


def _results(job: Asking, answers: SetAnswers, open_text: OpenText) -> None:
    assert answers.reference is not None
    _say_what_was_read(job, answers)
    _numbers(answers)
    left, right = st.columns(2)
    with left:
        _matrix(job, answers)
    with right:
        _scatter(job, answers)
    _texts(job, answers, open_text)
    _with_labels(answers)


def _say_what_was_read(job: Asking, answers: SetAnswers) -> None:
    given, words = job.given, [f"{len(answers):,} {WHAT[job.key.kind]}"]
    if answers.labelled < len(answers):
        words.append(f"{answers.labelled:,} of them with a label" if answers.labelled else "none with a label")
    if given is not None and given.skipped:
        words.append(f"{given.skipped:,} empty left out")
    if given is not None and given.cut:
        words.append(f"{given.cut:,} cut after {_session.allowed().text_characters:,} characters")
    st.caption(" · ".join(words))
    for note in given.notes if given is not None else ():
        st.caption(plain(note))
    if answers.reference == "baseline":
        st.caption(
            "The teacher of this run is a file, which cannot be asked about new texts. So the student that learned "
            "from it is compared with the same student alone."
        )


def _numbers(answers: SetAnswers) -> None:
    found = agreement.summary(answers)
    other = ROLES[str(answers.reference)].lower()
    with st.container(horizontal=True):
        st.metric(
            "Agreement",
            f"{100 * found.agreement:.1f} %",
            help=f"Share of texts to which {other} and student give the same answer.",
            width="content",
        )
        st.metric(
            f"KL(student‖{other})",
            f"{found.kl:.3f} nats",
            help=f"Divergence of the student's answers from the {other}'s, a text on average; 0 when they are equal. "
            f"The other way round it is {found.kl_reverse:.3f} nats.",
            width="content",
        )
        for role, right in found.accuracy.items():
            st.metric(
                f"{ROLES[role]} right",
                f"{100 * right:.1f} %",
                help=f"Share of the {found.labelled:,} texts with a label that it gets right. Computed in float32, so "
                "it may differ a little from the run's result.",
                width="content",
            )


# Charts in which texts are chosen


def _matrix(job: Asking, answers: SetAnswers) -> None:
    counts, labels = agreement.agreement_matrix(answers), answers.label_names
    other = ROLES[str(answers.reference)]
    st.markdown(f"**{other} against student**", help="Texts by the answers of both. Click a square to list its texts.")
    if len(labels) > _set_figures.MOST_CLASSES:
        _large_cells(job, answers, counts)
        return
    figure = _set_figures.matrix_figure(counts, labels, str(answers.reference), _looks.ink())
    key = _chart_key("matrix", job)
    st.plotly_chart(
        figure,
        key=key,
        on_select=partial(_choose_cell, key, job.key),
        selection_mode="points",
        config={"displayModeBar": False},
        alt=f"Matrix of the answers of {other.lower()} and student",
    )


def _choose_cell(key: str, job: Key) -> None:
    points = st.session_state[key]["selection"]["points"]
    _choose(job, {"cell": [int(place) for place in points[0]["customdata"]]} if points else None)


def _large_cells(job: Asking, answers: SetAnswers, counts: Sequence[Sequence[int]]) -> None:
    """The cells that hold most disagreements, where there are too many classes to draw."""
    names, other = answers.label_names, ROLES[str(answers.reference)]
    cells = sorted(
        ((count, row, column) for row, line in enumerate(counts) for column, count in enumerate(line) if row != column),
        reverse=True,
    )
    shown = [(count, row, column) for count, row, column in cells if count][:SHOWN]
    lines = [(one_line(names[row]), one_line(names[column]), count) for count, row, column in shown]
    key = _chart_key("cells", job)
    st.dataframe(
        pd.DataFrame(lines, columns=[other, "Student", "Texts"]),
        hide_index=True,
        on_select=partial(_choose_large_cell, key, job.key, [(row, column) for _, row, column in shown]),
        selection_mode="single-cell",
        height=_set_figures.HEIGHT,
        key=key,
        alt=f"Pairs of answers on which {other.lower()} and student disagree",
    )
    st.caption(f"{len(names)} classes are too many to draw: these are the pairs on which they disagree most often.")


def _choose_large_cell(key: str, job: Key, cells: Sequence[tuple[int, int]]) -> None:
    clicked = st.session_state[key]["selection"]["cells"]
    _choose(job, {"cell": list(cells[clicked[0][0]])} if clicked else None)


def _scatter(job: Asking, answers: SetAnswers) -> None:
    names, other = answers.label_names, ROLES[str(answers.reference)]
    heading, choice = st.columns([3, 2], vertical_alignment="center")
    with choice:
        label = st.selectbox(
            "Class",
            range(len(names)),
            index=len(names) - 1,
            format_func=lambda number: one_line(names[number]),
            label_visibility="collapsed",
            help="The class whose probability is drawn.",
            key=f"compare.set.class.{job.key.run_id}",
            persist_state="session",
        )
    with heading:
        st.markdown(
            "**How sure both are**",
            help="A point is a text. Drag a box or a loop around points to list their texts; double-click to let go.",
        )
    points = agreement.points(answers, label)
    key = f"{_chart_key('scatter', job)}.{label}"
    st.plotly_chart(
        _set_figures.scatter_figure(points, names[label], str(answers.reference)),
        key=key,
        on_select=partial(_choose_points, key, job.key),
        selection_mode=("box", "lasso", "points"),
        config=_figures.CHART_CONFIG,
        alt=f"Probability of a class under {other.lower()} and student",
    )
    if len(points.rows) < points.total:
        st.caption(f"{len(points.rows):,} of {points.total:,} texts are drawn, evenly taken.")


def _choose_points(key: str, job: Key) -> None:
    rows = sorted({_first(point["customdata"]) for point in st.session_state[key]["selection"]["points"]})
    _choose(job, {"rows": rows} if rows else None)


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, (list, tuple)) else value)


def _choose(job: Key, what: dict[str, Any] | None) -> None:
    """Shows the list of what was chosen in a chart; nothing chosen brings the list from before back."""
    if what is None:
        st.session_state.pop(CHOICE, None)
        st.session_state.pop(LIST, None)
    else:
        st.session_state[CHOICE] = {"job": job, **what}
        st.session_state[LIST] = CHOSEN


def _chart_key(name: str, job: Asking) -> str:
    return f"compare.set.{name}.{job.key.run_id}.{job.key.kind}.{job.key.digest[:12]}"


# Lists of texts


def _texts(job: Asking, answers: SetAnswers, open_text: OpenText) -> None:
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


# Charts that need labels


def _with_labels(answers: SetAnswers) -> None:
    if not answers.labelled:
        st.caption(
            "None of these texts has a label, so nobody can say who is right: reliability and accuracy by length "
            "are shown for texts with labels, such as the test texts or a file with a column label."
        )
        return
    left, right = st.columns(2)
    with left:
        _reliability(answers)
    with right:
        _accuracy_by(answers)


def _reliability(answers: SetAnswers) -> None:
    st.markdown(
        "**Reliability**",
        help="How often a model is right when it is so sure. Below the dotted line it is too sure of itself. "
        "Larger marks stand for more texts.",
    )
    st.space("medium")
    bins = {role: agreement.reliability(answers, role) for role in answers.roles}
    st.plotly_chart(
        _set_figures.reliability_figure(bins),
        key="compare.set.reliability",
        config=_figures.CHART_CONFIG,
        alt="Accuracy by confidence",
    )
    errors = (f"{ROLES[role].lower()} {100 * agreement.calibration_error(own):.1f}\u00a0%" for role, own in bins.items())
    st.caption(f"Calibration error, the mean distance to the dotted line: {', '.join(errors)}.")


def _accuracy_by(answers: SetAnswers) -> None:
    st.markdown(
        "**Accuracy by kind of text**",
        help="Labelled texts in groups of about the same size, n texts each; the bars are 95 % intervals.",
    )
    what = st.segmented_control(
        "By",
        ["Length", "Unknown words"],
        default="Length",
        required=True,
        help="Length counts words and signs. Unknown words are those that no training text taught the models.",
        label_visibility="collapsed",
        key="compare.set.by",
        persist_state="session",
    )
    by_length = what == "Length"
    values_N = answers.lengths_N if by_length else answers.unknown_N
    groups = {role: agreement.accuracy_by(answers, role, values_N) for role in answers.roles}
    title = "words and signs" if by_length else "share of unknown words"
    st.plotly_chart(
        _set_figures.accuracy_figure(groups, title, shares=not by_length),
        key="compare.set.accuracy",
        config=_figures.CHART_CONFIG,
        alt=f"Accuracy by {title}",
    )
