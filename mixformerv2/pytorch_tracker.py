"""The tracker as it is without any of this project's cutting: PyTorch, the whole network per frame.

It exists to be compared with, in accuracy and in time. Same crop, decoding, clipping and template
rule, with nothing kept between frames but the templates' pixels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from edge_tracker.bundle.opening import sha256_of
from edge_tracker.options import TrackerOptions
from edge_tracker.rules.boxes import Box, box_from_edges, clip_box
from edge_tracker.rules.crop import Image, crop_square, crop_template
from edge_tracker.rules.decode import decode_edges
from edge_tracker.rules.normalise import normalise
from edge_tracker.rules.online_template import OnlineTemplate
from mixformerv2.checkpoint import load_network
from mixformerv2.model import MixFormerV2


class PyTorchTracker:
    """Tracks with `MixFormerV2.forward`, on the CPU in fp32. Frames are (height, width, 3) uint8
    BGR, boxes x, y, width, height in frame pixels.
    """

    def __init__(self, network: MixFormerV2, options: TrackerOptions) -> None:
        self._network = network
        self._options = options

    def init(self, frame: Image, box: Box) -> None:
        options, size_px = self._options, self._network.spec.template_size_px
        self._box = box
        self._template = crop_template(frame, box, options, size_px)
        self._online = OnlineTemplate(self._template, options.update_interval, options.update_score)

    def update(self, frame: Image) -> Box:
        options, spec = self._options, self._network.spec
        search, side_px = crop_square(frame, self._box, options.search_factor, spec.search_size_px)
        images = (self._template, self._online.current, search)
        with torch.inference_mode():
            tensors = (torch.from_numpy(normalise(image)[None]) for image in images)
            edge_probs, score = self._network(*tensors).probabilities()
        edges = decode_edges(edge_probs[0].numpy())
        box = box_from_edges((float(edge) for edge in edges.mean), self._box, side_px)
        height, width = frame.shape[:2]
        self._box = clip_box(box, height, width, options.clip_margin_px)
        template = partial(crop_template, frame, self._box, options, spec.template_size_px)
        self._online.observe(float(score[0]), template)
        return self._box

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class PyTorchContender:
    """A PyTorchTracker of a checkpoint, for `edge_tracker.evaluate(peers=[...])`."""

    checkpoint: Path
    options: TrackerOptions
    num_threads: int | None = None

    @property
    def name(self) -> str:
        return "pytorch"

    def identity(self) -> dict[str, str]:
        return {
            "tracker": self.name,
            "files": sha256_of(self.checkpoint),
            "options": str(asdict(self.options)),
        }

    def open(self) -> PyTorchTracker:
        if self.num_threads is not None:
            torch.set_num_threads(self.num_threads)
        return PyTorchTracker(load_network(self.checkpoint), self.options)
