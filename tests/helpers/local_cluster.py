"""A Dask cluster on this machine: a scheduler and workers as processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.helpers.places import REPOSITORY


@dataclass
class LocalCluster:
    """folder: of logs and what workers keep. allowed_failures: workers that a task may lose."""

    folder: Path
    allowed_failures: int
    stack: ExitStack
    address: str = ""
    scheduler: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_scheduler(self) -> None:
        facts = self.folder / "scheduler.json"
        options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show"]
        self.scheduler = self._start("scheduler", *options, "--scheduler-file", str(facts))
        deadline = time.monotonic() + 60
        while not facts.exists() or not facts.read_text():
            assert time.monotonic() < deadline, (self.folder / "cluster.log").read_text()
            time.sleep(0.05)
        self.address = json.loads(facts.read_text())["address"]

    def start_worker(self, place: Path = REPOSITORY) -> None:
        """place: the folder in which it looks for modules first."""
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
        folder = ["--local-directory", str(self.folder)]
        worker = self._start("worker", self.address, *options, *folder, place=place)
        self.workers.append(worker)

    def _start(
        self, program: str, *arguments: str, place: Path = REPOSITORY
    ) -> subprocess.Popen[bytes]:
        allowed = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(self.allowed_failures)}
        with (self.folder / "cluster.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{program}", *arguments],
                cwd=place,
                env={**os.environ, **allowed},
                stdout=log,
                stderr=log,
            )
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process


@contextmanager
def local_cluster(distributed: Any, folder: Path, allowed_failures: int) -> Iterator[LocalCluster]:
    """With two workers that are ready. distributed: the package."""
    with ExitStack() as stack:
        cluster = LocalCluster(folder, allowed_failures, stack)
        cluster.start_scheduler()
        for _ in range(2):
            cluster.start_worker()
        with distributed.Client(cluster.address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield cluster
