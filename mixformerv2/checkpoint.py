"""Reading checkpoints: untrusted files in, a checked state dict and the network's geometry out.

The official `.pth.tar` (`{"net": state dict, ...}`), whatever else `torch.save` wrote with such a
network in it (`find_weights`), and `.safetensors` load. Beside "net", or in the metadata of
safetensors, a file may state what shapes do not show: "num_heads" and "search_factor". Files of
`torch.save` are interpreted, never unpickled, so no code from the file runs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from edge_tracker.bundle.spec import MOST, STEM_STRIDE, ConvStem, ModelSpec, StemStage, check_bounds
from edge_tracker.errors import CheckpointError
from edge_tracker.files.untrusted import short
from mixformerv2.find_weights import find_weights
from mixformerv2.model import MixFormerV2
from mixformerv2.pickle_machine import Inert, StoredTensor
from mixformerv2.stored_entries import SAVE_WEIGHTS, UnreadableFile
from mixformerv2.torch_file import FLOATING, read_content, read_tensors

HEAD_DIM = 64
STEM_FIRST = "backbone.patch_embed.stem.weight"
#: Of EfficientNet's stages to stride 16, behind a first convolution of stride 2.
STAGE_STRIDES = (1, 2, 2, 2, 1)
MAX_HEADS = MOST["num_heads"]
MAX_NETWORK_BYTES = 4 << 30
FLOATING_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
StateDict = dict[str, Tensor]


class Checkpoint(NamedTuple):
    """What a file holds; None for what it does not state.

    state: tensors by name, float32; names of one tensor of the file share it. search_factor: which
    the network is to be tracked with, 1 to 20. recipe: of the training run that wrote the file; not
    checked.
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
    """As `load_network`, of a file that is read already. Raises CheckpointError.

    Nothing is built before the tensors have the shapes of the network that they imply.
    """
    spec = infer_spec(checkpoint.state, num_heads=checkpoint.num_heads)
    with torch.device("meta"):
        expected = MixFormerV2(spec).state_dict()
    _check_memory(expected, checkpoint.path)
    _check_against(expected, checkpoint.state, checkpoint.path)
    network = MixFormerV2(spec)
    network.load_state_dict(checkpoint.state)
    return network.eval()


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Raises CheckpointError."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path}: no such file")
    if path.stat().st_size == 0:
        raise CheckpointError(f"checkpoint {path} is empty (0 bytes): download or copy it again")
    if path.suffix.lower() in (".onnx", ".xml", ".engine"):
        raise CheckpointError(
            f"checkpoint {path} is a model that was converted already: give the PyTorch checkpoint "
            "that it was made of"
        )
    read = _read_safetensors if path.suffix.lower() == ".safetensors" else _read_torch_file
    try:
        stated, state = read(path)
    except UnreadableFile as error:
        raise CheckpointError(f"checkpoint {path} {error}") from error
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise CheckpointError(
            f"checkpoint {path} needs more memory than there is: about twice the "
            f"{path.stat().st_size} bytes of the file"
        ) from error
    return Checkpoint(
        path,
        state,
        _num_heads(stated, path),
        _search_factor(stated, path),
        stated.get("recipe"),
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
        int(match[1])
        for name in state
        if (match := re.match(r"backbone\.blocks\.([0-9]{1,9})\.", name))
    }
    if not blocks or blocks != set(range(len(blocks))):
        raise CheckpointError(
            f"checkpoint has transformer blocks {short(str(sorted(blocks)))}, expected 0..depth-1"
        )
    heads = num_heads if num_heads is not None else width // HEAD_DIM
    if channels != 3 or heads < 1 or width % heads or width % 4:
        raise CheckpointError(
            f"checkpoint has {channels} input channels, width {width} and {heads} heads: expected "
            "3 channels, and a width that its heads and 4 divide"
        )
    spec = ModelSpec(
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
    try:
        check_bounds(spec)
    except ValueError as error:
        raise CheckpointError(
            f"checkpoint implies a network that nobody has: {error}; it is damaged, or not a "
            "MixFormerV2"
        ) from error
    return spec


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


def _read_safetensors(path: Path) -> tuple[dict[str, Any], StateDict]:
    from safetensors import SafetensorError, safe_open

    state: StateDict = {}
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            for name in names:
                tensor = file.get_tensor(name)
                if tensor.dtype not in FLOATING_DTYPES:
                    raise _not_weights(name, str(tensor.dtype))
                state[name] = tensor.float().contiguous()
    except SafetensorError as error:
        raise UnreadableFile(f"is not a readable safetensors file: {error}") from error
    if not state:
        raise UnreadableFile("holds no tensors")
    stated: dict[str, Any] = {}
    for name in metadata.keys() & {"num_heads", "search_factor"}:
        try:
            stated[name] = json.loads(metadata[name])
        except (ValueError, RecursionError) as error:
            raise UnreadableFile(
                f"has metadata in which {name} is {_shown(metadata[name])}, expected a number"
            ) from error
    return stated, state


def _read_torch_file(path: Path) -> tuple[Mapping[Any, Any], StateDict]:
    with path.open("rb") as file:
        content, entries = read_content(file)
        weights = find_weights(content)
        if not weights:
            raise _no_weights(content)
        for name, tensor in weights.items():
            if not isinstance(tensor, StoredTensor):
                raise _not_weights(name, tensor.name)
            if tensor.storage.kind not in FLOATING:
                raise _not_weights(name, tensor.storage.kind)
        needed = 4 * sum(math.prod(tensor.shape) for tensor in set(weights.values()))
        if needed > 2 * path.stat().st_size:
            raise UnreadableFile(
                f"has tensors that share their elements and take {needed} bytes apart; "
                f"{SAVE_WEIGHTS}"
            )
        arrays = read_tensors(file, entries, weights)
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return content if isinstance(content, dict) else {}, state


def _no_weights(content: Any) -> UnreadableFile:
    if not isinstance(content, dict):
        return UnreadableFile(
            f'holds {_shown(content)}, expected a state dict or {{"net": state dict}}'
        )
    if "net" in content and not isinstance(content["net"], dict):
        return UnreadableFile(f'has {_shown(content["net"])} as its "net", expected a state dict')
    return UnreadableFile(f"holds no tensors; its keys are {_some(content)}")


def _not_weights(name: str, what: str) -> UnreadableFile:
    return UnreadableFile(
        f"has a tensor {name!r} that is {what}; expected dense floating-point weights"
    )


def _num_heads(content: Mapping[Any, Any], path: Path) -> int | None:
    stated = content.get("num_heads")
    if stated is None:
        return None
    if not isinstance(stated, int) or isinstance(stated, bool) or not 1 <= stated <= MAX_HEADS:
        raise CheckpointError(
            f"checkpoint {path}: its num_heads is {_shown(stated)}, expected a whole number from 1 "
            f"to {MAX_HEADS}"
        )
    return stated


def _search_factor(content: Mapping[Any, Any], path: Path) -> float | None:
    stated = content.get("search_factor")
    if stated is None:
        return None
    is_number = isinstance(stated, (int, float)) and not isinstance(stated, bool)
    if not is_number or not 1 <= stated <= 20:
        raise CheckpointError(
            f"checkpoint {path}: its search_factor is {_shown(stated)}, expected a number from 1 "
            "to 20"
        )
    return float(stated)


def _shown(value: Any) -> str:
    """A value of the file for a message: short, and never walked through."""
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        text = repr(value)
        return text if len(text) <= 40 else f"{text[:36]}..."
    if isinstance(value, Inert):
        return f"an object of {value.name!r}"
    return "a tensor" if isinstance(value, StoredTensor) else f"a {type(value).__name__}"


def _check_memory(expected: Mapping[str, Tensor], path: Path) -> None:
    needed = sum(4 * tensor.numel() for tensor in expected.values())
    if needed > MAX_NETWORK_BYTES:
        raise CheckpointError(
            f"checkpoint {path} implies a network of {needed / 1e9:.1f} GB, more than the "
            f"{MAX_NETWORK_BYTES / 1e9:.1f} GB that are taken: it is damaged, or not a MixFormerV2"
        )


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
            f"checkpoint has no tensor {name}: expected the state_dict of a MixFormerV2 network "
            f"with box and score heads; it holds {_some(state)}"
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
        raise CheckpointError(f"tensor {name} has {tokens} tokens, which is not a square grid")
    return grid


def _some(names: Mapping[Any, Any]) -> str:
    shown = ", ".join(name if isinstance(name, str) else _shown(name) for name in list(names)[:5])
    return f"{shown}, ... ({len(names)})" if len(names) > 5 else shown
