"""Damage as copying, storing and attackers do it: bytes altered, and parts of a zip altered with
checksums that fit again, so that what lies behind those is reached.
"""

from __future__ import annotations

import io
import random
import zipfile

MAX_BYTES = 1 << 16

#: What readers stumble over, in text and in binary.
TOKENS = (
    b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"9" * 400, b"9" * 5000, b"[" * 2000, b"{}",
    b'""', b'{"a":' * 500, b"\x1b]0;x\x07", b"\xff\xfe", b"\xed\xa0\x80", b"..", b"/", b"\\",
    b"\n", b"\r", b",", b"<script>", b"'", b'"', b"\0", b"PK\1\2", b"PK\3\4", b"PK\5\6",
    b"\x80\x02", b"(", b"]", b"}", b"t", b"R", b"b", b"\x85", b"\x86", b"q\0h\0", b"\x8a\xff",
    b"\x8d" + b"\xff" * 7 + b"\x7f", b"cos\nsystem\n", b"Q", b"s.",
)  # fmt: skip
NUMBERS = (
    0, 1, 7, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1,
)  # fmt: skip


def mutated(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """`content` damaged in a few places; parts of `other` may get into it."""
    if content.startswith(b"PK") and chance.random() < 0.7:
        return _mutated_entry(content, other, chance)
    damaged = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5, 8))):
        _damage(damaged, other, chance)
    return bytes(damaged[:MAX_BYTES])


def _damage(content: bytearray, other: bytes, chance: random.Random) -> None:
    place = chance.randrange(len(content) + 1)
    end = min(len(content), place + chance.choice((1, 2, 4, 8, 16, 64)))
    match chance.randrange(9):
        case 0 if content:
            content[place % len(content)] ^= 1 << chance.randrange(8)
        case 1 if content:
            content[place % len(content)] = chance.randrange(256)
        case 2:
            del content[place:end]
        case 3:
            content[place:place] = content[place:end] * chance.choice((1, 2, 100))
        case 4:
            token = chance.choice(TOKENS)
            content[place : place + chance.choice((0, len(token)))] = token
        case 5:
            size = chance.choice((1, 2, 4, 8))
            number = chance.choice(NUMBERS) % 256**size
            content[place : place + size] = number.to_bytes(size, chance.choice(("little", "big")))
        case 6:
            del content[place:]
        case 7 if other:
            start = chance.randrange(len(other))
            content[place:end] = other[start : start + chance.randrange(1, 200)]
        case _:
            content[place:end] = b""


def _mutated_entry(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """One entry of a zip altered, removed, renamed or compressed; the zip written anew."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
    except Exception:
        return content[: chance.randrange(len(content))]
    if not entries:
        return content
    small = sorted(entries, key=lambda name: len(entries[name]))[: 1 + len(entries) // 2]
    chosen = chance.choice([*entries, *(name for name in small if name.endswith((".pkl", ".npy")))])
    out = io.BytesIO()
    kind = chance.random()
    with zipfile.ZipFile(out, "w") as archive:
        for name, value in entries.items():
            if name != chosen:
                archive.writestr(name, value)
            elif kind < 0.85:
                damaged = bytearray(value)
                for _ in range(chance.choice((1, 1, 2, 4))):
                    _damage(damaged, other, chance)
                archive.writestr(name, bytes(damaged[:MAX_BYTES]))
            elif kind < 0.9:
                archive.writestr(name + chance.choice(("x", "/", "0", "\x1b")), value)
            elif kind < 0.95:
                archive.writestr(name, value, zipfile.ZIP_DEFLATED)
    return out.getvalue()
