"""Where the repository, the shared data and a trained checkpoint lie."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SHARED = REPOSITORY.parent / "shared"
TRAINED_CHECKPOINTS = (
    REPOSITORY / "edge_tracker" / "models" / "edge_nano.safetensors",
    SHARED / "models" / "provisional_nano.pth.tar",
)


def trained_checkpoint() -> Path | None:
    return next((path for path in TRAINED_CHECKPOINTS if path.is_file()), None)
