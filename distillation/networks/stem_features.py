"""What a frozen stem says of training images, computed once for each sample, where it is rendered.

A step then costs the transformer alone, however often the sample comes back.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from converters.graphs import planes
from converters.to_onnx import export_graph
from mixformerv2.stem import StemEmbed


class StemFeatures:
    """Runs a network's stem in ONNX Runtime, which takes a third of PyTorch's time for it."""

    def __init__(self, stem: StemEmbed, sizes_px: Iterable[int]) -> None:
        folded = copy.deepcopy(stem).eval()
        folded.fold()
        self._models = {size_px: _export(folded, size_px) for size_px in sizes_px}
        # Sessions do not travel to other processes: each opens its own.
        self._sessions: dict[int, Any] = {}

    def __call__(self, images: NDArray[np.uint8]) -> Tensor:
        """(B, size, size, 3) uint8 BGR -> (B, tokens, F) float16, see `StemEmbed.features`."""
        session = self._session(images.shape[1])
        # One at a time: a batch of large maps does not stay in the cache.
        found = [session.run(None, {"image": image[None]})[0] for image in images]
        return torch.from_numpy(np.concatenate(found))

    def _session(self, size_px: int) -> Any:
        if size_px not in self._sessions:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            self._sessions[size_px] = onnxruntime.InferenceSession(
                self._models[size_px], options, providers=["CPUExecutionProvider"]
            )
        return self._sessions[size_px]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sessions": {}}


class _Features(nn.Module):
    def __init__(self, folded: StemEmbed) -> None:
        super().__init__()
        self.stem = folded

    def forward(self, image: Tensor) -> Tensor:
        return self.stem.features(planes(image.float())).half()


def _export(folded: StemEmbed, size_px: int) -> bytes:
    # Two images, as a dimension of 1 would be taken for a constant.
    image = torch.zeros((2, size_px, size_px, 3), dtype=torch.uint8)
    graph = export_graph(_Features(folded), {"image": image}, ["features"])
    return bytes(graph.SerializeToString())
