"""Output files are whole or not there."""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from edge_tracker.files.atomic_file import is_written_into, replacing


def test_the_file_takes_its_name_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "boxes.csv"
    target.write_text("old")
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".csv"
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["boxes.csv"]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with replacing(tmp_path / "target"):
        pass
    plain, target = ((tmp_path / name).stat().st_mode for name in ("plain", "target"))
    assert stat.S_IMODE(target) == stat.S_IMODE(plain)


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_keeps_the_old_file(tmp_path: Path, failure: type[BaseException]) -> None:
    target = tmp_path / "boxes.csv"
    target.write_text("old")

    def fail() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        fail()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["boxes.csv"]


def test_a_full_disk_names_the_target(tmp_path: Path) -> None:
    def fail() -> None:
        with replacing(tmp_path / "boxes.csv"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"No space left on device: '.*boxes\.csv'"):
        fail()
    assert os.listdir(tmp_path) == []


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder"), replacing(tmp_path):
        pytest.fail("the block must not run")
    assert os.listdir(tmp_path) == []


# Pipes of the test's own stand for devices: a mistake would replace the machine's /dev/null.
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_written_into_and_stays_one(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    with replacing(pipe) as temporary:
        temporary.write_text("boxes")
    reader.join()
    assert got == [b"boxes"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_becomes_a_pipe_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with pytest.raises(OSError, match="became a device or pipe"), replacing(target):
        os.mkfifo(target)
    assert stat.S_ISFIFO(target.stat().st_mode)
    assert os.listdir(tmp_path) == ["target"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of Linux")
def test_open_files_of_a_process_are_written_into(tmp_path: Path) -> None:
    kept = tmp_path / "kept.txt"
    with kept.open("wb") as file:
        file.write(b"before ")
        file.flush()
        opened = Path(f"/proc/self/fd/{file.fileno()}")
        (tmp_path / "link").symlink_to(opened)
        assert is_written_into(opened)
        assert is_written_into(tmp_path / "link")
        with replacing(tmp_path / "link") as temporary:
            temporary.write_text("after")
        assert os.path.samestat(kept.stat(), os.fstat(file.fileno()))
    assert kept.read_text() == "before after"
    assert not is_written_into(kept)
    assert not is_written_into(tmp_path / "absent")


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_one_and_its_file_is_replaced(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "disk").mkdir()
    file, link = tmp_path / "disk" / "boxes.csv", tmp_path / "boxes.csv"
    link.symlink_to(Path("disk") / "boxes.csv")
    if exists:
        file.write_text("old")
    with replacing(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert file.read_text() == "new"
    assert os.listdir(tmp_path / "disk") == ["boxes.csv"]


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 251 + ".csv")
    with replacing(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"


def test_a_missing_folder_is_named_before_any_work(tmp_path: Path) -> None:
    target = tmp_path / "absent" / "boxes.csv"
    with pytest.raises(FileNotFoundError, match="create it first") as raised, replacing(target):
        pytest.fail("the block must not run")
    assert raised.value.filename == str(target)
