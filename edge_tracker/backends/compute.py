"""The type that floating-point arithmetic is done in: the fastest that a machine has and that still
computes what PyTorch computed, found once by the golden cases and remembered.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
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
from edge_tracker.errors import BundleError, EdgeTrackerError
from edge_tracker.hardware import read_cpu

_log = logging.getLogger(__name__)

#: A type has to be faster by so much to be taken for it.
NOISE = 0.05
ROUNDS = 10
#: Where there is no folder to keep trials in, by the name that they would have there.
_unkept: dict[str, dict[str, Trial]] = {}
_turn = threading.Lock()


@dataclass(frozen=True)
class Trial:
    """What a candidate showed over the golden cases. search_ms: its search graph, at its fastest,
    which is what load by others changes least.
    """

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
    within the limits, and where golden cases are damaged or missing.

    facts: what the outcome depends on besides the bundle and this CPU, as JSON; an
    earlier outcome of the same is read from `folder`, where there is one, else from this process.
    Threads take turns. Raises BackendUnavailable or BundleError if the first cannot run.
    """
    facts = {**facts, **_facts(bundle, candidates)}
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest() + ".verdict"
    with _turn:
        trials = _known(folder, name, facts, candidates)
        if trials is None:
            try:
                golden = load_golden(bundle)
            except BundleError as error:
                return candidates[0], f"{candidates[0].name} without a measurement: {error}"
            trials = _try_out(candidates, open_candidate, golden)
            # What could not run now may later; what another process has found meanwhile stays.
            if len(trials) == len(candidates):
                trials = _known(folder, name, facts, candidates) or trials
                _keep(folder, name, facts, trials)
    chosen, why = _fastest(bundle, candidates, trials)
    return chosen, why if folder else f"{why}; measured in each process, as nothing can be kept"


def _known(
    folder: Path | None, name: str, facts: Mapping[str, Any], candidates: Sequence[Candidate]
) -> dict[str, Trial] | None:
    if folder is None:
        return _unkept.get(name)
    return _remembered(folder, name, facts, candidates)


def _keep(
    folder: Path | None, name: str, facts: Mapping[str, Any], trials: dict[str, Trial]
) -> None:
    if folder is None:
        _unkept[name] = trials
        return
    content = {"facts": facts, "trials": {key: asdict(trial) for key, trial in trials.items()}}
    store_kept(folder, name, json.dumps(content, indent=1).encode())


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
    """All that can run, one after the other: memory need not hold two at once."""
    trials = {}
    for candidate in candidates:
        try:
            with closing(open_candidate(candidate)) as graphs:
                trials[candidate.name] = Trial(
                    measure_parity(graphs, golden), _search_ms(graphs, golden)
                )
        except (EdgeTrackerError, RuntimeError) as error:
            if candidate is candidates[0]:
                raise
            _log.info("%s cannot run: %s", candidate.name, error)
    return trials


def _search_ms(graphs: Graphs, golden: Golden) -> float:
    template_kv = graphs.template.run({"templates": golden.templates[:1]})["template_kv"]
    inputs = {"search": golden.search[:1], "template_kv": template_kv}
    times_ms = []
    for _ in range(ROUNDS):
        started_s = time.perf_counter()
        graphs.search.run(inputs)
        times_ms.append(1e3 * (time.perf_counter() - started_s))
    return min(times_ms)


def _fastest(
    bundle: Bundle, candidates: Sequence[Candidate], trials: Mapping[str, Trial]
) -> tuple[Candidate, str]:
    chosen: Candidate | None = None
    words = []
    for candidate in candidates:
        trial = trials.get(candidate.name)
        if trial is None:
            words.append(f"{candidate.name} cannot run")
            continue
        figure = f"{candidate.name} takes {trial.search_ms:.2f} ms a frame"
        too_far = strays(trial.parity, limits_for(bundle, candidate.artefact, candidate.compute))
        if too_far:
            words.append(f"{figure}, but strays from PyTorch: {', '.join(too_far)}")
            continue
        words.append(f"{figure}, {trial.parity.box_px:.2g} px from PyTorch")
        enough_ms = math.inf if chosen is None else (1 - NOISE) * trials[chosen.name].search_ms
        if trial.search_ms < enough_ms:
            chosen = candidate
    chosen = chosen or candidates[0]
    return chosen, f"{chosen.name} by measurement: {'; '.join(words)}"
