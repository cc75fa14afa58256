"""A bundle on its way to the workers of a Dask cluster, which need not share a disk for it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from distributed import Worker, WorkerPlugin

from edge_tracker.bundle.manifest import MANIFEST, Artefact
from edge_tracker.bundle.opening import Bundle


class SentBundle(WorkerPlugin):  # type: ignore[misc]
    """The scheduler keeps it and gives it to each worker once, to those too that join later.

    artefacts: those to send; files of others stay here. Raises BundleError for a file that is
    missing or altered.
    """

    def __init__(self, bundle: Bundle, artefacts: Sequence[Artefact]) -> None:
        # Of its own for each run: whoever is done takes nothing from another that has the same.
        self.name = f"bundle-{uuid4().hex}"
        wanted = {path for artefact in artefacts for path in artefact.files()}
        others = {path for artefact in bundle.artefacts for path in artefact.files()} - wanted
        names = sorted(bundle.files.keys() - others)
        bundle.check_files(names)
        self._files = {name: (bundle.path / name).read_bytes() for name in (MANIFEST, *names)}

    def setup(self, worker: Worker) -> None:
        folder = folder_of(self.name, worker)
        folder.mkdir(mode=0o700)
        for name, content in self._files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def teardown(self, worker: Worker) -> None:
        shutil.rmtree(folder_of(self.name, worker), ignore_errors=True)


def folder_of(name: str, worker: Worker) -> Path:
    """Inside the worker's own folder, which Dask removes when the worker ends, however it ends."""
    return Path(worker.local_directory) / name
