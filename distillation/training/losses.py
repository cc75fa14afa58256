"""The paper's losses (section 3.3), and the dense ones that make matching emerge in a small
network.

Boxes are left, top, right, bottom, normalised to the search crop's side; B samples, F bins.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

#: Only keeps divisions by a degenerate box's zero extent finite; far below any real extent.
EPS = 1e-7


def expected_edges(edge_logits: Tensor) -> Tensor:
    """(B, 4, F) logits -> (B, 4) coordinates in [0, 1): the mean of the distribution (eq. 3)."""
    bins = edge_logits.shape[-1]
    place = torch.arange(bins, device=edge_logits.device, dtype=torch.float32) / bins
    return edge_logits.float().softmax(dim=-1) @ place


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes (B, 4) -> (B,); 0 where both are empty."""
    overlap, union = _overlap_and_union(a, b)
    return overlap / union.clamp_min(EPS)


def complete_iou(predicted: Tensor, target: Tensor) -> Tensor:
    """CIoU in [-1, 1] of (B, 4) boxes -> (B,): IoU, less the centres' distance, less the aspect's
    error.

    The aspect term counts where IoU > 0.5, and its weight takes no gradient. Finite for every pair
    of boxes, also identical, inverted and zero-area ones.
    """
    overlap, union = _overlap_and_union(predicted, target)
    ious = overlap / union.clamp_min(EPS)
    low = torch.minimum(predicted[:, :2], target[:, :2])
    high = torch.maximum(predicted[:, 2:], target[:, 2:])
    diagonal = (high - low).square().sum(dim=1).clamp_min(EPS)
    centre_gap = (predicted[:, :2] + predicted[:, 2:] - target[:, :2] - target[:, 2:]) / 2
    distance = centre_gap.square().sum(dim=1) / diagonal
    v = (4 / math.pi**2) * (_aspect_angle(predicted) - _aspect_angle(target)).square()
    with torch.no_grad():
        alpha = (ious > 0.5) * v / (1 - ious + v).clamp_min(EPS)
    return (ious - distance - alpha * v).clamp(-1, 1)


def edge_kl(edge_logits: Tensor, teacher_probs: Tensor) -> Tensor:
    """KL(teacher || student), (B, 4, F) each -> (B,), the mean over the four edges."""
    log_student = edge_logits.float().log_softmax(dim=-1)
    divergence = torch.xlogy(teacher_probs, teacher_probs) - teacher_probs * log_student
    return divergence.sum(dim=-1).mean(dim=-1)


def soft_edge_targets(edges: Tensor, bins: int, sigma_bins: float) -> Tensor:
    """A Gaussian around each true edge, (B, 4) -> (B, 4, F): a target without a teacher."""
    place = torch.arange(bins, device=edges.device, dtype=torch.float32)
    distance = (place - edges[..., None] * bins) / sigma_bins
    return (-0.5 * distance.square()).softmax(dim=-1)


def token_is_inside(edges: Tensor, grid: int) -> Tensor:
    """Share of each search token's square that the target covers, (B, 4) -> (B, grid * grid)."""
    start = torch.arange(grid, device=edges.device, dtype=torch.float32) / grid
    low, high = edges[:, :2, None], edges[:, 2:, None]
    covered = torch.minimum(high, start + 1 / grid) - torch.maximum(low, start)
    share = covered.clamp_min(0) * grid
    return (share[:, 1, :, None] * share[:, 0, None, :]).flatten(1)


def feature_error(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Mean squared error of paired residual streams (B, tokens, C), averaged over the pairs."""
    return torch.stack([F.mse_loss(s.float(), t.float()) for s, t in pairs]).mean()


def _overlap_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    overlap = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp_min(0)
    area = overlap.prod(dim=1)
    return area, _extent(a).prod(dim=1) + _extent(b).prod(dim=1) - area


def _aspect_angle(box: Tensor) -> Tensor:
    width, height = _extent(box).unbind(dim=1)
    return torch.atan(width / height.clamp_min(EPS))


def _extent(box: Tensor) -> Tensor:
    return (box[:, 2:] - box[:, :2]).clamp_min(0)
