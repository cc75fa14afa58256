"""The directory of a zip as PyTorch writes it, read so strictly that no second reader can see
another one: stored entries that follow each other without a gap, then one directory, then the end.
"""

from __future__ import annotations

import struct
import zlib
from io import BufferedReader
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_FILE_BYTES = 2**32 - 2
MAX_ENTRIES = 100_000
#: Bytes that are read and summed at a time: few enough to stay in a CPU's cache.
PIECE_BYTES = 1 << 17

COPY_AGAIN = "it may be truncated or damaged: copy or download it again"
SAVE_WEIGHTS = (
    "where it was made, save the weights alone: "
    'torch.save({"net": network.state_dict()}, "weights.pth")'
)

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64 = struct.Struct("<4sIQI")
_DESCRIPTOR = struct.Struct("<4s3I")
_SIZES_FOLLOW = 1 << 3
_UTF_8 = 1 << 11
_EXTRA_64 = 1


class UnreadableFile(ValueError):
    """A file is damaged, or is not what it is read as; the message has reason and remedy, but not
    the file's name.
    """


class Entry(NamedTuple):
    """Where the bytes of an entry lie in its file; crc32 is None where the file has none."""

    offset: int
    size_bytes: int
    crc32: int | None


def read_directory(file: BufferedReader) -> dict[str, Entry]:
    """Entries of a zip by name, in the order of the file. Raises UnreadableFile.

    Every byte of the file is accounted for once: the entries lie end to end from its first byte,
    the directory lists them in that order and agrees with the header before each, and its end is
    the end of the file.
    """
    size_bytes = file.seek(0, 2)
    if size_bytes > MAX_FILE_BYTES:
        raise UnreadableFile(
            f"has {size_bytes} bytes, more than the {MAX_FILE_BYTES} that are read; {SAVE_WEIGHTS}"
        )
    count, start, length = _end_of_directory(file, size_bytes)
    directory = _read_at(file, start, length)
    entries: dict[str, Entry] = {}
    place = expected_header = 0
    for _ in range(count):
        name, header, place = _central_header(directory, place)
        if name in entries:
            raise UnreadableFile(f"has two entries {name!r}; {COPY_AGAIN}")
        if header[-1] != expected_header:
            raise _not_end_to_end(name)
        entries[name], expected_header = _local_header(file, name, header, start)
    if place != length or expected_header != start:
        raise UnreadableFile(f"has bytes that its directory does not list; {COPY_AGAIN}")
    return entries


def read_entry(file: BufferedReader, entry: Entry) -> NDArray[np.uint8]:
    """The bytes of an entry, in memory of their own. Raises UnreadableFile where they are not what
    the file's CRC-32 says.
    """
    content = np.empty(entry.size_bytes, np.uint8)
    _read_pieces(file, entry, content.data)
    return content


def check_entry(file: BufferedReader, entry: Entry) -> None:
    """As `read_entry`, of bytes that nobody needs."""
    _read_pieces(file, entry, None)


def _read_pieces(file: BufferedReader, entry: Entry, into: memoryview | None) -> None:
    file.seek(entry.offset)
    scratch = memoryview(bytearray(PIECE_BYTES if into is None else 0))
    crc = 0
    for start in range(0, entry.size_bytes, PIECE_BYTES):
        end = min(start + PIECE_BYTES, entry.size_bytes)
        piece = scratch[: end - start] if into is None else into[start:end]
        if file.readinto(piece) != len(piece):
            raise UnreadableFile(f"ends within its records; {COPY_AGAIN}")
        if entry.crc32 is not None:
            crc = zlib.crc32(piece, crc)
    if entry.crc32 is not None and crc != entry.crc32:
        raise UnreadableFile(f"has bytes that do not match their checksum; {COPY_AGAIN}")


def _end_of_directory(file: BufferedReader, size_bytes: int) -> tuple[int, int, int]:
    """-> entries, start and length of the directory."""
    end_at = size_bytes - _END.size
    mark, disk, disk_of_directory, here, count, length, start, comment = _unpack(_END, file, end_at)
    if mark != b"PK\5\6" or comment or disk or disk_of_directory or here != count:
        raise UnreadableFile(f"does not end as a zip of PyTorch does; {COPY_AGAIN}")
    if start + length != end_at:
        # What PyTorch writes between, for readers of large files. It says the same again.
        end_64_at = end_at - _LOCATOR_64.size - _END_64.size
        locator = _unpack(_LOCATOR_64, file, end_at - _LOCATOR_64.size)
        mark_64, rest, _, _, *facts = _unpack(_END_64, file, end_64_at)
        if (
            start + length != end_64_at
            or locator != (b"PK\6\7", 0, end_64_at, 1)
            or (mark_64, rest) != (b"PK\6\6", _END_64.size - 12)
            or facts != [0, 0, count, count, length, start]
        ):
            raise UnreadableFile(f"has more than one directory; {COPY_AGAIN}")
    if count > MAX_ENTRIES:
        raise UnreadableFile(f"has {count} entries, more than {MAX_ENTRIES}; {SAVE_WEIGHTS}")
    return count, start, length


def _central_header(directory: bytes, place: int) -> tuple[str, tuple[int, ...], int]:
    """-> name; version, flags, method, time, date, crc32, two sizes, offset; the next place."""
    if place + _CENTRAL.size > len(directory):
        raise UnreadableFile(f"has a directory that ends too early; {COPY_AGAIN}")
    fields = _CENTRAL.unpack_from(directory, place)
    mark, _, *facts, name_length, extra_length, comment_length, disk, _, _, offset = fields
    place += _CENTRAL.size + name_length
    raw_name = directory[place - name_length : place]
    if mark != b"PK\1\2" or extra_length or comment_length or disk or len(raw_name) < name_length:
        raise UnreadableFile(f"has a damaged directory; {COPY_AGAIN}")
    try:
        name = raw_name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"has an entry whose name is not UTF-8; {COPY_AGAIN}") from error
    _, flags, method, *_, packed_bytes, size_bytes = facts
    if method or packed_bytes != size_bytes:
        raise UnreadableFile(
            f"has an entry {name!r} that is compressed, which PyTorch never writes: it may expand "
            f"without bound; {SAVE_WEIGHTS}"
        )
    if flags & ~(_SIZES_FOLLOW | _UTF_8):
        raise UnreadableFile(f"has an entry {name!r} that is encrypted or patched; {SAVE_WEIGHTS}")
    return name, (*facts, offset), place


def _local_header(
    file: BufferedReader, name: str, central: tuple[int, ...], directory_start: int
) -> tuple[Entry, int]:
    """-> the entry, and where the next one's header must lie."""
    *same, crc32, _, size_bytes, header_at = central
    mark, *facts, name_length, extra_length = _unpack(_LOCAL, file, header_at)
    sizes_follow = bool(same[1] & _SIZES_FOLLOW)
    expected = [*same, 0, 0, 0] if sizes_follow else [*same, crc32, size_bytes, size_bytes]
    raw_name = file.read(name_length)
    extra = file.read(extra_length)
    offset = header_at + _LOCAL.size + name_length + extra_length
    end = offset + size_bytes
    if mark != b"PK\3\4" or facts != expected or raw_name != name.encode():
        raise UnreadableFile(
            f"says two things about its entry {name!r}, in its directory and before the entry; "
            f"{COPY_AGAIN}"
        )
    if extra[:2] == _EXTRA_64.to_bytes(2, "little"):
        raise UnreadableFile(f"has an entry {name!r} of zip64; {SAVE_WEIGHTS}")
    if sizes_follow:
        if end + _DESCRIPTOR.size > directory_start:
            raise _not_end_to_end(name)
        if _unpack(_DESCRIPTOR, file, end) != (b"PK\7\x08", crc32, size_bytes, size_bytes):
            raise UnreadableFile(f"says two things about its entry {name!r}; {COPY_AGAIN}")
        end += _DESCRIPTOR.size
    if end > directory_start:
        raise _not_end_to_end(name)
    return Entry(offset, size_bytes, crc32), end


def _not_end_to_end(name: str) -> UnreadableFile:
    return UnreadableFile(
        f"has an entry {name!r} that does not begin where the one before it ends; {COPY_AGAIN}"
    )


def _unpack(record: struct.Struct, file: BufferedReader, place: int) -> tuple[Any, ...]:
    if place < 0:
        raise UnreadableFile(f"is too short for a zip; {COPY_AGAIN}")
    return record.unpack(_read_at(file, place, record.size))


def _read_at(file: BufferedReader, place: int, length: int) -> bytes:
    file.seek(place)
    content = file.read(length)
    if len(content) != length:
        raise UnreadableFile(f"ends too early; {COPY_AGAIN}")
    return content
