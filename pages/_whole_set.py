"""Compare, many texts at once: where teacher and student agree, and where not; any text opens in the typed view."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import streamlit as st

from distill_core.analysis import asking, textset
from distill_core.analysis.agreement import SetAnswers
from distill_core.analysis.asking import Asking, Key, Kind
from distill_core.analysis.predict import Predictor
from distill_core.errors import Cancelled, DistillError
from pages import _identity, _looks, _reruns, _session, _set_charts, _set_lists
from pages._run_actions import plain
from pages._set_lists import OpenText

SOURCES: Mapping[str, Kind] = {"Test texts": "test", "Pasted list": "pasted", "A file": "file"}
WHAT: Mapping[Kind, str] = {"test": "test texts", "pasted": "texts of the list", "file": "texts of the file"}
FILE_TYPES = ["csv", "tsv", "jsonl", "txt"]
PASTED = 2_000_000
"""Characters that can be pasted; a file may be longer."""
POLL_SECONDS = 0.5


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
        partial(textset.read_test_split, store, run_id),
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
    if upload is not None and st.session_state.get("compare.set.file_id") != upload.file_id:
        st.session_state["compare.set.file_id"] = upload.file_id
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
    _set_lists.forget_choice()


# How far it is, and what came of it


def _job(job: Asking, open_text: OpenText) -> None:
    if not job.done:
        _reruns.polling(_progress, lambda: POLL_SECONDS, key="compare.set.progress")(job)
    elif isinstance(job.error, Cancelled):
        st.info("Cancelled. Nothing was kept; ask again when you like.", icon=":material/cancel:")
    elif isinstance(job.error, DistillError):
        st.error(plain(_looks.named(job.error)))  # it may quote what stands in a file
    elif job.error is not None:
        asking.forget(job)  # a bug is told once
        raise job.error
    elif job.result is not None:
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
        on_click=job.leave,
        args=(_identity.owner(),),
    )


def _results(job: Asking, answers: SetAnswers, open_text: OpenText) -> None:
    assert answers.reference is not None
    _say_what_was_read(job, answers)
    _set_charts.numbers(answers)
    left, right = st.columns(2)
    with left:
        _set_charts.matrix(job, answers)
    with right:
        _set_charts.scatter(job, answers)
    _set_lists.show(job, answers, open_text)
    _set_charts.with_labels(answers)


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
