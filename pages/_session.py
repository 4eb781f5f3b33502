"""What a page works on: the home folder, the data set's profile, the chosen run and what it has reported."""

from __future__ import annotations

import gc
import json
import threading
from contextlib import suppress
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from urllib.parse import urlencode

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from distill_core import estimate, limits, openmp
from distill_core.config import RunConfig
from distill_core.data.profile import Profile
from distill_core.errors import DistillError
from distill_core.events import History
from distill_core.executor import Executor, executor_of
from distill_core.limits import Limits
from distill_core.presets import load
from distill_core.status import AT_WORK
from distill_core.store import Store
from pages import _reruns, _watching
from pages._draft import changed_settings, draft_from, draft_settings, forget_data
from pages._identity import owner
from pages._looks import named as named_fields

READ_AFTER = 0.5
"""Seconds that a page has been there before its data set is read."""
LOAD_AFTER = 3.0
"""Seconds after the start; the first page has them to itself."""


def store() -> Store:
    """The home folder that the lab works on."""
    return Store()


def allowed() -> Limits:
    """What this lab allows; the defaults where its own limits cannot be read, which Start and Storage tell."""
    return limits.usable(store().home)


def executor() -> Executor:
    """The process-wide executor of the home folder."""
    return executor_of(store())


@cache
def warm_up() -> None:
    """Starts the executor, and soon loads PyTorch in the background so that the first question is answered at once."""
    openmp.sleep_soon()
    executor()
    loading = threading.Timer(LOAD_AFTER, _load)
    loading.name, loading.daemon = "warm-up", True
    loading.start()


def _load() -> None:
    """Loads what answering needs, and takes all that is loaded by then out of what garbage collections look through."""
    for name in ("distill_core.analysis.predict", "captum.attr"):
        import_module(name)
    gc.collect()
    gc.freeze()


def known_profile(config: RunConfig) -> Profile | None:
    """What the configured data set looks like; None where nobody has read it yet. Raises DataError."""
    return estimate.known_profile(config, store())


def read_profile(config: RunConfig) -> Profile:
    """The same, reading and tokenising the data set first where nobody has; shows how far that is."""
    profile = known_profile(config)
    if profile is None:
        place = st.empty()
        with place.container():
            bar = st.empty()
            # A click ends this script, and the reading with it, at the next report of progress.
            st.button("Cancel", key="data.cancel", on_click=forget_data)
        try:
            _read(config, bar)
        except DistillError:
            place.empty()
            raise
        place.empty()
        profile = known_profile(config)
        assert profile is not None
    return profile


def _read(config: RunConfig, place: DeltaGenerator) -> None:
    place.progress(0.0, text="Reading the texts")
    from distill_core import teaching

    teaching.prepare_data(config, store(), progress=lambda words, part: place.progress(min(part, 1.0), text=words))


def profile_of(config: RunConfig) -> Profile | None:
    """What the configured data set looks like; None where a page need not wait for it.

    One that takes long is read by a run, one that comes with the lab once the page is there: `read_behind`.
    """
    later = config.data.is_large or config.data.comes_along
    return known_profile(config) if later else read_profile(config)


def read_behind(config: RunConfig, words: str) -> None:
    """Shows words; in their place, once the browser shows the page, the reading of a data set that comes along.

    The page is drawn anew when that is done. Read any earlier, it would take the time in which the page is sent.
    """
    if not config.data.comes_along or known_profile(config) is not None:
        st.markdown(words)
        return
    tried, problem = st.session_state.get("train.unread", (None, ""))
    if tried == config.data:
        st.error(named_fields(problem))
        return
    st.session_state["train.shown"] = False
    _reruns.polling(_read_shown, lambda: READ_AFTER, key="train.read")(config, words)


def _read_shown(config: RunConfig, words: str) -> None:
    place = st.empty()
    if not st.session_state["train.shown"]:
        place.markdown(words)
        st.session_state["train.shown"] = True
        return
    try:
        _read(config, place)
    except (DistillError, OSError) as error:
        st.session_state["train.unread"] = config.data, error
    st.rerun()


# The chosen run


def keep_run_in_address() -> None:
    """Page switches wipe the address; this puts the run back, or takes it over from a fresh address."""
    fresh = "begun" not in st.session_state
    st.session_state["begun"] = True
    if "run" in st.session_state:
        st.query_params["run"] = st.session_state["run"]
    elif "run" in st.query_params:
        try:
            st.session_state["run"] = store().find_run(st.query_params["run"])
        except DistillError as error:
            del st.query_params["run"]
            st.warning(f"The address names a run that cannot be opened: {named_fields(error)}")
    if fresh:
        _open_draft()


def choose_run(run_id: str) -> None:
    """Makes a run the one that all pages show."""
    st.session_state["run"] = run_id
    st.query_params["run"] = run_id


def chosen_run() -> str | None:
    """The run that all pages show: the one chosen, else this person's latest, else anybody's latest."""
    known = store().run_ids()
    chosen = st.session_state.get("run")
    if chosen in known:
        return str(chosen)
    readable = [run_id for run_id in reversed(known) if _can_be_read(run_id, "config.json", "status.json")]
    latest = next((run_id for run_id in readable if store().status(run_id).owner == owner()), None)
    return latest or next(iter(readable), None)


def finished_runs() -> list[str]:
    """Runs whose models can answer, latest first."""
    return [
        run_id
        for run_id in reversed(store().run_ids())
        if _state(run_id) == "finished" and _can_be_read(run_id, "config.json", "result.json")
    ]


def _can_be_read(run_id: str, *names: str) -> bool:
    """Whether some files of a run are what they should be."""
    folder = store().run_folder(run_id)
    try:
        stamps = tuple((folder / name).stat().st_mtime_ns for name in names)
    except OSError:
        return False
    return _was_read(store().home, run_id, names, stamps)


@lru_cache(maxsize=4096)
def _was_read(home: Path, run_id: str, names: tuple[str, ...], stamps: tuple[int, ...]) -> bool:
    """The same, asked once for each state of the files."""
    own = Store(home)
    reads = {"config.json": own.config, "status.json": own.status, "result.json": own.result}
    try:
        return all(reads[name](run_id) is not None for name in names)
    except DistillError:
        return False


def is_open(run_id: str) -> bool:
    """Whether a run waits or works."""
    return _state(run_id) in {"queued", *AT_WORK}


def _state(run_id: str) -> str | None:
    try:
        return store().status(run_id).status
    except DistillError:
        return None


def history_of(run_id: str) -> History:
    """All that a run has reported."""
    return _watching.view(store(), run_id).history


# Settings that outlive a refresh


def keep_draft() -> None:
    """Keeps the settings that the controls show, for this browser to find them again after a refresh."""
    state = st.session_state
    kept = {"settings": changed_settings(), "run": state.get("run"), "sweep": state.get("sweep.kept")}
    if kept != st.session_state.get("draft.kept"):
        with suppress(OSError):  # a full disk must not take the page away
            store().write_draft(owner(), kept)
        st.session_state["draft.kept"] = kept


def link() -> str:
    """The query of an address that opens the chosen run and the same settings elsewhere."""
    run = st.session_state.get("run")
    settings = {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in changed_settings().items()
    }
    return urlencode({**({"run": run} if run else {}), **settings})


def _open_draft() -> None:
    """The settings of a session that has just begun: those in the address, else those kept, else those of the run."""
    named = {name: st.query_params[name] for name in list(st.query_params) if "." in name}
    for name in named:
        del st.query_params[name]
    kept = store().draft(owner())
    st.session_state["sweep.kept"] = kept.get("sweep")
    run = st.session_state.get("run")
    try:
        if named:
            draft_from(load(settings=[f"{name}={value}" for name, value in named.items()]))
        elif kept.get("run") == run and kept.get("settings"):
            draft_settings(kept["settings"])
        elif run is not None:
            draft_from(store().config(run))
    except DistillError as error:
        st.warning(f"The settings cannot be opened, so these are others: {named_fields(error)}")
