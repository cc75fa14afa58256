"""The dense teacher, and what a student inherits from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from distillation.networks.building import build_trained
from distillation.networks.convolutional_teacher import ConvolutionalTeacher
from distillation.networks.forward import run_network
from distillation.networks.mixvit_teacher import MixViT, build_mixvit, corner_marginals
from edge_tracker.errors import CheckpointError
from mixformerv2.model import MixFormerV2
from tests.helpers.small_training import RECIPE, SPEC


@pytest.fixture
def teacher() -> MixViT:
    torch.manual_seed(0)
    return MixViT(SPEC).eval()


def test_edges_of_a_corner_map_are_its_sums_over_the_other_axis(random: torch.Generator) -> None:
    corner_probs = torch.rand((3, 2, 5, 5), generator=random).flatten(2).softmax(-1)
    corner_probs = corner_probs.view(3, 2, 5, 5)
    marginals = corner_marginals(corner_probs)
    maps = corner_probs.numpy()
    expected = np.stack(
        [maps[:, 0].sum(1), maps[:, 0].sum(2), maps[:, 1].sum(1), maps[:, 1].sum(2)], axis=1
    )
    np.testing.assert_allclose(marginals, expected, atol=1e-6)
    np.testing.assert_allclose(marginals.sum(-1), 1, atol=1e-6)


def test_a_corner_at_a_cell_gives_the_edges_of_that_row_and_column() -> None:
    corner_probs = torch.zeros(1, 2, 8, 8)
    corner_probs[0, 0, 2, 1] = 1  # top 2, left 1
    corner_probs[0, 1, 7, 5] = 1  # bottom 7, right 5
    assert corner_marginals(corner_probs).argmax(-1).tolist() == [[1, 2, 5, 7]]


@torch.no_grad()
def test_the_teachers_edges_are_the_marginals_of_its_corner_maps(teacher: MixViT) -> None:
    search_tokens = torch.randn(2, SPEC.search_tokens, SPEC.width)
    feature_map = search_tokens.transpose(1, 2).reshape(2, SPEC.width, 4, 4)
    corner_probs = teacher.corner_head(feature_map)
    assert corner_probs.shape == (2, 2, SPEC.bins, SPEC.bins)
    assert corner_probs.flatten(2).sum(-1) == pytest.approx(torch.ones(2, 2).numpy())
    probs = teacher.edge_logits(search_tokens).softmax(-1)
    torch.testing.assert_close(probs, corner_marginals(corner_probs))


@torch.no_grad()
def test_the_teacher_has_no_prediction_tokens(teacher: MixViT) -> None:
    templates, search = torch.randn(1, 2, 3, 32, 32), torch.randn(1, 3, 64, 64)
    before = run_network(teacher, templates, search)
    teacher.backbone.reg_tokens.normal_()
    after = run_network(teacher, templates, search)
    assert before.streams[0].shape[1] == 2 * SPEC.template_tokens + SPEC.search_tokens
    assert before.score_logit is None
    assert torch.equal(before.edge_logits, after.edge_logits)


def test_a_student_starts_from_the_teachers_backbone(teacher: MixViT, tmp_path: Path) -> None:
    torch.save({"net": teacher.state_dict(), "num_heads": 2}, tmp_path / "teacher.pth.tar")
    student = build_trained(RECIPE, tmp_path / "teacher.pth.tar")
    assert isinstance(student, MixFormerV2)
    weights = teacher.backbone.state_dict()
    for name in (name for name in weights if name.startswith("blocks.")):
        assert torch.equal(student.backbone.state_dict()[name], weights[name])
    assert student.backbone.patch_embed.proj.weight.equal(teacher.backbone.patch_embed.proj.weight)


def test_a_saved_teacher_comes_back_at_its_students_sizes(teacher: MixViT) -> None:
    at_sizes = build_mixvit(teacher.state_dict(), replace(SPEC, search_size_px=96))
    assert at_sizes.spec.depth == SPEC.depth
    assert at_sizes.backbone.pos_embed_s.shape[1] == 36
    with pytest.raises(CheckpointError, match="width 32, and the student width 64"):
        build_mixvit(teacher.state_dict(), replace(SPEC, width=64))


def averaging_backbone(path: Path, size_px: int, grid: int) -> Path:
    """An ONNX backbone whose two channels are the means of blue, and of red, over each cell."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    cell = size_px // grid
    kernel = np.zeros((2, 3, cell, cell), np.float32)
    kernel[0, 0] = kernel[1, 2] = 1 / cell**2
    node = helper.make_node("Conv", ["image", "kernel"], ["cells"], strides=[cell, cell])
    graph = helper.make_graph(
        [node],
        "backbone",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size_px, size_px])],
        [helper.make_tensor_value_info("cells", TensorProto.FLOAT, [1, 2, grid, grid])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def test_each_token_gets_its_own_cells_of_the_convolutional_teacher(tmp_path: Path) -> None:
    teacher = ConvolutionalTeacher(averaging_backbone(tmp_path / "cells.onnx", 32, 8), 4)
    image = np.zeros((1, 64, 64, 3), np.uint8)
    image[:, :, :, 2] = 100
    image[0, 16:32, 32:48, 0] = 200  # token in row 1, column 2: blue, all others red
    features = teacher.features(image)
    assert features.shape == (1, 16, 8)
    assert teacher.channels == 8
    blue_first = np.array([[1] * 4 + [-1] * 4])
    np.testing.assert_allclose(features[0, [1 * 4 + 2]], blue_first, atol=1e-3)
    others = np.delete(features[0], 1 * 4 + 2, axis=0)
    np.testing.assert_allclose(others, np.repeat(-blue_first, 15, axis=0), atol=1e-3)


def fixed_backbone(path: Path, cells: np.ndarray) -> Path:
    """An ONNX backbone that answers every image of 32 px with the same (channels, 8, 8) map."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kernel = np.zeros((len(cells), 3, 4, 4), np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["nothing"], strides=[4, 4]),
        helper.make_node("Add", ["nothing", "map"], ["cells"]),
    ]
    graph = helper.make_graph(
        nodes,
        "backbone",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("cells", TensorProto.FLOAT, [1, len(cells), 8, 8])],
        [
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(cells[None].astype(np.float32), "map"),
        ],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


@pytest.mark.parametrize("token_grid", [1, 2, 4, 8])
def test_features_are_the_maps_own_where_the_tokens_divide_it(
    token_grid: int, tmp_path: Path
) -> None:
    cells = np.random.default_rng(0).normal(size=(5, 8, 8))
    teacher = ConvolutionalTeacher(fixed_backbone(tmp_path / "fixed.onnx", cells), token_grid)
    features = teacher.features(np.zeros((2, 64, 64, 3), np.uint8))
    normalised = (cells - cells.mean(axis=0)) / cells.std(axis=0)
    share = 8 // token_grid
    for token, (row, column) in enumerate(np.ndindex(token_grid, token_grid)):
        own = normalised[:, row * share : (row + 1) * share, column * share : (column + 1) * share]
        for sample in features:
            np.testing.assert_allclose(sample[token], own.ravel(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("token_grid", [3, 5, 6, 7, 10])
def test_a_smooth_map_stays_right_where_the_tokens_do_not_divide_it(
    token_grid: int, tmp_path: Path
) -> None:
    teacher = ConvolutionalTeacher(fixed_backbone(tmp_path / "smooth.onnx", waves(8)), token_grid)
    features = teacher.features(np.zeros((1, 64, 64, 3), np.uint8))
    assert features.shape == (1, token_grid**2, teacher.channels)
    assert features.dtype == np.float32
    share = max(1, round(8 / token_grid))
    tokens = features.reshape(token_grid, token_grid, 8, share, share)
    cells = tokens.transpose(2, 0, 3, 1, 4).reshape(8, token_grid * share, token_grid * share)
    np.testing.assert_allclose(cells, np.sqrt(2) * waves(token_grid * share), atol=0.01)


def waves(grid: int) -> np.ndarray:
    """Eight channels across and down the image, of the same mean and variance in every cell.

    They are smooth, so that any grid of cells shows the same image. Beyond the middles of the
    outermost of eight cells nothing is known: there they are level.
    """
    middles = np.clip((np.arange(grid) + 0.5) / grid, 0.5 / 8, 7.5 / 8)
    wave = np.stack([np.cos(middles), np.sin(middles), -np.cos(middles), -np.sin(middles)])
    across = np.broadcast_to(wave[:, None, :], (4, grid, grid))
    down = np.broadcast_to(wave[:, :, None], (4, grid, grid))
    return np.concatenate([across, down])
