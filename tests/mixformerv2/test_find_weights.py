"""Weights are found in what frameworks wrap around them, and in whole pickled modules."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edge_tracker.errors import CheckpointError
from mixformerv2.checkpoint import load_network, read_checkpoint
from mixformerv2.model import MixFormerV2
from tests.helpers.lively_networks import TINY, lively_network

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def network() -> MixFormerV2:
    return lively_network(TINY)


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def assert_found(content: object, expected: State, folder: Path) -> None:
    torch.save(content, folder / "c.pth")
    read = read_checkpoint(folder / "c.pth").state
    assert read.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(read[name], tensor)


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda state: state, id="a bare state dict"),
        pytest.param(lambda state: {"net": state, "epoch": 3}, id="the official training"),
        pytest.param(lambda state: {"state_dict": state, "meta": {"a": 1}}, id="state_dict"),
        pytest.param(lambda state: {"model_state_dict": state, "loss": 0.1}, id="the tutorial's"),
        pytest.param(lambda state: {"model": state, "optimizer": {"state": {}}}, id="model"),
        pytest.param(lambda state: {"ema": state, "step": 3}, id="ema"),
        pytest.param(lambda state: {"module": state, "dp_world_size": 1}, id="DeepSpeed"),
        pytest.param(lambda state: {"model": {"state_dict": state}}, id="one in the other"),
        pytest.param(lambda state: {"model": "mixformer", "ema": state}, id="a name beside it"),
        pytest.param(lambda state: prefixed(state, "module."), id="DDP"),
        pytest.param(lambda state: prefixed(state, "_orig_mod."), id="torch.compile"),
        pytest.param(lambda state: prefixed(state, "module._orig_mod."), id="both"),
        pytest.param(
            lambda state: {n.replace("blocks.", "blocks._orig_mod."): t for n, t in state.items()},
            id="a compiled part",
        ),
        pytest.param(
            lambda state: {
                "state_dict": {**prefixed(state, "network."), "loss.weight": torch.ones(3)},
                "pytorch-lightning_version": "2.0",
                "hyper_parameters": {"lr": 1e-4},
            },
            id="Lightning",
        ),
        pytest.param(
            lambda state: {**prefixed(state, "module."), "n_averaged": torch.tensor(7)},
            id="an averaged model",
        ),
        pytest.param(
            lambda state: {"net": state | {"bn.num_batches_tracked": torch.tensor(7)}},
            id="counters of batch normalisation",
        ),
        pytest.param(
            lambda state: {name: nn.Parameter(tensor) for name, tensor in state.items()},
            id="parameters",
        ),
    ],
)  # fmt: skip
def test_what_trainers_save_is_read(
    wrap: Callable[[State], Any], network: MixFormerV2, tmp_path: Path
) -> None:
    state = dict(network.state_dict())
    assert_found(wrap(state), state, tmp_path)


def with_attributes(tensor: Tensor) -> nn.Parameter:
    parameter = nn.Parameter(tensor)
    parameter.rank = 0  # type: ignore[attr-defined]
    return parameter


class MarkedTensor(Tensor):
    pass


@pytest.mark.parametrize(
    "kind",
    [with_attributes, lambda tensor: tensor.as_subclass(MarkedTensor)],
    ids=["state", "type"],
)
def test_parameters_with_attributes_and_subclasses_of_tensors_are_read(
    kind: Callable[[Tensor], Tensor], network: MixFormerV2, tmp_path: Path
) -> None:
    state = dict(network.state_dict())
    assert_found({name: kind(tensor) for name, tensor in state.items()}, state, tmp_path)


def test_an_official_averaged_model_is_read(network: MixFormerV2, tmp_path: Path) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(network)
    assert_found(averaged.state_dict(), dict(network.state_dict()), tmp_path)
    assert_found({"model": averaged}, dict(network.state_dict()), tmp_path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before PyTorch 1.6"])
def test_a_whole_pickled_module_is_read_and_its_class_never_looked_up(
    zipped: bool, network: MixFormerV2, tmp_path: Path
) -> None:
    module = types.ModuleType("foreign_networks")

    class Foreign(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = network.backbone.blocks[0]
            self.register_buffer("mean", torch.ones(3))
            self.register_buffer("cache", torch.ones(3), persistent=False)

    Foreign.__module__, Foreign.__qualname__ = module.__name__, "Foreign"
    module.Foreign = Foreign  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    foreign = Foreign()
    with pytest.warns(UserWarning, match="source code") if not zipped else nullcontext():
        torch.save(foreign, tmp_path / "c.pth", _use_new_zipfile_serialization=zipped)
    del sys.modules[module.__name__]
    read = read_checkpoint(tmp_path / "c.pth").state
    assert read.keys() == foreign.state_dict().keys()
    assert module.__name__ not in sys.modules


def test_a_pickled_network_of_this_package_loads(network: MixFormerV2, tmp_path: Path) -> None:
    torch.save({"epoch": 1, "model": network}, tmp_path / "c.pth")
    assert load_network(tmp_path / "c.pth").spec == TINY


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda state: {**prefixed(state, "student."), **prefixed(state, "teacher.")},
            "several networks, under 'student.', 'teacher.'; save the state_dict",
        ),
        (lambda state: {**state, **prefixed(state, "module.")}, "two tensors '.*' once prefixes"),
        (
            lambda state: {"net": {"w": torch.ones(2).to_sparse()}},
            "a tensor 'w' that is torch._utils._rebuild_sparse_tensor; expected dense",
        ),
        (lambda state: {"net": {"w": torch.ones(2, dtype=torch.complex64)}}, "ComplexFloatStorage"),
        (lambda state: {"net": {"w": torch.ones(2).to(torch.float8_e5m2)}}, "that is torch._utils"),
    ],
)
def test_what_cannot_be_meant_is_named(
    make: Callable[[State], Any], says: str, network: MixFormerV2, tmp_path: Path
) -> None:
    torch.save(make(dict(network.state_dict())), tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=says):
        read_checkpoint(tmp_path / "c.pth")


def test_a_module_that_contains_itself_is_refused(tmp_path: Path) -> None:
    loop = nn.Module()
    loop.register_parameter("w", nn.Parameter(torch.ones(2)))
    loop._modules["inner"] = loop
    torch.save(loop, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match="a module that contains itself"):
        read_checkpoint(tmp_path / "c.pth")
