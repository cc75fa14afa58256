"""Work on a Dask cluster that is running already, in tasks such as a sequence each."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
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
        scheduler allows, or the scheduler is lost, the item's outcome is that of `lost`, which is
        given the reason. Raises BackendUnavailable if a worker lacks a package.
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
            except CancelledError:
                outcome = lost(tasks[finished], f"the scheduler of {self.address} has gone")
            except ImportError as error:
                raise _lacking(self.address, error.name) from error
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
    _refuse_other_than_scheduler(address)
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
        with _sent(bundle, artefacts, address, client) as name:
            yield Cluster(address, client, name)


@contextmanager
def _sent(
    bundle: Bundle, artefacts: Sequence[Artefact], address: str, client: Any
) -> Iterator[str]:
    from edge_tracker.measure.evaluation.sent_bundle import SentBundle

    sent = SentBundle(bundle, artefacts)
    try:
        try:
            client.register_plugin(sent)
        except Exception as error:  # Dask's own, in which the worker's stands as words
            if missing := re.search(r"No module named '([\w.]+)'", str(error)):
                raise _lacking(address, missing[1]) from error
            raise
        yield sent.name
    finally:
        # A scheduler may have gone, a worker may not have it: no reason to hide what came before.
        with suppress(Exception):
            client.unregister_worker_plugin(sent.name)


def _on_worker(
    task: Callable[[Item, Path | None], Outcome], bundle: str | None, item: Item
) -> Outcome:
    if bundle is None:
        return task(item, None)
    from distributed import get_worker

    from edge_tracker.measure.evaluation.sent_bundle import folder_of

    return task(item, folder_of(bundle, get_worker()))


def _lacking(address: str, package: str | None) -> BackendUnavailable:
    return BackendUnavailable(
        f"cluster {address}: a worker lacks the Python package {package}: install there what is "
        "installed here, in the same versions"
    )


def _refuse_other_than_scheduler(address: str) -> None:
    # Dask's client waits for ever for some of them, and complains in the background of others.
    from distributed.comm.addressing import get_address_host_port

    try:
        host_and_port = get_address_host_port(address)
    except ValueError as error:
        raise ValueError(f"cluster is {address!r}: expected tcp://HOST:PORT") from error
    try:
        # Where nobody listens Dask goes on trying.
        socket.create_connection(host_and_port, TIMEOUT_S).close()
        # In a thread, as a notebook's has a loop that is running.
        with ThreadPoolExecutor(1) as thread:
            asked = asyncio.wait_for(_kind(address), TIMEOUT_S)
            kind = thread.submit(asyncio.run, asked).result()
    except Exception as error:  # whatever another program's bytes are taken for
        reason = str(error) or f"nothing within {TIMEOUT_S} s"
        raise BackendUnavailable(
            f"cluster {address} does not answer as Dask's scheduler does ({reason}): start "
            "`dask scheduler` there, or give the address that it prints"
        ) from error
    if kind != "Scheduler":
        raise BackendUnavailable(
            f"cluster {address} is a Dask {kind}: give the address of its scheduler"
        )


async def _kind(address: str) -> str:
    from distributed.core import rpc

    async with rpc(address) as node:
        identity = await node.identity()
    return str(identity["type"])
