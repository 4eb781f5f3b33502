"""Compare's typed view: answers that follow the typing, the words behind them, edits, and the texts tried before."""

from __future__ import annotations

import html
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from distill_core.analysis import flips, softened
from distill_core.analysis.explain import Attribution, Explanation, attribute
from distill_core.analysis.flips import Flip
from distill_core.analysis.softened import Distance, Softened
from distill_core.analysis.words import Words
from pages import _answer_cards, _session, _tried, _voices
from pages._typed_text import typed_text
from pages._voices import Voice
from pages._words import Edit, Line, words

TEXT, VERSION, WHOLE = "compare.text", "compare.version", "compare.whole"
FLIP = "compare.flip"
PATIENCE = 0.4
"""Seconds of work after which its progress is shown."""
EXPLAINED = 400
"""Words up to which a text is explained; more could not be drawn."""
_KEPT = 256
_attributions: OrderedDict[tuple[str, ...], Attribution] = OrderedDict()
_attributions_lock = threading.Lock()


def put(text: str) -> None:
    """Puts a text into the box."""
    st.session_state[TEXT], st.session_state[WHOLE] = text, True
    st.session_state[VERSION] = st.session_state.get(VERSION, 0) + 1


def show(run_id: str, voices: Sequence[Voice], examples: Mapping[str, str]) -> None:
    """All of the typed view; draws itself anew at each key, and nothing else of the page."""
    st.session_state[VERSION] = st.session_state.get(VERSION, 0) + 1  # the box may be a new one
    st.fragment(_live, key="compare.live")(run_id, voices, examples)


def _live(run_id: str, voices: Sequence[Voice], examples: Mapping[str, str]) -> None:
    text = _box()
    temperature = _below_the_box(examples, text)
    if not text.strip():
        st.info("Type a text, or try one of the examples.", icon=":material/edit:")
        _history()
        return
    answers, distances = _ask(voices, text, temperature)
    st.html(_answer_cards.cards(voices, answers, distances))
    st.html(_answer_cards.bars(voices, answers, list(answers[0].probabilities)))
    _say_what_is_missing(run_id, voices, text)
    _remember(voices, text, answers, distances, temperature)
    _word_by_word(voices, text, answers)
    _history()


def _box() -> str:
    text = typed_text(
        st.session_state.setdefault(TEXT, ""),
        st.session_state[VERSION],
        key="compare.box",
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
            st.button(name, key=f"compare.example.{name}", on_click=put, args=(example,))
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


def _ask(voices: Sequence[Voice], text: str, temperature: float) -> tuple[list[Softened], list[Distance | None]]:
    """What each voice says, and how far it is from the teacher."""
    asked = {
        run_id: softened.answers(_voices.predictor(run_id), text, temperature)
        for run_id in dict.fromkeys(voice.run_id for voice in voices)
    }
    answers = [asked[voice.run_id][0][voice.role] for voice in voices]
    return answers, [asked[voice.run_id][1] if voice.role == "student" else None for voice in voices]


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


def _remember(
    voices: Sequence[Voice],
    text: str,
    answers: Sequence[Softened],
    distances: Sequence[Distance | None],
    temperature: float,
) -> None:
    """Keeps the text with what was said at temperature 1."""
    if temperature != 1.0:
        answers, distances = _ask(voices, text, 1.0)
    said = {voice.name: (answer.label, answer.confidence) for voice, answer in zip(voices, answers, strict=True)}
    middle = next((found.student_teacher for found in distances if found is not None), None)
    _tried.remember(text, said, middle, whole=st.session_state.get(WHOLE, False))


# Word by word


def _word_by_word(voices: Sequence[Voice], text: str, answers: Sequence[Softened]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        wanted = st.toggle(
            "Word by word",
            value=True,
            key="compare.words.shown",
            persist_state="session",
            help="Colours each word by what it adds to a model's answer. Click a word to leave it out, hide it or put "
            "another in its place.",
        )
        if not wanted:
            return
        labels = list(answers[0].probabilities)
        label = _explained(labels, answers[0].label, voices[0].role)
    found = Words.of(text)
    if len(found) > EXPLAINED:
        st.caption(f"A text of up to {EXPLAINED} words can be explained; this one has {len(found):,}.")
        return
    explanation = _explain(voices, found, label, labels.index(label))
    _draw_words(voices, explanation)
    _flips(voices, found, answers)


def _explained(labels: Sequence[str], first: str, role: str) -> str:
    """The class for or against which words count."""
    usual = f"for the {role}'s answer"
    chosen: str = st.selectbox(
        "Which answer",
        [usual, *labels],
        format_func=lambda option: option if option == usual else f"for “{option}”",
        key="compare.label",
        label_visibility="collapsed",
        help="The answer for or against which words count.",
        width=240,
    )
    return chosen if chosen in labels else first


def _explain(voices: Sequence[Voice], found: Words, label: str, place: int) -> Explanation:
    """The attributions of all voices; takes its progress away once it is done."""
    spot, began = st.empty(), time.monotonic()

    def check() -> None:
        # A click or a key ends this work at the next sign of progress.
        if time.monotonic() - began > PATIENCE:
            spot.caption("Looking at each word…")

    models = {
        voice.role if voice.run_id == voices[0].run_id else voice.run_id: _attribution(voice, found, place, check)
        for voice in voices
    }
    spot.empty()
    return Explanation(found, label, models)


def _attribution(voice: Voice, found: Words, place: int, check: Callable[[], None]) -> Attribution:
    """What the words do to a voice's answer; worked out once for all who look."""
    key = (str(_session.store().home), voice.run_id, voice.role, str(place), found.text)
    with _attributions_lock:
        if key in _attributions:
            _attributions.move_to_end(key)
            return _attributions[key]
    made = attribute(_voices.predictor(voice.run_id).readers[voice.role], found, place, check)
    with _attributions_lock:
        _attributions[key] = made
        while len(_attributions) > _KEPT:
            _attributions.popitem(last=False)
    return made


def _draw_words(voices: Sequence[Voice], explanation: Explanation) -> None:
    lines = [
        Line(voice.name, voice.colour, made.shares, f"error {100 * made.error:.1f} % after {made.steps} steps")
        for voice, made in zip(voices, explanation.models.values(), strict=True)
    ]
    edit = words(
        explanation.words.shown,
        explanation.words.gaps,
        lines,
        explanation.disputed,
        key="compare.words",
        label=f"Words for and against “{explanation.label}”",
    )
    st.caption(
        f"What each word adds to the log-odds of “{explanation.label}” (integrated gradients, Sundararajan et al. "
        "2017), as a part of the strongest word. The error is what the words miss of the whole difference."
    )
    if edit is not None:
        put(_edited(explanation.words, edit))
        st.rerun(scope="fragment")


def _edited(found: Words, edit: Edit) -> str:
    if edit.what == "drop":
        return found.without({edit.place})
    return found.masked(edit.place) if edit.what == "mask" else found.replaced(edit.place, edit.word)


def _flips(voices: Sequence[Voice], found: Words, answers: Sequence[Softened]) -> None:
    """The fewest words whose loss changes the student's answer."""
    place = next(number for number, voice in enumerate(voices) if voice.role == "student")
    if st.button(
        "What flips it?",
        key="compare.flips",
        icon=":material/swap_horiz:",
        help="Looks for the fewest words to leave out so that the student answers otherwise.",
        disabled=len(found) < 2,
    ):
        st.session_state[FLIP] = voices[place].run_id, found.text, _search(voices[place], found)
    run_id, text, flip = st.session_state.get(FLIP, ("", "", None))
    if (run_id, text) == (voices[place].run_id, found.text):
        _tell_flip(found, flip, answers[place], list(answers[place].probabilities))


def _search(voice: Voice, found: Words) -> Flip | None:
    spot, began = st.empty(), time.monotonic()

    def check() -> None:
        if time.monotonic() - began > PATIENCE:
            spot.caption("Leaving words out…")

    flip = flips.fewest_words(_voices.predictor(voice.run_id).readers["student"], found, check)
    spot.empty()
    return flip


def _tell_flip(found: Words, flip: Flip | None, answer: Softened, labels: Sequence[str]) -> None:
    if flip is None:
        st.html(
            f'<p class="lab-flip">The student says <b>{html.escape(answer.label)}</b> whichever words are left out.</p>'
        )
        return
    gone = ", ".join(f"<b>“{html.escape(found.shown[place])}”</b>" for place in flip.places)
    sure = "No fewer words do it." if flip.smallest else "These are the fewest that were found."
    st.html(f'<p class="lab-flip">Without {gone} the student says <b>{html.escape(labels[flip.label])}</b>. {sure}</p>')
    st.button("Try this text", key="compare.flips.try", on_click=put, args=(flip.text,))


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
        _tried.frame(items, _tried.SHOWN),
        hide_index=True,
        height="auto" if len(items) <= 6 else 250,
        on_select=_go_back,
        selection_mode="single-row",
        key=f"compare.history.{number}",
        column_config=_HISTORY_COLUMNS,
    )


_HISTORY_COLUMNS: dict[str, Any] = {
    "Pinned": st.column_config.TextColumn("", width=30),
    "Text": st.column_config.TextColumn(width="large"),
    "KL": st.column_config.NumberColumn(format="%.3f", help=_answer_cards.KL_HELP),
}


def _go_back() -> None:
    """Puts the chosen text into the box; the list begins anew, since its lines move."""
    number = st.session_state["compare.history.number"]
    chosen = st.session_state[f"compare.history.{number}"]["selection"]["rows"]
    if chosen:
        put(_tried.ordered()[chosen[0]].text)
        st.session_state["compare.history.number"] = number + 1


def style() -> None:
    """The rules of this view."""
    st.html(f"<style>{_answer_cards.STYLE}</style>")
