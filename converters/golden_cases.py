"""Golden inputs and outputs: what the PyTorch network says to crops of a rendered clip, for replay
on devices.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from edge_tracker.bundle.goldens import Golden
from edge_tracker.bundle.spec import ModelSpec
from edge_tracker.options import TrackerOptions
from edge_tracker.rules.boxes import Box
from edge_tracker.rules.crop import crop_square, crop_template
from edge_tracker.rules.normalise import normalise
from edge_tracker.video.rendered_clip import render_clip
from mixformerv2.model import MixFormerV2

CASES = 8


def make_golden(network: MixFormerV2, options: TrackerOptions) -> Golden:
    """Run the network's full forward, nothing folded or cut, on crops along the rendered clip."""
    templates, search = _crops(network.spec, options)
    initial, online, region = (
        torch.from_numpy(normalise(images)) for images in (templates[:, 0], templates[:, 1], search)
    )
    with torch.no_grad():
        edge_probs, score = network(initial, online, region).probabilities()
    return Golden(templates, search, edge_probs.numpy(), score.numpy())


def _crops(spec: ModelSpec, options: TrackerOptions) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Templates at the clip's start and on the way, search regions around boxes that are a little
    off.
    """
    clip = list(render_clip(frames=10 * CASES))
    random = np.random.default_rng(0)

    def template(index: int) -> NDArray[np.uint8]:
        frame = clip[index]
        return crop_template(frame.image, frame.box, options, spec.template_size_px)

    templates, search = [], []
    for case in range(CASES):
        frame = clip[10 * case + 9]
        templates.append(np.stack([template(0), template(10 * case)]))
        off_target = _jitter(frame.box, random)
        search.append(
            crop_square(frame.image, off_target, options.search_factor, spec.search_size_px)[0]
        )
    return np.stack(templates), np.stack(search)


def _jitter(box: Box, random: np.random.Generator) -> Box:
    x, y, w, h = box
    dx, dy = random.uniform(-0.6, 0.6, 2)
    return x + dx * w, y + dy * h, w, h
