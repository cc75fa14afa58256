"""The type that floating-point arithmetic is done in: the fastest that a machine has and that still
computes what PyTorch computed, found once by the golden cases and remembered.
"""

from __future__ import annotations

import hashlib
import json
import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_tracker.backends.compile_cache import load_kept, store_kept
from edge_tracker.backends.graph import Graphs
from edge_tracker.backends.parity import limits_for, measure_parity, strays
from edge_tracker.backends.record import Candidate
from edge_tracker.bundle.goldens import GOLDEN, Golden, load_golden
from edge_tracker.bundle.manifest import Parity
from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import BackendUnavailable, BundleError
from edge_tracker.hardware import read_cpu

_log = logging.getLogger(__name__)

#: A type has to be faster by so much to be taken for it.
NOISE = 0.05
ROUNDS = 5


@dataclass(frozen=True)
class Trial:
    """What a candidate showed over the golden cases. search_ms: median of its search graph."""

    parity: Parity
    search_ms: float


def settle(
    bundle: Bundle,
    candidates: Sequence[Candidate],
    open_candidate: Callable[[Candidate], Graphs],
    facts: Mapping[str, Any],
    folder: Path | None,
) -> tuple[Candidate, str]:
    """The fastest candidate whose differences from PyTorch stay within `limits_for`, and a sentence
    that says why. The first, which is taken without asking, stays where none is faster or none is
    within the limits.

    facts: what the outcome depends on besides the bundle and this CPU, as JSON; an
    earlier outcome of the same is read from `folder`, where there is one. The first stays too where
    golden cases are damaged or missing. Raises BackendUnavailable or BundleError if it cannot run.
    """
    facts = {**facts, **_facts(bundle, candidates)}
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest() + ".verdict"
    trials = _remembered(folder, name, facts, candidates) if folder is not None else None
    if trials is None:
        try:
            golden = load_golden(bundle)
        except BundleError as error:
            return candidates[0], f"{candidates[0].name} without a measurement: {error}"
        trials = _try_out(candidates, open_candidate, golden)
        if folder is not None:
            content = {
                "facts": facts,
                "trials": {key: asdict(trial) for key, trial in trials.items()},
            }
            store_kept(folder, name, json.dumps(content, indent=1).encode())
    return _fastest(bundle, candidates, trials)


def _facts(bundle: Bundle, candidates: Sequence[Candidate]) -> dict[str, Any]:
    cpu = read_cpu(Path("/"))
    return {
        "golden": bundle.files[GOLDEN].sha256 if GOLDEN in bundle.files else None,
        "files": {
            candidate.name: [bundle.files[path].sha256 for path in candidate.artefact.files()]
            for candidate in candidates
        },
        "cpu": [cpu.model, cpu.usable_cores, *(f.flag for f in cpu.features if f.present)],
    }


def _remembered(
    folder: Path, name: str, facts: Mapping[str, Any], candidates: Sequence[Candidate]
) -> dict[str, Trial] | None:
    """None where there is nothing, or nothing that this package writes."""
    kept = load_kept(folder, name)
    if kept is None:
        return None
    try:
        content = json.loads(kept)
        trials = {
            key: Trial(Parity(**trial["parity"]), trial["search_ms"])
            for key, trial in content["trials"].items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        _log.info("%s is measured anew: %s", folder / name, error)
        return None
    is_of_these = content["facts"] == facts and candidates[0].name in trials
    return trials if is_of_these else None


def _try_out(
    candidates: Sequence[Candidate], open_candidate: Callable[[Candidate], Graphs], golden: Golden
) -> dict[str, Trial]:
    """All that can run, timed in turn, so that a drifting machine slows all alike."""
    parities: dict[str, Parity] = {}
    runs: dict[str, Callable[[], object]] = {}
    times_ms: dict[str, list[float]] = {}
    with ExitStack() as opened:
        for candidate in candidates:
            try:
                graphs = opened.enter_context(closing(open_candidate(candidate)))
            except (BackendUnavailable, BundleError) as error:
                if candidate is candidates[0]:
                    raise
                _log.info("%s cannot run: %s", candidate.name, error)
                continue
            parities[candidate.name] = measure_parity(graphs, golden)
            runs[candidate.name] = _search(graphs, golden)
        for _ in range(ROUNDS):
            for name, run in runs.items():
                started_s = time.perf_counter()
                run()
                times_ms.setdefault(name, []).append(1e3 * (time.perf_counter() - started_s))
    return {
        name: Trial(parity, statistics.median(times_ms[name])) for name, parity in parities.items()
    }


def _search(graphs: Graphs, golden: Golden) -> Callable[[], object]:
    template_kv = graphs.template.run({"templates": golden.templates[:1]})["template_kv"]
    inputs = {"search": golden.search[:1], "template_kv": template_kv}
    return lambda: graphs.search.run(inputs)


def _fastest(
    bundle: Bundle, candidates: Sequence[Candidate], trials: Mapping[str, Trial]
) -> tuple[Candidate, str]:
    first, *others = candidates
    chosen = first
    words = [f"{first.name} takes {trials[first.name].search_ms:.2f} ms a frame"]
    for candidate in others:
        trial = trials.get(candidate.name)
        if trial is None:
            words.append(f"{candidate.name} cannot run")
            continue
        limits = limits_for(bundle, candidate.artefact, candidate.compute)
        too_far = strays(trial.parity, limits)
        figure = f"{candidate.name} {trial.search_ms:.2f} ms"
        if too_far:
            words.append(f"{figure}, but strays from PyTorch: {', '.join(too_far)}")
            continue
        words.append(f"{figure}, {trial.parity.box_px:.2g} px from PyTorch")
        if trial.search_ms < (1 - NOISE) * trials[chosen.name].search_ms:
            chosen = candidate
    return chosen, f"{chosen.name} by measurement: {'; '.join(words)}"
