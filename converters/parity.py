"""How far an artefact is from PyTorch: the golden inputs replayed through the runtime that will run
it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from converters.golden import Golden
from edge_tracker.backend import Graphs
from edge_tracker.bundle import Parity
from edge_tracker.decode import decode_edges


def measure_parity(graphs: Graphs, golden: Golden) -> Parity:
    """Largest error of an edge in pixels of the search crop, of the score, and KL of an edge's
    distribution.
    """
    probs, scores = [], []
    for templates, search in zip(golden.templates, golden.search, strict=True):
        template_kv = graphs.template.run({"templates": templates[None]})["template_kv"]
        outputs = graphs.search.run({"search": search[None], "template_kv": template_kv})
        probs.append(outputs["edge_probs"][0])
        scores.append(outputs["score"][0])
    return compare(np.stack(probs), np.stack(scores), golden)


def compare(edge_probs: NDArray[np.float32], score: NDArray[np.float32], golden: Golden) -> Parity:
    size_px = golden.search.shape[1]
    box_error = np.abs(decode_edges(edge_probs).mean - decode_edges(golden.edge_probs).mean)
    expected, seen = (
        np.maximum(p.astype(np.float64), 1e-12) for p in (golden.edge_probs, edge_probs)
    )
    kl = (expected * np.log(expected / seen)).sum(axis=-1)
    return Parity(
        box_px=float(box_error.max() * size_px),
        score=float(np.abs(score - golden.score).max()),
        edge_kl=float(np.maximum(kl, 0.0).max()),
    )
