"""A TensorRT module on the fake CUDA driver: its engines are ONNX models that ONNX Runtime runs on
the fake device's memory.
"""

from __future__ import annotations

import enum
import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edge_tracker.hardware import CudaDevice, Nvidia
from tests.helpers.fake_cuda import FakeCuda, FakeDriver

ORIN = Nvidia("540.4.0", "36.4.3", "12.6", (CudaDevice("Orin", "8.7"),))
NO_NVIDIA = Nvidia(None, None, None, ())

DataType = enum.Enum("DataType", ["UINT8", "FLOAT", "HALF"])
_DTYPES = {np.dtype(np.uint8): "UINT8", np.dtype(np.float32): "FLOAT", np.dtype(np.float16): "HALF"}


TensorIOMode = enum.Enum("TensorIOMode", ["INPUT", "OUTPUT"])


class FakeLogger:
    INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2

    def log(self, severity: int, message: str) -> None:
        raise NotImplementedError


class FakeTensorRt(ModuleType):
    """The module. refuses: of "parse", "build", "deserialise", "context", "run", what fails.
    build_calls: what the builder was told, in order.
    """

    def __init__(self, cuda: FakeCuda, name: str = "tensorrt", version: str = "10.3.0") -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self.__version__ = version
        self.cuda = cuda
        self.refuses: set[str] = set()
        self.build_calls: list[tuple[Any, ...]] = []
        self.ILogger = FakeLogger
        self.IProgressMonitor = type("IProgressMonitor", (), {"__init__": lambda self: None})
        self.TensorIOMode: Any = TensorIOMode
        self.NetworkDefinitionCreationFlag = SimpleNamespace(EXPLICIT_BATCH=0, STRONGLY_TYPED=1)
        self.MemoryPoolType = SimpleNamespace(WORKSPACE="WORKSPACE")
        self.BuilderFlag = SimpleNamespace(FP16="FP16", INT8="INT8")
        self.Builder = lambda log: FakeBuilder(self, log)
        self.OnnxParser = lambda network, log: FakeParser(self, network)
        self.Runtime = lambda log: FakeRuntime(self, log)

    def refuse(self, what: str, log: Any) -> bool:
        if what in self.refuses:
            log.log(FakeLogger.WARNING, "a warning that no one should read")
            log.log(FakeLogger.ERROR, f"[{what}] Error Code 1: it was told to")
        return what in self.refuses


class FakeBuilder:
    def __init__(self, trt: FakeTensorRt, log: Any) -> None:
        if trt.refuse("builder", log):
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._trt, self._log = trt, log

    def create_network(self, flags: int) -> Any:
        self._trt.build_calls.append(("create_network", flags))
        return SimpleNamespace(path=None, num_inputs=0, get_input=None)

    def create_builder_config(self) -> Any:
        return FakeConfig(self._trt)

    def create_optimization_profile(self) -> Any:
        shapes: dict[str, Any] = {}
        return SimpleNamespace(
            shapes=shapes, set_shape=lambda name, *sizes: shapes.__setitem__(name, sizes)
        )

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        monitor = config.progress_monitor
        if monitor is not None:
            monitor.phase_start("Timing tactics", None, 2)
            if not all(monitor.step_complete("Timing tactics", step) for step in range(2)):
                return None
            monitor.phase_finish("Timing tactics")
        if self._trt.refuse("build", self._log):
            return None
        config.cache += b"+"
        return json.dumps({"onnx": str(network.path), "profile": config.profile.shapes}).encode()


class FakeConfig:
    def __init__(self, trt: FakeTensorRt) -> None:
        self._trt = trt
        self.progress_monitor: Any = None
        self.profile: Any = None
        self.cache = b""

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self._trt.build_calls.append(("workspace", pool, size))

    def set_flag(self, flag: str) -> None:
        self._trt.build_calls.append(("set_flag", flag))

    def add_optimization_profile(self, profile: Any) -> None:
        self.profile = profile
        self._trt.build_calls.append(("profile", profile.shapes))

    def create_timing_cache(self, content: bytes) -> bytes:
        self._trt.build_calls.append(("timing cache", content))
        return content

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: self.cache)


class FakeParser:
    def __init__(self, trt: FakeTensorRt, network: Any) -> None:
        self._trt, self._network = trt, network
        self.num_errors = 1

    def parse_from_file(self, path: str) -> bool:
        inputs = onnx.load(path, load_external_data=False).graph.input
        tensors = [
            SimpleNamespace(
                name=value.name,
                shape=[-1, *(d.dim_value for d in value.type.tensor_type.shape.dim[1:])],
            )
            for value in inputs
        ]
        self._network.path = Path(path).resolve()
        self._network.num_inputs = len(tensors)
        self._network.get_input = tensors.__getitem__
        return "parse" not in self._trt.refuses

    def get_error(self, index: int) -> Any:
        return SimpleNamespace(desc=lambda: "node number 3 has an unsupported input type")


class FakeRuntime:
    def __init__(self, trt: FakeTensorRt, log: Any) -> None:
        self._trt, self._log = trt, log

    def deserialize_cuda_engine(self, content: bytes) -> Any:
        self._trt.cuda.called("deserialise")
        return (
            None if self._trt.refuse("deserialise", self._log) else FakeEngine(self._trt, content)
        )


class FakeEngine:
    def __init__(self, trt: FakeTensorRt, content: bytes) -> None:
        description = json.loads(content)
        self.trt, self.profile = trt, description["profile"]
        options = ort.SessionOptions()
        options.log_severity_level = 3
        self.session = ort.InferenceSession(description["onnx"], options)
        graph = onnx.load(description["onnx"], load_external_data=False).graph
        self.tensors = {}
        for value in (*graph.input, *graph.output):
            tensor = value.type.tensor_type
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
            shape = (-1, *(d.dim_value for d in tensor.shape.dim[1:]))
            self.tensors[value.name] = shape, dtype
        self.input_names = [value.name for value in graph.input]
        self.num_io_tensors = len(self.tensors)
        trt.cuda.make("engine")

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self.trt.TensorIOMode
        return modes.INPUT if name in self.input_names else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return DataType[_DTYPES[self.tensors[name][1]]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name][0]

    def get_tensor_profile_shape(self, name: str, profile: int) -> Any:
        assert profile == 0
        return self.profile[name]

    def create_execution_context(self) -> Any:
        refused = "context" in self.trt.refuses
        return None if refused else FakeExecutionContext(self)

    def __del__(self) -> None:
        if self.trt.cuda.stack:
            self.trt.cuda.released["engine"] += 1


class FakeExecutionContext:
    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._enqueued_in_this_shape = False
        engine.trt.cuda.make("execution context")

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._engine.trt.cuda.called("set shape")
        self._shapes[name] = shape
        self._enqueued_in_this_shape = False
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._engine.trt.cuda.called("set address")
        self._addresses[name] = address
        return True

    def execute_async_v3(self, handle: int) -> bool:
        engine, addresses, shapes = self._engine, dict(self._addresses), dict(self._shapes)
        cuda, tensors = engine.trt.cuda, engine.tensors
        cuda.called("enqueue")
        assert self._enqueued_in_this_shape or handle not in cuda.capturing
        self._enqueued_in_this_shape = True
        if "run" in engine.trt.refuses:
            return False

        def execute() -> None:
            feed = {
                name: cuda.array(addresses[name], shapes[name], tensors[name][1])
                for name in engine.input_names
            }
            names = [name for name in tensors if name not in engine.input_names]
            for name, value in zip(names, engine.session.run(names, feed), strict=True):
                cuda.array(addresses[name], value.shape, value.dtype)[...] = value

        cuda.enqueue(handle, execute)
        return True

    def __del__(self) -> None:
        if self._engine.trt.cuda.stack:
            self._engine.trt.cuda.released["execution context"] += 1


class FakeMachine:
    """This process with a GPU in it: driver, TensorRT and pycuda as if they were installed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, nvidia: Nvidia = ORIN) -> None:
        self._monkeypatch = monkeypatch
        self.cuda = FakeCuda()
        self.trt = FakeTensorRt(self.cuda)
        self.become(nvidia)
        pycuda = ModuleType("pycuda")
        pycuda.__spec__ = ModuleSpec("pycuda", None)
        self._monkeypatch.setitem(sys.modules, "pycuda", pycuda)
        self._monkeypatch.setitem(sys.modules, "pycuda.driver", self.cuda)
        self._monkeypatch.setitem(sys.modules, "tensorrt", self.trt)
        for absent in ("tensorrt_rtx", "cuda.bindings", "cuda.bindings.driver"):
            self.lose(absent)

    def become(self, nvidia: Nvidia) -> None:
        for module in ("edge_tracker.hardware", "edge_tracker.backends.tensorrt.opening"):
            self._monkeypatch.setattr(f"{module}.read_nvidia", lambda root: nvidia)
        self._monkeypatch.setattr("converters.tensorrt.build.read_nvidia", lambda root: nvidia)

    def lose(self, module: str) -> None:
        """As if it were not installed."""
        self._monkeypatch.setitem(sys.modules, module, None)

    def swap_pycuda_for_bindings(self, refuse: str = "") -> None:
        """Which have CUDA graphs too. refuse: name of the driver's function that fails."""
        driver = FakeDriver(self.cuda, refuse)
        bindings = ModuleType("cuda.bindings")
        bindings.__spec__ = ModuleSpec("cuda.bindings", None)
        self._monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
        self._monkeypatch.setitem(sys.modules, "cuda.bindings.driver", driver)
        for module in ("pycuda", "pycuda.driver"):
            self.lose(module)
