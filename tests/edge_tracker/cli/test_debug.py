"""--debug: what is done, and where a failure comes from."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from edge_tracker.bundle.opening import Bundle
from edge_tracker.cli.main import main


@pytest.fixture(autouse=True)
def quiet_again() -> Iterator[None]:
    logger = logging.getLogger("edge_tracker")
    yield
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


def test_a_failure_is_one_line_and_with_debug_a_traceback_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["inspect", "nowhere.bundle"]) == 1
    plain = capsys.readouterr().err
    assert "Traceback" not in plain
    assert main(["--debug", "inspect", "nowhere.bundle"]) == 1
    debugged = capsys.readouterr().err
    assert "Traceback" in debugged
    assert "open_bundle" in debugged
    assert debugged.endswith(plain)


def test_with_debug_it_says_what_it_does(
    nano_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--debug", "inspect", str(nano_bundle.path)]) == 0
    assert f"edge_tracker.bundle.opening: bundle {nano_bundle.path}" in capsys.readouterr().err
