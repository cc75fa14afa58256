"""What a training step over a frozen stem costs: the stem in each step, or its features ahead.

Forward and backward of the recipe `stem` on a CPU, of random images, in turn. Features are computed
once for each sample and used in as many steps as the recipe says; that share of them is counted in.

    python -m benchmarks.training_over_stem [--batch-size 32] [--rounds 5] [--threads 2] [--compile]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.interleaved import median_ratio, time_in_turn
from distillation.data.batches import Batch
from distillation.networks.building import build_trained
from distillation.networks.stem_features import StemFeatures
from distillation.recipes.named import named_recipe
from distillation.training.objective import Objective
from mixformerv2.stem import StemEmbed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="the step over features: minutes")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    recipe = named_recipe("stem")
    network = build_trained(recipe, None)
    embedding, spec = network.backbone.patch_embed, recipe.student
    assert isinstance(embedding, StemEmbed)
    compute = StemFeatures(embedding, {spec.template_size_px, spec.search_size_px})
    images = random_batch(arguments.batch_size, spec.template_size_px, spec.search_size_px)
    ahead = with_features(images, compute)
    objective = Objective(recipe, network, None)
    times_ms = time_in_turn(
        {
            "stem in the step": step_call(objective, images),
            "features ahead, step": step_call(
                torch.compile(objective) if arguments.compile else objective, ahead
            ),
            "features, computed": lambda: with_features(images, compute),
        },
        arguments.rounds,
        warm_up=1,
    )
    for name, values in times_ms.items():
        print(f"{name:22} {statistics.median(values) / arguments.batch_size:7.1f} ms a sample")
    shared = [
        step + features / recipe.sample_uses
        for step, features in zip(
            times_ms["features ahead, step"], times_ms["features, computed"], strict=True
        )
    ]
    ratio = median_ratio(times_ms["stem in the step"], shared)
    print(f"with each sample in {recipe.sample_uses} steps: {ratio:.2f} times as fast")


def random_batch(samples: int, template_px: int, search_px: int) -> Batch:
    random = torch.Generator().manual_seed(0)

    def pixels(*shape: int) -> torch.Tensor:
        return torch.randint(0, 256, (samples, *shape, 3), generator=random, dtype=torch.uint8)

    edges = torch.tensor([0.3, 0.3, 0.7, 0.7]).expand(samples, 4)
    present = torch.ones(samples, dtype=torch.bool)
    search = pixels(search_px, search_px)
    return Batch(pixels(2, template_px, template_px), search, edges, present, None)


def with_features(batch: Batch, compute: StemFeatures) -> Batch:
    templates = torch.stack([compute(pair.numpy()) for pair in batch.templates])
    return batch._replace(templates=templates, search=compute(batch.search.numpy()))


def step_call(
    objective: Callable[[Batch], dict[str, Tensor]], batch: Batch
) -> Callable[[], object]:
    def step() -> None:
        torch.stack(list(objective(batch).values())).sum().backward()

    return step


if __name__ == "__main__":
    main()
