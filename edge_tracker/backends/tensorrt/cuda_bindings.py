"""The CUDA driver through NVIDIA's own bindings, `cuda.bindings.driver`, with the interface that
`pycuda.driver` has, as far as the session and the engines use it.

The names below are thus the seam: whoever speaks it needs not know which of the two is installed.
The bindings are also what `cuda-python` and `cuda.core` stand on.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class CudaError(Exception):
    """The driver refused a call, or reports that earlier work failed."""


class CudaMemoryError(CudaError):
    """The device, or page-locked memory, is full."""


def load_driver() -> Any:
    """The module `cuda.bindings.driver`, or None where it is not installed."""
    try:
        return importlib.import_module("cuda.bindings.driver")
    except ImportError:
        return None


class CudaBindings:
    """In place of the module `pycuda.driver`, for one session. driver: `cuda.bindings.driver`.

    As with pycuda, streams and events are destroyed when they are forgotten; after the session's
    context was given up they went with it.
    """

    Error = CudaError
    MemoryError = CudaMemoryError

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.has_context = False

    def call(self, name: str, *arguments: Any) -> Any:
        """What the function of this name returns beside its status. Raises CudaError."""
        status, *values = getattr(self.driver, name)(*arguments)
        results = self.driver.CUresult
        if status != results.CUDA_SUCCESS:
            full = status == results.CUDA_ERROR_OUT_OF_MEMORY
            _, words = self.driver.cuGetErrorString(status)
            told = words.decode() if words else str(status)
            raise (CudaMemoryError if full else CudaError)(f"{name} failed: {told}")
        return values[0] if len(values) == 1 else tuple(values)

    def init(self) -> None:
        try:
            self.call("cuInit", 0)
        except RuntimeError as error:  # its own, where libcuda is missing
            raise CudaError(str(error)) from error

    def Device(self, ordinal: int) -> DriverDevice:  # noqa: N802
        return DriverDevice(self, ordinal)

    def Stream(self) -> DriverStream:  # noqa: N802
        return DriverStream(self)

    def Event(self) -> DriverEvent:  # noqa: N802
        return DriverEvent(self)

    def mem_get_info(self) -> tuple[int, int]:
        """Free and all memory of the device, in bytes."""
        free_bytes, total_bytes = self.call("cuMemGetInfo")
        return free_bytes, total_bytes

    def mem_alloc(self, size: int) -> DeviceMemory:
        return DeviceMemory(self, size)

    def pagelocked_empty(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """Its `base` has `free()`, after which nobody may touch the array."""
        return np.asarray(PageLockedMemory(self, tuple(shape), np.dtype(dtype)))

    def memcpy_htod_async(self, address: int, host: NDArray[Any], stream: DriverStream) -> None:
        self.call("cuMemcpyHtoDAsync", address, host.ctypes.data, host.nbytes, stream.raw)

    def memcpy_dtoh_async(self, host: NDArray[Any], address: int, stream: DriverStream) -> None:
        self.call("cuMemcpyDtoHAsync", host.ctypes.data, address, host.nbytes, stream.raw)

    def memcpy_dtod_async(self, to: int, source: int, size: int, stream: DriverStream) -> None:
        self.call("cuMemcpyDtoDAsync", to, source, size, stream.raw)

    def destroy(self, name: str, raw: Any) -> None:
        if self.has_context:
            with suppress(CudaError):
                self.call(name, raw)


class DriverDevice:
    def __init__(self, cuda: CudaBindings, ordinal: int) -> None:
        self._cuda = cuda
        self._raw = cuda.call("cuDeviceGet", ordinal)

    def retain_primary_context(self) -> PrimaryContext:
        return PrimaryContext(self._cuda, self._raw)


class PrimaryContext:
    def __init__(self, cuda: CudaBindings, device: Any) -> None:
        self._cuda = cuda
        self._device = device
        self._raw = cuda.call("cuDevicePrimaryCtxRetain", device)
        cuda.has_context = True

    def push(self) -> None:
        self._cuda.call("cuCtxPushCurrent", self._raw)

    def pop(self) -> None:
        self._cuda.call("cuCtxPopCurrent")

    def detach(self) -> None:
        """Give it up while it is current; the one before is current again."""
        self._cuda.has_context = False
        self.pop()
        self._cuda.call("cuDevicePrimaryCtxRelease", self._device)


class DriverStream:
    def __init__(self, cuda: CudaBindings) -> None:
        self._cuda = cuda
        self.raw = cuda.call("cuStreamCreate", 0)
        self.handle = int(self.raw)

    def synchronize(self) -> None:
        self._cuda.call("cuStreamSynchronize", self.raw)

    def __del__(self) -> None:
        if hasattr(self, "raw"):
            self._cuda.destroy("cuStreamDestroy", self.raw)


class DriverEvent:
    def __init__(self, cuda: CudaBindings) -> None:
        self._cuda = cuda
        self._raw = cuda.call("cuEventCreate", 0)

    def record(self, stream: DriverStream) -> None:
        self._cuda.call("cuEventRecord", self._raw, stream.raw)

    def query(self) -> bool:
        """Whether everything before it is done."""
        driver = self._cuda.driver
        (status,) = driver.cuEventQuery(self._raw)
        if status == driver.CUresult.CUDA_ERROR_NOT_READY:
            return False
        if status != driver.CUresult.CUDA_SUCCESS:
            self.synchronize()  # raises what happened, with its words
        return True

    def synchronize(self) -> None:
        self._cuda.call("cuEventSynchronize", self._raw)

    def time_since(self, earlier: DriverEvent) -> float:
        """Milliseconds."""
        return float(self._cuda.call("cuEventElapsedTime", earlier._raw, self._raw))

    def __del__(self) -> None:
        if hasattr(self, "_raw"):
            self._cuda.destroy("cuEventDestroy", self._raw)


class DeviceMemory:
    def __init__(self, cuda: CudaBindings, size: int) -> None:
        self._cuda = cuda
        self._raw = cuda.call("cuMemAlloc", size)

    def __int__(self) -> int:
        return int(self._raw)

    def free(self) -> None:
        self._cuda.call("cuMemFree", self._raw)


class PageLockedMemory:
    def __init__(self, cuda: CudaBindings, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._cuda = cuda
        size = int(np.prod(shape)) * dtype.itemsize
        self._address = int(cuda.call("cuMemAllocHost", size))
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": dtype.str,
            "data": (self._address, False),
        }

    def free(self) -> None:
        self._cuda.call("cuMemFreeHost", self._address)
