"""A bundle is replaced in one step, by one writer; nothing but the old bundle is ever deleted."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path

import pytest

from edge_tracker.bundle import writing
from edge_tracker.bundle.writing import (
    UNFINISHED,
    add_folder,
    adding_folder,
    replacing_folder,
)
from edge_tracker.errors import BundleError
from edge_tracker.files.atomic_folder import exchange, only_writer
from tests.helpers.bundle_stubs import contents, stub_bundle, whole

OLD = {"onnx/fp32/search.onnx": b"old search", "golden.npz": b"old golden"}
NEW = {"onnx/fp32/search.onnx": b"new search", "openvino/fp32/search.xml": b"new xml"}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def replace_with(files: dict[str, bytes], target: Path) -> None:
    with replacing_folder(target) as fresh:
        stub_bundle(fresh, files)


@pytest.mark.parametrize("old", ["nothing", "an empty folder", "a bundle"])
def test_what_was_made_takes_the_name(old: str, tmp_path: Path) -> None:
    target = tmp_path / "small.bundle"
    if old == "an empty folder":
        target.mkdir()
    elif old == "a bundle":
        stub_bundle(target, OLD)
    replace_with(NEW, target)
    assert set(contents(target)) == {*NEW, "manifest.json"}
    assert names(tmp_path) == ["small.bundle"]


@pytest.mark.parametrize("writing_into", [replacing_folder, adding_folder])
def test_a_full_disk_is_told_with_the_bundle_s_name(
    writing_into: Callable[[Path], AbstractContextManager[Path]], tmp_path: Path
) -> None:
    target = stub_bundle(tmp_path / "small.bundle", OLD)
    before = contents(target)
    with pytest.raises(OSError, match=r"small\.bundle") as raised, writing_into(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(target))
    assert contents(target) == before
    assert names(tmp_path) == ["small.bundle"]


def mine(target: Path) -> None:
    (target / "onnx" / "notes.txt").write_text("mine")


def altered(target: Path) -> None:
    (target / "golden.npz").write_bytes(b"mine golden")


def same_size(target: Path) -> None:
    (target / "golden.npz").write_bytes(b"OLD golden")


def hidden(target: Path) -> None:
    (target / ".git").mkdir()
    (target / ".git" / "config").write_text("mine")


def linked(target: Path) -> None:
    (target / "golden.npz").rename(target.parent / "elsewhere")
    (target / "golden.npz").symlink_to(target.parent / "elsewhere")


def foreign(target: Path) -> None:
    (target / "manifest.json").write_text(json.dumps({"format": "webpack", "files": {}}))


def broken(target: Path) -> None:
    (target / "manifest.json").write_text("[" * 100_000)


def no_manifest(target: Path) -> None:
    (target / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (mine, r"holds onnx/notes\.txt, not as its manifest\.json lists it"),
        (altered, r"holds golden\.npz, not as"),
        (same_size, r"holds golden\.npz, not as"),
        (hidden, r"holds \.git/config, not as"),
        (linked, r"holds golden\.npz, not as"),
        (foreign, "exists and is not a bundle"),
        (broken, "exists and is not a bundle"),
        (no_manifest, "exists and is not a bundle"),
    ],
)
def test_what_is_not_the_old_bundle_is_refused_before_any_work(
    change: object, says: str, tmp_path: Path
) -> None:
    target = stub_bundle(tmp_path / "b", OLD)
    change(target)  # type: ignore[operator]
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=says), replacing_folder(target):
        pytest.fail("work began")
    assert contents(tmp_path) == before


def test_what_is_put_into_the_old_bundle_meanwhile_is_kept_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = stub_bundle(tmp_path / "b", OLD)
    with replacing_folder(target) as fresh:
        stub_bundle(fresh, NEW)
        mine(target)
        (target / "golden.npz").write_bytes(b"altered meanwhile")
    assert whole(target)
    (kept,) = tmp_path.glob("b.kept-*")
    assert contents(kept) == {"onnx/notes.txt": b"mine", "golden.npz": b"altered meanwhile"}
    assert f"is now in {kept}" in caplog.text


def test_a_manifest_that_lists_files_elsewhere_deletes_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"precious")
    facts = {"sha256": "b2e5b1", "size_bytes": 8}
    target = stub_bundle(tmp_path / "b", {})
    (target / "link").symlink_to(tmp_path / "outside")
    facts["sha256"] = sha256(b"precious").hexdigest()
    listed = {"../outside/file": facts, "link/file": facts, str(tmp_path / "outside/file"): facts}
    (target / "manifest.json").write_text(
        json.dumps({"format": "edge_tracker.bundle", "files": listed})
    )
    with pytest.raises(ValueError, match="holds link"), replacing_folder(target):
        pass
    writing._remove_listed(target, listed)
    assert (tmp_path / "outside" / "file").read_bytes() == b"precious"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_work_that_fails_leaves_the_old_bundle_and_nothing_else(
    error: BaseException, tmp_path: Path
) -> None:
    target = stub_bundle(tmp_path / "b", OLD)
    before = contents(tmp_path)

    def fail() -> None:
        with replacing_folder(target) as fresh:
            stub_bundle(fresh, NEW)
            raise error

    with pytest.raises(type(error)):
        fail()
    assert contents(tmp_path) == before
    assert names(tmp_path) == ["b"]


def test_the_second_of_two_writers_is_told(tmp_path: Path) -> None:
    target = stub_bundle(tmp_path / "b", OLD)
    with replacing_folder(target) as fresh:
        stub_bundle(fresh, NEW)
        with pytest.raises(BundleError, match="b is being written by another process: wait"):
            replace_with(OLD, target)
        replace_with(OLD, tmp_path / "another name")
    assert contents(target).keys() == {*NEW, "manifest.json"}
    replace_with(OLD, target)
    assert names(tmp_path) == ["another name", "b"]


def test_a_lock_whose_file_vanishes_is_taken_again(tmp_path: Path) -> None:
    with only_writer(tmp_path / "b"):
        (tmp_path / ".b.lock").unlink()
        with only_writer(tmp_path / "b"):
            assert names(tmp_path) == [".b.lock"]


def test_what_killed_runs_left_is_removed_and_what_only_looks_so_is_not(tmp_path: Path) -> None:
    target = stub_bundle(tmp_path / "b", OLD)
    unfinished = stub_bundle(tmp_path / ".b.abcd1234.part", NEW)
    (unfinished / UNFINISHED).touch()
    stub_bundle(tmp_path / ".b.0123_xyz.part", OLD)  # the old one, after the exchange
    with_mine = stub_bundle(tmp_path / ".b.qqqqqqqq.part", OLD)
    mine(with_mine)
    alike = tmp_path / ".b.wwwwwwww.part"
    alike.mkdir()
    (alike / "thesis.txt").write_text("mine")
    (tmp_path / ".b.eeeeeeee.version.link").symlink_to("b")
    replace_with(NEW, target)
    assert whole(target)
    assert names(tmp_path) == [".b.wwwwwwww.part", "b", "b.kept-qqqqqqqq"]
    assert contents(tmp_path / "b.kept-qqqqqqqq") == {"onnx/notes.txt": b"mine"}


def test_a_bundle_is_not_written_over_what_it_is_made_of(tmp_path: Path) -> None:
    checkpoint = tmp_path / "bundle" / "c.pth"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    with (
        pytest.raises(ValueError, match=r"contains .*c\.pth, which is read"),
        replacing_folder(checkpoint.parent, [checkpoint]),
    ):
        pass
    assert checkpoint.exists()


def test_names_are_exchanged_in_one_step(tmp_path: Path) -> None:
    stub_bundle(tmp_path / "a", OLD)
    stub_bundle(tmp_path / "b", NEW)
    if not exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot exchange names")
    assert set(contents(tmp_path / "a")) == {*NEW, "manifest.json"}
    assert set(contents(tmp_path / "b")) == {*OLD, "manifest.json"}
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "a", tmp_path / "absent")


def test_without_exchange_a_folder_is_refused_and_a_link_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(writing, "exchange", lambda first, second: False)
    target = stub_bundle(tmp_path / "b", OLD)
    with pytest.raises(OSError, match="cannot replace a folder in one step"):
        replace_with(NEW, target)
    assert names(tmp_path) == ["b"]
    target.rename(tmp_path / "b.1")
    target.symlink_to("b.1")
    replace_with(NEW, target)
    assert target.is_symlink()
    assert set(contents(target)) == {*NEW, "manifest.json"}
    assert len(names(tmp_path)) == 2
    replace_with(OLD, target)
    assert set(contents(target)) == {*OLD, "manifest.json"}
    assert len(names(tmp_path)) == 2


WRITER = """
import sys, time
from pathlib import Path
from edge_tracker.bundle import writing
from tests.helpers.bundle_stubs import stub_bundle
if sys.argv[2] == "without exchange":
    writing.exchange = lambda first, second: False
print("ready", flush=True)
for round in range(10**6):
    with writing.replacing_folder(Path(sys.argv[1])) as fresh:
        stub_bundle(fresh, {f"onnx/{n}": bytes([round % 256, n]) * 999 for n in range(5)})
"""


def killed_at(seconds: float, code: str, *arguments: object) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("how", ["with exchange", "without exchange"])
def test_a_kill_at_any_moment_leaves_a_whole_bundle_and_every_file_of_the_user(
    how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chance = random.Random(how)
    target = tmp_path / "b"
    if how == "with exchange":
        stub_bundle(target, OLD)
    else:
        stub_bundle(tmp_path / "b.1", OLD)
        target.symlink_to("b.1")
    (tmp_path / "notes.txt").write_text("mine")
    for _ in range(12):
        killed_at(chance.uniform(0.0, 0.05), WRITER, target, how)
        assert whole(target)
        assert (tmp_path / "notes.txt").read_text() == "mine"
    if how == "without exchange":
        monkeypatch.setattr(writing, "exchange", lambda first, second: False)
    replace_with(NEW, target)
    known = ("b", "b.1", "notes.txt", ".b.1.lock")  # an empty file that a killed run locked
    left = [name for name in names(tmp_path) if name not in known]
    if how == "with exchange":
        assert left == []
    else:
        assert left == [target.readlink().name]


LEAVING = json.dumps(
    {"leaving": {"search.engine": {"sha256": sha256(b"part").hexdigest(), "size_bytes": 4}}}
)
ENGINE = {"graphs": {"search": {"model": "tensorrt/gpu/search.engine"}}}


def add_engine(bundle: Path, content: bytes, replaced: tuple[str, ...] = ()) -> None:
    with adding_folder(bundle) as folder:
        (folder / "search.engine").write_bytes(content)
        add_folder(bundle, folder, "tensorrt/gpu", ENGINE, replaced)


def test_an_engine_is_added_and_replaced(tmp_path: Path) -> None:
    bundle = stub_bundle(tmp_path / "b", OLD)
    for content in (b"first", b"second"):
        add_engine(bundle, content)
        assert whole(bundle)
        assert (bundle / "tensorrt/gpu/search.engine").read_bytes() == content
        assert json.loads((bundle / "manifest.json").read_text())["artefacts"] == [ENGINE]
    assert names(bundle) == ["golden.npz", "manifest.json", "onnx", "tensorrt"]
    assert names(bundle / "tensorrt") == ["gpu"]


def test_a_file_of_the_user_beside_an_engine_is_not_deleted_with_it(tmp_path: Path) -> None:
    bundle = stub_bundle(tmp_path / "b", OLD)
    add_engine(bundle, b"first")
    (bundle / "tensorrt/gpu/notes.txt").write_text("mine")
    before = contents(bundle)
    with pytest.raises(ValueError, match=r"holds tensorrt/gpu/notes\.txt, not as"):
        add_engine(bundle, b"second")
    assert contents(bundle) == before


@pytest.mark.parametrize("nth", range(4))
def test_an_engine_that_cannot_be_written_leaves_the_old_one(
    nth: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = stub_bundle(tmp_path / "b", OLD)
    add_engine(bundle, b"first")
    before, calls = contents(bundle), [0]

    def failing(real: object) -> object:
        def call(*arguments: object, **options: object) -> object:
            calls[0] += 1
            if calls[0] == nth + 1:
                raise OSError("disk full")
            return real(*arguments, **options)  # type: ignore[operator]

        return call

    monkeypatch.setattr(writing, "_write_manifest", failing(writing._write_manifest))
    monkeypatch.setattr(Path, "rename", failing(Path.rename))
    with pytest.raises(OSError, match="disk full"):
        add_engine(bundle, b"second")
    monkeypatch.undo()
    assert contents(bundle) == before


def test_a_damaged_engine_is_replaced_and_kept_beside_the_bundle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = stub_bundle(tmp_path / "b", OLD)
    add_engine(bundle, b"first")
    (bundle / "tensorrt/gpu/search.engine").write_bytes(b"damaged")
    add_engine(bundle, b"second")
    assert whole(bundle)
    assert names(bundle) == ["golden.npz", "manifest.json", "onnx", "tensorrt"]
    (kept,) = tmp_path.glob("b.kept-*")
    assert list(contents(kept).values()) == [b"damaged"]
    assert f"is now in {kept}" in caplog.text
    replace_with(NEW, bundle)


def test_a_mark_in_the_root_of_a_bundle_gives_nothing_away(tmp_path: Path) -> None:
    target = stub_bundle(tmp_path / "b", {**OLD, UNFINISHED: b""})
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"holds \.unfinished, not as"), replacing_folder(target):
        pytest.fail("work began")
    assert contents(tmp_path) == before


def test_a_mark_deep_in_a_bundle_gives_no_file_of_the_user_away(tmp_path: Path) -> None:
    target = stub_bundle(tmp_path / "b", OLD)
    (target / "onnx" / UNFINISHED).touch()
    mine(target)
    with pytest.raises(ValueError, match=r"holds onnx/\.unfinished, onnx/notes\.txt, not as"):
        replace_with(NEW, target)
    with adding_folder(target):
        pass
    assert (target / "onnx/notes.txt").read_text() == "mine"


BUILDER = """
import sys
from pathlib import Path
from edge_tracker.bundle import writing
bundle, entry = Path(sys.argv[1]), {"graphs": {"search": {"model": "tensorrt/gpu/search.engine"}}}
print("ready", flush=True)
for round in range(10**6):
    with writing.adding_folder(bundle) as fresh:
        for n in range(5):
            (fresh / f"{n}.engine").write_bytes(bytes([round // 2 % 256, n]) * 999)
        writing.add_folder(bundle, fresh, "tensorrt/gpu", entry, ())
"""


def test_a_build_killed_at_any_moment_leaves_a_whole_bundle_that_can_be_built_and_replaced(
    tmp_path: Path,
) -> None:
    chance = random.Random(0)
    bundle = stub_bundle(tmp_path / "b", OLD)
    for _ in range(12):
        killed_at(chance.uniform(0.0, 0.05), BUILDER, bundle)
        assert whole(bundle)
    add_engine(bundle, b"last")
    assert whole(bundle)
    assert names(bundle) == ["golden.npz", "manifest.json", "onnx", "tensorrt"]
    assert names(bundle / "tensorrt") == ["gpu"]
    killed_at(0.03, BUILDER, bundle)
    replace_with(NEW, bundle)
    assert set(contents(bundle)) == {*NEW, "manifest.json"}
    assert [name for name in names(tmp_path) if name != ".b.lock"] == ["b"]


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path: Path) -> None:
    bundle = stub_bundle(tmp_path / "b", OLD)
    for left, mark in ((".engines.abcd1234.part", ""), ("tensorrt/old", LEAVING)):
        (bundle / left).mkdir(parents=True)
        (bundle / left / UNFINISHED).write_text(mark)
        (bundle / left / "search.engine").write_bytes(b"part")
    add_engine(bundle, b"new")
    assert names(bundle) == ["golden.npz", "manifest.json", "onnx", "tensorrt"]
    assert names(bundle / "tensorrt") == ["gpu"]
