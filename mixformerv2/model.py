"""The MixFormerV2 network, in the layout of the official checkpoints.

`MixFormerV2.forward` is the network as the paper draws it (Cui et al., "MixFormerV2: Efficient
Fully Transformer Tracking", NeurIPS 2023, section 3.2): template, online template, search and four
prediction tokens go through one ViT. Template tokens attend only to template tokens, so their keys
and values do not depend on the frame; `encode_templates` and `search` are the two exact halves that
this permits: the first runs when a template changes, the second on every frame.

Shapes: B targets, C width, H heads, D head_dim = C / H, Nt tokens of one template, Ns search
tokens. Images are float32 RGB, normalised, (B, 3, height, width).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edge_tracker.bundle import contract
from edge_tracker.bundle.spec import ModelSpec
from mixformerv2.stem import StemEmbed

NUM_PREDICTION_TOKENS = len(contract.PREDICTION_TOKENS)
BACKBONE_NORM_EPS = 1e-6
HEAD_NORM_EPS = 1e-5


class Prediction(NamedTuple):
    """Raw outputs of the two heads.

    edge_logits: (B, 4, bins), rows left, top, right, bottom; bin i stands for coordinate i / bins
    of
        the search crop's side (eq. 3).
    score_logit: (B,), the mean of the four tokens' logits; its sigmoid is the confidence.
    """

    edge_logits: Tensor
    score_logit: Tensor

    def probabilities(self) -> tuple[Tensor, Tensor]:
        """edge_probs (B, 4, bins), each row a distribution, and score (B,), both float32 whatever
        the type of the weights.
        """
        return self.edge_logits.float().softmax(dim=-1), self.score_logit.float().sigmoid()


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """(B, H, Nq, D), (B, H, N, D), (B, H, N, D) -> (B, Nq, C)."""
    if q.is_cuda:
        # Training on a GPU: the same sum in one kernel.
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, scale=scale)
        return mixed.transpose(1, 2).reshape(-1, q.shape[2], q.shape[1] * q.shape[3])
    if scale != 1.0:
        q = q * scale
    weights = (q @ k.transpose(-2, -1)).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).reshape(-1, q.shape[2], q.shape[1] * q.shape[3])


class Attention(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (width // num_heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def project_qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, C) -> queries, keys, values, each (B, H, N, D)."""
        q, k, v = self._split_heads(self.qkv(x), 3)
        return q, k, v

    def project_q(self, x: Tensor) -> Tensor:
        width = self.proj.in_features
        q = nn.functional.linear(x, self.qkv.weight[:width], self.qkv.bias[:width])
        return self._split_heads(q, 1)[0]

    def project_kv(self, x: Tensor) -> tuple[Tensor, Tensor]:
        width = self.proj.in_features
        kv = nn.functional.linear(x, self.qkv.weight[width:], self.qkv.bias[width:])
        k, v = self._split_heads(kv, 2)
        return k, v

    def _split_heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        tokens, head_dim = x.shape[1], self.proj.in_features // self.num_heads
        x = x.reshape(-1, tokens, parts, self.num_heads, head_dim)
        return x.permute(2, 0, 3, 1, 4).unbind(0)


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block with asymmetric mixed attention."""

    def __init__(self, width: int, num_heads: int, mlp_hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=BACKBONE_NORM_EPS)
        self.attn = Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, eps=BACKBONE_NORM_EPS)
        self.mlp = Mlp(width, mlp_hidden)

    def forward(
        self, x: Tensor, template_tokens: int, branch_gains: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """All tokens, (B, N, C); the first `template_tokens` are those of both templates.

        branch_gains: in training, factors of the attention's and the MLP's output, each (B, 1, 1).
        """
        q, k, v = self.attn.project_qkv(self.norm1(x))
        t = template_tokens
        scale = self.attn.scale
        template = attend(q[:, :, :t], k[:, :, :t], v[:, :, :t], scale)
        others = attend(q[:, :, t:], k, v, scale)
        attended = torch.cat([template, others], dim=1)
        if branch_gains is None:
            return self._finish(x, attended)
        attention_gain, mlp_gain = branch_gains
        x = x + attention_gain * self.attn.proj(attended)
        return x + mlp_gain * self.mlp(self.norm2(x))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Template tokens alone -> their next tokens, and the keys and values that others read."""
        q, k, v = self.attn.project_qkv(self.norm1(x))
        return self._finish(x, attend(q, k, v, self.attn.scale)), k, v

    def encode_kv(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of template tokens, for the last block: nobody reads its own outputs."""
        return self.attn.project_kv(self.norm1(x))

    def mix(self, x: Tensor, template_kv: Tensor) -> Tensor:
        """Search and prediction tokens (B, N, C) with cached template keys, values (B, 2, H, 2 Nt,
        D).
        """
        q, k, v = self.attn.project_qkv(self.norm1(x))
        return self._mix(x, q, k, v, template_kv)

    def mix_predictions(self, x: Tensor, template_kv: Tensor) -> Tensor:
        """As `mix`, but only the prediction tokens go on: (B, N, C) -> (B, 4, C)."""
        predictions = x[:, -NUM_PREDICTION_TOKENS:]
        normed = self.norm1(x)
        q = self.attn.project_q(normed[:, -NUM_PREDICTION_TOKENS:])
        k, v = self.attn.project_kv(normed)
        return self._mix(predictions, q, k, v, template_kv)

    def _mix(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, template_kv: Tensor) -> Tensor:
        k = torch.cat([template_kv[:, 0], k], dim=2)
        v = torch.cat([template_kv[:, 1], v], dim=2)
        return self._finish(x, attend(q, k, v, self.attn.scale))

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.attn.proj(attended)
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, width: int, patch_size_px: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch_size_px, stride=patch_size_px)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, height, width) -> (B, tokens in row-major order, C)."""
        x = self.proj(image)
        return x.reshape(-1, x.shape[1], x.shape[2] * x.shape[3]).transpose(1, 2)


def sincos_position_table(width: int, grid: int) -> Tensor:
    """Fixed 2-D sin-cos positions of a grid x grid square of tokens, (1, grid * grid, width).

    A quarter of the channels each for sin(column), cos(column), sin(row), cos(row), at
    frequencies 10000^(-i / (width / 4)).
    """
    # On the CPU also where a network is only outlined: arithmetic on "meta" loads TorchDynamo.
    quarter = torch.arange(width // 4, dtype=torch.float64, device="cpu")
    frequencies = 10000.0 ** (-quarter / (width // 4))
    place = torch.arange(grid, dtype=torch.float64, device="cpu")
    angles = place[:, None] * frequencies
    one_axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    columns = one_axis[None, :, :].expand(grid, grid, -1)
    rows = one_axis[:, None, :].expand(grid, grid, -1)
    return torch.cat([columns, rows], dim=2).reshape(1, grid * grid, width).float()


class Backbone(nn.Module):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.patch_embed: PatchEmbed | StemEmbed = (
            PatchEmbed(spec.width, spec.patch_size_px)
            if spec.stem is None
            else StemEmbed(spec.stem, spec.width)
        )
        self.pos_embed_s = nn.Parameter(
            sincos_position_table(spec.width, spec.search_size_px // spec.patch_size_px),
            requires_grad=False,
        )
        self.pos_embed_t = nn.Parameter(
            sincos_position_table(spec.width, spec.template_size_px // spec.patch_size_px),
            requires_grad=False,
        )
        self.reg_tokens = nn.Parameter(torch.empty(1, NUM_PREDICTION_TOKENS, spec.width))
        self.pos_embed_reg = nn.Parameter(torch.zeros(1, NUM_PREDICTION_TOKENS, spec.width))
        self.blocks: Sequence[Block] = nn.ModuleList(  # type: ignore[assignment]
            Block(spec.width, spec.num_heads, spec.mlp_hidden) for _ in range(spec.depth)
        )
        nn.init.trunc_normal_(self.reg_tokens, std=0.02)

    def embed_templates(self, template: Tensor, online_template: Tensor) -> Tensor:
        """-> (B, 2 Nt, C), the template's tokens first."""
        return self.place_templates(self.patch_embed(template), self.patch_embed(online_template))

    def embed_search(self, search: Tensor) -> Tensor:
        """-> (B, Ns + 4, C), the prediction tokens last."""
        return self.place_search(self.patch_embed(search))

    def place_templates(self, template_tokens: Tensor, online_tokens: Tensor) -> Tensor:
        """(B, Nt, C) of each template -> (B, 2 Nt, C) with their positions."""
        return torch.cat([t + self.pos_embed_t for t in (template_tokens, online_tokens)], dim=1)

    def place_search(self, tokens: Tensor) -> Tensor:
        """(B, Ns, C) -> (B, Ns + 4, C) with their positions, the prediction tokens behind."""
        tokens = tokens + self.pos_embed_s
        predictions = self.reg_tokens + self.pos_embed_reg
        return torch.cat([tokens, predictions.expand(tokens.shape[0], -1, -1)], dim=1)


class BoxHead(nn.Module):
    """One MLP shared by the four prediction tokens (the "T4" head, section 3.2)."""

    def __init__(self, width: int, hidden: int, bins: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Sequential(
                nn.Linear(width, hidden), nn.LayerNorm(hidden, eps=HEAD_NORM_EPS), nn.ReLU()
            ),
            nn.Sequential(nn.Linear(hidden, bins), nn.LayerNorm(bins, eps=HEAD_NORM_EPS)),
        )

    def forward(self, predictions: Tensor) -> Tensor:
        """(B, 4, C) in token order -> (B, 4, bins) logits in left, top, right, bottom order."""
        logits = self.layers(predictions).unbind(1)
        by_edge = dict(zip(contract.PREDICTION_TOKENS, logits, strict=True))
        return torch.stack([by_edge[edge] for edge in contract.EDGES], dim=1)


class ScoreHead(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU()), nn.Linear(hidden, 1)
        )

    def forward(self, predictions: Tensor) -> Tensor:
        """(B, 4, C) -> (B,): the mean of the tokens' logits, as released weights were trained.

        The paper's text averages the tokens first.
        """
        return self.layers(predictions).mean(dim=1).squeeze(-1)


class MixFormerV2(nn.Module):
    """The tracker's network. Parameter names are those of the official checkpoints."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = Backbone(spec)
        self.box_head = BoxHead(spec.width, spec.box_head_hidden, spec.bins)
        self.score_head = ScoreHead(spec.width, spec.score_head_hidden)

    def forward(self, template: Tensor, online_template: Tensor, search: Tensor) -> Prediction:
        """The whole network at once: for training, and the reference for the two halves."""
        templates = self.backbone.embed_templates(template, online_template)
        x = torch.cat([templates, self.backbone.embed_search(search)], dim=1)
        for block in self.backbone.blocks:
            x = block(x, templates.shape[1])
        return self.predict(x[:, -NUM_PREDICTION_TOKENS:])

    def encode_templates(self, template: Tensor, online_template: Tensor) -> Tensor:
        """Keys and values of both templates in every block, (B, depth, 2, H, 2 Nt, D).

        The templates are encoded jointly: they attend to each other, so encoding them apart is
        wrong.
        """
        x = self.backbone.embed_templates(template, online_template)
        *blocks, last = self.backbone.blocks
        keys_values = []
        for block in blocks:
            x, k, v = block.encode(x)
            keys_values.append(torch.stack([k, v], dim=1))
        keys_values.append(torch.stack(last.encode_kv(x), dim=1))
        return torch.stack(keys_values, dim=1)

    def search(self, search: Tensor, template_kv: Tensor) -> Prediction:
        """What is left to do on a frame once `encode_templates` has run."""
        x = self.backbone.embed_search(search)
        *blocks, last = self.backbone.blocks
        for layer, block in enumerate(blocks):
            x = block.mix(x, template_kv[:, layer])
        return self.predict(last.mix_predictions(x, template_kv[:, len(blocks)]))

    def predict(self, predictions: Tensor) -> Prediction:
        """Prediction tokens after the last block, (B, 4, C), through both heads."""
        return Prediction(self.box_head(predictions), self.score_head(predictions))
