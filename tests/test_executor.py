"""Runs in processes of their own: order, cancelling, and workers that die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from distill_core import presets, steering
from distill_core.config import RunConfig
from distill_core.errors import ConfigError, LimitError, RunError
from distill_core.events import RunCancelled, RunInterrupted, Step
from distill_core.executor import Executor, executor_of
from distill_core.presets import load
from distill_core.status import Status
from distill_core.store import Store
from tests.runs import made_rows, write_csv


@pytest.fixture(scope="module", autouse=True)
def on_a_small_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The preset `tiny` on 60 made-up texts: what counts here is the processes, and not what they learn."""
    file = write_csv(tmp_path_factory.mktemp("files") / "reviews.csv", made_rows(60))
    small = load("tiny", settings=["data.name=csv", f"data.path={file}", "training.batch_size=8"])
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(presets.PRESETS, "tiny", presets.Preset("small", small))
        yield


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def executor(store: Store) -> Iterator[Executor]:
    started = Executor(store)
    yield started
    for status in store.open_runs():
        started.cancel(status.run_id)
    wait(lambda: not store.open_runs())
    started.close()


def wait(condition: Callable[[], bool], seconds: float = 60) -> float:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() < start + seconds, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - start


def position(store: Store, run_id: str) -> int | None:
    """1 for the next in the queue; None for a run that does not wait."""
    waiting = [status.run_id for status in store.open_runs() if status.status == "queued"]
    return waiting.index(run_id) + 1 if run_id in waiting else None


def long_run(**changes: int) -> RunConfig:
    return load("tiny", settings=["training.epochs=500", *(f"training.{k}={v}" for k, v in changes.items())])


def has_steps(store: Store, run_id: str) -> bool:
    """Whether a model of the run has begun to learn."""
    return any(isinstance(event, Step) and event.loss is not None for _, event in store.read_events(run_id)[0])


def wait_for_steps(store: Store, run_id: str) -> Status:
    wait(lambda: has_steps(store, run_id))
    return store.status(run_id)


def test_a_submitted_run_finishes_by_itself(executor: Executor, store: Store) -> None:
    run_id = executor.submit(load("tiny"))
    wait(lambda: store.status(run_id).over)
    assert store.status(run_id).status == "finished", store.status(run_id).error
    assert store.result(run_id) is not None


def test_runs_wait_in_order_and_only_one_works(executor: Executor, store: Store) -> None:
    first, second, third = (executor.submit(long_run(seed=seed)) for seed in range(3))
    wait_for_steps(store, first)
    assert [position(store, run_id) for run_id in (first, second, third)] == [None, 1, 2]
    executor.cancel(first)
    wait_for_steps(store, second)
    assert store.status(first).status == "cancelled"
    assert store.status(third).status == "queued"
    assert position(store, third) == 1


def test_cancel_stops_a_run_within_three_seconds(executor: Executor, store: Store) -> None:
    run_id = executor.submit(long_run())
    pid = wait_for_steps(store, run_id).pid
    assert pid is not None
    executor.cancel(run_id)
    assert wait(lambda: store.status(run_id).over and not store.is_claimed(run_id)) < 3
    assert store.status(run_id).status == "cancelled"
    assert isinstance(store.read_events(run_id)[0][-1][1], RunCancelled)


def test_a_worker_that_does_not_listen_is_killed_within_three_seconds(executor: Executor, store: Store) -> None:
    run_id = executor.submit(long_run())
    pid = wait_for_steps(store, run_id).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    executor.cancel(run_id)
    # Between its death and the record of it, it is one whose process is gone.
    assert wait(lambda: store.status(run_id).status == "cancelled") < 3
    wait(lambda: not store.is_claimed(run_id), 3)


def test_cancelling_a_waiting_run_leaves_the_others(executor: Executor, store: Store) -> None:
    first, second = executor.submit(long_run()), executor.submit(long_run(seed=1))
    executor.cancel(second)
    assert store.status(second).status == "cancelled"
    wait_for_steps(store, first)
    assert store.status(first).status == "running"


def test_a_killed_worker_leaves_an_interrupted_run_and_the_next_one_starts(executor: Executor, store: Store) -> None:
    first, second = executor.submit(long_run()), executor.submit(long_run(seed=1))
    pid = wait_for_steps(store, first).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait(lambda: is_recorded(store, first))
    status = store.status(first)
    assert status.status == "interrupted"
    assert "-9" in (status.error or "")
    wait_for_steps(store, second)


def is_recorded(store: Store, run_id: str) -> bool:
    """Whether the run's own files say that it was interrupted."""
    told = any(isinstance(event, RunInterrupted) for _, event in store.read_events(run_id)[0])
    return told and store.status(run_id).ended is not None


def test_an_interrupted_run_that_is_resumed_waits_behind_the_others_and_finishes(
    executor: Executor, store: Store
) -> None:
    first = executor.submit(load("tiny", settings=["training.epochs=30"]))
    pid = wait_for_steps(store, first).pid
    assert pid is not None
    second = executor.submit(long_run(seed=1))
    os.kill(pid, signal.SIGKILL)
    wait(lambda: store.status(second).status == "running")
    executor.resume(first)
    assert (store.status(first).status, position(store, first)) == ("queued", 1)
    executor.cancel(second)
    wait(lambda: store.status(first).final)
    assert store.status(first).status == "finished"
    assert store.result(first) is not None


def test_only_an_interrupted_run_can_be_resumed(executor: Executor, store: Store) -> None:
    run_id = executor.submit(long_run())
    with pytest.raises(RunError, match=f"run must be interrupted to be resumed, got '{run_id}' which is"):
        executor.resume(run_id)


def test_a_worker_asked_by_the_system_to_end_leaves_a_run_that_can_be_resumed(executor: Executor, store: Store) -> None:
    run_id = executor.submit(long_run())
    pid = wait_for_steps(store, run_id).pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    wait(lambda: store.status(run_id).over)
    assert store.status(run_id).status == "interrupted"
    assert list((store.run_folder(run_id) / "checkpoint").glob("*.safetensors"))


def test_a_dead_process_whose_id_another_one_has_is_not_taken_for_the_worker(store: Store) -> None:
    run_id = store.create_run(load("tiny"), state="running")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        store.update_status(run_id, pid=stranger.pid)
        executor = Executor(store)
        wait(lambda: is_recorded(store, run_id))
        executor.cancel(run_id)
        executor.close()
        assert stranger.poll() is None
        assert stranger.stdin is not None
        stranger.stdin.close()
    assert store.status(run_id).status == "cancelled"


def test_runs_work_side_by_side_where_there_are_several_workers(store: Store) -> None:
    store.home.mkdir(parents=True)
    (store.home / "limits.json").write_text('{"workers": 2}')
    executor = Executor(store)
    runs = [executor.submit(long_run(seed=seed)) for seed in range(3)]
    wait(lambda: [store.status(run_id).status for run_id in runs] == ["running", "running", "queued"])
    executor.cancel(runs[0])
    wait(lambda: store.status(runs[2]).status == "running")
    assert store.status(runs[1]).status == "running"
    for run_id in runs:
        executor.cancel(run_id)
    wait(lambda: all(store.status(run_id).over for run_id in runs))
    executor.close()


def test_first_come_is_first_served_though_the_clock_was_set_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    first = store.create_run(load("tiny"))
    monkeypatch.setattr("distill_core.store.time", SimpleNamespace(time=lambda: now - 86_400, **CLOCKS))
    second = store.create_run(load("tiny", settings=["training.seed=1"]))
    assert second < first
    assert [status.run_id for status in store.open_runs()] == [first, second]


CLOCKS = {"strftime": time.strftime, "gmtime": time.gmtime, "perf_counter": time.perf_counter}


def test_nobody_can_queue_more_runs_than_the_lab_allows(executor: Executor, store: Store) -> None:
    store.home.mkdir(parents=True, exist_ok=True)
    (store.home / "limits.json").write_text('{"queued_per_owner": 2}')
    runs = [executor.submit(long_run(seed=seed), owner="anna") for seed in range(2)]
    with pytest.raises(LimitError, match="queued_per_owner must not exceed 2, got 3 runs of yours"):
        executor.submit(long_run(seed=2), owner="anna")
    assert executor.submit(long_run(seed=3), owner="ben") not in runs
    executor.cancel(runs[1])
    assert store.status(executor.submit(long_run(seed=4), owner="anna")).owner == "anna"


def test_a_run_paused_for_long_makes_way_for_those_who_wait(executor: Executor, store: Store) -> None:
    store.home.mkdir(parents=True, exist_ok=True)
    (store.home / "limits.json").write_text('{"pause_minutes": 0.01}')
    first = executor.submit(long_run())
    wait_for_steps(store, first)
    steering.ask(store, first, "pause")
    wait(lambda: store.status(first).status == "paused")
    time.sleep(1.5)
    assert store.status(first).status == "paused", "nobody waits yet"
    second = executor.submit(long_run(seed=1))
    wait_for_steps(store, second)
    assert store.status(first).status == "interrupted"
    assert "while others waited" in (store.status(first).error or "")


def test_a_failed_run_shows_the_last_lines_of_its_error(executor: Executor, store: Store) -> None:
    store.home.mkdir(parents=True, exist_ok=True)
    (store.home / "tokens").write_text("a file where a folder belongs")
    run_id = executor.submit(load("tiny"))
    wait(lambda: store.status(run_id).over)
    status = store.status(run_id)
    assert status.status == "failed"
    assert status.error is not None
    assert "tokens" in status.error
    wait(lambda: "Traceback" in (store.run_folder(run_id) / "worker.log").read_text())


def test_a_run_outlives_its_server_and_is_found_again(store: Store) -> None:
    before = Executor(store)
    run_id = before.submit(load("tiny", settings=["training.epochs=40"]))
    wait_for_steps(store, run_id)
    before.close()
    after = Executor(store)
    waiting = after.submit(load("tiny", settings=["training.seed=3"]))
    wait(lambda: store.status(waiting).over)
    after.close()
    assert [store.status(name).status for name in (run_id, waiting)] == ["finished", "finished"]


def test_two_executors_on_one_home_start_a_run_once(store: Store) -> None:
    executors = [Executor(store), Executor(store)]
    runs = [executor.submit(load("tiny", settings=[f"training.seed={n}"])) for n, executor in enumerate(executors)]
    wait(lambda: all(store.status(run_id).over for run_id in runs))
    for executor in executors:
        executor.close()
    assert {store.status(run_id).status for run_id in runs} == {"finished"}
    for run_id in runs:
        starts = (store.run_folder(run_id) / "events.jsonl").read_text().count('"run_started"')
        assert starts == 1


def test_a_run_whose_process_is_gone_is_reported_at_the_next_start(store: Store) -> None:
    run_id = store.create_run(load("tiny"), state="running")
    executor = Executor(store)
    wait(lambda: is_recorded(store, run_id))
    executor.close()
    assert store.status(run_id).status == "interrupted"
    assert "gone" in (store.status(run_id).error or "")


def test_broken_folders_and_limits_do_not_keep_others_from_running(executor: Executor, store: Store) -> None:
    for name, content in (("torn", '{"run_id": '), ("empty", ""), ("list", "[]")):
        folder = store.home / "runs" / f"20200101-000000-{name}"
        folder.mkdir(parents=True)
        (folder / "status.json").write_text(content)
    (store.home / "runs" / "a file").write_text("")
    (store.home / "limits.json").write_text("{torn")
    for changes in ({"queued": None}, {"status": []}, {"status": "odd"}, {"run_id": "another"}):
        broken = store.create_run(long_run())
        file = store.run_folder(broken) / "status.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ConfigError, match=r"limits\.json"):
        executor.submit(load("tiny"))
    run_id = store.create_run(load("tiny"))
    wait(lambda: store.status(run_id).over)
    assert store.status(run_id).status == "finished"


def test_a_worker_that_dies_before_it_has_begun_costs_its_run_nothing(executor: Executor, store: Store) -> None:
    wait(lambda: executor._spare is not None)
    assert executor._spare is not None
    os.kill(executor._spare.pid, signal.SIGKILL)
    run_id = executor.submit(load("tiny"))
    wait(lambda: store.status(run_id).over)
    assert store.status(run_id).status == "finished"


def test_a_run_whose_workers_always_die_at_once_is_left_to_be_resumed(
    executor: Executor, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stillborn() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(5)"], stdin=subprocess.PIPE)

    monkeypatch.setattr(executor, "_spawn", stillborn)
    wait(lambda: executor._spare is not None)
    spare, executor._spare = executor._spare, None
    if spare is not None:
        spare.kill()
        spare.communicate()
    run_id = executor.submit(load("tiny"))
    wait(lambda: store.status(run_id).over)
    assert store.status(run_id).status == "interrupted"
    assert "3 times before it had begun, with status 5" in (store.status(run_id).error or "")


def test_a_process_has_one_executor_a_home(store: Store) -> None:
    executor = executor_of(store)
    assert executor_of(Store(store.home)) is executor
    executor.close()


def test_what_a_worker_left_that_was_killed_as_it_tidied_up_goes(executor: Executor, store: Store) -> None:
    run_id = store.create_run(load("tiny"), state="running")
    store.end_run(run_id, RunCancelled())
    left = store.run_folder(run_id) / "checkpoint"
    left.mkdir()
    executor._record_death(run_id, -9)
    assert not left.exists()
    assert store.status(run_id).status == "cancelled"
