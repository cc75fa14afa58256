"""Converted networks that several subjects share, each made once a session.

Where PyTorch is not installed, files that need what converts are not collected, and the bundle of
`--bundle`, converted elsewhere, stands for the ones that tests convert.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from edge_tracker.bundle.opening import Bundle, open_bundle
from mixformerv2.geometries import NANO
from tests.helpers.annotated_clips import write_sequence
from tests.helpers.local_cluster import LocalCluster, local_cluster
from tests.helpers.made_once import made_once
from tests.helpers.needed_packages import NOT_ON_A_DEVICE, needed_packages
from tests.helpers.places import trained_checkpoint

if TYPE_CHECKING:
    from mixformerv2.model import MixFormerV2

CAN_CONVERT = all(find_spec(name) for name in ("torch", "onnx", "onnxsim"))
if CAN_CONVERT:
    import torch

    from converters.convert import convert_checkpoint
    from converters.to_onnx import export_onnx
    from tests.helpers.exported_networks import ExportedNetwork
    from tests.helpers.lively_networks import TINY, TRIED, lively_network

hypothesis.settings.register_profile(
    "repeatable", derandomize=True, database=None, deadline=None, max_examples=60
)
hypothesis.settings.load_profile("repeatable")
# A shell starts programs in the background with interrupts ignored, nohup with hanging up ignored;
# tests of signals need both.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


#: Fixtures that convert a network, and folders of tests that convert, train or start processes.
CONVERTING = {
    "exported",
    "nano_bundle",
    "int8_bundle",
    "trained_bundle",
    "trained_or_lively_bundle",
}
SLOW_FOLDERS = (
    "benchmarks",
    "calibration",
    "converters",
    "distillation/training",
    "docs",
    "examples",
)
SLOW_FILES = ("test_cluster.py", "test_packaging.py", "test_checkpoint_accuracy.py", "test_ship.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bundle", type=Path, help="converted elsewhere, for tests where nothing can be converted"
    )


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """True for files, and folders with a conftest.py, that cannot be imported here."""
    file = collection_path / "conftest.py" if collection_path.is_dir() else collection_path
    if CAN_CONVERT or file.suffix != ".py" or not file.is_file():
        return None
    return bool(needed_packages(file) & NOT_ON_A_DEVICE) or None


@pytest.fixture(scope="session")
def needs_conversion() -> None:
    if not CAN_CONVERT:
        pytest.skip("needs edge-tracker[convert]")


@pytest.fixture(scope="session")
def given_bundle(request: pytest.FixtureRequest) -> Bundle | None:
    """None where tests convert their own."""
    if CAN_CONVERT:
        return None
    path = request.config.getoption("--bundle")
    if path is None:
        pytest.skip("needs edge-tracker[convert], or --bundle BUNDLE converted elsewhere")
    return open_bundle(path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(here)
        if (
            CONVERTING & set(getattr(item, "fixturenames", ()))
            or place.as_posix().startswith(SLOW_FOLDERS)
            or place.name in SLOW_FILES
        ):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def exported(needs_conversion: None) -> Iterator[Callable[[str], ExportedNetwork]]:
    """The ONNX pair of one of TRIED, by its name."""
    made: dict[str, ExportedNetwork] = {}
    # Not pytest's own temporary folder: that keeps the last three sessions' gigabytes.
    with tempfile.TemporaryDirectory() as folder:

        def export(geometry: str) -> ExportedNetwork:
            if geometry not in made:
                network = lively_network(TRIED[geometry])
                onnx_folder = Path(folder) / geometry / "onnx"
                models = export_onnx(network, onnx_folder, {"source_sha256": "5eed"})
                made[geometry] = ExportedNetwork(network, onnx_folder, models)
            return made[geometry]

        yield export


@pytest.fixture(scope="session")
def nano_network(needs_conversion: None) -> MixFormerV2:
    return lively_network(NANO)


@pytest.fixture(scope="session")
def nano_checkpoint(nano_network: MixFormerV2, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "lively_nano.pth.tar"
    torch.save({"net": nano_network.state_dict(), "epoch": 500}, path)
    return path


@pytest.fixture(scope="session")
def nano_bundle(
    request: pytest.FixtureRequest,
    given_bundle: Bundle | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundle:
    """Of a network with random weights. Shared by all tests: copy it before changing it."""
    if given_bundle is not None:
        return given_bundle
    checkpoint = request.getfixturevalue("nano_checkpoint")
    return open_bundle(
        made_once(
            tmp_path_factory, "nano_bundle", lambda folder: convert_checkpoint(checkpoint, folder)
        )
    )


@pytest.fixture(scope="session")
def annotated_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of four sequences, clip0 to clip3."""
    root = tmp_path_factory.mktemp("annotated_clips")
    for seed in range(4):
        write_sequence(root, f"clip{seed}", frames=48, seed=seed)
    return root


@pytest.fixture
def two_workers(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """Parameter: how many workers a task may lose; 3 by default, as Dask's."""
    distributed = pytest.importorskip("distributed", reason="needs edge-tracker[cluster]")
    with local_cluster(distributed, tmp_path, getattr(request, "param", 3)) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def tiny_checkpoint(needs_conversion: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.pth.tar"
    torch.save({"net": lively_network(TINY).state_dict()}, path)
    return path


@pytest.fixture(scope="session")
def int8_bundle(
    tiny_checkpoint: Path,
    annotated_clips: Path,
    cache_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundle:
    """fp32 and int8 in both formats, of a tiny network with random weights: clip0 and clip2
    calibrate, clip1 and clip3 judge. Copy it before changing it.
    """
    pytest.importorskip("nncf", reason="needs edge-tracker[calibrate]")
    from calibration.int8 import Int8Options

    # Such a network tracks nothing, in fp32 neither.
    options = Int8Options(annotated_clips, num_samples=32, max_auc_drop=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(cache_dir))
        folder = made_once(
            tmp_path_factory,
            "int8_bundle",
            lambda folder: convert_checkpoint(
                tiny_checkpoint, folder, precisions=["fp32", "int8"], int8=options
            ),
        )
    return open_bundle(folder)


@pytest.fixture(scope="session")
def trained_bundle(given_bundle: Bundle | None, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of a network that tracks; skips where there is none."""
    if given_bundle is not None:
        return given_bundle
    checkpoint = trained_checkpoint()
    if checkpoint is None:
        pytest.skip("no trained checkpoint in edge_tracker/models or ../shared/models")
    return open_bundle(
        made_once(
            tmp_path_factory,
            "trained_bundle",
            lambda folder: convert_checkpoint(checkpoint, folder, precisions=["fp32"]),
        )
    )


@pytest.fixture(scope="session")
def trained_or_lively_bundle(request: pytest.FixtureRequest) -> Bundle:
    name = "nano_bundle" if trained_checkpoint() is None else "trained_bundle"
    bundle: Bundle = request.getfixturevalue(name)
    return bundle


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OpenVINO's compiled models, kept out of the user's cache folder."""
    return tmp_path_factory.mktemp("openvino_cache")
