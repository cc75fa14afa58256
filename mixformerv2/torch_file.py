"""Files that `torch.save` wrote, as values and arrays; nothing in them is run."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixformerv2.pickle_machine import Storage, StoredTensor, interpret
from mixformerv2.stored_entries import (
    COPY_AGAIN,
    SAVE_WEIGHTS,
    Entry,
    UnreadableFile,
    check_entry,
    read_directory,
    read_entry,
)

MAX_PICKLE_BYTES = 32 << 20

#: What a storage's kind is called by PyTorch -> its elements. bfloat16 is read as its bits.
ELEMENTS = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "<u1",
    "ComplexFloatStorage": "<c8",
    "ComplexDoubleStorage": "<c16",
}
FLOATING = ("FloatStorage", "DoubleStorage", "HalfStorage", "BFloat16Storage")

# Of the format before PyTorch 1.6.
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

_BESIDE_DATA = frozenset(
    ("data.pkl", "version", "byteorder", ".format_version", ".storage_alignment",
     ".data/serialization_id")
)  # fmt: skip

#: Where a mark stands, the mark, and what has it.
_OTHER_FORMATS = (
    (257, b"ustar", "is a tar archive"),
    (0, b"\x1f\x8b", "is compressed with gzip"),
    (0, b"BZh", "is compressed with bzip2"),
    (0, b"\xfd7zXZ", "is compressed with xz"),
    (0, b"\x28\xb5\x2f\xfd", "is compressed with zstd"),
    (0, b"\x89HDF", "is an HDF5 file"),
    (0, b"\x93NUMPY", "is an array of NumPy"),
    (0, b"GGUF", "is a GGUF file"),
    (0, b"<", "is a web page, not the file that it linked to"),
)


def read_content(file: io.BufferedReader) -> tuple[Any, dict[str, Entry]]:
    """-> the value that was saved, its tensors as `StoredTensor`, and where each storage lies, by
    its key. Raises UnreadableFile.
    """
    head = file.read(512)
    for place, mark, what in _OTHER_FORMATS:
        if head[place:].startswith(mark):
            raise UnreadableFile(f"{what}, not a checkpoint of PyTorch; {SAVE_WEIGHTS}")
    return _read_zip(file) if head.startswith(b"PK") else _read_before_zip(file)


def read_tensors(
    file: io.BufferedReader, entries: Mapping[str, Entry], wanted: Mapping[str, StoredTensor]
) -> dict[str, NDArray[np.float32]]:
    """Floating-point tensors as float32, each C-contiguous; one that has many names once.

    All entries are read, in the order of the file, and compared with their checksums. Raises
    UnreadableFile.
    """
    by_storage: dict[str, dict[StoredTensor, NDArray[np.float32] | None]] = {}
    for tensor in wanted.values():
        by_storage.setdefault(tensor.storage.key, {})[tensor] = None
    for key, entry in entries.items():
        views = by_storage.get(key, {})
        if not views:
            check_entry(file, entry)
            continue
        stored = read_entry(file, entry)
        for tensor in views:
            views[tensor] = _to_float32(stored, tensor)
    read: dict[str, NDArray[np.float32]] = {}
    for name, tensor in wanted.items():
        array = by_storage[tensor.storage.key][tensor]
        assert array is not None
        read[name] = array
    return read


def _to_float32(stored: NDArray[np.uint8], tensor: StoredTensor) -> NDArray[np.float32]:
    elements = np.dtype(ELEMENTS[tensor.storage.kind])
    view: NDArray[Any] = np.ndarray(
        tensor.shape,
        elements,
        stored.data,
        offset=tensor.offset * elements.itemsize,
        strides=tuple(step * elements.itemsize for step in tensor.strides),
    )
    if tensor.storage.kind == "BFloat16Storage":  # the upper half of a float32
        bits = view.astype(np.uint32, order="C")
        bits <<= 16
        return bits.view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is named later
        return view.astype(np.float32, order="C", copy=False)


def _read_zip(file: io.BufferedReader) -> tuple[Any, dict[str, Entry]]:
    entries = read_directory(file)
    names = {name.partition("/")[2]: entry for name, entry in entries.items()}
    if len(names) != len(entries) or len({name.partition("/")[0] for name in entries}) > 1:
        raise UnreadableFile(f"is a zip of more than one folder; {COPY_AGAIN}")
    if any(name.startswith("code/") or name == "constants.pkl" for name in names):
        raise UnreadableFile(
            "is a TorchScript archive, which holds code; save the network's state_dict() instead"
        )
    storages = {
        name.removeprefix("data/"): entry
        for name, entry in names.items()
        if name.startswith("data/")
    }
    beside = {name: entry for name, entry in names.items() if not name.startswith("data/")}
    if "data.pkl" not in beside:
        raise UnreadableFile(f"is a zip, but torch.save did not write it; {SAVE_WEIGHTS}")
    for name in beside.keys() - _BESIDE_DATA:
        raise UnreadableFile(
            f"has an entry {name!r}, which torch.save never writes; {SAVE_WEIGHTS}"
        )
    for name, entry in beside.items():
        if entry.size_bytes > (MAX_PICKLE_BYTES if name == "data.pkl" else 1024):
            raise _pickle_too_large(name, entry.size_bytes)
    told = {name: read_entry(file, entry).tobytes() for name, entry in beside.items()}
    if told.get("byteorder", b"little") != b"little":
        raise _other_byte_order()
    pickled = io.BytesIO(told["data.pkl"])
    content, named = interpret(pickled)
    if pickled.tell() != len(told["data.pkl"]):
        raise UnreadableFile(f"has bytes after its pickle; {COPY_AGAIN}")
    for storage in named.values():
        if storage.key not in storages:
            raise _not_stored(storage)
        _check_size(storage, storages[storage.key].size_bytes)
    return content, storages


def _read_before_zip(file: io.BufferedReader) -> tuple[Any, dict[str, Entry]]:
    """The format before PyTorch 1.6: pickles of a magic number, a protocol, the machine, the
    value and the storages' keys, then each storage behind its number of elements.
    """
    size_bytes = file.seek(0, 2)
    file.seek(0)
    start = file.read(min(MAX_PICKLE_BYTES, size_bytes))
    pickles = io.BytesIO(start)
    try:
        magic = interpret(pickles)[0]
    except UnreadableFile as error:
        raise UnreadableFile(
            f"is not a file of torch.save: it begins with {start[:16]!r}; {COPY_AGAIN}"
        ) from error
    if magic != _MAGIC:
        raise UnreadableFile(f"is a pickle that torch.save did not write; {SAVE_WEIGHTS}")
    protocol, machine = interpret(pickles)[0], interpret(pickles)[0]
    if protocol != _PROTOCOL or not isinstance(machine, dict):
        raise UnreadableFile(f"is of another format than torch.save writes; {SAVE_WEIGHTS}")
    if machine.get("little_endian") is not True:
        raise _other_byte_order()
    content, named = interpret(pickles)
    keys = interpret(pickles)[0]
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise UnreadableFile(f"has no list of its storages; {COPY_AGAIN}")
    entries: dict[str, Entry] = {}
    place = pickles.tell()
    for key in keys:
        storage = named.get(key)
        if storage is None or key in entries or storage.kind not in ELEMENTS:
            raise UnreadableFile(f"has a storage {key!r} that no tensor needs; {SAVE_WEIGHTS}")
        file.seek(place)
        stored = int.from_bytes(file.read(8), "little")
        entry = Entry(place + 8, stored * np.dtype(ELEMENTS[storage.kind]).itemsize, None)
        _check_size(storage, entry.size_bytes)
        entries[key], place = entry, entry.offset + entry.size_bytes
    for key in named.keys() - entries.keys():
        raise _not_stored(named[key])
    if place != size_bytes:
        raise UnreadableFile(
            f"has {size_bytes} bytes, but its storages end at {place}; {COPY_AGAIN}"
        )
    return content, entries


def _check_size(storage: Storage, size_bytes: int) -> None:
    if storage.kind not in ELEMENTS:
        return  # of no use as weights, which is said where it is asked for
    expected = storage.elements * np.dtype(ELEMENTS[storage.kind]).itemsize
    if size_bytes != expected:
        raise UnreadableFile(
            f"stores {size_bytes} bytes under {storage.key!r} where {storage.elements} elements of "
            f"{storage.kind} take {expected}; {COPY_AGAIN}"
        )


def _not_stored(storage: Storage) -> UnreadableFile:
    return UnreadableFile(f"names a storage {storage.key!r} that is not in it; {COPY_AGAIN}")


def _other_byte_order() -> UnreadableFile:
    return UnreadableFile(f"was written by a machine of another byte order; {SAVE_WEIGHTS}")


def _pickle_too_large(name: str, size_bytes: int) -> UnreadableFile:
    return UnreadableFile(
        f"has an entry {name!r} of {size_bytes} bytes beside its tensors, which is too much; "
        f"{SAVE_WEIGHTS}"
    )
