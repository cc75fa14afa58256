"""The directory of a zip is read one way only; whatever could be read in two ways is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch

from mixformerv2.stored_entries import (
    UnreadableFile,
    check_entry,
    read_directory,
    read_entry,
)
from tests.helpers.crafted_checkpoints import ZipEntry, raw_zip


def directory_of(content: bytes, folder: Path) -> list[str]:
    path = folder / "made.zip"
    path.write_bytes(content)
    with path.open("rb") as file:
        return list(read_directory(file))


def entries(**changed: object) -> list[ZipEntry]:
    return [
        ZipEntry("a/data.pkl", b"N."),
        ZipEntry("a/data/0", b"12345678", **changed),  # type: ignore[arg-type]
        ZipEntry("a/version", b"3\n"),
    ]


def test_what_pytorch_writes_is_read_in_its_order(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(4.0), "b": torch.ones(3)}, tmp_path / "c.pth")
    with (tmp_path / "c.pth").open("rb") as file:
        found = read_directory(file)
        assert [name for name in found if "/data/" in name] == ["c/data/0", "c/data/1"]
        assert read_entry(file, found["c/data/0"]).view("f4").tolist() == [0.0, 1.0, 2.0, 3.0]
        assert read_entry(file, found["c/version"]).tobytes() == b"3\n"


def test_a_plain_zip_without_records_for_large_files_is_read(tmp_path: Path) -> None:
    assert directory_of(raw_zip(entries()), tmp_path) == ["a/data.pkl", "a/data/0", "a/version"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(
            raw_zip(entries(), tail=b"PK\5\6"), "does not end as a zip", id="comment at the end"
        ),
        pytest.param(
            raw_zip(entries()) + b"\0", "does not end as a zip", id="bytes behind the end"
        ),
        pytest.param(
            raw_zip(entries(), directory_twice=True), "more than one directory", id="directories"
        ),
        pytest.param(raw_zip([*entries(), *entries()[1:2]]), "two entries 'a/data/0'", id="twice"),
        pytest.param(raw_zip(entries(gap=b"\0" * 9)), "does not begin where", id="a gap"),
        pytest.param(raw_zip(entries(central={"at": 0})), "does not begin where", id="elsewhere"),
        pytest.param(raw_zip(entries(local_name="a/data/9")), "says two things", id="other name"),
        pytest.param(raw_zip(entries(central={"crc": 1})), "says two things", id="other checksum"),
        pytest.param(raw_zip(entries(central={"size": 7})), "says two things", id="other size"),
        pytest.param(raw_zip(entries(central={"flags": 1})), "encrypted", id="encrypted"),
        pytest.param(
            raw_zip(entries(central={"method": 8})), "that is compressed", id="compressed"
        ),
        pytest.param(
            raw_zip(entries(central={"packed": 3})), "that is compressed", id="packed to less"
        ),
        pytest.param(b"PK\3\4", "is too short", id="too short"),
        pytest.param(
            raw_zip([ZipEntry("x" * 40000, b"")])[-30000:], "more than one directory", id="cut"
        ),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(
    content: bytes, says: str, tmp_path: Path
) -> None:
    with pytest.raises(UnreadableFile, match=says):
        directory_of(content, tmp_path)


def test_entries_that_overlap_the_directory_are_refused(tmp_path: Path) -> None:
    content = bytearray(raw_zip([ZipEntry("a/data.pkl", b"N.")]))
    longer = struct.pack("<II", 200, 200)
    for mark, at in ((b"PK\3\4", 18), (b"PK\1\2", 20)):
        place = content.index(mark) + at
        content[place : place + 8] = longer
    with pytest.raises(UnreadableFile, match="does not begin where"):
        directory_of(bytes(content), tmp_path)


@pytest.mark.parametrize("read", [read_entry, check_entry])
def test_a_flipped_bit_is_noticed(read: object, tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    torch.save(torch.arange(2.0**19), path)  # more than is read at a time
    content = bytearray(path.read_bytes())
    with path.open("rb") as file:
        entry = read_directory(file)["c/data/0"]
    content[entry.offset + 2_000_000] ^= 1
    path.write_bytes(content)
    with path.open("rb") as file, pytest.raises(UnreadableFile, match="match their checksum"):
        read(file, entry)  # type: ignore[operator]
