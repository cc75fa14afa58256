"""Sequences on a Dask cluster: a scheduler and two workers as processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from edge_tracker import Bundle, Evaluation, evaluate
from edge_tracker.cli.main import main
from edge_tracker.errors import BackendUnavailable
from edge_tracker.measure.evaluation import cluster
from edge_tracker.measure.evaluation.cluster import open_cluster
from edge_tracker.measure.evaluation.contenders import Contender
from edge_tracker.measure.evaluation.tables import conditions, overall_table, sequence_table
from tests.helpers.fake_contenders import OpenSeer, Seer, make_sequence
from tests.helpers.local_cluster import LocalCluster

NAMES = "abcdef"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        make_sequence(tmp_path / "sequences", name, frames=6 + number)
    return tmp_path / "sequences"


@dataclass(frozen=True)
class LoggingSeer:
    """A Seer that misses by 3 px and writes which process it starts in.

    waits_s: before each frame, so that a sequence lasts. deadly_left: the left edge at which it
    kills its process. needs: a package that it imports.
    """

    log: Path
    waits_s: float = 0.0
    deadly_left: int | None = None
    needs: str | None = None
    name: str = "seer"

    def identity(self) -> dict[str, str]:
        return {"tracker": self.name}

    def open(self) -> OpenLoggingSeer:
        with self.log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return OpenLoggingSeer(self)

    def started(self) -> list[int]:
        return [int(line) for line in self.log.read_text().split()]


class OpenLoggingSeer(OpenSeer):
    def __init__(self, seer: LoggingSeer) -> None:
        super().__init__(Seer(error_px=3))
        self._logging = seer

    def update(self, frame: np.ndarray) -> tuple[float, float, float, float]:
        if self._logging.needs is not None:
            import_module(self._logging.needs)
        if frame[0, 0, 0] == self._logging.deadly_left:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self._logging.waits_s)
        return super().update(frame)


def tables(evaluation: Evaluation) -> list[list[tuple[str, ...]]]:
    """Without the columns of times."""
    kept = []
    for columns, rows in (sequence_table(evaluation), overall_table(evaluation)):
        times = {i for i, name in enumerate(columns) if "ms" in name or name.endswith("/s")}
        assert times
        kept.append([tuple(c for i, c in enumerate(row) if i not in times) for row in rows])
    return kept


def evaluate_on(address: str, dataset: Path, peer: Contender, **more: Any) -> Evaluation:
    return evaluate("absent", dataset, backends=(), peers=[peer], cluster=address, **more)


def test_two_workers_of_which_one_is_killed_give_the_table_of_one_process(
    dataset: Path, tmp_path: Path, two_workers: LocalCluster
) -> None:
    alone = evaluate("absent", dataset, backends=(), peers=[Seer(error_px=3)])
    seer = LoggingSeer(tmp_path / "started", waits_s=0.15)
    killed: list[int] = []

    def kill_one(done: int, total: int | None, name: str) -> None:
        # Once both have started on something, and well before the end.
        busy = {worker.pid for worker in two_workers.workers} & set(seer.started())
        if not killed and len(busy) == 2 and done >= 2:
            # The one that started last is in the middle of a sequence.
            killed.append(seer.started()[-1])
            os.kill(killed[0], signal.SIGKILL)

    together = evaluate_on(two_workers.address, dataset, seer, on_progress=kill_one)
    assert killed
    assert len(seer.started()) > len(NAMES), "no sequence was done again"
    assert seer.started()[-1] not in killed
    assert together.failures == ()
    assert tables(together) == tables(alone)
    for name in NAMES:
        ours, theirs = (e.results["seer"][name].trajectory for e in (alone, together))
        np.testing.assert_array_equal(ours.boxes_xywh, theirs.boxes_xywh)
    assert f"on the cluster {two_workers.address}" in conditions(together)


@pytest.mark.parametrize("two_workers", [0], indirect=True)
def test_a_sequence_that_kills_its_worker_is_a_failure_and_the_others_go_on(
    dataset: Path, tmp_path: Path, two_workers: LocalCluster
) -> None:
    only_in_the_last = 6 + len(NAMES) - 1
    seer = LoggingSeer(tmp_path / "started", deadly_left=only_in_the_last)
    evaluation = evaluate_on(two_workers.address, dataset, seer)
    assert evaluation.sequences == tuple(NAMES[:-1])
    (failure,) = evaluation.failures
    assert failure.reason == "sequence f: its worker on the cluster died 1 time(s)"


def test_a_package_that_a_worker_lacks_is_named(
    dataset: Path, tmp_path: Path, two_workers: LocalCluster
) -> None:
    seer = LoggingSeer(tmp_path / "started", needs="a_package_that_is_not_there")
    with pytest.raises(BackendUnavailable, match=r"a worker lacks .* a_package_that_is_not_there"):
        evaluate_on(two_workers.address, dataset, seer)


def test_a_worker_without_this_package_is_named_and_the_others_keep_nothing(
    nano_bundle: Bundle, dataset: Path, tmp_path: Path, two_workers: LocalCluster
) -> None:
    hidden = tmp_path / "hidden" / "edge_tracker"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'hidden'\")")
    two_workers.start_worker(hidden.parent)
    distributed = pytest.importorskip("distributed")
    with distributed.Client(two_workers.address, set_as_default=False) as client:
        client.wait_for_workers(3, timeout=60)
    with pytest.raises(BackendUnavailable, match="a worker lacks the Python package hidden"):
        evaluate(nano_bundle.path, dataset, backends=["onnxruntime"], cluster=two_workers.address)
    assert list(two_workers.folder.rglob("bundle-*")) == []


def test_what_came_before_the_scheduler_went_is_kept(
    dataset: Path, tmp_path: Path, two_workers: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "1s")

    def kill(done: int, total: int | None, name: str) -> None:
        if done == 2:
            assert two_workers.scheduler is not None
            two_workers.scheduler.kill()

    seer = LoggingSeer(tmp_path / "started", waits_s=0.05)
    evaluation = evaluate_on(two_workers.address, dataset, seer, on_progress=kill)
    assert len(evaluation.sequences) >= 2
    assert len(evaluation.failures) == len(NAMES) - len(evaluation.sequences) > 0
    assert "the scheduler of tcp://" in evaluation.failures[0].reason


def test_from_the_shell(
    nano_bundle: Bundle,
    dataset: Path,
    two_workers: LocalCluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(dataset.parent)
    options = ["--backend", "onnxruntime", "--threads", "1", "--sequences", "a,b"]
    assert main(["eval", str(nano_bundle.path), "sequences", *options, "--json", "1.json"]) == 0
    cluster = ["--cluster", two_workers.address, "--json", "2.json"]
    assert main(["eval", str(nano_bundle.path), "sequences", *options, *cluster]) == 0
    assert two_workers.address in capsys.readouterr().out.replace("\n", "")
    alone, together = (json.loads(Path(f"{n}.json").read_text()) for n in (1, 2))
    assert (alone["cluster"], together["cluster"]) == (None, two_workers.address)
    for report in (alone, together):
        (tracker,) = report["trackers"].values()
        report["scores"] = {s: tracker["sequences"][s]["success_auc"] for s in "ab"}
    assert together["scores"] == alone["scores"]


# The bundle that is sent


def files_in(item: int, bundle: Path | None) -> tuple[Path, dict[str, bytes], int]:
    """Run on a worker: where it has the bundle, what is in it, and who may read it."""
    assert bundle is not None
    files = [path for path in bundle.rglob("*") if path.is_file()]
    content = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in files}
    time.sleep(0.1)
    return bundle, content, bundle.stat().st_mode & 0o777


def test_each_worker_is_sent_the_artefacts_in_use_and_keeps_nothing(
    nano_bundle: Bundle, two_workers: LocalCluster
) -> None:
    used = nano_bundle.find("onnx", "fp32")
    assert used is not None
    others = {path for each in nano_bundle.artefacts if each != used for path in each.files()}
    expected = {"manifest.json", *nano_bundle.files} - others
    folders = set()

    def no_loss(item: int, reason: str) -> tuple[Path, dict[str, bytes], int]:
        raise AssertionError(reason)

    with open_cluster(two_workers.address, nano_bundle, [used]) as cluster:
        # The first two have been sent it; one more joins later.
        two_workers.start_worker()
        for _ in range(50):
            for folder, content, mode in cluster.run(files_in, no_loss, range(12)):
                assert content.keys() == expected
                assert all(
                    content[name] == (nano_bundle.path / name).read_bytes() for name in expected
                )
                assert mode == 0o700
                folders.add(folder)
            if len(folders) == 3:
                break
        assert len(folders) == 3
        assert nano_bundle.path not in folders
        assert others
    assert [folder for folder in folders if folder.exists()] == []


def test_workers_need_no_bundle_of_their_own(
    nano_bundle: Bundle, dataset: Path, tmp_path: Path, two_workers: LocalCluster
) -> None:
    bundle = shutil.copytree(nano_bundle.path, tmp_path / "bundle")

    def take_away(done: int, total: int | None, name: str) -> None:
        if bundle.exists():
            bundle.rename(tmp_path / "elsewhere")

    evaluation = evaluate(
        bundle,
        dataset,
        backends=["onnxruntime"],
        precisions=["fp32"],
        num_threads=1,
        cluster=two_workers.address,
        on_progress=take_away,
    )
    assert not bundle.exists()
    assert evaluation.failures == ()
    assert evaluation.sequences == tuple(NAMES)


# Without a cluster


def test_without_the_package_it_is_said_what_to_install(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BackendUnavailable, match=r"package distributed: .*\[cluster\]"):
        evaluate_on("tcp://127.0.0.1:1", dataset, Seer())


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("tcp://127.0.0.1:1", BackendUnavailable, "127.0.0.1:1 does not answer .*dask scheduler"),
        ("somewhere", ValueError, "cluster is 'somewhere': expected tcp://HOST:PORT"),
    ],
)
def test_an_address_without_a_scheduler(
    address: str, error: type[Exception], words: str, dataset: Path
) -> None:
    pytest.importorskip("distributed", reason="needs edge-tracker[cluster]")
    with pytest.raises(error, match=words):
        evaluate_on(address, dataset, Seer())


class Web(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)


@pytest.mark.parametrize("answers", [False, True], ids=["silent", "web"])
def test_another_program_at_the_address(
    answers: bool, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="needs edge-tracker[cluster]")
    monkeypatch.setattr(cluster, "TIMEOUT_S", 0.5)
    with HTTPServer(("127.0.0.1", 0), Web) as server:
        if answers:
            Thread(target=server.serve_forever, daemon=True).start()
        address = f"tcp://127.0.0.1:{server.server_port}"
        words = f"{address} does not answer as Dask's scheduler does"
        with pytest.raises(BackendUnavailable, match=words):
            evaluate_on(address, dataset, Seer())
        if answers:
            server.shutdown()


@pytest.mark.parametrize("scheme", ["tls", "ws"])
def test_a_scheduler_that_is_spoken_to_otherwise(
    scheme: str, dataset: Path, two_workers: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "TIMEOUT_S", 2)
    address = two_workers.address.replace("tcp", scheme)
    with pytest.raises(BackendUnavailable, match=f"cluster {scheme}://.* does not answer as Dask"):
        evaluate_on(address, dataset, Seer())


def test_a_notebook_whose_own_loop_is_running(dataset: Path, two_workers: LocalCluster) -> None:
    async def cell() -> Evaluation:
        return evaluate_on(two_workers.address, dataset, Seer())

    assert asyncio.run(cell()).sequences == tuple(NAMES)


def test_a_workers_address(dataset: Path, two_workers: LocalCluster) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.Client(two_workers.address, set_as_default=False) as client:
        address = next(iter(client.scheduler_info()["workers"]))
    with pytest.raises(BackendUnavailable, match="is a Dask Worker: give the address of its sched"):
        evaluate_on(address, dataset, Seer())


@pytest.mark.parametrize("other", [{"jobs": 2}, {"camera_fps": 30.0}])
def test_what_does_not_go_with_a_cluster(other: dict[str, float], dataset: Path) -> None:
    with pytest.raises(ValueError, match="machines of its own: leave out"):
        evaluate("x", dataset, backends=(), peers=[Seer()], cluster="tcp://x:1", **other)  # type: ignore[arg-type]
