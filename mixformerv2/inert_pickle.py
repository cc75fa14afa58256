"""A stand-in for the `pickle` module, for `torch.load`, that rebuilds tensors and nothing else.

Official checkpoints pickle training objects (configurations, meters, optimisers) beside the
weights. Every class or function that is not needed to rebuild a tensor becomes an inert
placeholder: it takes whatever the pickle does to it and does nothing. So no code named by the file
is ever imported or run.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, BinaryIO

import torch
from torch import Tensor

# Names that `torch.load` expects of a pickle module.
UnpicklingError = pickle.UnpicklingError


class Placeholder(dict[Any, Any]):
    """Stands for a foreign class: a dict, as most of them are, that drops what is put into it."""

    def __new__(cls, *args: object, **kwargs: object) -> Placeholder:
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()

    # Usable as a key, unlike other dicts.
    __hash__ = object.__hash__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        pass

    def extend(self, items: object) -> None:
        pass

    def add(self, item: object) -> None:
        pass


def _rebuild_tensor(
    storage: Any, offset: int, size: Sequence[int], stride: Sequence[int], *ignored: object
) -> Tensor:
    """As torch._utils._rebuild_tensor_v2, but never larger than what the file stores."""
    stored = storage._untyped_storage
    elements = stored.nbytes() // storage.dtype.itemsize
    count = 1
    for length in size:
        count *= length
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if count and (count > elements or last >= elements or min((offset, *size, *stride)) < 0):
        raise pickle.UnpicklingError(
            f"a tensor of shape {tuple(size)} does not fit into its {elements} stored elements"
        )
    flat: Tensor = torch.empty(0, dtype=storage.dtype)
    return flat.set_(stored, offset, tuple(size), tuple(stride))


def _rebuild_parameter(tensor: Tensor, *ignored: object) -> Tensor:
    return tensor


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}


class Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _ALLOWED.get((module, name), Placeholder)


def load(file: BinaryIO, **options: Any) -> Any:
    return Unpickler(file, **options).load()
