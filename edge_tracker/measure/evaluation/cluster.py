"""Sequences as tasks on a Dask cluster that is running already."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from edge_tracker.errors import BackendUnavailable
from edge_tracker.installing import install_command
from edge_tracker.measure.evaluation.layouts import SequenceFolder

Outcome = TypeVar("Outcome")

#: For the scheduler's answer, and for its first worker.
TIMEOUT_S = 30


def run_on_cluster(
    run: Callable[[SequenceFolder], Outcome],
    lost: Callable[[SequenceFolder, str], Outcome],
    found: Sequence[SequenceFolder],
    address: str,
) -> Iterator[Outcome]:
    """What `run` returns for each sequence on a worker, as it becomes known.

    address: of the scheduler, as tcp://HOST:8786. A sequence whose worker is lost is done again on
    another one; when that has happened as often as the scheduler allows, the sequence's outcome is
    that of `lost`, which is given the reason. Raises BackendUnavailable if the package distributed
    is missing here, the scheduler does not answer, it has no worker, or a worker lacks a package.
    """
    try:
        from distributed import Client, KilledWorker, as_completed
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
        sequences = dict(zip(client.map(run, found, pure=False), found, strict=True))
        for task in as_completed(sequences, loop=client.loop):
            try:
                outcome = task.result()
            except KilledWorker as error:
                attempts = error.allowed_failures + 1
                outcome = lost(
                    sequences[task], f"its worker on the cluster died {attempts} time(s)"
                )
            except ImportError as error:
                raise BackendUnavailable(
                    f"cluster {address}: a worker lacks the Python package {error.name}: install "
                    "there what is installed here, in the same versions"
                ) from error
            yield outcome


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
