"""ONNX Runtime: the reference, and any CPU that has nothing faster."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_tracker.backends.graph import Arrays, refuse_after_fork
from edge_tracker.backends.record import Backend, Placement, missing_package
from edge_tracker.bundle.contract import GRAPHS, ON_DEVICE
from edge_tracker.bundle.manifest import Artefact
from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import BackendUnavailable
from edge_tracker.files.plain_name import plain_name
from edge_tracker.hardware import usable_cores

if TYPE_CHECKING:
    import onnxruntime as ort
    from numpy.typing import NDArray

#: ONNX Runtime's names of what stays on the device, and NumPy's.
DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}


class OrtGraph:
    """One ONNX graph; `template_kv` is an ordinary array here."""

    most_targets: int | None = None

    def __init__(self, session: ort.InferenceSession, background: ThreadPoolExecutor) -> None:
        self._session = session
        self._background = background
        self._process = os.getpid()
        self.input_names = frozenset(tensor.name for tensor in session.get_inputs())
        self._output_names = [output.name for output in session.get_outputs()]
        self._on_device = {
            output.name: (tuple(output.shape[1:]), DTYPES[output.type])
            for output in session.get_outputs()
            if output.name in ON_DEVICE
        }
        self.output_names = frozenset(self._output_names)

    def run(self, inputs: Arrays) -> Arrays:
        refuse_after_fork(self._process)
        outputs = self._session.run(self._output_names, dict(inputs))
        return dict(zip(self._output_names, outputs, strict=True))

    def start(self, inputs: Arrays, into: NDArray[Any] | None = None) -> Callable[[], Arrays]:
        own = {name: value.copy() for name, value in inputs.items()}
        return self._background.submit(self._run_into, own, into).result

    def _run_into(self, inputs: Arrays, into: NDArray[Any] | None) -> Arrays:
        outputs = dict(self.run(inputs))
        if into is not None:
            for name in self._on_device:
                into[...] = outputs[name]
                outputs[name] = into
        return outputs

    def reserve(self, targets: int) -> NDArray[Any]:
        import numpy as np  # not above: listing the backends, as --help does, loads nothing

        ((row_shape, dtype),) = self._on_device.values()
        return np.zeros((targets, *row_shape), dtype)

    def copy(self, source: NDArray[Any], target: NDArray[Any]) -> None:
        target[...] = source

    def time_copies(self) -> None:
        """On a CPU nothing is copied to a device; of others ONNX Runtime does not tell."""

    def close(self) -> None:
        self._background.shutdown(wait=True)


def compile_graphs(
    bundle: Bundle,
    artefact: Artefact,
    placement: Placement,
) -> tuple[OrtGraph, OrtGraph, str]:
    """Both graphs (template, search) and the device they run on: "CPU", or another that is asked
    for by the first part of its execution provider's name, such as "CUDA". Threads: by default one
    for each core that this process may use. Types are those of
    the file, and `cache_dir` has no meaning here.

    Raises BackendUnavailable for a device that this ONNX Runtime does not have, or a model that it
    refuses.
    """
    import onnxruntime as ort

    device = placement.device or "CPU"
    provider = f"{device}ExecutionProvider"
    if provider not in ort.get_available_providers():
        available = [
            name.removesuffix("ExecutionProvider") for name in ort.get_available_providers()
        ]
        raise BackendUnavailable(
            f"onnxruntime has no device {device!r} here: choose {', '.join(available)}"
        )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Left alone, it starts a thread for each core of the machine, whether or not the process may
    # use it, and these spin after a run: at a camera's pace through the whole pause.
    options.intra_op_num_threads = placement.num_threads or usable_cores(Path("/"))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    graphs = []
    for name in GRAPHS:
        model = artefact.graphs[name].model
        try:
            # The folder's name, as weights are found beside the model.
            with plain_name(bundle.path) as folder:
                path = Path(folder, model)
                # Its fallback prints to standard output, and tries the same device again.
                session = ort.InferenceSession(
                    path, options, providers=[provider], enable_fallback=0
                )
        except Exception as error:  # onnxruntime's exceptions share no public base class
            raise BackendUnavailable(
                f"onnxruntime refuses {bundle.path / model}: {error}"
            ) from error
        graphs.append(OrtGraph(session, ThreadPoolExecutor(1, f"edge_tracker-{name}")))
    template, search = graphs
    return template, search, device


def _found() -> str:
    import onnxruntime as ort

    return f"CPU, version {ort.__version__}"


BACKEND = Backend(
    name="onnxruntime",
    artefact_kinds=("onnx",),
    packages={"onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")},
    find=lambda: missing_package("onnxruntime"),
    found=_found,
    open=compile_graphs,
    computes=lambda artefact, device: ("f32" if artefact.precision == "fp32" else "f16",),
)
