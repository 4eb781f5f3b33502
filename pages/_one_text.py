"""Compare's typed view: answers that follow the typing, the words behind them, edits, and the texts tried before."""

from __future__ import annotations

import html
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from distill_core.analysis import flips, softened
from distill_core.analysis.explain import Attribution, Explanation, attribute
from distill_core.analysis.flips import Flip
from distill_core.analysis.softened import Answers, Softened
from distill_core.analysis.words import Words
from distill_core.errors import Cancelled, DistillError
from distill_core.status import short
from pages import _answer_cards, _looks, _reruns, _session, _tried, _voices
from pages._run_actions import plain
from pages._typed_text import told, typed_text
from pages._voices import Voice
from pages._words import MOST, Edit, Line, words

TEXT, VERSION, WHOLE = "compare.text", "compare.version", "compare.whole"
BOX, FLIP, EXPLAINED = "compare.box", "compare.flip", "compare.explained"
PATIENCE = 0.4
"""Seconds of work after which its progress is shown."""
LONGEST = 20 * MOST
"""Characters up to which the words of a text are counted."""
_KEPT = 256
_attributions: OrderedDict[tuple[str, ...], Attribution] = OrderedDict()
_attributions_lock = threading.Lock()


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
    _word_by_word(voices, text, answers)
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
    found = Words.of(text) if len(text) <= LONGEST else None
    if found is None or len(found) > MOST:
        st.caption(f"A text of up to {MOST} words can be explained; this one has more.")
        return
    _draw_words(voices, _explain(voices, found, label, labels.index(label)))
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


def _explain(voices: Sequence[Voice], found: Words, label: str, place: int) -> Explanation | None:
    """The attributions of all voices; those drawn last where a key or click did not wait for them."""
    with _patience("Looking at each word…") as check:
        models = {_name(voice): _attribution(voice, found, place, check) for voice in voices}
        st.session_state[EXPLAINED] = Explanation(found, label, models)
    return st.session_state.get(EXPLAINED)


def _name(voice: Voice) -> str:
    """What an explanation calls a voice."""
    return voice.run_id if voice.further else voice.role


@contextmanager
def _patience(words: str) -> Iterator[Callable[[], None]]:
    """Gives a check for work that ends as soon as a key or click waits, and that says what it does if it takes long."""
    spot, began = st.empty(), time.monotonic()

    def check() -> None:
        _reruns.give_way()
        if time.monotonic() - began > PATIENCE:
            spot.caption(words)

    with suppress(Cancelled):
        yield check
    spot.empty()


def _attribution(voice: Voice, found: Words, place: int, check: Callable[[], None]) -> Attribution:
    """What the words do to a voice's answer; worked out once for all who look."""
    key = (str(_session.store().home), voice.run_id, voice.role, str(place), found.text)
    with _attributions_lock:
        if key in _attributions:
            _attributions.move_to_end(key)
            return _attributions[key]
    made = attribute(_voices.predictor(voice.run_id, voice.further).readers[voice.role], found, place, check)
    with _attributions_lock:
        _attributions[key] = made
        while len(_attributions) > _KEPT:
            _attributions.popitem(last=False)
    return made


def _draw_words(voices: Sequence[Voice], explanation: Explanation | None) -> None:
    if explanation is None or list(explanation.models) != [_name(voice) for voice in voices]:
        return
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
        f"What each word adds to the log-odds of “{plain(explanation.label)}” (integrated gradients, Sundararajan et "
        "al. 2017), as a part of the strongest word. The error is what the words miss of the whole difference."
    )
    if edit is not None:
        put(_edited(explanation.words, edit))
        _reruns.again()


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
        with _patience("Leaving words out; any key or click ends this…") as check:
            student = _voices.predictor(voices[place].run_id).readers["student"]
            flip = flips.fewest_words(student, found, check)
            st.session_state[FLIP] = voices[place].run_id, found.text, flip
    run_id, text, flip = st.session_state.get(FLIP, ("", "", None))
    if (run_id, text) == (voices[place].run_id, found.text):
        _tell_flip(found, flip, answers[place], list(answers[place].probabilities))


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
