"""Running an exported pair of graphs, and the PyTorch network it came from, on the same pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from edge_tracker.bundle.manifest import Artefact
from edge_tracker.rules.normalise import normalise
from mixformerv2.model import MixFormerV2
from tests.helpers.random_images import random_images

Images = Mapping[str, NDArray[np.uint8]]

#: What the host sees of graphs that compute in half precision.
HALF_DTYPES = {
    "templates": "uint8",
    "template_kv": "float16",
    "search": "uint8",
    "edge_probs": "float32",
    "score": "float32",
}


def tensor_dtypes(artefact: Artefact) -> dict[str, str]:
    """Of both graphs' inputs and outputs, as the manifest has them."""
    return {t.name: t.dtype for g in artefact.graphs.values() for t in (*g.inputs, *g.outputs)}


@dataclass(frozen=True)
class Outputs:
    """edge_probs (B, 4, bins) and score (B,)."""

    edge_probs: NDArray[np.float32]
    score: NDArray[np.float32]

    def first(self, targets: int) -> Outputs:
        return Outputs(self.edge_probs[:targets], self.score[:targets])


@dataclass
class ExportedNetwork:
    network: MixFormerV2
    folder: Path
    models: Mapping[str, onnx.ModelProto]
    _sessions: dict[str, ort.InferenceSession] = field(default_factory=dict)

    @cached_property
    def three_targets(self) -> Images:
        return random_images(self.network.spec, batch=3)

    @cached_property
    def expected_of_three(self) -> Outputs:
        """Of PyTorch, for `three_targets`."""
        return self.run_pytorch(self.three_targets)

    def run_pytorch(self, images: Images) -> Outputs:
        """The whole network at once, in RGB, normalised: nothing folded, nothing cut."""
        templates, search = images["templates"], images["search"]
        parts = (templates[:, 0], templates[:, 1], search)
        with torch.no_grad():
            prediction = self.network(*(torch.from_numpy(normalise(part)) for part in parts))
            edge_probs, score = prediction.probabilities()
        return Outputs(edge_probs.numpy(), score.numpy())

    def run_onnx(self, images: Images) -> Outputs:
        """Both files as they lie on the disk, weights from beside them."""
        (template_kv,) = self._session("template").run(None, {"templates": images["templates"]})
        feed = {"search": images["search"], "template_kv": template_kv}
        return Outputs(*self._session("search").run(["edge_probs", "score"], feed))

    def _session(self, name: str) -> ort.InferenceSession:
        if name not in self._sessions:
            self._sessions[name] = ort.InferenceSession(self.folder / f"{name}.onnx")
        return self._sessions[name]


def first_targets(images: Images, targets: int) -> Images:
    return {name: image[:targets] for name, image in images.items()}
