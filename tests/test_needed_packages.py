"""Which files of the suite a device can run."""

from __future__ import annotations

import pytest

from tests.helpers.needed_packages import NOT_ON_A_DEVICE, needed_packages
from tests.helpers.places import REPOSITORY

TESTS = REPOSITORY / "tests"


@pytest.mark.parametrize(
    ("file", "needed"),
    [
        ("helpers/lively_networks.py", {"torch"}),
        ("conftest.py", set()),
        ("edge_tracker/rules/test_crop.py", set()),
        ("converters/test_graphs.py", {"torch", "onnx", "onnxsim"}),  # through other files
    ],
)
def test_imports_are_followed_through_the_repository(file: str, needed: set[str]) -> None:
    assert needed_packages(TESTS / file) & NOT_ON_A_DEVICE == needed


def test_most_tests_of_what_a_device_runs_run_there() -> None:
    files = set((TESTS / "edge_tracker").rglob("test_*.py"))
    elsewhere = {file for file in files if needed_packages(file) & NOT_ON_A_DEVICE}
    assert {file.name for file in elsewhere} <= {
        "test_contract.py",
        "test_convert_int8.py",
        "test_engine.py",
        "test_fingerprint.py",
        "test_verify.py",
        "test_versions.py",
        "test_what_is_it.py",
    }
    assert len(elsewhere) < len(files) / 5
