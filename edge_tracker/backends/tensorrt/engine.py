"""One engine on the device: its memory, and running it by names of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tracker.backends.graph import Arrays, CopyTimes
from edge_tracker.backends.tensorrt.cuda_graph import CaptureFailed, destroy, launch, record
from edge_tracker.backends.tensorrt.cuda_session import CudaSession
from edge_tracker.bundle.contract import ON_DEVICE
from edge_tracker.errors import EdgeTrackerError

#: By name, as TensorRT's own conversion to NumPy fails with some pairs of versions.
DTYPES: Mapping[str, Any] = {"UINT8": np.uint8, "FLOAT": np.float32, "HALF": np.float16}


@dataclass(frozen=True)
class DeviceTensor:
    """A tensor on the device. One that an engine gave is valid until that engine's run after the
    next, reserved memory until the session ends.
    """

    address: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    def __getitem__(self, rows: slice) -> DeviceTensor:
        """Some rows of it: the same memory."""
        start, stop, step = rows.indices(self.shape[0])
        if step != 1 or stop < start:
            raise ValueError(f"{rows} is not a span of rows")
        row_bytes = self.nbytes // self.shape[0]
        shape = (stop - start, *self.shape[1:])
        return DeviceTensor(self.address + start * row_bytes, shape, self.dtype)


@dataclass(frozen=True)
class TensorMemory:
    """Memory for one tensor, for as many targets as the engine takes.

    addresses: on the device; one, or two that take turns where an output stays there, or none where
    an input does, as the other engine owns it. host: page-locked, None for tensors that stay.
    """

    shape: tuple[int, ...]
    dtype: str
    is_input: bool
    addresses: tuple[int, ...]
    host: NDArray[Any] | None


@dataclass
class LoadedEngine:
    """What must be let go while the CUDA context is current.

    finished: an event at the end of each run. around_copies: before, between and after those that
    are timed; none until some are.
    """

    engine: Any
    context: Any
    finished: Any
    tensors: dict[str, TensorMemory] = field(default_factory=dict)
    around_copies: tuple[Any, ...] = ()

    def forget(self) -> None:
        self.tensors.clear()
        self.around_copies = ()
        self.finished = self.context = self.engine = None


def allocate(session: CudaSession, trt: Any, engine: Any, context: Any) -> LoadedEngine:
    """Memory for every tensor of the engine, freed with the session. Raises CUDA's errors."""
    cuda = session.cuda
    loaded = LoadedEngine(engine, context, cuda.Event())
    session.on_close(loaded.forget)
    for name, (shape, is_input) in _largest_shapes(trt, engine).items():
        dtype = np.dtype(DTYPES[engine.get_tensor_dtype(name).name])
        stays = name in ON_DEVICE
        addresses = []
        for _ in range((0 if is_input else 2) if stays else 1):
            allocation = cuda.mem_alloc(int(np.prod(shape)) * dtype.itemsize)
            session.on_close(allocation.free)
            addresses.append(int(allocation))
        host = None
        if not stays:
            host = cuda.pagelocked_empty(shape, dtype)
            session.on_close(host.base.free)
        loaded.tensors[name] = TensorMemory(shape, dtype.name, is_input, tuple(addresses), host)
    return loaded


def _largest_shapes(trt: Any, engine: Any) -> dict[str, tuple[tuple[int, ...], bool]]:
    """Name -> shape for the most targets that the engine takes, and whether it is an input."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    shapes: dict[str, tuple[tuple[int, ...], bool]] = {}
    targets = 1
    for name in names:
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            largest = engine.get_tensor_profile_shape(name, 0)[2]
            shapes[name] = tuple(largest), True
            targets = shapes[name][0][0]
    for name in names:
        if name not in shapes:
            shapes[name] = (targets, *tuple(engine.get_tensor_shape(name))[1:]), False
    return shapes


class TensorRtGraph:
    """Runs one engine. Closing it closes the session, and so the other graph of the pair.

    Work of both graphs goes onto one stream, which keeps it in order: a search that is given the
    template's output may be enqueued before the template graph is done.
    """

    def __init__(
        self, name: str, session: CudaSession, loaded: LoadedEngine, graph_driver: Any
    ) -> None:
        self._name = name
        self._session = session
        self._loaded = loaded
        self._graph_driver = graph_driver
        self.input_names = frozenset(n for n, memory in loaded.tensors.items() if memory.is_input)
        self.output_names = frozenset(loaded.tensors) - self.input_names
        self.most_targets: int | None = min(each.shape[0] for each in loaded.tensors.values())
        self._runs = 0
        self._targets = 0
        self._bound: dict[str, int] = {}
        #: Bindings that were enqueued since the shapes changed, and those that were recorded.
        self._warm: set[tuple[int, ...]] = set()
        self._recorded: dict[tuple[int, ...], Any] = {}

    def run(self, inputs: Arrays) -> Arrays:
        return self.start(inputs)()

    def start(self, inputs: Arrays, into: DeviceTensor | None = None) -> Callable[[], Arrays]:
        """Raises ValueError for tensors that the engine does not take, EdgeTrackerError if CUDA
        fails.
        """
        with self._on_device():
            targets = self._check(inputs)
            self._fill(inputs, targets)
            self._bind(inputs, targets, into)
            self._submit(targets)
            self._loaded.finished.record(self._session.stream)
        self._runs += 1
        kept = self._kept_outputs(targets)
        return partial(self._collect, kept, targets)

    def reserve(self, targets: int) -> DeviceTensor:
        """Raises EdgeTrackerError if the GPU's memory does not suffice."""
        (memory,) = (self._loaded.tensors[name] for name in ON_DEVICE)
        shape = (targets, *memory.shape[1:])
        with self._on_device():
            size = int(np.prod(shape)) * np.dtype(memory.dtype).itemsize
            allocation = self._session.cuda.mem_alloc(size)
            self._session.on_close(allocation.free)
        return DeviceTensor(int(allocation), shape, memory.dtype)

    def copy(self, source: DeviceTensor, target: DeviceTensor) -> None:
        """On the stream, so after what was started before."""
        with self._on_device():
            self._session.cuda.memcpy_dtod_async(
                target.address, source.address, source.nbytes, self._session.stream
            )

    def time_copies(self) -> CopyTimes | None:
        """What the copies of the last run take when the device makes them one after the other; None
        before the first run.

        They queue up behind one more execution of the engine, on inputs that are on the device
        already, so its outputs stay as they are. On an idle stream an event would be reached at
        once, and what Python takes to submit the copy would count. Raises EdgeTrackerError if
        TensorRT or CUDA fails.
        """
        if not self._runs:
            return None
        with self._on_device():
            cuda, stream = self._session.cuda, self._session.stream
            if not self._loaded.around_copies:
                self._loaded.around_copies = (cuda.Event(), cuda.Event(), cuda.Event())
            before, between, after = self._loaded.around_copies
            self._execute()
            before.record(stream)
            self._copy_in(self._targets)
            between.record(stream)
            self._copy_out(self._targets)
            after.record(stream)
            after.synchronize()
            return CopyTimes(between.time_since(before), after.time_since(between))

    def close(self) -> None:
        self._session.close()

    def _check(self, inputs: Arrays) -> int:
        """How many targets there are."""
        if inputs.keys() != self.input_names:
            raise ValueError(
                f"the {self._name} engine was given {sorted(inputs)}, it takes "
                f"{sorted(self.input_names)}"
            )
        counts = set()
        for name, value in inputs.items():
            memory = self._loaded.tensors[name]
            stays = name in ON_DEVICE
            if isinstance(value, DeviceTensor) != stays:
                where = "from the template engine" if stays else "an array"
                raise ValueError(f"{name} is a {type(value).__name__}: it has to be {where}")
            shape, dtype = tuple(value.shape), str(value.dtype)
            most, rest = memory.shape[0], memory.shape[1:]
            if not 1 <= shape[0] <= most or (shape[1:], dtype) != (rest, memory.dtype):
                raise ValueError(
                    f"{name} is {dtype} {shape}: the engine takes {memory.dtype} "
                    f"(1 to {most}, {', '.join(map(str, rest))}); for more targets build it with "
                    "--max-targets"
                )
            counts.add(shape[0])
        if len(counts) > 1:
            raise ValueError(f"inputs are for different numbers of targets: {sorted(counts)}")
        return int(counts.pop())

    def _fill(self, inputs: Arrays, targets: int) -> None:
        """Page-locked memory may still be on its way to the device from the run before."""
        finished = self._loaded.finished
        if self._runs and not finished.query():
            finished.synchronize()
        for name, value in inputs.items():
            host = self._loaded.tensors[name].host
            if host is not None:
                host[:targets] = value

    def _bind(self, inputs: Arrays, targets: int, into: DeviceTensor | None) -> None:
        context, tensors = self._loaded.context, self._loaded.tensors
        if targets != self._targets:
            for name in self.input_names:
                context.set_input_shape(name, (targets, *tensors[name].shape[1:]))
            self._targets = targets
            # TensorRT wants one run in a new shape before its work is recorded.
            self._warm.clear()
        for name, memory in tensors.items():
            if into is not None and name in ON_DEVICE:
                address = into.address
            elif memory.addresses:
                address = memory.addresses[self._runs % len(memory.addresses)]
            else:
                address = inputs[name].address
            if self._bound.get(name) != address:
                context.set_tensor_address(name, address)
                self._bound[name] = address

    def _submit(self, targets: int) -> None:
        """Enqueue; from the second time with the same addresses on, replay a recording of it."""
        key = (targets, *self._bound.values())
        driver, stream = self._graph_driver, self._session.stream
        if driver is not None and (key in self._recorded or key in self._warm):
            try:
                if key not in self._recorded:
                    executable = record(driver, stream.handle, partial(self._enqueue, targets))
                    self._session.on_close(partial(destroy, driver, executable))
                    self._recorded[key] = executable
                launch(driver, self._recorded[key], stream.handle)
                return
            except CaptureFailed:
                self._graph_driver = None
        self._enqueue(targets)
        self._warm.add(key)

    def _enqueue(self, targets: int) -> None:
        self._copy_in(targets)
        self._execute()
        self._copy_out(targets)

    def _execute(self) -> None:
        if not self._loaded.context.execute_async_v3(self._session.stream.handle):
            raise EdgeTrackerError(
                f"TensorRT cannot run the {self._name} engine; close other programs if the GPU's "
                "memory is full, or build the engine again"
            )

    def _copy_in(self, targets: int) -> None:
        cuda, stream = self._session.cuda, self._session.stream
        for memory in self._loaded.tensors.values():
            if memory.is_input and memory.host is not None:
                cuda.memcpy_htod_async(memory.addresses[0], memory.host[:targets], stream)

    def _copy_out(self, targets: int) -> None:
        cuda, stream = self._session.cuda, self._session.stream
        for memory in self._loaded.tensors.values():
            if not memory.is_input and memory.host is not None:
                cuda.memcpy_dtoh_async(memory.host[:targets], memory.addresses[0], stream)

    def _kept_outputs(self, targets: int) -> dict[str, DeviceTensor]:
        return {
            name: DeviceTensor(self._bound[name], (targets, *memory.shape[1:]), memory.dtype)
            for name, memory in self._loaded.tensors.items()
            if name in ON_DEVICE and not memory.is_input
        }

    def _collect(self, kept: dict[str, DeviceTensor], targets: int) -> Arrays:
        copied = {
            name: memory.host
            for name, memory in self._loaded.tensors.items()
            if not memory.is_input and memory.host is not None
        }
        if not copied:
            return kept
        with self._on_device():
            self._loaded.finished.synchronize()
        return {**kept, **{name: np.array(host[:targets]) for name, host in copied.items()}}

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        try:
            with self._session.current():
                yield
        except self._session.cuda.Error as error:
            raise EdgeTrackerError(
                f"CUDA fails in the {self._name} engine ({error}): close this tracker and open "
                "another; if that fails too, restart the program, then build the engine again"
            ) from error
