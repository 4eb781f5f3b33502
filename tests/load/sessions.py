"""Browser sessions without a browser: websocket clients that speak Streamlit's protocol, forty of them if need be.

A session does what Streamlit 1.67's own front end does: it asks for a page by the address, keeps the values of the
widgets that it was sent and sends them with every request, remembers the hashes of large messages, and asks again
for each fragment that polls. Messages are the classes of `streamlit.proto`; `websockets` is a dependency of Streamlit.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamlit.proto.Alert_pb2 import Alert
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.NumberInput_pb2 import NumberInput
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

from distill_core.config import RunConfig
from distill_core.events import Epoch, Event, Step
from distill_core.presets import load
from distill_core.store import Store
from tests.browser.conftest import served

PATIENCE = 30.0
"""Seconds after which a request without an answer is an error."""
LONG_RUN = ("teacher.size=XS", "teacher.pretrain=false", "teacher.epochs=1", "training.baseline=false")
"""Settings that bring a run of preset `quick` to its student within seconds; with many epochs it stays there."""
TEXTS = (
    "a warm and clever film",
    "the plot is dull and the jokes are old",
    "it lasts forever and says nothing",
    "a moving story, beautifully acted",
    "nobody will remember this in a week",
    "I laughed from the first scene to the last",
)
SUPERSEDED = ForwardMsg.FINISHED_EARLY_FOR_RERUN


@dataclass
class _Request:
    """Something asked of the server, and when."""

    sent: float
    answered: asyncio.Future[float]


@dataclass
class _Cached:
    """A large message that the server need not send again, and the run of the script in which it was last used."""

    script_run: int
    fragment: str
    widget: str


@dataclass
class Session:
    """One tab of a browser: a connection, the widgets on its page and what has gone wrong in it."""

    address: str
    page: str = ""
    query: str = ""
    errors: list[str] = field(default_factory=list)
    opened: list[float] = field(default_factory=list)
    """Seconds that the first drawing of a page took."""
    updates: list[float] = field(default_factory=list)
    """Seconds from each later request to the end of its answer; of several requests answered at once, the oldest."""
    words: list[str] = field(default_factory=list)
    """What the page said in markdown or HTML since its script last began."""
    elements: dict[str, Element] = field(default_factory=dict)
    """Widgets on the page by id."""

    def __post_init__(self) -> None:
        self._page_hash = ""
        self._values: dict[str, WidgetState] = {}
        self._seen: set[str] = set()
        self._fragments: dict[str, str] = {}
        self._cache: dict[str, _Cached] = {}
        self._cache_age = 2
        self._script_runs = 0
        self._waiting: list[_Request] = []
        self._running: list[_Request] = []
        self._polls: dict[str, tuple[float, asyncio.Task[None]]] = {}
        self._socket: ClientConnection | None = None

    # What a person does

    def connected(self) -> AbstractAsyncContextManager[Session]:
        """The session, connected and its page drawn, until it is left."""
        return _connected(self)

    def ask(self, fragment: str = "", trigger: str = "", *, polls: bool = False) -> asyncio.Future[float]:
        """Asks for the page or one fragment of it; the answer is how many seconds that took."""
        message = BackMsg()
        state = message.rerun_script
        state.query_string, state.page_script_hash, state.fragment_id = self.query, self._page_hash, fragment
        state.page_name = "" if self._page_hash else self.page
        state.is_auto_rerun = polls
        state.widget_states.widgets.extend(self._values.values())
        if trigger:
            state.widget_states.widgets.add(id=trigger, trigger_value=True)
        state.cached_message_hashes.extend(self._cache)
        state.context_info.url, state.context_info.timezone = f"{self.address}/{self.page}", "UTC"
        request = _Request(time.monotonic(), asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._later(self._send(message.SerializeToString()))
        return request.answered

    def type(self, key: str, text: str) -> asyncio.Future[float]:
        """Types into the text box of a key, as in `compare.box`; only the fragment that it is in answers."""
        widget = next(name for name in self.elements if name.endswith(f"-{key}"))
        version = json.loads(self.elements[widget].bidi_component.json)["version"]
        self._values[widget] = WidgetState(
            id=widget, json_value=json.dumps({"text": {"version": version, "text": text}})
        )
        self.words = []
        return self.ask(self._fragments[widget])

    # What a browser does

    def receive(self, data: bytes) -> None:
        """Takes one message from the server."""
        message = ForwardMsg()
        message.ParseFromString(data)
        match message.WhichOneof("type"):
            case "new_session":
                self._begin(message)
            case "script_finished":
                self._finish(message)
            case "navigation":
                self._page_hash = message.navigation.page_script_hash
            case "page_info_changed":
                self.query = message.page_info_changed.query_string
            case "auto_rerun":
                self._poll(message.auto_rerun.fragment_id, message.auto_rerun.interval)
            case "stop_auto_rerun":
                for fragment in message.stop_auto_rerun.fragment_ids:
                    self._stop_polling(fragment)
            case "delta":
                self._draw(message)
            case "ref_hash":
                self._draw_again(message.ref_hash)
            case "session_event" if message.session_event.HasField("script_compilation_exception"):
                self.errors.append(f"script: {message.session_event.script_compilation_exception.message}")
            case "page_not_found":
                self.errors.append(f"page {self.page!r} was not found")

    def _begin(self, message: ForwardMsg) -> None:
        self._running, self._waiting = self._running + self._waiting, []
        if not message.metadata.run.fragment_ids:
            self._cache_age = message.new_session.config.max_cached_message_age
            self._page_hash = message.new_session.page_script_hash
            self._seen, self.words = set(), []
            for fragment in list(self._polls):
                self._stop_polling(fragment)

    def _finish(self, message: ForwardMsg) -> None:
        status, fragments = message.script_finished, message.metadata.run.fragment_ids
        if status == SUPERSEDED:
            return  # the script begins again, for the same requests
        if status == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
            self.errors.append("script: it could not be compiled")
        now, answered = time.monotonic(), self._running
        self._running = []
        if answered:
            (self.updates if self.opened else self.opened).append(now - answered[0].sent)
        for request in answered:
            if not request.answered.done():
                request.answered.set_result(now - request.sent)
        if not fragments:
            self._values = {name: value for name, value in self._values.items() if name in self._seen}
            self.elements = {name: element for name, element in self.elements.items() if name in self._seen}
        self._forget(list(fragments))

    def _forget(self, fragments: Sequence[str]) -> None:
        """Drops messages that were not used for some runs of the script, as the front end does."""
        self._script_runs += 1
        for name, cached in list(self._cache.items()):
            touched = not fragments or cached.fragment in fragments
            if touched and self._script_runs - cached.script_run > self._cache_age:
                del self._cache[name]

    def _draw(self, message: ForwardMsg) -> None:
        if message.delta.WhichOneof("type") != "new_element":
            return
        element = message.delta.new_element
        kind = element.WhichOneof("type")
        if kind is None:
            return
        self._note_problem(kind, element)
        if kind == "html":
            self.words.append(element.html.body)
        elif kind == "markdown":
            self.words.append(element.markdown.body)
        shown = getattr(element, kind)
        widget = getattr(shown, "id", "")
        if widget:
            self._seen.add(widget)
            self.elements[widget] = element
            self._fragments[widget] = message.delta.fragment_id
            self._take_value(kind, widget, shown)
        if message.metadata.cacheable:
            self._cache.setdefault(message.hash, _Cached(self._script_runs, message.delta.fragment_id, widget))

    def _draw_again(self, name: str) -> None:
        cached = self._cache.get(name)
        if cached is None:
            self.errors.append(f"the server refers to message {name}, which this session does not hold")
            return
        cached.script_run = self._script_runs
        self._seen.add(cached.widget)

    def _note_problem(self, kind: str, element: Element) -> None:
        if kind == "exception" and not element.exception.is_warning:
            self.errors.append(f"{element.exception.type}: {element.exception.message}")
        elif kind == "alert" and element.alert.format == Alert.ERROR:
            self.errors.append(f"error on the page: {element.alert.body}")

    def _take_value(self, kind: str, widget: str, proto: Any) -> None:
        if widget in self._values and not getattr(proto, "set_value", False):
            return
        state = _state_of(kind, widget, proto)
        if state is not None:
            self._values[widget] = state

    # Polling

    def _poll(self, fragment: str, interval: float) -> None:
        if fragment in self._polls:
            if self._polls[fragment][0] == interval:
                return
            self._stop_polling(fragment)
        self._polls[fragment] = interval, asyncio.create_task(self._poll_forever(fragment, interval))

    async def _poll_forever(self, fragment: str, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            self.ask(fragment, polls=True)
            self._note_silence()

    def _stop_polling(self, fragment: str) -> None:
        if fragment in self._polls:
            self._polls.pop(fragment)[1].cancel()

    def _note_silence(self) -> None:
        oldest = min((request.sent for request in self._running + self._waiting), default=time.monotonic())
        if time.monotonic() - oldest > PATIENCE:
            self.errors.append(f"no answer within {PATIENCE:.0f} s")
            self._running, self._waiting = [], []

    # The connection

    async def _send(self, data: bytes) -> None:
        assert self._socket is not None
        with suppress(ConnectionClosed):  # the reader says so
            await self._socket.send(data)

    def _later(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)

    async def _read(self) -> None:
        assert self._socket is not None
        with suppress(ConnectionClosed):
            async for data in self._socket:
                assert isinstance(data, bytes)
                self.receive(data)
        self.errors.append(f"the server closed the connection ({self._socket.close_code})")


_tasks: set[asyncio.Future[None]] = set()
"""Messages on their way: a task that nobody holds may be dropped before it has run."""


@asynccontextmanager
async def _connected(session: Session) -> Any:
    # The front end sends its token for cross-site requests, or this word, as a second protocol; see
    # `_parse_subprotocols` of streamlit.web.server.starlette.starlette_websocket.
    where = session.address.replace("http://", "ws://", 1) + "/_stcore/stream"
    protocols = [Subprotocol("streamlit"), Subprotocol("PLACEHOLDER_AUTH_TOKEN")]
    async with connect(where, origin=Origin(session.address), subprotocols=protocols, max_size=None) as socket:
        session._socket = socket
        reader = asyncio.create_task(session._read())
        try:
            await asyncio.wait_for(session.ask(), PATIENCE)
            yield session
        finally:
            for fragment in list(session._polls):
                session._stop_polling(fragment)
            reader.cancel()


def _state_of(kind: str, widget: str, proto: Any) -> WidgetState | None:
    """The state that the front end reports for a widget; None for one without any, such as a button."""
    state, given = WidgetState(id=widget), getattr(proto, "set_value", False)
    if kind == "checkbox":
        state.bool_value = proto.value if given else proto.default
    elif kind == "slider":
        state.double_array_value.data.extend(proto.value if given else proto.default)
    elif kind == "number_input":
        value = proto.value if given else proto.default
        if proto.data_type == NumberInput.INT:
            state.int_value = int(value)
        else:
            state.double_value = value
    elif kind in ("text_area", "text_input"):
        state.string_value = proto.value if given else proto.default
    elif kind == "selectbox":
        chosen = proto.options[proto.default] if proto.HasField("default") else None
        chosen = proto.raw_value if given and proto.HasField("raw_value") else chosen
        if chosen is not None:
            state.string_value = chosen
    elif kind == "button_group":
        chosen = proto.raw_values if given else [proto.options[place].content for place in proto.default]
        state.string_array_value.data.extend(chosen)
    else:
        return None
    return state


# People


@dataclass
class Watcher:
    """Somebody who looks at a run on the page Train and does nothing else."""

    session: Session

    @classmethod
    def of(cls, address: str, run_id: str) -> Watcher:
        """Somebody who was sent the address of a run."""
        return cls(Session(address, query=f"run={run_id}"))

    async def stay(self, until: asyncio.Event) -> None:
        """Watches until the event is set."""
        with _reporting(self.session):
            async with self.session.connected():
                await until.wait()


@dataclass
class Typist:
    """Somebody who types one text after another on the page Compare, every 2 to 4 seconds."""

    session: Session
    labels: Sequence[str]
    answers: int = 0

    @classmethod
    def of(cls, address: str, run_id: str, labels: Sequence[str]) -> Typist:
        """Somebody who asks the models of a finished run.

        Args:
            labels: one of them, with a percentage, is what an answer says.
        """
        return cls(Session(address, page="compare", query=f"run={run_id}"), labels)

    async def stay(self, until: asyncio.Event) -> None:
        """Types until the event is set."""
        chance = random.Random()
        with _reporting(self.session):
            async with self.session.connected():
                for number in itertools.count():
                    with suppress(TimeoutError):
                        await asyncio.wait_for(until.wait(), chance.uniform(2, 4))
                    if until.is_set():
                        return
                    await self._type(f"{chance.choice(TEXTS)}, {number}")

    async def _type(self, text: str) -> None:
        await asyncio.wait_for(self.session.type("compare.box", text), PATIENCE)
        said = re.compile("|".join(rf"\b{re.escape(label)}\b\D*\d+(\.\d+)? ?%" for label in self.labels))
        if any(said.search(words) for words in self.session.words):
            self.answers += 1
        else:
            self.session.errors.append(f"no answer to {text!r}")


@contextmanager
def _reporting(session: Session) -> Iterator[None]:
    """Turns what ends a session before its time into an error of the session."""
    try:
        yield
    except TimeoutError:
        session.errors.append(f"no answer within {PATIENCE:.0f} s")
    except (OSError, ConnectionClosed) as error:
        session.errors.append(f"the connection failed: {error}")


@asynccontextmanager
async def present(people: Sequence[Watcher | Typist], apart: float = 0.2) -> Any:
    """People at their pages, who came one after another.

    Args:
        apart: seconds between two of them.
    """
    until, tasks = asyncio.Event(), []
    try:
        for person in people:
            tasks.append(asyncio.create_task(person.stay(until)))
            await asyncio.sleep(apart)
        yield
    finally:
        until.set()
        await asyncio.gather(*tasks)


async def settled(people: Sequence[Watcher | Typist], seconds: float = 60.0) -> None:
    """Waits until everybody has seen their page or an error, and two seconds more."""
    deadline = time.monotonic() + seconds
    while not all(person.session.opened or person.session.errors for person in people):
        assert time.monotonic() < deadline, f"pages were not drawn within {seconds:.0f} s"
        await asyncio.sleep(0.1)
    await asyncio.sleep(2)


def percentile(values: Sequence[float], part: float) -> float:
    """The value that a part of all values (0 to 1) does not exceed; 0.0 of none."""
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else 0.0


# The lab


@dataclass(frozen=True)
class Lab:
    """A lab with a finished run and one that goes on for long."""

    address: str
    store: Store
    server: int
    finished: str
    live: str

    def labels(self) -> list[str]:
        """What the models of the finished run can answer."""
        result = self.store.result(self.finished)
        assert result is not None
        return list(result["labels"])


@contextmanager
def busy_lab(home: Path, *settings: str) -> Iterator[Lab]:
    """A lab on an empty home folder whose long run has reached its student.

    Args:
        settings: changes to the long run.
    """
    store = Store(home)
    with served(home) as address:
        asyncio.run(_visit(address))  # the lab starts its executor for its first visitor
        finished = store.create_run(load("tiny"))
        wait_until_over(store, finished)
        live = start_long_run(store, *settings)
        try:
            yield Lab(address, store, server_of(address), finished, live)
        finally:
            workers = [store.status(run_id).pid for run_id in store.run_ids() if not store.status(run_id).over]
    for pid in workers:  # a run outlives its server
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def _visit(address: str) -> None:
    async with Session(address).connected():
        pass


def long_config(*settings: str) -> RunConfig:
    """A run of preset `quick` that soon reaches its student and teaches it for many epochs."""
    return load("quick", settings=[*LONG_RUN, "training.epochs=500", *settings])


def start_long_run(store: Store, *settings: str) -> str:
    """Submits a long run and waits until its student learns."""
    run_id, offset, deadline = store.create_run(long_config(*settings)), 0, time.monotonic() + 120
    while time.monotonic() < deadline:
        found, offset = store.read_events(run_id, offset)
        if any(isinstance(event, Step) and event.stage == "distil" for _, event in found):
            return run_id
        assert not store.status(run_id).over, f"{store.status(run_id)}\n{store.log_tail(run_id)}"
        time.sleep(0.1)
    raise AssertionError(f"the run did not reach its student: {store.status(run_id)}")


def wait_until_over(store: Store, run_id: str, seconds: float = 120.0) -> None:
    """Waits for a run to finish."""
    deadline = time.monotonic() + seconds
    while not store.status(run_id).over:
        assert time.monotonic() < deadline, f"the run did not end: {store.status(run_id)}"
        time.sleep(0.1)
    assert store.status(run_id).status == "finished", store.status(run_id)


def steps_per_second(found: Sequence[tuple[float, Event]]) -> float:
    """Training speed from a run's events; the time between epochs, when models are measured, is left out."""
    steps, seconds, last = 0, 0.0, None
    for moment, event in found:
        if isinstance(event, Step):
            if last is not None and last[1].stage == event.stage:
                steps, seconds = steps + event.step - last[1].step, seconds + moment - last[0]
            last = moment, event
        elif isinstance(event, Epoch):
            last = None
    return steps / seconds if seconds else 0.0


def server_of(address: str) -> int:
    """The process id of the lab that is served there (Linux)."""
    port = address.rpartition(":")[2].encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            if b"--server.port" in arguments and arguments[arguments.index(b"--server.port") + 1] == port:
                return int(folder.name)
    raise AssertionError(f"no process serves {address}; is this Linux? got {sys.platform}")


def resident_mb(pid: int) -> float:
    """Memory of a process in MB (Linux)."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1024


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
