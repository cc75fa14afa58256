"""One ONNX graph -> one TensorRT engine, with either TensorRT module in any version since 8.6.

Precision is that of the ONNX: engines are strongly typed, so that every TensorRT since 10 and
TensorRT for RTX compute what was compared with PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_tracker.bundle.manifest import PRECISIONS
from edge_tracker.errors import EdgeTrackerError
from edge_tracker.options import OnProgress

#: Called with what is being done, its number from 0, and how many there are, if that is known.


@dataclass(frozen=True)
class BuildOptions:
    """precision: of the ONNX pair to build from. workspace_mb: GPU memory that the builder may try
    out, all of it by default. max_targets: engines take 1 to so many targets. compute_capability:
    build for GPUs such as "8.6", which need not be here; only TensorRT for RTX can.
    """

    precision: str = "fp16"
    workspace_mb: int | None = None
    max_targets: int = 1
    compute_capability: str | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"unknown precision {self.precision!r}: choose from {', '.join(PRECISIONS)}"
            )
        if self.max_targets < 1 or (self.workspace_mb is not None and self.workspace_mb < 1):
            raise ValueError(
                f"max_targets {self.max_targets} and workspace_mb {self.workspace_mb} must be at "
                "least 1"
            )


def build_engine(
    trt: Any,
    builder: Any,
    log: Any,
    onnx_path: Path,
    options: BuildOptions,
    timing_cache: bytes = b"",
    on_progress: OnProgress | None = None,
) -> tuple[bytes, bytes]:
    """One engine, and the timing cache as it is afterwards (empty where there is none).

    So many parameters because TensorRT wants module, builder and log apart.
    """
    network = parse(trt, builder, log, onnx_path)
    config = builder.create_builder_config()
    if options.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
    if options.compute_capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(find_capability(trt, options.compute_capability), 0)
    _allow_reduced_precision(trt, config, options.precision)
    config.add_optimization_profile(_profile(builder, network, options.max_targets))
    cached = _has_timing_cache(trt)
    if cached:
        config.set_timing_cache(config.create_timing_cache(timing_cache), ignore_mismatch=False)
    monitor = None
    if on_progress is not None and hasattr(trt, "IProgressMonitor"):
        monitor = config.progress_monitor = _make_monitor(trt, on_progress)
    engine = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.interruption is not None:
        raise monitor.interruption
    if engine is None:
        raise EdgeTrackerError(
            f"{trt.__name__} {trt.__version__} cannot build an engine from {onnx_path}: "
            f"{log.last_words()}; if memory ran out, close other programs or limit it with "
            "--workspace"
        )
    return bytes(engine), bytes(config.get_timing_cache().serialize()) if cached else b""


def parse(trt: Any, builder: Any, log: Any, onnx_path: Path) -> Any:
    """The network definition. Raises EdgeTrackerError for a graph that TensorRT does not take."""
    flags = trt.NetworkDefinitionCreationFlag
    # By name: it is bit 1 in TensorRT 10 and bit 0 since 11. Before 10 there is weak typing only.
    flag = getattr(flags, "STRONGLY_TYPED", None)
    network = builder.create_network(1 << int(flags.EXPLICIT_BATCH if flag is None else flag))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx_path)):
        errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise EdgeTrackerError(
            f"{trt.__name__} {trt.__version__} does not take {onnx_path}: "
            f"{'; '.join(errors) or log.last_words()}"
        )
    return network


def find_capability(trt: Any, text: str) -> Any:
    capability = getattr(trt.ComputeCapability, f"SM{text.replace('.', '')}", None)
    if capability is None:
        names = [name[2:] for name in dir(trt.ComputeCapability) if name.startswith("SM")]
        choices = ", ".join(f"{name[:-1]}.{name[-1]}" for name in sorted(names, key=int))
        raise ValueError(
            f"{trt.__name__} {trt.__version__} does not build for compute capability {text!r}: "
            f"choose from {choices}"
        )
    return capability


def _allow_reduced_precision(trt: Any, config: Any, precision: str) -> None:
    """Where typing is weak (before TensorRT 10), types in the ONNX only permit them by flags."""
    if hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        return
    if precision in ("fp16", "int8"):
        config.set_flag(trt.BuilderFlag.FP16)
    if precision == "int8":
        config.set_flag(trt.BuilderFlag.INT8)


def _profile(builder: Any, network: Any, max_targets: int) -> Any:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)[1:]
        most = (max_targets, *shape)
        profile.set_shape(tensor.name, (1, *shape), most, most)
    return profile


def _has_timing_cache(trt: Any) -> bool:
    # TensorRT for RTX has the functions still, but they do nothing and warn.
    return bool(trt.__name__ != "tensorrt_rtx")


def _make_monitor(trt: Any, on_progress: OnProgress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Reports each step. An exception, Ctrl-C above all, cannot pass through TensorRT: it is
        kept for afterwards, and the build told to end.
        """

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interruption: BaseException | None = None
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            del parent_phase
            self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                on_progress(step + 1, self._steps.get(phase_name), phase_name)
            except BaseException as error:
                self.interruption = error
            return self.interruption is None

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()
