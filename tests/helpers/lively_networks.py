"""Networks of any geometry with random weights that leave no part of the network idle."""

from __future__ import annotations

from dataclasses import replace

import torch

from edge_tracker.bundle.spec import ModelSpec
from mixformerv2.geometries import BASE, GEOMETRIES, NANO
from mixformerv2.model import MixFormerV2

#: With the 72 bins of some checkpoints in the wild, and no two sizes alike.
TINY = replace(NANO, width=64, depth=2, num_heads=1, mlp_hidden=96, bins=72, search_size_px=64)
TINY = replace(TINY, template_size_px=32, box_head_hidden=80, score_head_hidden=48)
#: What is as wide as Base, but takes a quarter of its time.
BASE_SHORT = "base, two blocks"
TRIED = {**GEOMETRIES, BASE_SHORT: replace(BASE, depth=2), "tiny": TINY}


def lively_network(spec: ModelSpec, seed: int = 0) -> MixFormerV2:
    """Weights under which each norm, bias, token and position changes the outputs visibly."""
    random = torch.Generator().manual_seed(seed)
    network = MixFormerV2(spec).eval()

    def normal(shape: torch.Size, std: float) -> torch.Tensor:
        return torch.randn(shape, generator=random) * std

    with torch.no_grad():
        for name, parameter in network.named_parameters():
            is_norm = (
                "norm" in name
                or "bn" in name
                or (name.startswith("box_head") and name.endswith(".1.weight"))
            )
            if "pos_embed_s" in name or "pos_embed_t" in name:
                continue
            if parameter.ndim >= 2 and "reg" not in name:
                fan_in = parameter[0].numel()
                parameter.copy_(normal(parameter.shape, fan_in**-0.5))
            elif is_norm and name.endswith("weight"):
                parameter.copy_(1 + normal(parameter.shape, 0.3))
            else:
                parameter.copy_(normal(parameter.shape, 1.0 if "reg" in name else 0.3))
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(normal(buffer.shape, 0.3))
            elif name.endswith("running_var"):
                buffer.copy_(torch.exp(normal(buffer.shape, 0.3)))
        # Distributions with a peak, as those of a trained network.
        network.get_parameter("box_head.layers.1.1.weight").mul_(2.5)
    return network
