"""Names for libraries that take only some."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edge_tracker.files.plain_name import plain_name


def test_a_name_in_utf8_is_given_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with plain_name(Path("a:b é.mp4")) as name:
        assert name == str(tmp_path / "a:b é.mp4")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
@pytest.mark.parametrize("name", [b"clip\xff.mp4", b"\xe9", b"clip.mp\xff"])
def test_others_are_reached_by_a_link_that_goes_again(tmp_path: Path, name: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    path.write_text("content")
    with plain_name(path) as link:
        assert Path(link).read_text() == "content"
        assert Path(link).suffix == (".mp4" if name.endswith(b".mp4") else "")
        link.encode()
    assert not os.path.lexists(link)
    assert path.read_text() == "content"
