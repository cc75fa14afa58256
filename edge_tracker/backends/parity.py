"""How far an artefact's edges and scores are from PyTorch's, and how far they may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_tracker.backends.graph import Graphs
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


#: The same for models in floating point that compute in another type than that of their files:
#: bfloat16 has 8 bits where float16 has 11.
COMPUTE_LIMITS = Parity(box_px=0.5, score=0.02, edge_kl=0.02)
_OWN_COMPUTES = {"fp32": ("f32",), "fp16": ("f32", "f16")}


def limits_for(bundle: Bundle, artefact: Artefact, compute: str | None = None) -> Parity:
    """LIMITS, or COMPUTE_LIMITS where it computes in a type that its files are not of.

    int8's error depends on the network: what the artefact showed when its accuracy was judged is
    allowed, and a margin. An engine is built from the ONNX files that were judged.
    """
    limits = LIMITS[artefact.precision]
    if artefact.precision != "int8":
        own = _OWN_COMPUTES[artefact.precision]
        return limits if compute is None or compute in own else COMPUTE_LIMITS
    judged = bundle.find("onnx", "int8") if artefact.format == "tensorrt" else artefact
    if judged is None or judged.parity is None:
        return limits
    return Parity(
        box_px=max(limits.box_px, INT8_MARGIN * judged.parity.box_px),
        score=max(limits.score, INT8_MARGIN * judged.parity.score),
        edge_kl=max(limits.edge_kl, INT8_MARGIN * judged.parity.edge_kl),
    )


def strays(parity: Parity, limits: Parity) -> list[str]:
    """Each limit that is passed, in words."""
    measured = (
        ("box error", parity.box_px, limits.box_px, " px"),
        ("score error", parity.score, limits.score, ""),
        ("edge KL", parity.edge_kl, limits.edge_kl, " nats"),
    )
    # Written so that a value that is not a number fails.
    return [
        f"{name} {value:.2g}{unit}, limit {limit:.3g}{unit}"
        for name, value, limit, unit in measured
        if not value <= limit
    ]


class Outputs(NamedTuple):
    """edge_probs: (N, 4, bins) float32. score: (N,) float32."""

    edge_probs: NDArray[np.float32]
    score: NDArray[np.float32]


class Differences(NamedTuple):
    """Of outputs for the same crops. box_px: (N, 4), of each edge, in pixels of the search crop.
    score: (N,). edge_kl: (N, 4), Kullback-Leibler divergence of each edge's distribution from the
    expected one, in nats. All float64 or float32, and not a number where the outputs are none.
    """

    box_px: NDArray[np.floating[Any]]
    score: NDArray[np.floating[Any]]
    edge_kl: NDArray[np.float64]


def measure_parity(graphs: Graphs, golden: Golden) -> Parity:
    """The largest differences from the golden outputs."""
    expected = Outputs(golden.edge_probs, golden.score)
    seen = run_cases(graphs, golden.templates, golden.search)
    return largest(differences(expected, seen, golden.search.shape[1]))


def run_cases(graphs: Graphs, templates: NDArray[np.uint8], search: NDArray[np.uint8]) -> Outputs:
    """templates: (N, 2, Ht, Wt, 3) uint8 BGR, search: (N, Hs, Ws, 3) uint8 BGR."""
    probs, scores = [], []
    for pair, crop in zip(templates, search, strict=True):
        template_kv = graphs.template.run({"templates": pair[None]})["template_kv"]
        outputs = graphs.search.run({"search": crop[None], "template_kv": template_kv})
        probs.append(outputs["edge_probs"][0])
        scores.append(outputs["score"][0])
    return Outputs(np.stack(probs), np.stack(scores))


def differences(expected: Outputs, seen: Outputs, search_size_px: int) -> Differences:
    seen_edges, expected_edges = decode_edges(seen.edge_probs), decode_edges(expected.edge_probs)
    return Differences(
        search_size_px * np.abs(seen_edges.mean - expected_edges.mean),
        np.abs(seen.score - expected.score),
        edge_kl(expected.edge_probs, seen.edge_probs),
    )


def largest(found: Differences) -> Parity:
    # Rounding makes a divergence of nothing negative; np.maximum keeps what is not a number.
    edge_kl = float(np.maximum(found.edge_kl, 0.0).max())
    return Parity(float(found.box_px.max()), float(found.score.max()), edge_kl)


def edge_kl(expected: NDArray[np.float32], seen: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, 4, bins) twice -> (N, 4): Kullback-Leibler divergence from what is expected, in nats."""
    p, q = (np.maximum(probs.astype(np.float64), 1e-12) for probs in (expected, seen))
    return np.asarray((p * np.log(p / q)).sum(axis=-1))
