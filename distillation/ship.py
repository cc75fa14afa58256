"""python -m distillation.ship: a run's checkpoint as a small file to hand out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from safetensors.torch import save_file

from distillation.exit_status import exit_status
from distillation.training.run_folder import tracking_search_factor
from edge_tracker.files.atomic_file import replacing
from edge_tracker.files.outputs import refuse_overlap
from mixformerv2.checkpoint import build_network, read_checkpoint


def ship(checkpoint: Path, target: Path) -> None:
    """Write the network of a checkpoint in half precision, as safetensors that `convert` reads.

    Raises CheckpointError for a file that is not a checkpoint, ValueError where `target` is
    `checkpoint`, OSError if writing fails.
    """
    refuse_overlap(target, [checkpoint])
    found = read_checkpoint(checkpoint)
    network = build_network(found)
    metadata = {"num_heads": str(network.spec.num_heads)}
    if (search_factor := tracking_search_factor(found)) is not None:
        metadata["search_factor"] = str(search_factor)
    state = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    with replacing(target) as temporary:
        save_file(state, temporary, metadata=metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="SAFETENSORS")
    options = parser.parse_args()
    ship(options.checkpoint, options.output)


if __name__ == "__main__":
    sys.exit(exit_status(main))
