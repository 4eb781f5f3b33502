"""Runs of a sweep on a real Ray cluster of several node processes on this machine."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core import keys, machine
from distill_core.config import RunConfig
from distill_core.device import Compute
from distill_core.errors import ConfigError
from distill_core.events import Epoch, Event, RunFinished, RunStarted
from distill_core.presets import load
from distill_core.store import Store
from distill_core.sweep import cluster, joining, node
from distill_core.sweep.cells import tidy
from distill_core.sweep.chores import prepare
from distill_core.sweep.cluster import RayWorkers
from distill_core.sweep.drive import drive
from distill_core.sweep.node import HomeNotSeen, Order
from distill_core.sweep.record import Sweeps
from distill_core.sweep.space import parse_sweep
from distill_core.sweep.workers import Ended
from distill_core.worker import work
from tests.runs import config_of, made_rows, timeless, write_csv

PATIENCE = 60.0
LONG = 400
"""Epochs of a run that does not end before it is ended."""


def test_without_ray_the_remedy_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"needs the package ray, .*; pip install -r requirements-ray\.txt"):
        RayWorkers(store)


@pytest.mark.parametrize("cpus_and_gpus", [(4, 0, 0), (16, 4, 4), (8, 3, 3), (2, 4, 1), (256, 2, 8)])
def test_as_many_runs_share_a_gpu_as_there_are_cpus_for_it(cpus_and_gpus: tuple[int, int, int]) -> None:
    cpus, gpus, expected = cpus_and_gpus
    resources = {"CPU": float(cpus), **({"GPU": float(gpus)} if gpus else {})}
    assert joining.runs_a_gpu(resources) == expected


def test_a_copy_of_the_home_folder_is_not_taken_for_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.nice", lambda increment: None)  # the other tests stay as quick as they are
    run_id = store.create_run(config_of(write_csv(tmp_path / "reviews.csv", made_rows(12))))
    store.ask(run_id, "run")
    shutil.copytree(store.home, tmp_path / "copy")
    store.ask(run_id, "run")
    config, wish = store.config(run_id).to_json(), store.wish(run_id).number
    with pytest.raises(HomeNotSeen, match="must see the home folder"):
        node.work_at_home(Order(run_id, tmp_path / "copy", config, wish, "none"))
    with pytest.raises(HomeNotSeen):
        node.work_at_home(Order(run_id, tmp_path / "nowhere", config, wish, "none"))
    with pytest.raises(ConfigError, match="must compute as the lab does to share its teacher"):
        node.work_at_home(Order(run_id, store.home, config, wish, "none"))
    assert store.status(run_id).status == "queued"


@pytest.mark.parametrize(
    ("settings", "differ"),
    [
        (["teacher.size=XS", "student.size=S"], False),
        (["teacher.size=S", "student.size=S"], True),
        (["teacher.size=XS", "student.size=XL"], True),
        (["teacher.size=S", "training.precision=float32"], False),
    ],
)
def test_a_node_that_computes_one_of_a_runs_models_otherwise_would_come_to_another_outcome(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], differ: bool
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: True)
    config = load("tiny", settings=settings)
    found = set[str]()
    for narrow in ([], ["lstm"]):
        home = Store(tmp_path / f"node-{len(narrow)}")
        machine.keep_narrow(home, narrow)
        found.add(node.outcome_key(config, home))
    assert len(found) == (2 if differ else 1)


def test_what_was_found_out_of_a_machine_goes_to_a_node_of_the_same_kind(store: Store) -> None:
    config, compute = load("tiny"), Compute(torch.device("cpu"), "float32")
    assert cluster._caches(config, compute, store) == ()
    machine.keep_narrow(store, [])
    assert cluster._caches(config, compute, store) == (("machines", keys.machine_key()),)


# With Ray


@dataclass(frozen=True)
class Joined:
    """A cluster whose head computes nothing and which has two nodes of a CPU each."""

    cluster: Any
    nodes: list[Any]
    scratch: Path

    def add_node(self) -> None:
        self.nodes.append(self.cluster.add_node(num_cpus=1, env_vars={"TMPDIR": str(self.scratch)}))

    @property
    def away(self) -> Store:
        """The home folder that nodes have of their own."""
        return Store(self.scratch / f"distill-lab-{os.getuid()}")


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Joined]:
    pytest.importorskip("ray", reason="needs Ray: pip install -r requirements-ray.txt")
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("ray")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    found = Joined(cluster, [], folder)
    try:
        found.add_node()
        found.add_node()
        with closing(RayWorkers(Store(folder / "home"), cluster.address)):
            yield found
    finally:
        cluster.shutdown()


@dataclass(frozen=True)
class Prepared:
    """A home folder with the data set and its teacher, and what a run alone on one core comes to."""

    store: Store
    config: RunConfig
    weights: bytes
    result: dict[str, Any]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("prepared")
    config = config_of(write_csv(folder / "reviews.csv", made_rows(64)), "training.seeds=2", "student.dropout=0.2")
    store, alone = Store(folder / "home"), Store(folder / "alone")
    prepare(store, [config])
    shutil.copytree(store.home, alone.home)
    run_id, threads = alone.create_run(config), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        result = work(run_id, alone)
    torch.set_num_threads(threads)
    assert result is not None
    return Prepared(store, config, (alone.run_folder(run_id) / "student.safetensors").read_bytes(), result)


@pytest.fixture
def home(prepared: Prepared, tmp_path: Path) -> Store:
    """A home folder of one's own in which the teacher is trained already."""
    shutil.copytree(prepared.store.home, tmp_path / "home")
    return Store(tmp_path / "home")


def longer(prepared: Prepared, epochs: int = LONG) -> RunConfig:
    """The same run with more to do, whose teacher is the same."""
    training = prepared.config.training.model_copy(update={"epochs": epochs, "seeds": 1, "baseline": False})
    return prepared.config.model_copy(update={"training": training})


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def all_ended(workers: RayWorkers, count: int) -> list[Ended]:
    """The next runs that end."""
    found, deadline = list[Ended](), time.monotonic() + PATIENCE
    while len(found) < count:
        assert time.monotonic() < deadline
        found += workers.ended(1.0)
    return found


def learned(store: Store, run_id: str) -> list[int]:
    """The epochs that the student of a run has been through."""
    told = [event for _, event in store.read_events(run_id)[0]]
    return [event.epoch for event in told if isinstance(event, Epoch) and event.stage == "distil"]


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    models = {role: timeless(result[role]) for role in ("teacher", "baseline", "student")}
    return {**result, **models, "seconds": None, "run_id": None}


def count(store: Store, run_id: str, kind: type[Event]) -> int:
    """How often something has happened to a run."""
    return sum(isinstance(event, kind) for _, event in store.read_events(run_id)[0])


def assert_same_as_alone(store: Store, run_id: str, prepared: Prepared) -> None:
    assert store.status(run_id).status == "finished"
    assert (store.run_folder(run_id) / "student.safetensors").read_bytes() == prepared.weights
    result = store.result(run_id)
    assert result is not None
    assert without_times(result) == without_times(prepared.result)
    assert result["run_id"] == run_id


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_a_run_on_a_node_is_the_run_alone(joined: Joined, prepared: Prepared, home: Store, shared: bool) -> None:
    run_ids = [home.create_run(prepared.config) for _ in range(2)]
    with closing(RayWorkers(home, shared=shared)) as workers:
        assert workers.slots == 2
        for run_id in run_ids:
            workers.submit(run_id)
        assert {ended.run_id for ended in all_ended(workers, 2) if ended.lost is None} == set(run_ids)
    for run_id in run_ids:
        assert_same_as_alone(home, run_id, prepared)
        assert count(home, run_id, RunFinished) == 1
        assert home.config(run_id) == prepared.config
        assert (home.run_folder(run_id) / "teacher.safetensors").stat().st_nlink >= 3  # no further copy of the teacher
        assert not home.is_claimed(run_id)
    assert joined.away.run_ids() == []
    assert shared or (joined.away.home / "teachers").is_dir()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_what_nodes_do_not_see_is_sent_to_them(
    joined: Joined, prepared: Prepared, home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home.home)
    own = Store(Path("/proc/self/cwd"))  # another folder for each process that looks
    run_id = own.create_run(prepared.config)
    with closing(RayWorkers(own)) as workers:
        workers.submit(run_id)
        assert all_ended(workers, 1) == [Ended(run_id)]
    assert_same_as_alone(home, run_id, prepared)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_a_run_is_cancelled_where_it_works(joined: Joined, prepared: Prepared, home: Store, shared: bool) -> None:
    run_id = home.create_run(longer(prepared))
    with closing(RayWorkers(home, shared=shared)) as workers:
        workers.submit(run_id)
        until(lambda: workers.ended(0) == [] and bool(learned(home, run_id)))
        assert home.status(run_id).status == "running"
        workers.cancel(run_id)
        began = time.monotonic()
        assert all_ended(workers, 1) == [Ended(run_id)]
        assert time.monotonic() - began < 5
    assert home.status(run_id).status == "cancelled"
    assert home.result(run_id) is None
    until(lambda: joined.away.run_ids() == [])


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_a_run_that_is_stopped_goes_on_where_it_was(
    joined: Joined, prepared: Prepared, home: Store, shared: bool
) -> None:
    config = longer(prepared, 200)
    run_id = home.create_run(config)
    with closing(RayWorkers(home, shared=shared)) as workers:
        workers.submit(run_id)
        until(lambda: workers.ended(0) == [] and bool(learned(home, run_id)))
        workers.stop()
        assert home.status(run_id).status == "interrupted"
        assert (home.run_folder(run_id) / "checkpoint" / "stages.json").is_file()
        workers.submit(run_id)
        assert all_ended(workers, 1) == [Ended(run_id)]
    assert home.status(run_id).status == "finished"
    assert learned(home, run_id) == [*range(1, config.training.epochs + 1)]


@pytest.mark.slow
def test_an_address_without_a_cluster_fails_soon() -> None:
    ray = pytest.importorskip("ray", reason="needs Ray: pip install -r requirements-ray.txt")
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"address must be one of a Ray cluster, got '127.0.0.1:9' where nobody"):
        joining.join(ray, "127.0.0.1:9")
    with pytest.raises(ConfigError, match="address must read host:port, got 'cluster'"):
        joining.join(ray, "cluster")
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other:
        threading.Thread(target=other.handle_request).start()
        with pytest.raises(ConfigError, match="where something else answers; start one there with: ray start --head"):
            joining.join(ray, f"127.0.0.1:{other.server_port}")
    assert time.monotonic() - began < 15


@pytest.mark.slow
def test_a_sweep_that_loses_a_node_has_each_cell_once_and_the_numbers_of_this_machine(
    joined: Joined, prepared: Prepared, home: Store, tmp_path: Path
) -> None:
    here = Store(shutil.copytree(home.home, tmp_path / "here"))
    axes = [{"field": "objective.beta", "values": [0, 1]}, {"field": "objective.temperature", "values": [1, 4]}]
    asked = {"base": longer(prepared, 60).model_dump(mode="json"), "axes": axes, "seeds": 1}

    def lose_a_node() -> None:
        until(lambda: sum(bool(learned(home, run_id)) for run_id in home.run_ids()) >= 2)
        joined.cluster.remove_node(joined.nodes.pop(), allow_graceful=False)

    losing = threading.Thread(target=lose_a_node)
    losing.start()
    there = swept(home, {**asked, "executor": "ray", "address": joined.cluster.address})
    losing.join()
    joined.add_node()
    assert len(there) == 4
    assert there == swept(here, asked)
    assert [count(home, run_id, RunFinished) for run_id in home.run_ids()] == [1, 1, 1]
    assert sorted(count(home, run_id, RunStarted) for run_id in home.run_ids()) == [1, 1, 2]


def swept(store: Store, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a sweep that is driven to its end in this process, without what no two runs share."""
    sweeps = Sweeps(store)
    sweep_id = sweeps.create(parse_sweep(settings))
    assert drive(sweep_id, sweeps) == "finished"
    differing = {"run_id", "seconds", "latency_ms", "teacher_latency_ms"}
    return [
        {name: value for name, value in row.items() if name not in differing} for row in tidy(sweeps.cells(sweep_id))
    ]
