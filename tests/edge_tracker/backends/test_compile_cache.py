"""Compiled models that are kept: whose folder is trusted, and which of its files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from edge_tracker import Bundle, EdgeTracker
from edge_tracker.backends.compile_cache import cache_folder, load_kept, store_kept
from tests.helpers.places import REPOSITORY

posix = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")


def boxes(bundle: Bundle, cache_dir: Path) -> list[float]:
    frame = np.random.default_rng(3).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    with EdgeTracker(
        bundle, backend="openvino", num_threads=1, cache_dir=cache_dir, compute="f32"
    ) as tracker:
        tracker.init(frame, (40, 30, 40, 36))
        return list(tracker.update(np.roll(frame, 3, 1)).box)


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o600)
    file.write_bytes(content)


def test_what_is_stored_is_loaded(tmp_path: Path) -> None:
    assert load_kept(tmp_path, "key") is None
    store_kept(tmp_path, "key", b"compiled")
    assert load_kept(tmp_path, "key") == b"compiled"
    assert load_kept(tmp_path, "other") is None


@pytest.mark.parametrize("place", [0, 40, -1])
def test_an_altered_file_is_not_loaded(tmp_path: Path, place: int) -> None:
    store_kept(tmp_path, "key", bytes(100))
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    assert load_kept(tmp_path, "key") is None
    file.write_bytes(b"short")
    assert load_kept(tmp_path, "key") is None


def test_writers_and_readers_at_once_see_whole_files(tmp_path: Path) -> None:
    blobs = [bytes([number]) * 300_000 for number in range(3)]
    store_kept(tmp_path, "key", blobs[0])
    ended = threading.Event()

    def write(blob: bytes) -> None:
        while not ended.is_set():
            store_kept(tmp_path, "key", blob)

    writers = [threading.Thread(target=write, args=(blob,)) for blob in blobs]
    for writer in writers:
        writer.start()
    try:
        assert all(load_kept(tmp_path, "key") in blobs for _ in range(100))
    finally:
        ended.set()
        for writer in writers:
            writer.join()


def test_a_folder_that_cannot_be_filled_is_no_failure(tmp_path: Path) -> None:
    store_kept(tmp_path / "absent", "key", b"compiled")
    assert load_kept(tmp_path / "absent", "key") is None


@posix
def test_a_new_folder_is_the_users_alone(tmp_path: Path) -> None:
    folder = cache_folder(tmp_path / "a" / "cache")
    assert folder is not None
    assert folder.stat().st_mode & 0o777 == 0o700


@posix
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_may_write_is_not_used(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.warns(RuntimeWarning, match=rf"others may write it \(mode {mode:o}\); chmod 700"):
        assert cache_folder(folder) is None
    folder.chmod(0o755)
    assert cache_folder(folder) == folder


@posix
def test_a_folder_of_somebody_else_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.warns(RuntimeWarning, match="belongs to another user"):
        assert cache_folder(tmp_path) is None


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache_folder(None) is None


def test_an_altered_model_is_compiled_anew_and_mended(nano_bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs edge-tracker[openvino]")
    cache = tmp_path / "cache"
    expected = boxes(nano_bundle, cache)
    files = {file: file.read_bytes() for file in cache.iterdir()}
    assert len(files) == 2
    for file in files:
        flip_a_bit(file)
    assert boxes(nano_bundle, cache) == expected
    assert all(len(file.read_bytes()) > 1000 for file in files)
    for file in files:
        blob = load_kept(cache, file.name)
        assert blob is not None


def test_models_compiled_for_other_settings_are_apart(nano_bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs edge-tracker[openvino]")
    cache = tmp_path / "cache"
    for threads in (1, 2, 1):
        EdgeTracker(
            nano_bundle, backend="openvino", num_threads=threads, cache_dir=cache, compute="f32"
        ).close()
    assert len(list(cache.iterdir())) == 4


FORKED = """
import os, sys
import numpy as np
from edge_tracker import BackendUnavailable, EdgeTracker
bundle, backend, cache, when = sys.argv[1:]
frame = np.full((120, 160, 3), 90, np.uint8)
tracker = EdgeTracker(bundle, backend=backend, cache_dir=cache)
tracker.init(frame, (40, 30, 40, 36))
child = os.fork()
if child == 0:
    status = 1
    try:
        if when == "after":
            own = EdgeTracker(bundle, backend=backend, cache_dir=cache)
            own.init(frame, (40, 30, 40, 36))
            own.update(frame)
        else:
            tracker.update(frame)
        status = 0
    except BackendUnavailable as error:
        status = 7 if "forked" in str(error) and "spawn" in str(error) else 8
    finally:
        os._exit(status)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
tracker.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize(
    ("backend", "when", "status"),
    [
        ("openvino", "before", 7),
        ("openvino", "after", 7),
        ("onnxruntime", "before", 7),
        ("onnxruntime", "after", 0),
    ],
)
def test_a_forked_child_tracks_or_says_why_not(
    nano_bundle: Bundle, cache_dir: Path, backend: str, when: str, status: int
) -> None:
    """A tracker that was opened before the fork, and one that the child opens."""
    pytest.importorskip(backend, reason=f"needs edge-tracker[{backend}]")
    command = [sys.executable, "-c", FORKED, str(nano_bundle.path), backend, str(cache_dir), when]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert finished.stdout.strip() == str(status), finished.stderr


HOMELESS = """
import os, pwd, sys
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
os.environ.pop("HOME", None)
from edge_tracker import EdgeTracker
print(EdgeTracker(sys.argv[1], backend="openvino").choice.backend)
"""


@posix
def test_an_account_without_a_home_tracks(nano_bundle: Bundle) -> None:
    """OpenVINO's telemetry would ask for one."""
    pytest.importorskip("openvino", reason="needs edge-tracker[openvino]")
    command = [sys.executable, "-c", HOMELESS, str(nano_bundle.path)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert finished.stdout.split() == ["openvino"], finished.stderr


#: What each part imports first.
LOADING = {
    "openvino": "from edge_tracker.backends.openvino import openvino_core; openvino_core()",
    "onnxruntime": "import edge_tracker, onnxruntime",
    "onnxsim": "import converters.convert",
    "nncf": "import calibration.quantise",
}


@posix
@pytest.mark.parametrize("package", LOADING)
def test_nobody_is_told_that_a_backend_was_loaded(package: str, tmp_path: Path) -> None:
    """Telemetry notes a number for each user in the home, and sends it along."""
    pytest.importorskip(package, reason=f"needs {package}")
    hidden = ("CI", "ORT_DISABLE_TELEMETRY")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-c", LOADING[package] + "; print('loaded')"]
    finished = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**environment, "HOME": str(tmp_path)},
        cwd=REPOSITORY,
    )
    assert finished.stdout.split() == ["loaded"], finished.stderr
    assert list(tmp_path.rglob("*")) == []
