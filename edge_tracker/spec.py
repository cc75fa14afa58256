"""Facts of one network: what the shapes in its checkpoint say. Read from a bundle's manifest on the
device.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Order of the edges in every array of edges this package hands out.
EDGES = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class ModelSpec:
    """Geometry of a MixFormerV2 network.

    Sizes are of square images, in pixels; counts are of tokens, layers or units.
    """

    width: int
    depth: int
    num_heads: int
    mlp_hidden: int
    patch_size_px: int
    search_size_px: int
    template_size_px: int
    bins: int
    box_head_hidden: int
    score_head_hidden: int

    @property
    def head_dim(self) -> int:
        return self.width // self.num_heads

    @property
    def search_tokens(self) -> int:
        return (self.search_size_px // self.patch_size_px) ** 2

    @property
    def template_tokens(self) -> int:
        """Tokens of *one* template; the network always sees two."""
        return (self.template_size_px // self.patch_size_px) ** 2

    def template_kv_shape(self, targets: int = 1) -> tuple[int, int, int, int, int, int]:
        """(targets, layer, key or value, head, token of both templates, head_dim)."""
        return (targets, self.depth, 2, self.num_heads, 2 * self.template_tokens, self.head_dim)
