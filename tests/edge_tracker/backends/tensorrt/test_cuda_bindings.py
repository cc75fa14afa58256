"""NVIDIA's real bindings, on a driver made here: each call of ours gets through to it and back.

Their twin that always runs is test_engine.py, with stand-ins for the bindings too.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_tracker.backends.tensorrt import cuda_graph
from edge_tracker.backends.tensorrt.cuda_bindings import CudaBindings, load_driver
from edge_tracker.backends.tensorrt.cuda_session import open_session
from edge_tracker.errors import BackendUnavailable
from edge_tracker.installing import is_installed
from tests.helpers.places import REPOSITORY

KINDS = (
    *("current", "contexts", "streams", "events"),
    *("device_blocks", "host_blocks", "graphs", "executables"),
)


def left_over() -> dict[str, int]:
    counts = (ctypes.c_int * len(KINDS))()
    assert ctypes.CDLL("libcuda.so.1").left_over(counts) == len(KINDS)
    return {kind: count for kind, count in zip(KINDS, counts, strict=True) if count}


def use_all() -> None:
    """Run where libcuda is the one made here."""
    session = open_session(0)
    cuda, stream = session.cuda, session.stream
    assert isinstance(cuda, CudaBindings)
    with session.current():
        assert cuda.mem_get_info() == (1_000_000, 2_000_000)
        first, second = cuda.mem_alloc(48), cuda.mem_alloc(48)
        sent, back = cuda.pagelocked_empty((4, 12), np.uint8), cuda.pagelocked_empty((4, 3), "<f4")
        owners: tuple[Any, ...] = (first, second, sent.base, back.base)
        for owner in owners:
            session.on_close(owner.free)
        sent[:] = np.arange(48).reshape(4, 12)
        back[:] = 0
        before, after = cuda.Event(), cuda.Event()
        before.record(stream)
        cuda.memcpy_htod_async(int(first), sent[:3], stream)
        cuda.memcpy_dtod_async(int(second), int(first), 36, stream)
        cuda.memcpy_dtoh_async(back[:3], int(second), stream)
        after.record(stream)
        assert (after.query(), after.query()) == (False, True)
        after.synchronize()
        stream.synchronize()
        assert after.time_since(before) == 1.5
        assert back.tobytes() == sent[:3].tobytes() + bytes(12)

        back[:] = 0
        copy_out = partial(cuda.memcpy_dtoh_async, back[:2], int(second), stream)
        recorded = cuda_graph.record(cuda.driver, stream.handle, copy_out)
        assert not back.any()
        cuda_graph.launch(cuda.driver, recorded, stream.handle)
        assert back.tobytes() == sent[:2].tobytes() + bytes(24)
        session.on_close(partial(cuda_graph.destroy, cuda.driver, recorded))

        with pytest.raises(cuda.MemoryError, match="cuMemAlloc failed: out of memory"):
            cuda.mem_alloc(10**8)
    with pytest.raises(cuda.Error, match="cuMemAlloc failed: invalid device context"):
        cuda.mem_alloc(8)
    del before
    made = {"contexts": 1, "streams": 1, "events": 1, "device_blocks": 2, "host_blocks": 2}
    assert left_over() == {**made, "executables": 1}
    del after, stream, copy_out
    session.close()
    assert left_over() == {}
    with pytest.raises(BackendUnavailable, match=r"no context on device 3 \(cuDeviceGet failed"):
        open_session(3)


def test_each_call_gets_through_to_the_driver(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if load_driver() is None or compiler is None:
        pytest.skip("needs a C compiler and cuda-bindings (pip install cuda-bindings)")
    source = REPOSITORY / "tests" / "helpers" / "fake_libcuda.c"
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Werror", str(source), "-ldl"]
    library = tmp_path / "libcuda.so.1"
    subprocess.run([*command, f"-Wl,-soname,{library.name}", "-o", str(library)], check=True)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", __spec__.name],
        cwd=REPOSITORY,
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not is_installed("cuda.bindings"), reason="needs cuda-bindings")
def test_without_a_driver_they_say_so() -> None:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        with pytest.raises(BackendUnavailable, match=r"gives no context on device 0 \(.+\)"):
            open_session(0)
    else:
        pytest.skip("NVIDIA's driver is installed")


if __name__ == "__main__":
    use_all()
