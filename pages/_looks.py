"""Words and looks that pages share: numbers as people say them, titles, messages, the stage line, the style."""

from __future__ import annotations

import html
import re
from pathlib import Path

import streamlit as st

from distill_core.config import RunConfig
from distill_core.errors import DistillError
from distill_core.events import History
from distill_core.status import Status, short

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
    "pretrain": "The teacher learns word vectors from texts without labels.",
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
    "paused": "Paused",
    "interrupted": "Interrupted",
    "finished": "Finished",
    "failed": "Failed",
    "cancelled": "Discarded",
}


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


_PATH = re.compile(rf"(?<![\w./-])({'|'.join(RunConfig.model_fields)})\.(\w+)(?![\w/]|\.\w)(=?)")


def named(message: object) -> str:
    """A message whose settings, as in `training.seeds`, and files have the names that the person knows them by."""

    def title(match: re.Match[str]) -> str:
        section, name, equals = match.groups()
        field = getattr(RunConfig.model_fields[section].annotation, "model_fields", {}).get(name)
        return match[0] if field is None else f"“{field.title}”{' = ' if equals else ''}"

    said = _PATH.sub(title, str(message))
    for kept, name in st.session_state.get("upload.names", {}).items():
        said = said.replace(kept, name).replace(Path(kept).name, name)
    return said


def show_error(error: DistillError) -> None:
    """A mistake that the person can mend."""
    st.error(named(error))


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
    for stage in history.in_order(stages):
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
.st-key-identity, .st-key-phone { position: absolute; height: 0; overflow: hidden; }
.st-key-outlook { min-height: 4.8rem; justify-content: end; }
/* In what a table exports by itself, a spreadsheet would find formulas; our own exports have none. */
[data-testid="stElementToolbar"] button[aria-label^="Download as CSV"] { display: none; }
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
