"""What kind of file somebody gave where another was expected, by its first bytes."""

from __future__ import annotations

from pathlib import Path

_VIDEO_AT = ((0, b"RIFF"), (4, b"ftyp"), (0, b"\x1aE\xdf\xa3"))


def kind_of_file(path: Path) -> str | None:
    """ "checkpoint", "video", "image", "text" or "model" (ONNX, OpenVINO); None for what is no file
    or nothing that is known here.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return None
    if path.suffix.lower() in (".onnx", ".xml"):
        return "model"
    if head.startswith((b"PK\x03\x04", b"\x80\x02")) or head[8:10] == b'{"':
        return "checkpoint"
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"BM")):
        return "image"
    if any(head[place:].startswith(magic) for place, magic in _VIDEO_AT):
        return "video"
    if head and b"\0" not in head:
        try:
            head.decode("utf-8")
        except UnicodeDecodeError as error:
            return "text" if error.start > len(head) - 4 else None
        return "text"
    return None
