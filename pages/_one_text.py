"""Compare's typed view: answers that follow the typing, the words behind them, and the texts tried before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from distill_core.analysis import softened
from distill_core.analysis.softened import Answers
from distill_core.errors import DistillError
from distill_core.status import short
from pages import _answer_cards, _looks, _session, _tried, _voices, _word_by_word
from pages._run_actions import plain
from pages._typed_text import told, typed_text
from pages._voices import Voice

TEXT, VERSION, WHOLE = "compare.text", "compare.version", "compare.whole"
BOX = "compare.box"


def put(text: str) -> None:
    """Puts a text into the box."""
    st.session_state[TEXT], st.session_state[WHOLE] = text, True
    st.session_state[VERSION] = st.session_state.get(VERSION, 0) + 1


def hear() -> None:
    """Takes over what the box has told since it was drawn, before the page draws another view or a new box."""
    most = _session.allowed().text_characters
    st.session_state[TEXT] = told(BOX, st.session_state.get(TEXT, ""), st.session_state.get(VERSION, 0), most)


def show(run_id: str, voices: Sequence[Voice], examples: Mapping[str, str]) -> None:
    """All of the typed view; draws itself anew at each key, and nothing else of the page."""
    st.session_state[VERSION] = st.session_state.get(VERSION, 0) + 1  # the box may be a new one
    st.fragment(_live, key="compare.live")(run_id, voices, examples)


def _live(run_id: str, voices: Sequence[Voice], examples: Mapping[str, str]) -> None:
    try:
        _answered(run_id, voices, examples)
    except DistillError as error:  # the run has gone, or its files
        _looks.show_error(error)


def _answered(run_id: str, voices: Sequence[Voice], examples: Mapping[str, str]) -> None:
    text = _box()
    temperature = _below_the_box(examples, text)
    if not text.strip():
        st.info("Type a text, or try one of the examples.", icon=":material/edit:")
        _history()
        return
    found = _ask(voices, text)
    answers = found.softened(temperature)
    st.html(_answer_cards.cards(voices, answers, found.distances(temperature)))
    st.html(_answer_cards.bars(voices, answers, list(answers[0].probabilities)))
    _say_what_is_missing(run_id, voices, text)
    _remember(run_id, voices, text, found)
    _word_by_word.show(voices, text, answers, put)
    _history()


def _box() -> str:
    text = typed_text(
        st.session_state.setdefault(TEXT, ""),
        st.session_state[VERSION],
        key=BOX,
        label="Text",
        placeholder="Type a text: the answers follow",
        most=_session.allowed().text_characters,
    )
    if text != st.session_state[TEXT]:
        st.session_state[TEXT], st.session_state[WHOLE] = text, False
    return text


def _below_the_box(examples: Mapping[str, str], text: str) -> float:
    """Examples and Pin at the left, the temperature at the right."""
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with left, st.container(horizontal=True):
        for name, example in examples.items():
            st.button(plain(name), key=f"compare.example.{name}", on_click=put, args=(example,))
        st.button(
            "Take the pin off" if _tried.is_pinned(text) else "Pin",
            key="compare.pin",
            icon=":material/push_pin:",
            help="A pinned text stays on top of the texts tried, to compare others with it.",
            on_click=_tried.turn_pin,
            args=(text,),
            disabled=not text.strip(),
        )
    with right:
        temperature: float = st.slider(
            "Temperature",
            0.5,
            10.0,
            1.0,
            0.5,
            key="compare.temperature",
            persist_state="session",
            help="Softens all answers shown here: the higher, the closer the bars. Nothing is trained, and no answer "
            "changes; a student learns from its teacher's answers softened in this way.",
        )
    return temperature


def _ask(voices: Sequence[Voice], text: str) -> Answers:
    """What the voices say, in their order."""
    runs = dict.fromkeys((voice.run_id, voice.further) for voice in voices)
    return softened.ask([_voices.predictor(run_id, further) for run_id, further in runs], text)


def _say_what_is_missing(run_id: str, voices: Sequence[Voice], text: str) -> None:
    if voices[0].role != "teacher":
        st.info(
            "The teacher of this run is a file: its answers to the texts of that file are known, but nobody can ask "
            "it about a new one. So the student answers alone.",
            icon=":material/description:",
        )
    known, read, total = _voices.predictor(run_id).reading(text)
    if known == 0:
        st.warning("The student knows none of these words, so its answer says nothing about the text.")
    elif known < read or total > read:
        said = [f"The student knows {known} of the {read} words and signs that it reads."] if known < read else []
        said += [f"It reads the first {read:,} of {total:,} words and signs."] if total > read else []
        st.caption(" ".join(said))


def _remember(run_id: str, voices: Sequence[Voice], text: str, found: Answers) -> None:
    """Keeps the text with what was said at temperature 1."""
    said = {
        voice.name: (answer.label, answer.confidence) for voice, answer in zip(voices, found.softened(1.0), strict=True)
    }
    apart = next((one.student_teacher for one in found.distances(1.0) if one is not None), None)
    _tried.remember(text, short(run_id), said, apart, whole=st.session_state.get(WHOLE, False))


# Texts tried


def _history() -> None:
    """The texts tried so far; a click on one brings it back."""
    items = _tried.ordered()
    if len(items) < 2 and not any(item.pinned for item in items):
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**Texts tried**", width="content")
        st.download_button(
            "CSV",
            lambda: _tried.csv(items),  # called without a session
            "texts.csv",
            "text/csv",
            icon=":material/download:",
            type="tertiary",
            key="compare.history.csv",
            on_click="ignore",
        )
    number = st.session_state.setdefault("compare.history.number", 0)
    st.dataframe(
        pd.DataFrame(_tried.table(items, _tried.SHOWN)),
        hide_index=True,
        height="auto" if len(items) <= 6 else 250,
        on_select=partial(_go_back, [item.text for item in items]),
        selection_mode="single-row",
        key=f"compare.history.{number}",
        column_config=_HISTORY_COLUMNS,
    )


_HISTORY_COLUMNS: dict[str, Any] = {
    "Pinned": st.column_config.TextColumn("", width=30),
    "Text": st.column_config.TextColumn(width="large"),
    "KL": st.column_config.NumberColumn(format="%.3f", help=_answer_cards.KL_HELP),
}


def _go_back(texts: Sequence[str]) -> None:
    """Puts the chosen text into the box; the list begins anew, since its lines move."""
    number = st.session_state["compare.history.number"]
    chosen = st.session_state[f"compare.history.{number}"]["selection"]["rows"]
    if chosen:
        put(texts[chosen[0]])
        st.session_state["compare.history.number"] = number + 1


def style() -> None:
    """The rules of this view."""
    st.html(f"<style>{_answer_cards.STYLE}</style>")
