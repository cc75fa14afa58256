"""How far an artefact's edges and scores are from PyTorch's, and how far they may be."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_tracker.backends.choice import Graphs
from edge_tracker.bundle.goldens import Golden
from edge_tracker.bundle.manifest import Artefact, Parity
from edge_tracker.bundle.opening import Bundle
from edge_tracker.rules.decode import decode_edges

#: Precision -> the largest differences from PyTorch that an artefact may show. Rounding alone, on
#: an example network: fp32 4e-5 px, arithmetic in fp16 0.024 px; a weight tensor that is 5 % off
#: shows 0.1 to 2 px.
LIMITS: Mapping[str, Parity] = {
    "fp32": Parity(box_px=0.01, score=0.0005, edge_kl=0.00001),
    "fp16": Parity(box_px=0.25, score=0.005, edge_kl=0.001),
    "int8": Parity(box_px=3.0, score=0.1, edge_kl=0.2),
}
#: int8 may err by so much more than it did where it was quantised: another CPU rounds otherwise.
INT8_MARGIN = 1.5


def limits_for(bundle: Bundle, artefact: Artefact) -> Parity:
    """LIMITS, but for int8, whose error depends on the network: what the artefact showed when its
    accuracy was judged is allowed, and a margin. An engine is built from the ONNX files that were
    judged.
    """
    limits = LIMITS[artefact.precision]
    if artefact.precision != "int8":
        return limits
    judged = bundle.find("onnx", "int8") if artefact.format == "tensorrt" else artefact
    if judged is None or judged.parity is None:
        return limits
    return Parity(
        box_px=max(limits.box_px, INT8_MARGIN * judged.parity.box_px),
        score=max(limits.score, INT8_MARGIN * judged.parity.score),
        edge_kl=max(limits.edge_kl, INT8_MARGIN * judged.parity.edge_kl),
    )


def measure_parity(graphs: Graphs, golden: Golden) -> Parity:
    """Largest error of an edge in pixels of the search crop, of the score, and KL of an edge's
    distribution; not a number where the graphs return none.
    """
    return compare(*run_cases(graphs, golden.templates, golden.search), golden)


def run_cases(
    graphs: Graphs, templates: NDArray[np.uint8], search: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """templates (N, 2, Ht, Wt, 3), search (N, Hs, Ws, 3) -> edge_probs (N, 4, bins), score (N,)."""
    probs, scores = [], []
    for pair, crop in zip(templates, search, strict=True):
        template_kv = graphs.template.run({"templates": pair[None]})["template_kv"]
        outputs = graphs.search.run({"search": crop[None], "template_kv": template_kv})
        probs.append(outputs["edge_probs"][0])
        scores.append(outputs["score"][0])
    return np.stack(probs), np.stack(scores)


def edge_kl(expected: NDArray[np.float32], seen: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, 4, bins) twice -> (N, 4): Kullback-Leibler divergence from what is expected, in nats."""
    p, q = (np.maximum(probs.astype(np.float64), 1e-12) for probs in (expected, seen))
    return np.asarray((p * np.log(p / q)).sum(axis=-1))


def compare(edge_probs: NDArray[np.float32], score: NDArray[np.float32], golden: Golden) -> Parity:
    size_px = golden.search.shape[1]
    box_error = np.abs(decode_edges(edge_probs).mean - decode_edges(golden.edge_probs).mean)
    kl = edge_kl(golden.edge_probs, edge_probs)
    return Parity(
        box_px=float(box_error.max() * size_px),
        score=float(np.abs(score - golden.score).max()),
        edge_kl=float(np.maximum(kl, 0.0).max()),
    )
