"""Where the weights are in what frameworks save: wrapped, prefixed, or a whole pickled module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixformerv2.pickle_machine import Inert, StoredTensor
from mixformerv2.stored_entries import UnreadableFile

#: Under which of its keys a file is looked into, the first that has weights. "net" is the official
#: training's; the others are what most trainers write.
WRAPPERS = ("net", "state_dict", "model_state_dict", "model", "module", "ema", "state_dict_ema")
#: Counters beside weights: of batch normalisation and of averaged models.
COUNTERS = ("num_batches_tracked", "n_averaged")
#: Parts of names that wrappers put in: of torch.compile, and of distributed training.
_WRAPPER_PARTS = frozenset(("_orig_mod", "module"))
#: A tensor that every MixFormerV2 has; what stands before it in a name is a wrapper's.
_ANCHOR = "backbone.pos_embed_s"

MAX_NESTING = 32
MAX_MODULES = 10_000


def find_weights(content: Any) -> dict[str, Any]:
    """-> name -> `StoredTensor`, or an `Inert` that stands in the place of a tensor, of the first
    state dict or pickled module in `content`; empty if there is none. Raises UnreadableFile.
    """
    state: Mapping[Any, Any] = {}
    for _ in range(MAX_NESTING):
        if _is_module(content):
            return _without_wrappers(_tensors_of_module(content))
        content = _as_mapping(content)
        state = {
            name: value
            for name, value in content.items()
            if isinstance(name, str) and _is_tensor(value)
        }
        inner = (content.get(key) for key in WRAPPERS)
        content = next((value for value in inner if _is_module(value) or _as_mapping(value)), None)
        if content is None:
            break
    return _without_wrappers(state)


def _as_mapping(value: Any) -> Mapping[Any, Any]:
    """Also of a dictionary of a class that nobody knows."""
    return value if isinstance(value, dict) else value.items if isinstance(value, Inert) else {}


def _is_tensor(value: Any) -> bool:
    return isinstance(value, StoredTensor) or (
        isinstance(value, Inert) and value.name.startswith("torch._utils._rebuild_")
    )


def _is_module(value: Any) -> bool:
    """An nn.Module is pickled as a class and its attributes; these two are always among them."""
    return (
        isinstance(value, Inert)
        and isinstance(value.state, dict)
        and all(isinstance(value.state.get(key), dict) for key in ("_parameters", "_modules"))
    )


def _tensors_of_module(module: Inert) -> dict[str, Any]:
    """What its `state_dict()` would be."""
    tensors: dict[str, Any] = {}
    to_visit = [("", module)]
    visited = 0
    while to_visit:
        prefix, inert = to_visit.pop()
        visited += 1
        if visited > MAX_MODULES or prefix.count(".") > MAX_NESTING:
            raise UnreadableFile(
                "has a module that contains itself, or too many; save the network's state_dict() "
                "instead"
            )
        left_out = inert.state.get("_non_persistent_buffers_set")
        left_out = left_out if isinstance(left_out, list) else []
        for kind in ("_parameters", "_buffers"):
            for name, value in _as_mapping(inert.state.get(kind)).items():
                is_left_out = kind == "_buffers" and name in left_out
                if isinstance(name, str) and _is_tensor(value) and not is_left_out:
                    tensors[prefix + name] = value
        for name, inner in inert.state["_modules"].items():
            if isinstance(name, str) and _is_module(inner):
                to_visit.append((f"{prefix}{name}.", inner))
    return tensors


def _without_wrappers(state: Mapping[str, Any]) -> dict[str, Any]:
    """The network's own names for its tensors, and no counters."""
    named: dict[str, Any] = {}
    for name, value in state.items():
        parts = [part for part in name.split(".") if part not in _WRAPPER_PARTS]
        own = ".".join(parts) or name
        if parts and parts[-1] in COUNTERS:
            continue
        if own in named:
            raise UnreadableFile(
                f"has two tensors {own!r} once prefixes of wrappers are removed; save the "
                "network's state_dict() instead"
            )
        named[own] = value
    prefixes = [name.removesuffix(_ANCHOR) for name in named if f".{name}".endswith(f".{_ANCHOR}")]
    if not prefixes or "" in prefixes:
        return named
    if len(prefixes) > 1:
        raise UnreadableFile(
            f"has several networks, under {', '.join(map(repr, prefixes[:5]))}; save the "
            "state_dict() of the one that is meant"
        )
    (prefix,) = prefixes
    return {
        name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)
    }
