"""Which room may import which: a floor imports from floors below it, and no two files import each
other.
"""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from tests.helpers.places import REPOSITORY

#: From the ground up. Rooms on one floor do not see each other.
FLOORS = (
    "edge_tracker.errors edge_tracker.version",
    "edge_tracker.options edge_tracker.files edge_tracker.hardware edge_tracker.installing",
    "edge_tracker.rules",
    "edge_tracker.bundle",
    "edge_tracker.backends",
    "edge_tracker.tracker",
    "edge_tracker.cv2_adapter edge_tracker.video",
    "edge_tracker.measure",
    "mixformerv2",
    "converters",
    "calibration",
    "distillation.recipes",
    "distillation.networks",
    "distillation.data",
    "distillation.training",
    "distillation",
    "edge_tracker.cli",
    "edge_tracker edge_tracker.__main__",
)
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor.split()}
PACKAGES = ("edge_tracker", "mixformerv2", "converters", "calibration", "distillation")
FILES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in (REPOSITORY / package).rglob("*.py")
}


def imports_of(path: Path) -> set[str]:
    """The project's modules that a file imports, anywhere in it."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                named.add(inner if inner in FILES else str(node.module))
    return named & FILES.keys()


ARROWS = {module: imports_of(path) for module, path in FILES.items()}


def room_of(module: str) -> str:
    parts = module.split(".")
    return next(room for end in (2, 1) if (room := ".".join(parts[:end])) in FLOOR_OF)


def wrong_arrows(arrows: dict[str, set[str]]) -> list[str]:
    return [
        f"{module} imports {imported}"
        for module, targets in arrows.items()
        for imported in targets
        if room_of(module) != room_of(imported)
        and FLOOR_OF[room_of(module)] <= FLOOR_OF[room_of(imported)]
    ]


def test_arrows_point_down() -> None:
    assert wrong_arrows(ARROWS) == []


def test_an_arrow_that_is_turned_round_is_noticed() -> None:
    for module, imported in (
        ("converters.convert", "calibration.int8"),
        ("distillation.networks.mixvit_teacher", "distillation.training.losses"),
        ("edge_tracker.rules.crop", "edge_tracker.tracker"),
        ("edge_tracker.tracker", "edge_tracker"),
    ):
        assert wrong_arrows({module: {imported}}) == [f"{module} imports {imported}"]


def test_the_runtime_keeps_few_rooms_and_few_arrows_between_them() -> None:
    """The front door, edge_tracker/__init__.py, is not a room."""

    def room(module: str) -> str:
        return ".".join(module.split(".")[:2])

    arrows = {
        (room(module), room(imported))
        for module, targets in ARROWS.items()
        for imported in targets
        if module.startswith("edge_tracker.") and imported.startswith("edge_tracker.")
    }
    between = {(one, other) for one, other in arrows if one != other}
    rooms = {room for pair in between for room in pair}
    assert len(rooms) <= 15, sorted(rooms)
    assert len(between) <= 50, len(between)


def test_no_two_files_import_each_other() -> None:
    TopologicalSorter(ARROWS).prepare()
