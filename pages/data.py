"""Data: what the chosen data set looks like."""

from __future__ import annotations

import html

import pandas as pd
import streamlit as st

from distill_core.data.profile import Profile
from distill_core.data.sources import describe
from distill_core.errors import DistillError
from pages import _data_controls, _draft, _figures, _looks, _router, _session

SPLITS = {"train": "for training", "val": "for validation", "test": "for testing", "unlabelled": "without labels"}


def introduce() -> None:
    """Title and description of the chosen data set."""
    drafted = _draft.drafted_parts().data
    if drafted.name != _draft.typed("data", "name"):
        _looks.title("Data")
        return
    source = describe(drafted)
    _looks.title(source.title)
    st.markdown(source.description)


def shown_profile() -> Profile | None:
    """The chosen data set, read if it need be and somebody has asked for it."""
    if _data_controls.ask_for_file():
        return None
    config = _draft.drafted_data()
    profile = _session.known_profile(config)
    if profile is None and config.data.is_large:
        st.info("These texts have not been read yet. A run reads them first; you can also have them read now.")
        asked = st.session_state.get("data.asked") == config.data.name
        if not asked and not st.button("Read them now", type="primary", icon=":material/download:", key="data.read"):
            return None
        st.session_state["data.asked"] = config.data.name
    return profile or _session.read_profile(config)


def overview(profile: Profile) -> None:
    """Sizes in a row."""
    columns = st.columns(4)
    for column, (split, words) in zip(columns, SPLITS.items(), strict=True):
        with column:
            st.metric(f"Texts {words}", f"{profile.texts[split]:,}")
    st.caption(
        f"{len(profile.labels)} classes · {profile.mean_tokens['train']:.0f} words and signs a text · "
        f"a vocabulary of {profile.vocabulary:,} words" + (" · carries a teacher's answers" if profile.answered else "")
    )


def left_out(profile: Profile) -> None:
    """What was dropped, and why."""
    if profile.dropped:
        total = sum(profile.dropped.values())
        reasons = " · ".join(f"{count:,} {reason}" for reason, count in profile.dropped.items())
        st.markdown(f"**Left out:** {total:,} of {profile.rows:,} rows: {reasons}")
    for note in profile.notes:
        st.caption(note)


def charts(profile: Profile) -> None:
    """Balance, lengths and unknown words."""
    left, right = st.columns(2)
    with left:
        st.markdown("**Class balance**")
        figure = _figures.counts_figure(profile.class_counts, profile.labels)
        st.plotly_chart(figure, key="data.classes", config=_figures.CHART_CONFIG)
    with right:
        st.markdown("**Lengths**")
        st.plotly_chart(_figures.lengths_figure(profile.lengths), key="data.lengths", config=_figures.CHART_CONFIG)
    left, right = st.columns(2)
    with left:
        st.markdown("**Words that a student would not know**")
        figure = _figures.unknown_figure(profile.unknown_by_size, profile.vocabulary, profile.unknown["val"])
        st.plotly_chart(figure, key="data.unknown", config=_figures.CHART_CONFIG)
        st.caption("Among the words of the validation texts, by the size of the student's vocabulary.")
    with right:
        st.markdown("**Examples**")
        examples(profile)


def examples(profile: Profile) -> None:
    """Some texts of a class."""
    label = st.selectbox("Class", profile.labels, key="data.class", help="Show training texts of this class.")
    rows = [f"<li>{html.escape(example.text)}</li>" for example in profile.examples if example.label == label]
    st.html(f'<ul class="lab-examples">{"".join(rows)}</ul>')


def table(profile: Profile) -> None:
    """The same numbers for those who cannot see the charts."""
    counts = pd.DataFrame(profile.class_counts, index=list(profile.labels))
    st.dataframe(counts)


_router.enter_by_router("pages/data.py")
with st.sidebar:
    _data_controls.choose_data()
    with st.expander("How it is read", expanded=True):
        _data_controls.data_settings()
introduce()
try:
    profile = shown_profile()
except DistillError as error:
    _looks.show_error(error)
    profile = None
if profile is not None:
    overview(profile)
    left_out(profile)
    charts(profile)
    with st.expander("Class counts as a table"):
        table(profile)
    if st.button("Teach a model on these texts", type="primary", icon=":material/school:", key="data.train"):
        st.switch_page("pages/train.py")
