"""Recording a stream's work once, to launch it as a whole afterwards.

NVIDIA's own bindings have an interface for CUDA graphs, pycuda has none. `driver` below is the
module `cuda.bindings.driver`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class CaptureFailed(Exception):
    """The work cannot be recorded: enqueue it each time."""


def record(driver: Any, stream_handle: int, enqueue: Callable[[], None]) -> Any:
    """Record what `enqueue` puts on the stream, without running it: an executable graph.

    Raises CaptureFailed, and leaves the stream as it was, if the driver or `enqueue` fails.
    """
    stream = driver.CUstream(stream_handle)
    # Thread-local, so that other threads of the application may use CUDA meanwhile.
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    _call(driver, driver.cuStreamBeginCapture(stream, mode))
    try:
        enqueue()
    except Exception as error:  # whatever it is, the capture has to be ended
        status, graph = driver.cuStreamEndCapture(stream)
        if status == driver.CUresult.CUDA_SUCCESS:
            driver.cuGraphDestroy(graph)
        raise CaptureFailed(str(error)) from error
    graph = _call(driver, driver.cuStreamEndCapture(stream))
    try:
        return _call(driver, driver.cuGraphInstantiate(graph, 0))
    finally:
        driver.cuGraphDestroy(graph)


def launch(driver: Any, executable: Any, stream_handle: int) -> None:
    """Raises CaptureFailed if the driver refuses."""
    _call(driver, driver.cuGraphLaunch(executable, driver.CUstream(stream_handle)))


def destroy(driver: Any, executable: Any) -> None:
    driver.cuGraphExecDestroy(executable)


def _call(driver: Any, returned: tuple[Any, ...]) -> Any:
    """The value of a driver call, which returns a status and perhaps a value."""
    status, *values = returned
    if status != driver.CUresult.CUDA_SUCCESS:
        raise CaptureFailed(str(status))
    return values[0] if values else None
