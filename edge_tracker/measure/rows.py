"""What verify and bench have a row for: an artefact, and a type of arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

from edge_tracker.backends.choice import (
    backend_of,
    checked_computes,
    matching_artefacts,
    own_and_taken_type,
)
from edge_tracker.backends.record import Placement
from edge_tracker.bundle.manifest import Artefact
from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import EdgeTrackerError

#: compute: None for what the artefact is made for.
Row = tuple[Artefact, str | None]


def rows_to_measure(
    bundle: Bundle,
    backends: Sequence[str] | None,
    precisions: Sequence[str] | None,
    computes: Sequence[str | None] | None,
    placement: Placement,
) -> list[Row]:
    """Each artefact that `matching_artefacts` gives in each of these types, "auto" as the type that
    a tracker takes for it; by default in what it is made for, and in what a tracker takes if that
    is another. Raises what `matching_artefacts` raises, TypeError or ValueError for what is no
    type.
    """
    asked = (None, "auto") if computes is None else checked_computes(computes)
    rows: list[Row] = []
    for artefact in matching_artefacts(bundle, backends, precisions):
        for compute in asked:
            row: Row = artefact, compute
            if compute == "auto":
                try:
                    backend = backend_of(artefact, backends)
                    own, taken = own_and_taken_type(bundle, artefact, backend, placement)
                    row = artefact, None if taken == own and None in asked else taken
                except EdgeTrackerError:  # which measuring it will say
                    row = artefact, None
            if row not in rows:
                rows.append(row)
    return rows
