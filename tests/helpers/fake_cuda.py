"""A CUDA driver whose device memory is bytes of this process: FakeCuda with the interface of
`pycuda.driver`, FakeDriver with that of `cuda.bindings.driver`, as far as they are used.

As on a device, work waits on its stream until somebody waits for it, so that memory which is
overwritten too early, or read too early, gives wrong results here too. It insists on a current
context for every call, and remembers the calls.
"""

from __future__ import annotations

import ctypes
import threading
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

FIRST_HANDLE = 0x1000
#: What one call takes the host, and one execution of an engine the device.
CALL_MS, EXECUTION_MS = 0.0625, 8.0
BYTES_PER_MS_IN, BYTES_PER_MS_OUT = 1 << 16, 1 << 12


class CudaError(Exception):
    pass


class CudaMemoryError(CudaError):
    pass


class FakeCuda:
    """calls: names of the calls, in order. memory_bytes: of the device. crash: once set, what waits
    for the device fails, as after an illegal access. host_ms, device_ms: how far each of the two
    is; none of the device's work begins before the host has submitted it.
    """

    Error = CudaError
    MemoryError = CudaMemoryError

    def __init__(self, memory_bytes: int = 1 << 30) -> None:
        self.calls: list[str] = []
        self.memory_bytes = memory_bytes
        self.crash = False
        self.host_ms = self.device_ms = 0.0
        self.memory: dict[int, bytearray] = {}
        self.made: Counter[str] = Counter()
        self.released: Counter[str] = Counter()
        self.streams: dict[int, list[Any]] = {}
        self.capturing: dict[int, list[Callable[[], None]]] = {}
        self.stacks: dict[int, list[Any]] = {}
        self._next = FIRST_HANDLE
        self.Stream = lambda: FakeStream(self)
        self.Event = lambda: ForgottenEvent(self)
        self.Device = lambda ordinal: SimpleNamespace(
            retain_primary_context=lambda: FakePrimaryContext(self, ordinal)
        )

    @property
    def stack(self) -> list[Any]:
        """Contexts of the calling thread, the current one last."""
        return self.stacks.setdefault(threading.get_ident(), [])

    def called(self, name: str) -> None:
        if not self.stack:
            raise CudaError(f"{name}: no context is current")
        self.calls.append(name)
        self.host_ms += CALL_MS

    def make(self, kind: str) -> int:
        self.made[kind] += 1
        self._next += FIRST_HANDLE
        return self._next

    def skip(self, size: int) -> None:
        """So that no two allocations overlap."""
        self._next += size

    def leaks(self) -> dict[str, int]:
        """What was made and not released, or released more than once."""
        kinds = {*self.made, *self.released}
        differences = {kind: self.made[kind] - self.released[kind] for kind in kinds}
        left_current = {"current context": sum(len(stack) for stack in self.stacks.values())}
        return {kind: count for kind, count in {**differences, **left_current}.items() if count}

    def enqueue(
        self, handle: int, work: Callable[[], None], takes_ms: float = EXECUTION_MS
    ) -> None:
        submitted_ms = self.host_ms

        def take_time() -> None:
            self.device_ms = max(self.device_ms, submitted_ms) + takes_ms
            work()

        self.capturing.get(handle, self.streams[handle]).append(take_time)

    def wait(self, handle: int, until: object = None) -> None:
        """Do the work on a stream, up to a mark or all of it."""
        queue = self.streams[handle]
        if self.crash:
            queue.clear()
            raise CudaError("an illegal memory access was encountered")
        while queue:
            work = queue.pop(0)
            if callable(work):
                work()
            if work is until:
                break
        self.host_ms = max(self.host_ms, self.device_ms)

    def array(self, address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        """The device's memory at an address, which may be inside what was allocated."""
        start = max(block for block in self.memory if block <= address)
        count = int(np.prod(shape))
        array = np.frombuffer(self.memory[start], dtype, count, address - start)
        return array.reshape(shape)

    # pycuda.driver

    def init(self) -> None:
        self.calls.append("init")

    def mem_get_info(self) -> tuple[int, int]:
        used = sum(len(block) for block in self.memory.values())
        return self.memory_bytes - used, self.memory_bytes

    def mem_alloc(self, size: int) -> Any:
        self.called("mem_alloc")
        if size > self.mem_get_info()[0]:
            raise CudaMemoryError("cuMemAlloc failed: out of memory")
        return FakeAllocation(self, size)

    def pagelocked_empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        self.called("pagelocked_empty")
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.ndarray(shape, dtype, buffer=FakePageLocked(self, size))

    def memcpy_htod_async(self, address: int, host: np.ndarray[Any, Any], stream: Any) -> None:
        self.called("copy in")
        assert host.flags.c_contiguous

        def copy() -> None:
            self.memory[address][: host.nbytes] = host.tobytes()

        self.enqueue(stream.handle, copy, host.nbytes / BYTES_PER_MS_IN)

    def memcpy_dtoh_async(self, host: np.ndarray[Any, Any], address: int, stream: Any) -> None:
        self.called("copy out")

        def copy() -> None:
            host[...] = self.array(address, host.shape, host.dtype)

        self.enqueue(stream.handle, copy, host.nbytes / BYTES_PER_MS_OUT)

    def memcpy_dtod_async(self, to: int, source: int, size: int, stream: Any) -> None:
        self.called("copy on device")

        def copy() -> None:
            self.array(to, (size,), np.uint8)[:] = self.array(source, (size,), np.uint8)

        self.enqueue(stream.handle, copy, 0.125)


class FakePrimaryContext:
    def __init__(self, cuda: FakeCuda, ordinal: int) -> None:
        self._cuda = cuda
        self.ordinal = ordinal
        cuda.make("context")

    def push(self) -> None:
        self._cuda.stack.append(self)

    def pop(self) -> None:
        assert self._cuda.stack.pop() is self

    def detach(self) -> None:
        assert self._cuda.stack.pop() is self
        self._cuda.released["context"] += 1


class FakeAllocation:
    def __init__(self, cuda: FakeCuda, size: int) -> None:
        self._cuda = cuda
        self._address = cuda.make("device memory")
        cuda.skip(size)
        cuda.memory[self._address] = bytearray(size)

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        self._cuda.called("free")
        self._cuda.released["device memory"] += 1
        del self._cuda.memory[self._address]


class FakePageLocked(bytearray):
    def __init__(self, cuda: FakeCuda, size: int) -> None:
        super().__init__(size)
        self._cuda = cuda
        cuda.make("page-locked memory")

    def free(self) -> None:
        self._cuda.called("free page-locked")
        self._cuda.released["page-locked memory"] += 1


class FakeStream:
    def __init__(self, cuda: FakeCuda) -> None:
        cuda.called("Stream")
        self._cuda = cuda
        self.handle = cuda.make("stream")
        cuda.streams[self.handle] = []

    def synchronize(self) -> None:
        self._cuda.called("synchronise stream")
        self._cuda.wait(self.handle)

    def __del__(self) -> None:
        if self._cuda.stack:
            self._cuda.released["stream"] += 1


class FakeEvent:
    def __init__(self, cuda: FakeCuda) -> None:
        cuda.called("Event")
        self._cuda = cuda
        self._handle = 0
        self._mark: object = None
        self._reached_ms: list[float] = []
        cuda.make("event")

    def record(self, stream: Any) -> None:
        self._cuda.called("record event")
        # The mark must not refer to the event: a cycle would outlive the context.
        cuda, submitted_ms, self._reached_ms = self._cuda, self._cuda.host_ms, []
        reached_ms = self._reached_ms
        self._handle = stream.handle
        self._mark = lambda: reached_ms.append(max(cuda.device_ms, submitted_ms))
        cuda.streams[stream.handle].append(self._mark)

    def time_since(self, earlier: FakeEvent) -> float:
        self._cuda.called("time between events")
        return self._reached_ms[0] - earlier._reached_ms[0]

    def query(self) -> bool:
        self._cuda.called("query event")
        return self._mark is None or self._mark not in self._cuda.streams[self._handle]

    def synchronize(self) -> None:
        self._cuda.called("synchronise")
        if not (self._mark is None or self._mark not in self._cuda.streams[self._handle]):
            self._cuda.wait(self._handle, self._mark)


class ForgottenEvent(FakeEvent):
    """Is destroyed when it is forgotten, as pycuda's."""

    def __del__(self) -> None:
        if self._cuda.stack:
            self._cuda.released["event"] += 1


class FakeDriver:
    """`cuda.bindings.driver`. Functions answer with a status and what they return. refuse: name of
    the function that fails.
    """

    CUresult = SimpleNamespace(CUDA_SUCCESS=0, CUDA_ERROR_OUT_OF_MEMORY=2, CUDA_ERROR_NOT_READY=600)
    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1)
    CUstream = int

    def __init__(self, cuda: FakeCuda, refuse: str = "") -> None:
        self._cuda = cuda
        self.refuse = refuse
        self._words = {901: b"operation not permitted"}
        self._page_locked: dict[int, FakePageLocked] = {}
        self._allocations: dict[int, FakeAllocation] = {}

    def _status(self, name: str) -> int:
        self._cuda.called(name)
        return 901 if name == self.refuse else 0

    def _told(self, work: Callable[[], Any]) -> tuple[Any, ...]:
        """What `work` returns, or the status that stands for what it raised."""
        try:
            value = work()
        except CudaError as error:
            status = 2 if isinstance(error, CudaMemoryError) else 700
            self._words[status] = str(error).encode()
            return (status, None)
        return (0, value)

    def cuGetErrorString(self, status: int) -> tuple[int, bytes]:
        return 0, self._words[status]

    def cuInit(self, flags: int) -> tuple[int]:
        assert flags == 0
        self._cuda.init()
        return (901 if self.refuse == "cuInit" else 0,)

    def cuDeviceGet(self, ordinal: int) -> tuple[int, int]:
        return 0, ordinal

    def cuDevicePrimaryCtxRetain(self, device: int) -> tuple[int, FakePrimaryContext]:
        return 0, FakePrimaryContext(self._cuda, device)

    def cuDevicePrimaryCtxRelease(self, device: int) -> tuple[int]:
        self._cuda.released["context"] += 1
        return (0,)

    def cuCtxPushCurrent(self, context: FakePrimaryContext) -> tuple[int]:
        context.push()
        return (0,)

    def cuCtxPopCurrent(self) -> tuple[int, FakePrimaryContext]:
        return 0, self._cuda.stack.pop()

    def cuMemGetInfo(self) -> tuple[int, int, int]:
        return (0, *self._cuda.mem_get_info())

    def cuMemAlloc(self, size: int) -> tuple[Any, ...]:
        def allocate() -> int:
            allocation = self._cuda.mem_alloc(size)
            self._allocations[int(allocation)] = allocation
            return int(allocation)

        return self._told(allocate)

    def cuMemFree(self, address: int) -> tuple[int]:
        self._allocations.pop(address).free()
        return (0,)

    def cuMemAllocHost(self, size: int) -> tuple[int, int]:
        self._cuda.called("pagelocked_empty")
        memory = FakePageLocked(self._cuda, size)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self._page_locked[address] = memory
        return 0, address

    def cuMemFreeHost(self, address: int) -> tuple[int]:
        self._page_locked.pop(address).free()
        return (0,)

    def _host(self, address: int, size: int) -> np.ndarray[Any, Any]:
        (start,) = (s for s, memory in self._page_locked.items() if s <= address < s + len(memory))
        return np.frombuffer(self._page_locked[start], np.uint8, size, address - start)

    def cuMemcpyHtoDAsync(self, to: int, host: int, size: int, stream: int) -> tuple[int]:
        pixels = self._host(host, size)
        self._cuda.memcpy_htod_async(to, pixels, SimpleNamespace(handle=stream))
        return (0,)

    def cuMemcpyDtoHAsync(self, host: int, source: int, size: int, stream: int) -> tuple[int]:
        self._cuda.memcpy_dtoh_async(self._host(host, size), source, SimpleNamespace(handle=stream))
        return (0,)

    def cuMemcpyDtoDAsync(self, to: int, source: int, size: int, stream: int) -> tuple[int]:
        self._cuda.memcpy_dtod_async(to, source, size, SimpleNamespace(handle=stream))
        return (0,)

    def cuStreamCreate(self, flags: int) -> tuple[int, int]:
        assert flags == 0
        self._cuda.called("Stream")
        handle = self._cuda.make("stream")
        self._cuda.streams[handle] = []
        return 0, handle

    def cuStreamSynchronize(self, handle: int) -> tuple[Any, ...]:
        self._cuda.called("synchronise stream")
        return self._told(lambda: self._cuda.wait(handle))[:1]

    def cuStreamDestroy(self, handle: int) -> tuple[int]:
        self._cuda.released["stream"] += 1
        return (0,)

    def cuEventCreate(self, flags: int) -> tuple[int, FakeEvent]:
        assert flags == 0
        return 0, FakeEvent(self._cuda)

    def cuEventRecord(self, event: FakeEvent, stream: int) -> tuple[int]:
        event.record(SimpleNamespace(handle=stream))
        return (0,)

    def cuEventQuery(self, event: FakeEvent) -> tuple[int]:
        return (0 if event.query() else 600,)

    def cuEventSynchronize(self, event: FakeEvent) -> tuple[Any, ...]:
        return self._told(event.synchronize)[:1]

    def cuEventElapsedTime(self, start: FakeEvent, end: FakeEvent) -> tuple[int, float]:
        return 0, end.time_since(start)

    def cuEventDestroy(self, event: FakeEvent) -> tuple[int]:
        self._cuda.released["event"] += 1
        return (0,)

    def cuStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:
        status = self._status("cuStreamBeginCapture")
        if status == 0:
            self._cuda.capturing[stream] = []
        return (status,)

    def cuStreamEndCapture(self, stream: int) -> tuple[int, Any]:
        work = self._cuda.capturing.pop(stream)
        status = self._status("cuStreamEndCapture")
        if status == 0:
            self._cuda.make("graph")
        return status, work if status == 0 else None

    def cuGraphInstantiate(self, graph: Any, flags: int) -> tuple[int, Any]:
        assert flags == 0
        status = self._status("cuGraphInstantiate")
        if status == 0:
            self._cuda.make("executable graph")
        return status, list(graph) if status == 0 else None

    def cuGraphLaunch(self, executable: Any, stream: int) -> tuple[int]:
        status = self._status("cuGraphLaunch")
        if status == 0:
            self._cuda.streams[stream].extend(executable)
        return (status,)

    def cuGraphDestroy(self, graph: Any) -> tuple[int]:
        self._cuda.released["graph"] += 1
        return (self._status("cuGraphDestroy"),)

    def cuGraphExecDestroy(self, executable: Any) -> tuple[int]:
        self._cuda.released["executable graph"] += 1
        executable.clear()
        return (self._status("cuGraphExecDestroy"),)
