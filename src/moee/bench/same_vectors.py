"""See that entries run the same token ids and compute the same vectors, before any of them is timed."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from moee.bench.entries import OURS, Computed, Entry
from moee.bench.worker import Worker
from moee.bench.workloads import Workload
from moee.errors import MoEEError
from moee.method.similarity import similarity_pairwise
from moee.types import Array

logger = logging.getLogger("moee")

_PROBES = 16
"""Texts on which entries are compared."""
_LEAST_COSINE = 0.999
_LEAST_COSINE_INT8 = 0.9
"""Limit of the median. int8 rounds every activation, which costs far less than this; a wrong kernel costs more."""
Workers = dict[str, Worker]
"""Entries at work by name, in the order of the tables."""


class DisagreementError(MoEEError):
    """Ours does not compute what the others compute."""


def compare(
    workers: Workers,
    entries: Mapping[str, Entry],
    workload: Workload,
    ids: Sequence[Sequence[int]],
    reasons: dict[str, str],
) -> dict[str, Any]:
    """Compare all entries with the first exact one; who differs does not take part.

    Args:
        workers: A peer that differs is closed and taken out.
        entries: The row of each.
        workload: Its first texts are run.
        ids: Token ids of its texts, prompt included.
        reasons: Gets the reason of a peer that was taken out, by name.

    Returns:
        A JSON object: the reference, a digest of the token ids, and for each other entry the median and the
        smallest cosine to the reference, of hidden states and (where it has any) router logits.

    Raises:
        DisagreementError: If one of ours differs.
    """
    texts = workload.texts[:_PROBES]
    reference = next((name for name in workers if entries[name].is_exact and entries[name].same_model), None)
    expected = workers[reference].vectors(texts) if reference is not None else None
    found: dict[str, Any] = {"reference": reference, "texts": len(texts), "token_ids": token_digest(ids), "with": {}}
    for name in list(workers):
        if not entries[name].same_model:
            continue
        if token_digest(workers[name].token_ids(workload.texts)) != found["token_ids"]:
            _turn_away(name, "it does not run the same token ids", workers, reasons)
        elif expected is not None and name != reference:
            found["with"][name] = cosines = _cosines(expected, workers[name].vectors(texts))
            least = _LEAST_COSINE if entries[name].is_exact else _LEAST_COSINE_INT8
            medians = [each["median"] for each in cosines.values()]
            if min(medians) < least:
                said = f"median cosine {min(medians):.4f} to {reference} on {len(texts)} texts, under {least}"
                _turn_away(name, f"it computes something else ({said})", workers, reasons)
    return found


def _turn_away(name: str, reason: str, workers: Workers, reasons: dict[str, str]) -> None:
    if name in OURS:
        raise DisagreementError(f"{name} was not timed: {reason}. A speed of other vectors says nothing.")
    logger.warning("%s: %s", name, reason)
    workers.pop(name).close()
    reasons[name] = reason


def _cosines(expected: Computed, got: Computed) -> dict[str, dict[str, float]]:
    found = {"hidden": _spread_of(similarity_pairwise(expected.hidden, got.hidden))}
    if expected.routers is not None and got.routers is not None:
        found["routers"] = _spread_of(similarity_pairwise(expected.routers, got.routers))
    return found


def _spread_of(cosines: Array) -> dict[str, float]:
    return {"median": float(np.median(cosines)), "smallest": float(cosines.min())}


def token_digest(ids: Sequence[Sequence[int]]) -> str:
    """Return a short hash of token ids, text by text."""
    return hashlib.sha256(json.dumps([list(each) for each in ids]).encode()).hexdigest()[:16]
