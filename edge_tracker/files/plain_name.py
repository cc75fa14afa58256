"""Names for libraries that take only some: UTF-8, and nothing that looks like an address."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def plain_name(path: Path) -> Iterator[str]:
    """A name, valid inside the block, that leads to the file or folder `path`.

    Its absolute path, which nothing takes for a protocol and what follows a colon; where that holds
    bytes that are not UTF-8, which crash OpenCV, a link of the same ending in a new folder.
    """
    name = str(path.absolute())
    if _is_utf8(name):
        yield name
        return
    with tempfile.TemporaryDirectory(prefix="edge-tracker-") as folder:
        suffix = path.suffix if _is_utf8(path.suffix) else ""
        link = Path(folder, f"link{suffix}")
        link.symlink_to(name)
        yield str(link)


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
