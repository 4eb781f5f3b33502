"""Pieces that pages share: the store, the chosen run, controls built from the configuration, the stage line."""

from __future__ import annotations

import html
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args

import streamlit as st

from distill_core import keys, openmp
from distill_core.config import DataConfig, RunConfig, parse
from distill_core.data.profile import Profile
from distill_core.errors import DistillError
from distill_core.events import History
from distill_core.executor import Executor, executor_of
from distill_core.presets import PRESETS
from distill_core.store import Status, Store, short

STAGE_WORDS = {
    "read": "Read",
    "pretrain": "Pre-train",
    "finetune": "Fine-tune",
    "cache": "Cache",
    "transfer": "More texts",
    "words": "Words",
    "assistant": "Assistant",
    "baseline": "Baseline",
    "distil": "Distil",
    "repeat": "Repeat",
    "test": "Test",
}
STAGE_HELP = {
    "read": "The texts are fetched and their words counted, once.",
    "pretrain": "The teacher reads texts without labels and learns to predict the next word.",
    "finetune": "The teacher learns from labelled texts.",
    "cache": "The teacher answers every text once; the student learns from these answers.",
    "transfer": "The teacher answers further texts that have no label, for the student to learn from.",
    "words": "The teacher reads each word by itself; the student starts from what it makes of them.",
    "assistant": "A model of middle size learns from the teacher and will teach the student in its place.",
    "baseline": "The same student learns from the labels alone, to see what the teacher adds.",
    "distil": "The student learns from the labels and from its teacher's answers.",
    "repeat": "Baseline and student are trained again from other starts, to see what chance does.",
    "test": "All models answer texts that none of them has seen.",
}
STATUS_WORDS = {
    "queued": "Waiting",
    "running": "Running",
    "finished": "Finished",
    "failed": "Failed",
    "cancelled": "Cancelled",
}


def enter_by_router(page: str) -> None:
    """Sends a page, named by its file, through `app.py` where Streamlit has run it by itself.

    Until `st.navigation` has been called once in a server, Streamlit takes a folder `pages/` for its older kind of
    many-page app, and a first request to any address but the root runs that page's file alone.
    """
    if "page" not in st.session_state:
        st.session_state["entered"] = page
        st.navigation([st.Page(lambda: None, title="Distill Lab")], position="hidden")
        st.rerun()


def store() -> Store:
    """The home folder that the lab works on."""
    return Store()


def executor() -> Executor:
    """The process-wide executor of the home folder."""
    return executor_of(store())


@cache
def warm_up() -> None:
    """Starts the executor, and loads PyTorch in the background so that the first question is answered at once."""
    openmp.sleep_soon()
    executor()
    threading.Thread(target=_load_torch, name="warm-up", daemon=True).start()


def _load_torch() -> None:
    from distill_core.analysis import predict  # noqa: F401


def known_profile(config: RunConfig) -> Profile | None:
    """What the configured data set looks like; None while nobody has read it. Raises DataError."""
    folder = store().cached("tokens", keys.data_key(config, store().data_folder))
    return None if folder is None else Profile.read(folder)


def read_profile(config: RunConfig) -> Profile:
    """The same, reading and tokenising the data set first where nobody has; shows how far that is."""
    profile = known_profile(config)
    if profile is None:
        place = st.empty()
        with place.container():
            bar = st.progress(0.0, text="Reading the texts")
            # A click ends this script, and the reading with it, at the next report of progress.
            st.button("Cancel", key="data.cancel", on_click=forget_data)
        from distill_core import teaching

        teaching.prepare_data(config, store(), progress=lambda words, part: bar.progress(min(part, 1.0), text=words))
        place.empty()
        profile = known_profile(config)
        assert profile is not None
    return profile


def profile_of(config: RunConfig) -> Profile | None:
    """What the configured data set looks like; read at once where that takes seconds, else None until it has been."""
    return known_profile(config) if config.data.is_large else read_profile(config)


def forget_data() -> None:
    """Goes back to the data set that needs no reading."""
    draft_from(drafted_parts().model_copy(update={"data": DataConfig()}))


# The chosen run


def keep_run_in_address() -> None:
    """Page switches wipe the address; this puts the run back, or takes it over from a fresh address."""
    if "run" in st.session_state:
        st.query_params["run"] = st.session_state["run"]
    elif "run" in st.query_params:
        try:
            run_id = store().find_run(st.query_params["run"])
            st.session_state["run"] = run_id
            draft_from(store().config(run_id))
        except DistillError as error:
            del st.query_params["run"]
            st.warning(f"The address names a run that cannot be opened: {error}")


def choose_run(run_id: str) -> None:
    """Makes a run the one that all pages show."""
    st.session_state["run"] = run_id
    st.query_params["run"] = run_id


def chosen_run() -> str | None:
    """The run that all pages show: the one chosen, else the latest; None while there is none."""
    known = store().run_ids()
    chosen = st.session_state.get("run")
    if chosen in known:
        return str(chosen)
    return known[-1] if known else None


def finished_runs() -> list[str]:
    """Runs whose models can answer, latest first."""
    return [run_id for run_id in reversed(store().run_ids()) if _state(run_id) == "finished"]


def is_open(run_id: str) -> bool:
    """Whether a run waits or works."""
    return _state(run_id) in ("queued", "running")


def _state(run_id: str) -> str | None:
    try:
        return store().status(run_id).status
    except DistillError:
        return None


# What a run has reported


@dataclass
class _Reading:
    """How far this browser session has read a run's events."""

    run_id: str
    offset: int = 0
    history: History = field(default_factory=History)


def history_of(run_id: str) -> History:
    """All that a run has reported; only what is new is read."""
    reading = st.session_state.get("reading")
    if not isinstance(reading, _Reading) or reading.run_id != run_id:
        reading = st.session_state["reading"] = _Reading(run_id)
    events, reading.offset = store().read_events(run_id, reading.offset)
    reading.history.feed(events)
    return reading.history


# Controls


def choose(section: str, name: str, *, options: Mapping[Any, str] | None = None) -> Any:
    """A choice among a field's values, labelled and explained by the field."""
    info = _field(section, name)
    words = dict(options or {value: str(value) for value in get_args(info.annotation)})
    return st.selectbox(
        info.title, list(words), format_func=words.__getitem__, help=info.description, key=_remember(section, name)
    )


def choose_preset() -> None:
    """Puts the settings of a preset into the controls."""
    st.selectbox(
        "Start from a preset",
        list(PRESETS),
        index=None,
        placeholder="as set below",
        help=" ".join(f"{name}: {preset.description}" for name, preset in PRESETS.items()),
        key="train.preset",
        on_change=_take_preset,
    )


def _take_preset() -> None:
    name = st.session_state["train.preset"]
    if name is not None:
        draft_from(PRESETS[name].config)


def choose_kind(section: Literal["teacher", "student"], kinds: Mapping[str, str], sizes: str) -> str:
    """The kind of model of a role; `sizes` says what its sizes cost."""
    key = _remember(section, "kind")
    st.segmented_control(
        section.capitalize(),
        list(kinds),
        format_func=kinds.__getitem__,
        key=key,
        required=True,
        width="stretch",
        help=f"{_field(section, 'kind').description}\n\n{_field(section, 'size').description} {sizes}",
    )
    return str(st.session_state[key])


def choose_size(section: Literal["teacher", "student"], sizes: Iterable[str]) -> None:
    """The named sizes of a role."""
    st.segmented_control(
        f"{section.capitalize()} size",
        list(sizes),
        key=_remember(section, "size"),
        required=True,
        width="stretch",
        label_visibility="collapsed",
    )


def slide(section: str, name: str, low: float, high: float, step: float) -> None:
    """A slider for the range of a field that is worth exploring."""
    info = _field(section, name)
    kind = type(getattr(getattr(RunConfig(), section), name))
    st.slider(info.title, kind(low), kind(high), step=kind(step), help=info.description, key=_remember(section, name))


def number(section: str, name: str, *, step: float, format: str | None = None, whole: bool = True) -> None:
    """A number within a field's own bounds; an empty one where the field may be left out.

    Args:
        whole: whether a number that may be left out is an integer.
    """
    info = _field(section, name)
    low, high = _bounds(info.metadata)
    default = getattr(getattr(RunConfig(), section), name)
    kind = (int if whole else float) if default is None else type(default)
    st.number_input(
        info.title,
        min_value=None if low is None else kind(low),
        max_value=None if high is None else kind(high),
        step=kind(step),
        format=format,
        help=info.description,
        placeholder="all" if default is None else None,
        key=_remember(section, name),
    )


def text(section: str, name: str, *, placeholder: str = "") -> None:
    """A short text; empty where the field may be left out."""
    info = _field(section, name)
    key = _remember(section, name)
    st.session_state[key] = st.session_state[key] or ""
    st.text_input(info.title, help=info.description, placeholder=placeholder, key=key, on_change=strip, args=(key,))


def strip(key: str) -> None:
    """Takes the spaces off both ends of what was typed."""
    st.session_state[key] = st.session_state[key].strip()


def switch(section: str, name: str) -> None:
    """On or off."""
    info = _field(section, name)
    st.toggle(info.title, help=info.description, key=_remember(section, name))


def drafted_config() -> RunConfig:
    """The configuration that the controls show. Raises ConfigError."""
    return parse(_drafted_values())


def drafted_parts() -> RunConfig:
    """The same without asking whether its parts fit together: enough to draw the controls."""
    values = _drafted_values()
    parts = {name: type(part).model_validate(values[name]) for name, part in RunConfig()}
    return RunConfig.model_construct(**parts)


def _drafted_values() -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = RunConfig().model_dump(mode="json")
    _take_from_controls(values)
    for path, value in _draft().items():
        section, name = path.split(".")
        values[section][name] = value
    return values


def _take_from_controls(defaults: dict[str, dict[str, Any]]) -> None:
    """Updates the draft from controls further down the page, which this run of the script has yet to draw."""
    for section, fields in defaults.items():
        for name, default in fields.items():
            key = key_of(f"{section}.{name}")
            if key in st.session_state:
                value = st.session_state[key]
                _draft()[f"{section}.{name}"] = None if value == "" and default is None else value


def draft(section: str, name: str, value: object) -> None:
    """Sets a field of the draft that has no control of its own name."""
    _draft()[f"{section}.{name}"] = value


def draft_from(config: RunConfig) -> None:
    """Puts a configuration into the controls."""
    _draft().clear()
    for section, fields in config.model_dump(mode="json").items():
        for name, value in fields.items():
            _draft()[f"{section}.{name}"] = value
            st.session_state.pop(key_of(f"{section}.{name}"), None)
    for name in ("source", "hub", "labels"):
        st.session_state.pop(key_of(name), None)


def key_of(name: str) -> str:
    """A widget's key: the same control on another page is another widget."""
    return f"{st.session_state.get('page', 'train')}.{name}"


def _draft() -> dict[str, Any]:
    draft: dict[str, Any] = st.session_state.setdefault("draft", {})
    return draft


def _remember(section: str, name: str) -> str:
    """The key of a field's widget, which starts from the draft: widgets forget their values on a page switch."""
    path, key = f"{section}.{name}", key_of(f"{section}.{name}")
    default = getattr(getattr(RunConfig(), section), name)
    if key not in st.session_state:
        st.session_state[key] = _draft().get(path, default)
    _draft()[path] = st.session_state[key]
    return key


def _field(section: str, name: str) -> Any:
    annotation = RunConfig.model_fields[section].annotation
    assert annotation is not None
    return annotation.model_fields[name]


def _bounds(metadata: list[Any]) -> tuple[float | None, float | None]:
    lows = [getattr(item, "ge", None) for item in metadata]
    highs = [getattr(item, "le", None) for item in metadata]
    return next((x for x in lows if x is not None), None), next((x for x in highs if x is not None), None)


# Words and looks


def millions(count: int) -> str:
    """A number of parameters or bytes, as in 1.54 M."""
    return f"{count / 1e6:.2f} M" if count >= 10_000 else f"{count / 1e6:.3f} M"


def models(config: RunConfig) -> str:
    """Teacher and student in a few letters."""
    teacher = {"pretrained": config.teacher.model, "file": "a file"}.get(config.teacher.kind, config.teacher.size)
    kind = "" if config.student.kind == "lstm" else f"{config.student.kind} "
    return f"{teacher} → {kind}{config.teacher.size if config.student.like_teacher else config.student.size}"


def duration(seconds: float) -> str:
    """A time to wait, as a person would say it."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def title(text: str, note: str = "") -> None:
    """The page's heading with a small note at its right."""
    st.html(f'<div class="lab-title"><h1>{html.escape(text)}</h1><span>{html.escape(note)}</span></div>')


def run_note(status: Status, history: History) -> str:
    """Which run this is and where it computes."""
    return " · ".join(part for part in (f"run {short(status.run_id)}", place(history)) if part)


def place(history: History) -> str:
    """Where a run computes, and in which numbers."""
    device = "GPU" if history.device == "cuda" else history.device.upper()
    return " · ".join(part for part in (device, history.precision) if part)


def ink() -> str:
    """The colour of text in the person's theme."""
    return "#EDEDED" if st.context.theme.type == "dark" else "#1B1B1B"


def stage_line(history: History, stages: tuple[str, ...], over: bool) -> None:
    """The stages in a row: done, under way, still to come."""
    items = []
    for stage in stages:
        progress = history.progress.get(stage)
        state = "todo" if progress is None else "done" if progress.finished else "stopped" if over else "now"
        note = ""
        if progress is not None and progress.finished:
            note = "from earlier" if progress.cached else duration_exact(progress.seconds or 0.0)
        words = f"<b>{STAGE_WORDS[stage]}</b><span>{note}</span>"
        items.append(f'<li class="{state}" title="{STAGE_HELP[stage]}"><i></i>{words}</li>')
    st.html(f'<ol class="lab-stages">{"".join(items)}</ol>')


def duration_exact(seconds: float) -> str:
    """A time that has passed."""
    return f"{seconds:.1f} s" if seconds < 90 else duration(seconds)


def style() -> None:
    """The few rules that Streamlit's theme does not reach."""
    st.html(f"<style>{_STYLE}</style>")


_STYLE = """
.stMainBlockContainer { padding-top: 4.2rem; padding-bottom: 2rem; }
[data-testid="stSidebar"] [data-testid="stButtonGroup"] button { padding-left: 0.4rem; padding-right: 0.4rem; }
.lab-title { display: flex; justify-content: space-between; align-items: baseline; gap: 1rem; flex-wrap: wrap; }
.lab-title h1 { font-size: 1.7rem; font-weight: 650; margin: 0; padding: 0; letter-spacing: -0.01em; }
.lab-title span { opacity: 0.65; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
.lab-stages { display: flex; list-style: none; margin: 0.4rem 0 0; padding: 0; }
.lab-stages li { flex: 1; position: relative; text-align: center; font-size: 0.85rem; margin: 0; }
.lab-stages i { display: block; width: 14px; height: 14px; border-radius: 50%; margin: 0 auto 4px;
  border: 2px solid #8a8a86; background: transparent; box-sizing: border-box; position: relative; }
.lab-stages li:not(:first-child)::before { content: ""; position: absolute; top: 6px; height: 2px;
  left: calc(-50% + 10px); right: calc(50% + 10px); background: #8a8a86; opacity: 0.5; }
.lab-stages b { display: block; font-weight: 500; opacity: 0.7; }
.lab-stages span { display: block; min-height: 1.1rem; font-size: 0.75rem; opacity: 0.6;
  font-variant-numeric: tabular-nums; }
.lab-stages .done i { background: #009E73; border-color: #009E73; }
.lab-stages .now i { border-color: #D55E00; background: linear-gradient(90deg, #D55E00 50%, transparent 50%); }
.lab-stages .now b { opacity: 1; font-weight: 700; }
.lab-stages .stopped i { border-color: #D55E00; }
.lab-role { display: flex; align-items: center; gap: 0.5rem; font-weight: 600; }
.lab-role i { width: 12px; height: 12px; border-radius: 3px; }
.lab-answer { font-size: 1.7rem; font-weight: 650; margin: 0; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
.lab-middle { text-align: center; padding-top: 1.2rem; }
.lab-middle b { display: block; font-size: 1.5rem; }
.lab-middle small { opacity: 0.65; }
.lab-examples { padding-left: 1.1rem; max-height: 300px; overflow-y: auto; margin: 0; }
.lab-examples li { margin-bottom: 0.6rem; overflow-wrap: anywhere; font-size: 0.92rem; line-height: 1.45; }
.lab-verdict { font-size: 1.1rem; line-height: 1.5; max-width: 62rem; margin: 0.2rem 0; }
[data-testid="stMetricValue"] { font-variant-numeric: tabular-nums; }
@media (max-width: 640px) {
  .lab-stages b { font-size: 0.68rem; }
  .lab-stages span { font-size: 0.62rem; }
  .lab-title h1 { font-size: 1.4rem; }
}
"""
