"""Where an output may go: never where writing it could touch what is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_tracker.files.outputs import refuse_overlap


@pytest.mark.parametrize(
    ("output", "relation", "read"),
    [
        ("a", "is", "a"),
        ("a", "contains", "a/inside/c.pth"),
        ("data/out", "lies inside", "data"),
        ("link/out", "lies inside", "data"),
        ("data/../a/inside", "contains", "a/inside/c.pth"),
        ("to_c", "is", "a/inside/c.pth"),
        ("a/inside/c.pth", "is", "to_c"),
        ("to_c", "is", "to_c"),
        ("links", "contains", "links/to_c"),
        ("absent", "is", "absent"),
        ("loop", "is", "loop"),
    ],
)
def test_an_output_that_is_contains_or_lies_inside_an_input_is_refused(
    output: str, relation: str, read: str, tmp_path: Path
) -> None:
    for folder in ("a/inside", "data", "links"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "a/inside/c.pth").touch()
    (tmp_path / "link").symlink_to("data")
    (tmp_path / "to_c").symlink_to("a/inside/c.pth")
    (tmp_path / "links/to_c").symlink_to("../a/inside/c.pth")
    (tmp_path / "loop").symlink_to("loop")
    expected = f"--json {tmp_path / output} {relation} {tmp_path / read}, which is read: choose"
    with pytest.raises(ValueError, match="choose another place") as refused:
        refuse_overlap(tmp_path / output, [None, tmp_path / read], "--json")
    assert str(refused.value).startswith(expected)
    refuse_overlap(tmp_path / "database", [tmp_path / read])
    refuse_overlap(tmp_path / "beside" / "data", [tmp_path / read])
