"""Checkpoints made byte by byte: what torch.save would not write."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def whole(number: int) -> bytes:
    small = -(2**31) <= number < 2**31
    return b"J" + struct.pack("<i", number) if small else b"I%d\n" % number


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def group(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def tensor(
    key: str,
    elements: int,
    size: tuple[int, ...],
    stride: tuple[int, ...] | None = None,
    offset: int = 0,
    kind: str = "FloatStorage",
) -> bytes:
    """Opcodes that make one tensor of a storage."""
    if stride is None:
        steps: list[int] = []
        step = 1
        for length in reversed(size):
            steps.insert(0, step)
            step *= length
        stride = tuple(steps)
    storage = group(text("storage"), named("torch", kind), text(key), text("cpu"), whole(elements))
    arguments = group(
        storage + b"Q",
        whole(offset),
        group(*map(whole, size)),
        group(*map(whole, stride)),
        b"\x89",
        named("collections", "OrderedDict") + b")R",
    )
    return named("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def dictionary(items: Mapping[str, bytes]) -> bytes:
    """A whole pickle of a dict with text keys."""
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in items.items()) + b"u."


def zipped(
    path: Path, pickled: bytes, storages: Mapping[str, bytes], byte_order: str = "little"
) -> Path:
    """As torch.save lays its zip out."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", byte_order)
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", "3\n")
    return path


def before_zip(
    path: Path, pickled: bytes, keys: tuple[str, ...] = (), storages: bytes = b""
) -> Path:
    """The format before PyTorch 1.6."""
    parts = (MAGIC, PROTOCOL, {"protocol_version": PROTOCOL, "little_endian": True})
    head = b"".join(pickle.dumps(part, 2) for part in parts)
    path.write_bytes(head + pickled + pickle.dumps(list(keys), 2) + storages)
    return path


@dataclass
class ZipEntry:
    """One entry, and what its two headers say of it; None for what is true."""

    name: str
    content: bytes
    central: Mapping[str, int] | None = None
    local_name: str | None = None
    gap: bytes = b""


def raw_zip(entries: list[ZipEntry], *, directory_twice: bool = False, tail: bytes = b"") -> bytes:
    """A zip whose headers need not agree."""
    out, directory = io.BytesIO(), b""
    for entry in entries:
        out.write(entry.gap)
        at, size = out.tell(), len(entry.content)
        facts = {"method": 0, "flags": 0, "crc": zlib.crc32(entry.content), "size": size, "at": at}
        local = (entry.local_name or entry.name).encode()
        out.write(
            struct.pack(
                "<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, facts["crc"], size, size, len(local), 0
            )
        )
        out.write(local + entry.content)
        facts.update(entry.central or {})
        name = entry.name.encode()
        packed, size = facts.get("packed", facts["size"]), facts["size"]
        directory += struct.pack(
            "<4s6H3I5H2I", b"PK\1\2", 20, 20, facts["flags"], facts["method"], 0, 33, facts["crc"],
            packed, size, len(name), 0, 0, 0, 0, 0, facts["at"],
        )  # fmt: skip
        directory += name
    at = out.tell()
    out.write(directory * (2 if directory_twice else 1))
    count = len(entries)
    out.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), at, len(tail)))
    return out.getvalue() + tail
