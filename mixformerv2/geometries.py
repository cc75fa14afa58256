"""Geometries of the released networks, and of the one that this project ships."""

from __future__ import annotations

from dataclasses import replace

from edge_tracker.bundle.spec import ConvStem, ModelSpec, StemStage

BASE = ModelSpec(
    width=768,
    depth=8,
    num_heads=12,
    mlp_hidden=3072,
    patch_size_px=16,
    search_size_px=288,
    template_size_px=128,
    bins=96,
    box_head_hidden=768,
    score_head_hidden=768,
)
SMALL = replace(BASE, depth=4, mlp_hidden=768, search_size_px=224, template_size_px=112)
NANO = ModelSpec(
    width=192,
    depth=4,
    num_heads=3,
    mlp_hidden=192,
    patch_size_px=16,
    search_size_px=160,
    template_size_px=80,
    bins=64,
    box_head_hidden=192,
    score_head_hidden=192,
)
#: EfficientNet-lite0 to stride 16: its first eleven blocks.
LITE0 = ConvStem(
    channels=32,
    stages=(
        StemStage(blocks=1, kernel_px=3, stride=1, expansion=1, channels=16),
        StemStage(blocks=2, kernel_px=3, stride=2, expansion=6, channels=24),
        StemStage(blocks=2, kernel_px=5, stride=2, expansion=6, channels=40),
        StemStage(blocks=3, kernel_px=3, stride=2, expansion=6, channels=80),
        StemStage(blocks=3, kernel_px=5, stride=1, expansion=6, channels=112),
    ),
)
STEM_NANO = replace(NANO, template_size_px=96, stem=replace(LITE0, fine=True))
GEOMETRIES = {"nano": NANO, "stem_nano": STEM_NANO, "small": SMALL, "base": BASE}
