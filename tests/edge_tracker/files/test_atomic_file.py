"""Output files are whole or not there."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from edge_tracker.files.atomic_file import replacing


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


def test_folders_and_devices_are_not_replaced(tmp_path: Path) -> None:
    for target in (tmp_path, Path(os.devnull)):
        with pytest.raises(ValueError, match="is not a regular file"), replacing(target):
            pytest.fail("the block must not run")
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_named_before_any_work(tmp_path: Path) -> None:
    target = tmp_path / "absent" / "boxes.csv"
    with pytest.raises(FileNotFoundError, match="create it first") as raised, replacing(target):
        pytest.fail("the block must not run")
    assert raised.value.filename == str(target)
