"""Reading checkpoints: every layout loads, no code from a file runs, and what is wrong is named."""

from __future__ import annotations

import enum
import os
import pickle
import re
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from edge_tracker.bundle.spec import ModelSpec, spec_from_dict, spec_to_dict
from edge_tracker.errors import CheckpointError
from mixformerv2 import checkpoint
from mixformerv2.checkpoint import infer_spec, load_network, read_checkpoint
from mixformerv2.geometries import BASE, NANO, SMALL
from tests.helpers.lively_networks import TINY, lively_network

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def tiny_state() -> State:
    return dict(lively_network(TINY).state_dict())


@pytest.fixture
def state(tiny_state: State) -> State:
    return dict(tiny_state)


@pytest.fixture
def foreign() -> Iterator[types.ModuleType]:
    """Training classes that are there when the file is written and gone when it is read."""
    module = types.ModuleType("foreign_training")

    class Meter:
        def __init__(self) -> None:
            self.average = 0.5

        def __setstate__(self, state: object) -> None:
            raise AssertionError("code named by the file ran")

    class Settings(dict):
        pass

    class Stage(enum.Enum):
        DENSE = 1

    class History(list):
        pass

    for kind in (Meter, Settings, Stage, History):
        kind.__module__, kind.__qualname__ = module.__name__, kind.__name__
        setattr(module, kind.__name__, kind)
    sys.modules[module.__name__] = module
    yield module
    sys.modules.pop(module.__name__, None)


def assert_same(read: State, written: State) -> None:
    assert read.keys() == written.keys()
    for name, tensor in written.items():
        torch.testing.assert_close(read[name], tensor.float(), rtol=0, atol=0)


def save_official(path: Path, state: State, foreign: types.ModuleType, **how: bool) -> None:
    """As the official training saves: the weights beside objects of classes that nobody has."""
    settings = foreign.Settings(lr=1e-4)
    settings["self"] = settings
    settings.note = "a dict with items and a state"
    content = {
        "epoch": 500,
        "actor_type": "MixFormerActor",
        "net_type": "MixFormer",
        "net": OrderedDict(state),
        "net_info": None,
        "stats": OrderedDict(loss={foreign.Stage.DENSE: foreign.Meter()}),
        "settings": settings,
        "history": foreign.History([1, 2, 3]),
        "stages": {foreign.Stage.DENSE},
        "optimizer": torch.optim.AdamW([torch.zeros(2)]).state_dict(),
    }
    torch.save(content, path, **how)
    del sys.modules[foreign.__name__]


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before PyTorch 1.6"])
def test_official_checkpoint_with_foreign_classes_loads(
    state: State, foreign: types.ModuleType, zipped: bool, tmp_path: Path
) -> None:
    path = tmp_path / "mixformerv2.pth.tar"
    save_official(path, state, foreign, _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(path)
    assert_same(read.state, state)
    assert (read.num_heads, read.search_factor) == (None, None)
    assert foreign.__name__ not in sys.modules


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_foreign_classes_are_inert_under_every_pickle_protocol(
    state: State, foreign: types.ModuleType, protocol: int, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pth.tar"
    content = {"net": state, "meter": foreign.Meter(), "stages": {foreign.Stage.DENSE: 1}}
    torch.save(content, path, pickle_protocol=protocol)
    del sys.modules[foreign.__name__]
    assert_same(read_checkpoint(path).state, state)


def test_bare_state_dict_loads(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "weights.pt")
    assert_same(read_checkpoint(tmp_path / "weights.pt").state, state)


@pytest.mark.parametrize("name", ["weights.safetensors", "WEIGHTS.SAFETENSORS"])
def test_safetensors_loads_with_its_head_count(state: State, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    safetensors.torch.save_file(state, path, metadata={"num_heads": "2"})
    read = read_checkpoint(path)
    assert_same(read.state, state)
    assert (read.num_heads, read.search_factor) == (2, None)
    assert load_network(path).spec.num_heads == 2


def save_stating(state: State, path: Path, search_factor: object) -> Path:
    """safetensors hold text, pickles values."""
    if path.suffix == ".safetensors":
        metadata = {"search_factor": str(search_factor)}
        safetensors.torch.save_file(state, path, metadata=metadata)
    else:
        torch.save({"net": state, "search_factor": search_factor}, path)
    return path


@pytest.mark.parametrize("stated", [3.5, 1, 20])
@pytest.mark.parametrize("name", ["c.pth.tar", "c.safetensors"])
def test_a_search_factor_is_read_where_one_is_stated(
    state: State, name: str, stated: float, tmp_path: Path
) -> None:
    read = read_checkpoint(save_stating(state, tmp_path / name, stated))
    assert read.search_factor == stated
    assert type(read.search_factor) is float
    assert_same(read.state, state)


@pytest.mark.parametrize(
    ("name", "stated", "shown"),
    [
        *(("c.pth.tar", value, repr(value)) for value in (0, 0.99, 20.5, -3.5, True, "3.5")),
        ("c.pth.tar", [3.5], "a list"),
        ("c.pth.tar", float("nan"), "nan"),
        ("c.pth.tar", float("inf"), "inf"),
        ("c.pth.tar", 10**400, "1000"),
        ("c.pth.tar", torch.tensor(3.5), "a tensor"),
        *(("c.safetensors", text, text) for text in ("0", "21")),
        ("c.safetensors", "[3.5]", "a list"),
        ("c.safetensors", "true", "True"),
        ("c.safetensors", "NaN", "nan"),
        ("c.safetensors", "Infinity", "inf"),
        ("c.safetensors", "wide", "'wide'"),
        ("c.safetensors", "", "''"),
        ("c.safetensors", "9" * 5000, "'999"),
    ],
)
def test_a_search_factor_that_is_none_is_refused_with_file_and_value(
    state: State, name: str, stated: object, shown: str, tmp_path: Path
) -> None:
    path = save_stating(state, tmp_path / name, stated)
    says = f"checkpoint {path}.* search_factor is {re.escape(shown)}.* expected a number"
    with pytest.raises(CheckpointError, match=says):
        read_checkpoint(path)


def test_a_search_factor_of_a_foreign_class_is_refused_unrun(state: State, tmp_path: Path) -> None:
    path = save_stating(state, tmp_path / "c.pth.tar", Bomb(tmp_path / "crater"))
    with pytest.raises(
        CheckpointError, match=r"search_factor is an object of 'posix\.system', expected"
    ):
        read_checkpoint(path)
    assert not (tmp_path / "crater").exists()


def test_module_prefix_of_distributed_training_is_dropped(state: State, tmp_path: Path) -> None:
    prefixed = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"net": prefixed}, tmp_path / "c.pth.tar")
    assert_same(read_checkpoint(tmp_path / "c.pth.tar").state, state)


def test_half_precision_and_parameters_load_as_float32(state: State, tmp_path: Path) -> None:
    halves = {name: torch.nn.Parameter(tensor.half()) for name, tensor in state.items()}
    torch.save({"net": halves}, tmp_path / "c.pth.tar")
    read = read_checkpoint(tmp_path / "c.pth.tar").state
    assert {tensor.dtype for tensor in read.values()} == {torch.float32}
    assert_same(read, {name: tensor.detach() for name, tensor in halves.items()})


def test_tensors_that_are_views_of_one_storage_load(state: State, tmp_path: Path) -> None:
    name = "backbone.blocks.0.attn.qkv.weight"
    state[name] = torch.cat([state[name], state[name]]).T.contiguous().T[: len(state[name])]
    torch.save({"net": state}, tmp_path / "c.pth.tar")
    assert_same(read_checkpoint(tmp_path / "c.pth.tar").state, state)


def test_network_that_is_loaded_computes_what_the_saved_one_did(tmp_path: Path) -> None:
    network = lively_network(TINY)
    torch.save({"net": network.state_dict()}, tmp_path / "c.pth.tar")
    loaded = load_network(tmp_path / "c.pth.tar")
    assert loaded.spec == TINY
    assert not loaded.training
    assert_same(dict(loaded.state_dict()), dict(network.state_dict()))


@pytest.mark.parametrize("spec", [TINY, NANO, SMALL, BASE], ids=["tiny", "nano", "small", "base"])
def test_geometry_is_read_from_the_shapes(spec: ModelSpec) -> None:
    from mixformerv2.model import MixFormerV2

    with torch.device("meta"):
        state = MixFormerV2(spec).state_dict()
    assert infer_spec(state) == spec


# What a hostile file tries.


class Bomb:
    """Unpickled by the pickle module, this writes a file."""

    def __init__(self, crater: Path) -> None:
        self.crater = crater

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.crater}",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before PyTorch 1.6"])
def test_pickle_bomb_beside_the_weights_never_goes_off(
    state: State, zipped: bool, tmp_path: Path
) -> None:
    content = {"bomb": Bomb(tmp_path / "crater"), "net": state}
    torch.save(content, tmp_path / "c.pth.tar", _use_new_zipfile_serialization=zipped)
    assert_same(read_checkpoint(tmp_path / "c.pth.tar").state, state)
    assert not (tmp_path / "crater").exists()


def test_pickle_bomb_alone_is_refused_unexploded(tmp_path: Path) -> None:
    path = tmp_path / "c.pth.tar"
    torch.save(Bomb(tmp_path / "crater"), path)
    with pytest.raises(CheckpointError, match=r"holds an object of 'posix.system', expected"):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "crater")))
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert not (tmp_path / "crater").exists()


def test_bomb_of_this_test_is_real(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "crater")))
    assert (tmp_path / "crater").exists()


def test_compressed_entry_is_refused(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "stored.pt")
    with (
        zipfile.ZipFile(tmp_path / "stored.pt") as stored,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as deflated,
    ):
        for name in stored.namelist():
            deflated.writestr(name, stored.read(name))
    with pytest.raises(CheckpointError, match=r"an entry '.*' that is compressed, which"):
        read_checkpoint(tmp_path / "bomb.pt")


def test_torchscript_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scripted.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("scripted/data.pkl", pickle.dumps({}))
        archive.writestr("scripted/constants.pkl", pickle.dumps(()))
        archive.writestr("scripted/code/__torch__.py", "raise SystemExit")
    with pytest.raises(CheckpointError, match=r"TorchScript archive, .* save the network's"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        pytest.param(0, (10**6,), (1,), id="longer than its storage"),
        pytest.param(0, (10**6, 10**6), (0, 0), id="one element repeated without end"),
        pytest.param(3, (2,), (1,), id="starts too late"),
        pytest.param(0, (2,), (5,), id="strides past the end"),
        pytest.param(-1, (2,), (1,), id="starts before the storage"),
        pytest.param(2, (2,), (-1,), id="goes backwards"),
    ],
)
def test_tensor_that_reaches_outside_its_storage_is_refused(
    offset: int, size: tuple[int, ...], stride: tuple[int, ...], tmp_path: Path
) -> None:
    class Forged:
        def __reduce__(self) -> tuple[object, ...]:
            storage = torch.arange(4.0)._typed_storage()
            hooks: OrderedDict[str, Any] = OrderedDict()
            arguments = (storage, offset, size, stride, False, hooks)
            return torch._utils._rebuild_tensor_v2, arguments

    path = tmp_path / "c.pth.tar"
    torch.save({"net": {"weight": Forged()}}, path)
    with pytest.raises(CheckpointError, match="does not fit into its 4 stored elements"):
        read_checkpoint(path)


# What breaks on the way.


def test_file_truncated_anywhere_is_refused_by_name(state: State, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.pth.tar", tmp_path / "cut.pth.tar"
    torch.save({"net": state}, whole)
    content = whole.read_bytes()
    for kept in (1, 7, 100, len(content) // 2, len(content) - 100, len(content) - 1):
        cut.write_bytes(content[:kept])
        with pytest.raises(CheckpointError, match=r"cut\.pth\.tar .*truncated or damaged: copy"):
            read_checkpoint(cut)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before PyTorch 1.6"])
def test_flipped_byte_of_the_structure_never_gives_another_error(
    zipped: bool, tmp_path: Path
) -> None:
    whole, path = tmp_path / "whole.pth.tar", tmp_path / "flipped.pth.tar"
    torch.save({"net": {"w": torch.ones(2)}}, whole, _use_new_zipfile_serialization=zipped)
    content = whole.read_bytes()
    for place in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[place] ^= 0xFF
        path.write_bytes(flipped)
        with suppress(CheckpointError):
            read_checkpoint(path)


@pytest.mark.parametrize("suffix", [".pth.tar", ".safetensors"])
def test_text_file_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"readme{suffix}"
    path.write_text("Not Found. Please log in to download this file.\n" * 40)
    with pytest.raises(CheckpointError, match=rf"readme{suffix} is not a (file of|readable)"):
        read_checkpoint(path)


def test_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.pth.tar").touch()
    with pytest.raises(CheckpointError, match=r"is empty \(0 bytes\): download or copy it again"):
        read_checkpoint(tmp_path / "c.pth.tar")


def test_folder_and_missing_file_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.pth.tar"):
        with pytest.raises(CheckpointError, match=f"{path}: no such file"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1, 2], "holds a list, expected a state dict"),
        ({"net": [1, 2]}, 'has a list as its "net", expected'),
        ({"net": {"epoch": 3}}, "holds no tensors; its keys are net"),
        (
            {"net": {"w": torch.ones(2, dtype=torch.int64)}},
            "tensor 'w' that is LongStorage; expected dense",
        ),
    ],
)
def test_file_without_weights_is_refused(content: object, says: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "c.pth.tar")
    with pytest.raises(CheckpointError, match=says):
        read_checkpoint(tmp_path / "c.pth.tar")


# What does not fit the network.


def test_everything_that_does_not_fit_is_in_one_message(state: State, tmp_path: Path) -> None:
    del state["backbone.blocks.1.norm1.bias"], state["score_head.layers.1.weight"]
    state["backbone.cls_token"] = torch.zeros(1, 1, TINY.width)
    state["backbone.blocks.1.mlp.fc2.bias"] = torch.zeros(TINY.width + 1)
    state["backbone.blocks.0.norm2.weight"] = torch.full((TINY.width,), torch.nan)
    state["box_head.layers.0.0.bias"] = torch.full((TINY.box_head_hidden,), torch.inf)
    torch.save({"net": state}, tmp_path / "c.pth.tar")
    with pytest.raises(CheckpointError) as caught:
        load_network(tmp_path / "c.pth.tar")
    first, *lines = str(caught.value).splitlines()
    assert first == f"checkpoint {tmp_path / 'c.pth.tar'} does not fit MixFormerV2 (6 tensors):"
    assert lines == [
        "  missing: backbone.blocks.1.norm1.bias (64,)",
        "  missing: score_head.layers.1.weight (1, 48)",
        "  unexpected: backbone.cls_token (1, 1, 64)",
        "  not finite: backbone.blocks.0.norm2.weight has NaN or infinite values",
        "  wrong shape: backbone.blocks.1.mlp.fc2.bias is (65,), expected (64,)",
        "  not finite: box_head.layers.0.0.bias has NaN or infinite values",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "backbone.patch_embed.proj.weight",
        "backbone.pos_embed_s",
        "backbone.pos_embed_t",
        "backbone.blocks.0.mlp.fc1.weight",
        "box_head.layers.1.0.weight",
        "score_head.layers.0.0.weight",
    ],
)
def test_tensor_that_decides_the_geometry_is_missed_by_name(
    state: State, name: str, tmp_path: Path
) -> None:
    del state[name]
    torch.save({"net": state}, tmp_path / "c.pth.tar")
    with pytest.raises(CheckpointError, match=f"no tensor {name}"):
        load_network(tmp_path / "c.pth.tar")


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        ("backbone.patch_embed.proj.weight", (64, 4, 16, 16), "4 input channels"),
        ("backbone.patch_embed.proj.weight", (64, 768), "expected 4 non-empty dimensions"),
        ("backbone.patch_embed.proj.weight", (32, 3, 16, 16), "width 32 and 0 heads"),
        ("backbone.pos_embed_s", (1, 15, 64), "15 tokens, which is not a square grid"),
        ("backbone.pos_embed_t", (1, 0, 64), "expected 3 non-empty dimensions"),
    ],
)
def test_impossible_geometry_is_refused(
    state: State, name: str, shape: tuple[int, ...], says: str
) -> None:
    state[name] = torch.zeros(shape)
    with pytest.raises(CheckpointError, match=says):
        infer_spec(state)


def shapes_of_a_stem(state: State, inputs: int, blocks: int, expansion: int, kernel: int) -> State:
    """One element stands for each tensor, as a hostile file can have it."""
    shapes = {"stem": (inputs, 3, 3, 3)}
    number = 0
    for stage in range(5):
        hidden, outputs = inputs * expansion, 16 + stage
        for _ in range(blocks):
            shapes[f"blocks.{number}._depthwise_conv"] = (hidden, 1, kernel, kernel)
            shapes[f"blocks.{number}._project_conv"] = (outputs, hidden, 1, 1)
            inputs, hidden, number = outputs, outputs * expansion, number + 1
    claimed = {
        f"backbone.patch_embed.{name}.weight": torch.zeros(1).expand(shape)
        for name, shape in shapes.items()
    }
    return {**state, **claimed}


@pytest.mark.parametrize(
    ("inputs", "blocks", "expansion", "kernel", "says"),
    [
        (
            32,
            3000,
            6,
            3,
            r"stem\.stages\[0\]\.blocks is 3000, expected a whole number from 1 to 32",
        ),
        (5000, 1, 6, 3, r"stem\.channels is 5000, expected"),
        (32, 1, 4000, 3, r"stem\.stages\[0\]\.expansion is 4000, expected"),
        (32, 1, 6, 999, r"stem\.stages\[0\]\.kernel_px is 999, expected"),
    ],
)
def test_a_stem_that_nobody_has_is_refused_before_it_is_built(
    state: State,
    monkeypatch: pytest.MonkeyPatch,
    inputs: int,
    blocks: int,
    expansion: int,
    kernel: int,
    says: str,
) -> None:
    monkeypatch.setattr(checkpoint, "MixFormerV2", None)  # not even to know its shapes
    claimed = shapes_of_a_stem(state, inputs, blocks, expansion, kernel)
    with pytest.raises(CheckpointError, match=says):
        checkpoint.build_network(checkpoint.Checkpoint(Path("c.pth"), claimed, None, None, None))


def test_a_stem_of_too_many_stages_is_refused() -> None:
    stage = dict.fromkeys(("blocks", "kernel_px", "stride", "expansion", "channels"), 1)
    stem = {"channels": 8, "stages": [stage] * 9, "fine": False}
    with pytest.raises(ValueError, match="stem has 9 stages, expected 1 to 8"):
        spec_from_dict({**spec_to_dict(TINY), "stem": stem})


def test_a_block_with_an_endless_number_is_refused(state: State) -> None:
    name = f"backbone.blocks.{'9' * 5000}.x"
    state[name] = torch.zeros(1)
    with pytest.raises(CheckpointError, match="unexpected: backbone"):
        checkpoint.build_network(checkpoint.Checkpoint(Path("c.pth"), state, 1, None, None))


def test_missing_block_is_named(state: State) -> None:
    without_first = {name: t for name, t in state.items() if "blocks.0." not in name}
    with pytest.raises(CheckpointError, match=r"blocks \[1\], expected 0..depth-1"):
        infer_spec(without_first)


def test_head_count_that_does_not_divide_the_width_is_refused(state: State) -> None:
    with pytest.raises(CheckpointError, match="width 64 and 5 heads"):
        infer_spec(state, num_heads=5)
