"""A CUDA device as the engines see it: its primary context, one stream, and what must be freed."""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from edge_tracker.errors import BackendUnavailable, NotInitialised


class CudaSession:
    """One stream in the primary context of a device, shared by both graphs.

    The primary context is the one that PyTorch, CuPy and TensorRT itself use. It is current only
    inside `current()`: any thread may call, one at a time, and the application's own context is
    current again afterwards. What was handed to `on_close` runs once, newest first: at `close`,
    when the session is forgotten, or when Python exits, whichever comes first.

    cuda: `pycuda.driver` or CudaBindings.
    """

    def __init__(self, cuda: Any, ordinal: int) -> None:
        self.cuda = cuda
        cuda.init()
        self._context = cuda.Device(ordinal).retain_primary_context()
        self._stream: list[Any] = []
        self._releases: list[Callable[[], None]] = []
        # It must not refer to the session, which otherwise would never be forgotten.
        self._finalizer = weakref.finalize(
            self, _release_all, self._context, self._stream, self._releases
        )
        with self.current():
            self._stream.append(cuda.Stream())

    @property
    def stream(self) -> Any:
        return self._stream[0]

    @contextmanager
    def current(self) -> Iterator[None]:
        """The context is current inside the block. Raises NotInitialised once closed."""
        if not self._finalizer.alive:
            raise NotInitialised("this TensorRT graph was closed: open the bundle again")
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def on_close(self, release: Callable[[], None]) -> None:
        """`release` must not refer to the session."""
        self._releases.append(release)

    def close(self) -> None:
        """Free everything. Harmless when repeated."""
        self._finalizer()


def load_cuda() -> Any:
    """NVIDIA's own bindings where they are installed, else pycuda. Raises BackendUnavailable."""
    from edge_tracker.backends.tensorrt.cuda_bindings import CudaBindings, load_driver

    if (driver := load_driver()) is not None:
        return CudaBindings(driver)
    try:
        return importlib.import_module("pycuda.driver")
    except ImportError as error:
        raise BackendUnavailable(
            f"pycuda does not load ({error}); it needs NVIDIA's driver, and to be compiled for "
            "this CUDA: pip install --force-reinstall --no-cache-dir --no-deps pycuda"
        ) from error


def open_session(ordinal: int) -> CudaSession:
    """Raises BackendUnavailable if no bindings load or the driver gives no context."""
    cuda = load_cuda()
    try:
        return CudaSession(cuda, ordinal)
    except cuda.Error as error:
        raise BackendUnavailable(
            f"the CUDA driver gives no context on device {ordinal} ({error}); see whether other "
            "programs hold its memory, or restart the machine"
        ) from error


def _release_all(context: Any, stream: list[Any], releases: list[Callable[[], None]]) -> None:
    """One that fails, as all do after a crash on the device, must not keep the others."""
    context.push()
    try:
        with suppress(Exception):
            stream[0].synchronize()
        while releases:
            with suppress(Exception):
                releases.pop()()
        stream.clear()
    finally:
        # While it is current: this makes the application's own context current again.
        context.detach()
