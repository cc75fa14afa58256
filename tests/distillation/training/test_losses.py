"""The losses against NumPy, and at the odd boxes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from distillation.training import losses

HALF = [0.2, 0.2, 0.6, 0.6]


def test_kl_is_zero_where_the_logits_are_the_log_of_the_teacher(random: torch.Generator) -> None:
    teacher = torch.randn((2, 4, 9), generator=random).softmax(-1)
    assert losses.edge_kl(teacher.log(), teacher).abs().max() < 1e-6


def test_kl_matches_numpy_and_has_the_teacher_first(random: torch.Generator) -> None:
    logits = torch.randn((2, 4, 9), generator=random)
    teacher = torch.randn((2, 4, 9), generator=random).softmax(-1)
    p, q = teacher.double().numpy(), logits.double().softmax(-1).numpy()
    expected = (p * np.log(p / q)).sum(-1).mean(-1)
    np.testing.assert_allclose(losses.edge_kl(logits, teacher), expected, rtol=1e-5)


def test_kl_to_a_certain_teacher_is_finite() -> None:
    certain = torch.eye(4)[None]
    kl = losses.edge_kl(torch.zeros(1, 4, 4), certain)
    assert kl.item() == pytest.approx(math.log(4))


def test_the_expected_edge_counts_bins_from_zero() -> None:
    logits = torch.full((1, 4, 10), -100.0)
    logits[0, :, 9] = 100.0
    assert losses.expected_edges(logits).tolist() == [[pytest.approx(0.9)] * 4]


@pytest.mark.parametrize(
    ("predicted", "iou"),
    [
        pytest.param(HALF, 1.0, id="identical"),
        pytest.param([0.6, 0.2, 0.8, 0.6], 0.0, id="touching"),
        pytest.param([0.7, 0.7, 0.9, 0.9], 0.0, id="disjoint"),
        pytest.param([0.4, 0.2, 0.4, 0.6], 0.0, id="no width"),
        pytest.param([0.4, 0.4, 0.4, 0.4], 0.0, id="a point"),
        pytest.param([0.6, 0.6, 0.2, 0.2], 0.0, id="inverted"),
        pytest.param([0.2, 0.2, 0.6, 0.4], 0.5, id="upper half"),
    ],
)
def test_ciou_of_odd_boxes_is_finite_and_at_most_the_iou(
    predicted: list[float], iou: float
) -> None:
    boxes = torch.tensor([predicted], requires_grad=True)
    target = torch.tensor([HALF])
    value = losses.complete_iou(boxes, target)
    (gradient,) = torch.autograd.grad(value.sum(), boxes)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()
    assert -1 <= value.item() <= iou + 1e-6
    assert losses.iou(boxes, target).item() == pytest.approx(iou, abs=1e-5)


def test_ciou_of_two_empty_boxes_is_finite() -> None:
    point = torch.full((1, 4), 0.5)
    assert torch.isfinite(losses.complete_iou(point, point)).all()


def test_ciou_matches_its_definition() -> None:
    predicted, target = torch.tensor([[0.1, 0.1, 0.6, 0.5]]), torch.tensor([[0.1, 0.1, 0.5, 0.5]])
    iou = 0.16 / 0.20
    distance = 0.05**2 / (0.5**2 + 0.4**2)
    v = 4 / math.pi**2 * (math.atan(0.5 / 0.4) - math.atan(1)) ** 2
    expected = iou - distance - v / (1 - iou + v) * v
    assert losses.complete_iou(predicted, target).item() == pytest.approx(expected, abs=1e-5)


def test_the_aspect_term_counts_only_above_half_an_iou() -> None:
    predicted, target = torch.tensor([[0.0, 0.0, 1.0, 0.2]]), torch.tensor([[0.0, 0.0, 0.2, 1.0]])
    iou = 0.04 / 0.36
    assert losses.complete_iou(predicted, target).item() == pytest.approx(iou - 0.32 / 2, abs=1e-5)


def test_no_gradient_flows_through_alpha() -> None:
    predicted = torch.tensor([[0.1, 0.1, 0.6, 0.4]], requires_grad=True)
    target = torch.tensor([[0.1, 0.1, 0.5, 0.5]])
    (gradient,) = torch.autograd.grad(losses.complete_iou(predicted, target).sum(), predicted)
    constant, flowing = (
        torch.autograd.grad(ciou_of_overlapping(predicted, target, alpha_flows).sum(), predicted)[0]
        for alpha_flows in (False, True)
    )
    torch.testing.assert_close(gradient, constant)
    assert not torch.allclose(gradient, flowing, rtol=1e-3)


def ciou_of_overlapping(
    predicted: torch.Tensor, target: torch.Tensor, alpha_flows: bool
) -> torch.Tensor:
    """The definition, box by box, for boxes that overlap by more than half."""
    x0, y0, x1, y1 = predicted[0]
    u0, v0, u1, v1 = target[0]
    overlap = (torch.min(x1, u1) - torch.max(x0, u0)) * (torch.min(y1, v1) - torch.max(y0, v0))
    iou = overlap / ((x1 - x0) * (y1 - y0) + (u1 - u0) * (v1 - v0) - overlap)
    gap = ((x0 + x1 - u0 - u1) / 2) ** 2 + ((y0 + y1 - v0 - v1) / 2) ** 2
    diagonal = (torch.max(x1, u1) - torch.min(x0, u0)) ** 2
    diagonal = diagonal + (torch.max(y1, v1) - torch.min(y0, v0)) ** 2
    angle = torch.atan((x1 - x0) / (y1 - y0)) - torch.atan((u1 - u0) / (v1 - v0))
    aspect = 4 / math.pi**2 * angle**2
    alpha = aspect / (1 - iou + aspect)
    return iou - gap / diagonal - (alpha if alpha_flows else alpha.detach()) * aspect


def test_a_gaussian_target_peaks_at_the_edge_and_has_its_mean() -> None:
    edges = torch.tensor([[0.25, 0.5, 0.75, 0.5]])
    target = losses.soft_edge_targets(edges, 32, 1.0)
    assert target.argmax(-1).tolist() == [[8, 16, 24, 16]]
    np.testing.assert_allclose(losses.expected_edges(target.log()), edges, atol=1e-4)


def test_tokens_inside_are_those_that_the_box_covers() -> None:
    inside = losses.token_is_inside(torch.tensor([[0.25, 0.5, 1.0, 0.875]]), 4).view(4, 4)
    expected = [[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1], [0, 0.5, 0.5, 0.5]]
    assert inside.tolist() == expected
