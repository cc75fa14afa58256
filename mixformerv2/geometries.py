"""Geometries of the released networks, and of the one that this project ships."""

from __future__ import annotations

from dataclasses import replace

from edge_tracker.spec import ModelSpec

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
GEOMETRIES = {"nano": NANO, "small": SMALL, "base": BASE}
