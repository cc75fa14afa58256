"""Reading checkpoints: untrusted files in, a checked state dict and the network's geometry out.

Three layouts load: the official `.pth.tar` (`{"net": state dict, ...}`), a bare pickled state dict,
and `.safetensors`. Beside "net", or in the metadata of safetensors, a file may state what shapes do
not show: "num_heads" and "search_factor". Pickles go through `inert_pickle`, so no code from the
file runs.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from edge_tracker.errors import CheckpointError
from edge_tracker.spec import STEM_STRIDE, ConvStem, ModelSpec, StemStage
from mixformerv2 import inert_pickle
from mixformerv2.model import MixFormerV2

HEAD_DIM = 64
STEM_FIRST = "backbone.patch_embed.stem.weight"
#: Of EfficientNet's stages to stride 16, behind a first convolution of stride 2.
STAGE_STRIDES = (1, 2, 2, 2, 1)
StateDict = dict[str, Tensor]


class Checkpoint(NamedTuple):
    """What a file holds; None for what it does not state.

    state: tensors by name, float32, own memory. search_factor: which the network is to be tracked
    with, 1 to 20. recipe: of the training run that wrote the file; not checked.
    """

    path: Path
    state: StateDict
    num_heads: int | None
    search_factor: float | None
    recipe: Any


def load_network(path: str | Path) -> MixFormerV2:
    """Build the network that a checkpoint holds, in eval mode, float32, on the CPU.

    Raises CheckpointError for a file that cannot be read or does not hold a MixFormerV2.
    """
    return build_network(read_checkpoint(path))


def build_network(checkpoint: Checkpoint) -> MixFormerV2:
    """As `load_network`, of a file that is read already. Raises CheckpointError."""
    network = MixFormerV2(infer_spec(checkpoint.state, num_heads=checkpoint.num_heads))
    _check_against(network.state_dict(), checkpoint.state, checkpoint.path)
    network.load_state_dict(checkpoint.state)
    return network.eval()


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Raises CheckpointError."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path}: no such file")
    if path.stat().st_size == 0:
        raise CheckpointError(f"checkpoint {path} is empty (0 bytes): download or copy it again")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"checkpoint {path} holds a {type(content).__name__}, expected a state dict "
            'or {"net": state dict}'
        )
    num_heads = content.get("num_heads")
    net = content.get("net", content)
    if not isinstance(net, Mapping):
        raise CheckpointError(
            f'checkpoint {path}: its "net" is a {type(net).__name__}, expected a state dict'
        )
    tensors = {str(name): value for name, value in net.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"checkpoint {path} holds no tensors; its keys are {_some(content)}")
    _refuse_odd(tensors, path)
    state = {name.removeprefix("module."): _to_float32(t) for name, t in tensors.items()}
    return Checkpoint(
        path,
        state,
        num_heads if isinstance(num_heads, int) else None,
        _search_factor(content, path),
        content.get("recipe"),
    )


def infer_spec(state: Mapping[str, Tensor], *, num_heads: int | None = None) -> ModelSpec:
    """Geometry of the network from its tensors' shapes.

    Heads leave no trace in the shapes: width / 64 unless `num_heads` says otherwise.
    Raises CheckpointError where a tensor that decides the geometry is missing or impossible.
    """
    width, channels, patch, _ = _shape(state, "backbone.patch_embed.proj.weight", 4)
    stem = None
    if STEM_FIRST in state:
        stem, channels, patch = _stem(state), _shape(state, STEM_FIRST, 4)[1], STEM_STRIDE
    blocks = {
        int(match[1]) for name in state if (match := re.match(r"backbone\.blocks\.(\d+)\.", name))
    }
    if not blocks or blocks != set(range(len(blocks))):
        raise CheckpointError(
            f"checkpoint has transformer blocks {sorted(blocks)}, expected 0..depth-1"
        )
    heads = num_heads if num_heads is not None else width // HEAD_DIM
    if channels != 3 or heads < 1 or width % heads or width % 4:
        raise CheckpointError(
            f"checkpoint has {channels} input channels, width {width} and {heads} heads: expected "
            "3 channels, and a width that its heads and 4 divide"
        )
    return ModelSpec(
        width=width,
        depth=len(blocks),
        num_heads=heads,
        mlp_hidden=_shape(state, "backbone.blocks.0.mlp.fc1.weight", 2)[0],
        patch_size_px=patch,
        search_size_px=patch * _square_grid(state, "backbone.pos_embed_s"),
        template_size_px=patch * _square_grid(state, "backbone.pos_embed_t"),
        bins=_shape(state, "box_head.layers.1.0.weight", 2)[0],
        box_head_hidden=_shape(state, "box_head.layers.0.0.weight", 2)[0],
        score_head_hidden=_shape(state, "score_head.layers.0.0.weight", 2)[0],
        stem=stem,
    )


def _stem(state: Mapping[str, Tensor]) -> ConvStem:
    """The stages of a convolutional stem. Shapes do not show strides: they are EfficientNet's."""
    prefix = "backbone.patch_embed.blocks."
    channels = _shape(state, STEM_FIRST, 4)[0]
    stages: list[StemStage] = []
    inputs, number = channels, 0
    while f"{prefix}{number}._depthwise_conv.weight" in state:
        hidden, _, kernel, _ = _shape(state, f"{prefix}{number}._depthwise_conv.weight", 4)
        outputs = _shape(state, f"{prefix}{number}._project_conv.weight", 4)[0]
        if hidden % inputs:
            raise CheckpointError(
                f"checkpoint has {hidden} channels in block {number} of its stem, not a multiple "
                f"of the {inputs} that enter it"
            )
        if stages and stages[-1].channels == outputs:
            stages[-1] = replace(stages[-1], blocks=stages[-1].blocks + 1)
        elif len(stages) == len(STAGE_STRIDES):
            raise CheckpointError(
                f"checkpoint has a stem of more than {len(STAGE_STRIDES)} stages, expected that of "
                f"an EfficientNet to stride {STEM_STRIDE}"
            )
        else:
            stride = STAGE_STRIDES[len(stages)]
            stages.append(StemStage(1, kernel, stride, hidden // inputs, outputs))
        inputs, number = outputs, number + 1
    if len(stages) != len(STAGE_STRIDES):
        raise CheckpointError(
            f"checkpoint has a stem of {len(stages)} stages, expected the {len(STAGE_STRIDES)} of "
            f"an EfficientNet to stride {STEM_STRIDE}"
        )
    return ConvStem(channels, tuple(stages), fine="backbone.patch_embed.fine.weight" in state)


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            content: dict[str, Any] = {"net": {name: file.get_tensor(name) for name in names}}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"checkpoint {path} is not a readable safetensors file: {error}"
        ) from error
    for name in metadata.keys() & {"num_heads", "search_factor"}:
        try:
            content[name] = json.loads(metadata[name])
        except (ValueError, RecursionError) as error:
            raise CheckpointError(
                f"checkpoint {path}: metadata {name} is {metadata[name]!r}, expected a number"
            ) from error
    return content


def _read_pickle(path: Path) -> Any:
    try:
        _refuse_unsafe_zip(path)
        # Not weights_only=True: that reader rejects official files outright, as it refuses to fill
        # dict subclasses it does not know. The unpickler passed here is the stricter one.
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=inert_pickle)
    except CheckpointError:
        raise
    except Exception as error:  # a hostile or truncated file can fail anywhere inside the readers
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"checkpoint {path} cannot be read: {reason}. "
            "It may be truncated or not a PyTorch file; copy it again, or save its weights as "
            ".safetensors"
        ) from error


def _refuse_unsafe_zip(path: Path) -> None:
    """PyTorch stores its zip entries uncompressed; a compressed one can only be a decompression
    bomb.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile:
        return  # the format before PyTorch 1.6, or damaged, which the reader will say
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(
                f"checkpoint {path}: entry {entry.filename!r} is compressed, which PyTorch never "
                "writes; refused, as it may expand without bound"
            )
        if entry.filename.endswith("/constants.pkl"):
            raise CheckpointError(
                f"checkpoint {path} is a TorchScript archive, which holds code; save the network's "
                "state_dict() instead"
            )


def _refuse_odd(tensors: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.layout != torch.strided:
            raise CheckpointError(
                f"checkpoint {path}: tensor {name} is {tensor.dtype}, {tensor.layout}; "
                "expected dense floating-point weights"
            )


def _search_factor(content: Mapping[Any, Any], path: Path) -> float | None:
    stated = content.get("search_factor")
    if stated is None:
        return None
    is_number = isinstance(stated, (int, float)) and not isinstance(stated, bool)
    if not is_number or not 1 <= stated <= 20:
        raise CheckpointError(
            f"checkpoint {path}: its search_factor is {stated!r}, expected a number from 1 to 20"
        )
    return float(stated)


def _to_float32(tensor: Tensor) -> Tensor:
    return tensor.detach().float().contiguous()


def _check_against(expected: Mapping[str, Tensor], state: StateDict, path: str | Path) -> None:
    """Every missing, unexpected, wrongly shaped or non-finite tensor, in one message."""
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    problems = [f"  missing: {name} {tuple(expected[name].shape)}" for name in missing]
    problems += [f"  unexpected: {name} {tuple(state[name].shape)}" for name in unexpected]
    for name in sorted(expected.keys() & state.keys()):
        if state[name].shape != expected[name].shape:
            problems.append(
                f"  wrong shape: {name} is {tuple(state[name].shape)}, "
                f"expected {tuple(expected[name].shape)}"
            )
        elif not torch.isfinite(state[name]).all():
            problems.append(f"  not finite: {name} has NaN or infinite values")
    if problems:
        raise CheckpointError(
            f"checkpoint {path} does not fit MixFormerV2 ({len(problems)} tensors):\n"
            + "\n".join(problems)
        )


def _shape(state: Mapping[str, Tensor], name: str, ndim: int) -> tuple[int, ...]:
    if name not in state:
        raise CheckpointError(
            f"checkpoint has no tensor {name}: it is not a MixFormerV2 with box and score heads; "
            f"it holds {_some(state)}"
        )
    shape = tuple(state[name].shape)
    if len(shape) != ndim or 0 in shape:
        raise CheckpointError(
            f"tensor {name} has shape {shape}, expected {ndim} non-empty dimensions"
        )
    return shape


def _square_grid(state: Mapping[str, Tensor], name: str) -> int:
    tokens = _shape(state, name, 3)[1]
    grid = math.isqrt(tokens)
    if grid * grid != tokens:
        raise CheckpointError(f"tensor {name} has {tokens} tokens, which is no square grid")
    return grid


def _some(names: Mapping[Any, Any]) -> str:
    shown = ", ".join(str(name) for name in list(names)[:5])
    return f"{shown}, ... ({len(names)})" if len(names) > 5 else shown
