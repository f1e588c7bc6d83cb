"""See that contestants run the same token ids and compute the same vectors, before any of them is timed."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from moee.bench.contestants import ENTRIES, OURS, Vectors
from moee.bench.seats import Seat
from moee.bench.workloads import Workload
from moee.errors import MoEEError
from moee.method.similarity import similarity_pairwise
from moee.types import Array

logger = logging.getLogger("moee")

_PROBES = 16
"""Texts on which contestants are compared."""
_LEAST_COSINE = 0.999
_LEAST_COSINE_INT8 = 0.9
"""Of the median. int8 rounds every activation, which costs far less than this; a wrong kernel costs more."""

Entrants = dict[str, Seat]
"""By name, in the order of their turns."""


class DisagreementError(MoEEError):
    """Ours does not compute what the others compute."""


def compare(
    seats: Entrants, workload: Workload, ids: Sequence[Sequence[int]], reasons: dict[str, str]
) -> dict[str, Any]:
    """Compare all contestants with the first exact one; who differs loses the seat.

    Args:
        seats: A peer that differs is closed and taken out.
        workload: Its first texts are run.
        ids: Token ids of its texts, prompt included.
        reasons: Gets the reason of a peer that was taken out, by name.

    Returns:
        A JSON object: the reference, a digest of the token ids, and for each other contestant the median and the
        smallest cosine to the reference, of hidden states and (where it has any) router logits.

    Raises:
        DisagreementError: If one of ours differs.
    """
    texts = workload.texts[:_PROBES]
    reference = next((name for name in seats if ENTRIES[name].is_exact and ENTRIES[name].same_model), None)
    expected = seats[reference].vectors(texts) if reference is not None else None
    found: dict[str, Any] = {"reference": reference, "texts": len(texts), "token_ids": token_digest(ids), "with": {}}
    for name in list(seats):
        if not ENTRIES[name].same_model:
            continue
        if token_digest(seats[name].token_ids(workload.texts)) != found["token_ids"]:
            _turn_away(name, "it does not run the same token ids", seats, reasons)
        elif expected is not None and name != reference:
            found["with"][name] = cosines = _cosines(expected, seats[name].vectors(texts))
            least = _LEAST_COSINE if ENTRIES[name].is_exact else _LEAST_COSINE_INT8
            medians = [each["median"] for each in cosines.values()]
            if min(medians) < least:
                said = f"median cosine {min(medians):.4f} to {reference} on {len(texts)} texts, under {least}"
                _turn_away(name, f"it computes something else ({said})", seats, reasons)
    return found


def _turn_away(name: str, reason: str, seats: Entrants, reasons: dict[str, str]) -> None:
    if name in OURS:
        raise DisagreementError(f"{name} was not timed: {reason}. A speed of other vectors says nothing.")
    logger.warning("%s: %s", name, reason)
    seats.pop(name).close()
    reasons[name] = reason


def _cosines(expected: Vectors, got: Vectors) -> dict[str, dict[str, float]]:
    found = {"hidden": _spread_of(similarity_pairwise(expected.hidden, got.hidden))}
    if expected.routers is not None and got.routers is not None:
        found["routers"] = _spread_of(similarity_pairwise(expected.routers, got.routers))
    return found


def _spread_of(cosines: Array) -> dict[str, float]:
    return {"median": float(np.median(cosines)), "smallest": float(cosines.min())}


def token_digest(ids: Sequence[Sequence[int]]) -> str:
    """Return a short hash of token ids, text by text."""
    return hashlib.sha256(json.dumps([list(each) for each in ids]).encode()).hexdigest()[:16]
