"""Work on a Dask cluster that is running already, in tasks such as a sequence each."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from edge_tracker.bundle.manifest import Artefact
from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import BackendUnavailable
from edge_tracker.installing import install_command

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

#: For the scheduler's answer, and for its first worker.
TIMEOUT_S = 30


@dataclass(frozen=True)
class Cluster:
    """address: of the scheduler. client: Dask's. bundle: the name of what its workers were sent."""

    address: str
    client: Any
    bundle: str | None

    def run(
        self,
        task: Callable[[Item, Path | None], Outcome],
        lost: Callable[[Item, str], Outcome],
        items: Sequence[Item],
    ) -> Iterator[Outcome]:
        """What `task` returns for each item on a worker, as it becomes known.

        task: also given where the worker has the bundle; None if it was sent none. An item whose
        worker is lost is done again on another one; when that has happened as often as the
        scheduler allows, the item's outcome is that of `lost`, which is given the reason. Raises
        BackendUnavailable if a worker lacks a package.
        """
        from distributed import KilledWorker, as_completed

        on_worker = partial(_on_worker, task, self.bundle)
        tasks = dict(zip(self.client.map(on_worker, items, pure=False), items, strict=True))
        for finished in as_completed(tasks, loop=self.client.loop):
            try:
                outcome = finished.result()
            except KilledWorker as error:
                attempts = error.allowed_failures + 1
                outcome = lost(
                    tasks[finished], f"its worker on the cluster died {attempts} time(s)"
                )
            except ImportError as error:
                raise _lacking(self.address, error) from error
            yield outcome


@contextmanager
def open_cluster(
    address: str, bundle: Bundle | None = None, artefacts: Sequence[Artefact] = ()
) -> Iterator[Cluster]:
    """address: of the scheduler, as tcp://HOST:8786. bundle: sent once to each worker, with these
    of its artefacts, and removed there at the end.

    Raises BackendUnavailable if the package distributed is missing here, the scheduler does not
    answer, it has no worker, or a worker lacks a package; ValueError for what is not an address;
    BundleError if a file of the bundle is missing or altered.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise BackendUnavailable(
            f"cluster {address} needs the Python package distributed: {install_command('cluster')}"
        ) from error
    _refuse_silent_scheduler(address)
    with Client(address, timeout=TIMEOUT_S, set_as_default=False) as client:
        try:
            client.wait_for_workers(1, timeout=TIMEOUT_S)
        except TimeoutError as error:
            raise BackendUnavailable(
                f"cluster {address} has no worker after {TIMEOUT_S} s: "
                f"start one with `dask worker {address} --nthreads 1`"
            ) from error
        if bundle is None:
            yield Cluster(address, client, None)
            return
        from edge_tracker.measure.evaluation.sent_bundle import SentBundle

        sent = SentBundle(bundle, artefacts)
        try:
            client.register_plugin(sent)
        except ImportError as error:
            raise _lacking(address, error) from error
        try:
            yield Cluster(address, client, sent.name)
        finally:
            client.unregister_worker_plugin(sent.name)


def _on_worker(
    task: Callable[[Item, Path | None], Outcome], bundle: str | None, item: Item
) -> Outcome:
    if bundle is None:
        return task(item, None)
    from distributed import get_worker

    from edge_tracker.measure.evaluation.sent_bundle import folder_of

    return task(item, folder_of(bundle, get_worker()))


def _lacking(address: str, error: ImportError) -> BackendUnavailable:
    return BackendUnavailable(
        f"cluster {address}: a worker lacks the Python package {error.name}: install there what is "
        "installed here, in the same versions"
    )


def _refuse_silent_scheduler(address: str) -> None:
    # Dask's client waits and leaves threads behind that complain for as long again.
    from distributed.comm.addressing import get_address_host_port

    try:
        with socket.create_connection(get_address_host_port(address), TIMEOUT_S):
            pass
    except ValueError as error:
        raise ValueError(f"cluster is {address!r}: expected tcp://HOST:PORT") from error
    except OSError as error:
        raise BackendUnavailable(
            f"cluster {address} does not answer ({error}): start `dask scheduler` there, or give "
            "the address that it prints"
        ) from error
