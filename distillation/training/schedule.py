"""What changes as training goes on: the learning rate, and how much of a doomed block is left."""

from __future__ import annotations

import math


def branch_gain(step: int, prune_steps: int) -> float:
    """gamma of section 3.3: 1 at the start, 0 from `prune_steps` on, half a cosine between."""
    if step >= prune_steps:
        return 0.0
    return 0.5 * (1 + math.cos(math.pi * step / prune_steps))


def learning_rate_factor(step: int, total_steps: int, warmup_steps: int, decay: str) -> float:
    """What to multiply the base rate with: a linear warm-up, then `decay`.

    decay: "cosine" falls to 0 at the end; "step:F" falls to a tenth at the fraction F of all steps.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if decay == "cosine":
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return 0.1 if step >= float(decay.removeprefix("step:")) * total_steps else 1.0
