"""Refusing quantisers that TensorRT would run, but wrongly.

TensorRT has signed 8-bit integers with zero point 0 and nothing else. An unsigned quantiser gets a
warning, then saturates at half its range without a word. Devices build engines from the ONNX files,
and need not have the onnx package, so this reads the few fields it needs by itself; field numbers
are those of onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_tracker.errors import BundleError, EdgeTrackerError

INT8 = 3
QUANTISERS = frozenset({"QuantizeLinear", "DequantizeLinear"})

Value = int | memoryview


@dataclass(frozen=True)
class _Tensor:
    dtype: int
    is_zero: bool


def refuse_unsigned_quantisers(model_path: Path) -> None:
    """Raise EdgeTrackerError, with the tensor's name, for a quantiser that is not int8 around 0;
    BundleError for a file that is no ONNX.
    """
    try:
        model = memoryview(model_path.read_bytes())
        graph = _only(model, 7)
        tensors = {}
        for initialiser in _all(graph, 5):
            tensors[_text(initialiser, 8)] = _tensor(initialiser, model_path.parent)
        nodes = list(_all(graph, 1))
        for node in nodes:
            if _text(node, 4) == "Constant":
                for attribute in _all(node, 5):
                    for value in _all(attribute, 5):
                        tensors[_text(node, 2)] = _tensor(value, model_path.parent)
        reasons = [_objection(node, tensors) for node in nodes if _text(node, 4) in QUANTISERS]
    except (ValueError, IndexError, OSError) as error:
        raise BundleError(f"{model_path} is not a readable ONNX model ({error})") from error
    for reason in reasons:
        if reason is not None:
            raise EdgeTrackerError(
                f"{model_path}: {reason}; TensorRT takes int8 with zero point 0 only: quantise "
                "symmetrically, to signed 8-bit integers"
            )


def _objection(node: Value, tensors: Mapping[str, _Tensor]) -> str | None:
    inputs = [_decoded(value) for value in _all(node, 1)]
    kind, quantised = _text(node, 4), inputs[0]
    if len(inputs) < 3 or not inputs[2]:
        if kind == "QuantizeLinear" and not _has_output_dtype_int8(node):
            return f"the quantiser of {quantised!r} is unsigned, as it has no zero point"
        if quantised in tensors and tensors[quantised].dtype != INT8:
            return f"the quantised tensor {quantised!r} is not int8"
        return None
    zero_point = tensors.get(inputs[2])
    if zero_point is None:
        return f"the zero point {inputs[2]!r} of {quantised!r} is not a constant"
    if zero_point.dtype != INT8:
        return f"the quantiser of {quantised!r} is not int8: its zero point {inputs[2]!r} is not"
    if not zero_point.is_zero:
        return f"the quantiser of {quantised!r} has a zero point {inputs[2]!r} other than 0"
    return None


def _has_output_dtype_int8(node: Value) -> bool:
    return any(
        _text(attribute, 1) == "output_dtype" and INT8 in _all(attribute, 3)
        for attribute in _all(node, 5)
    )


def _tensor(message: Value, folder: Path) -> _Tensor:
    dtype = _only(message, 2)
    if not isinstance(dtype, int):
        raise ValueError("a tensor has no type")
    if dtype != INT8:
        # Only whether it is int8 matters, not what large float tensors hold.
        return _Tensor(dtype, is_zero=False)
    place = {_text(entry, 1): _text(entry, 2) for entry in _all(message, 13)}
    if "location" in place:
        with (folder / place["location"]).open("rb") as weights:
            weights.seek(int(place.get("offset", "0")))
            return _Tensor(dtype, not any(weights.read(int(place.get("length", "-1")))))
    # raw_data or int32_data, whose numbers stand alone or packed: only whether all are 0 is asked.
    values = [*_all(message, 9), *_all(message, 5)]
    return _Tensor(dtype, not any(v if isinstance(v, int) else any(v) for v in values))


def _all(message: Value, number: int) -> list[Value]:
    if isinstance(message, int):
        raise ValueError("a message was expected, a number found")
    return [value for field, value in _fields(message) if field == number]


def _only(message: Value, number: int) -> Value:
    return _all(message, number)[-1]


def _text(message: Value, number: int) -> str:
    values = _all(message, number)
    return _decoded(values[0]) if values else ""


def _decoded(value: Value) -> str:
    if isinstance(value, int):
        raise ValueError("a name was expected, a number found")
    return bytes(value).decode()


def _fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """(number, value) of a protocol buffer's fields, numbers of fixed size as bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield key >> 3, value
            continue
        if kind == 2:
            size, position = _varint(message, position)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"field type {kind} is unknown")
        if position + size > len(message):
            raise ValueError("it ends in the middle")
        yield key >> 3, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
