"""Which neurons are shared, and which of the others form an expert together. Plain numpy.

Neurons that fire on the same tokens belong together: then a router can leave a whole expert out at little loss.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from moee.types import Array

Indices = npt.NDArray[np.int64]

_MAX_SWAP_ROUNDS = 20


def order_neurons(
    profiles: Array, *, num_shared: int, num_experts: int, iterations: int, rng: np.random.Generator
) -> Indices:
    """Order the neurons of one layer: the shared ones, then expert after expert.

    Args:
        profiles: Contribution of each neuron on each token, `(tokens, neurons)`, not negative.
        num_shared: Neurons with the highest mean contribution, which always run.
        num_experts: Must divide the others.
        iterations: Most iterations of k-means.
        rng: Decides the starting centres.

    Returns:
        A permutation of the neurons, `(neurons,)`. Within a group the original order is kept.
    """
    by_contribution = np.argsort(-profiles.mean(axis=0), kind="stable")
    shared, routed = np.sort(by_contribution[:num_shared]), np.sort(by_contribution[num_shared:])
    labels = balanced_kmeans(_directions(profiles[:, routed]), num_experts, iterations=iterations, rng=rng)
    return np.concatenate([shared, routed[np.argsort(labels, kind="stable")]])


def _directions(profiles: Array) -> Array:
    """Return one unit vector for each neuron, `(neurons, tokens)`.

    Square roots, less their mean: of the forms tried (as is, square root, log) this one left the least energy in the
    experts that a fitted router drops.
    """
    roots = np.sqrt(profiles.T.astype(np.float32))
    roots -= roots.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(roots, axis=1, keepdims=True)
    np.divide(roots, norms, out=roots, where=norms > 0)
    return roots


def balanced_kmeans(points: Array, num_clusters: int, *, iterations: int, rng: np.random.Generator) -> Indices:
    """Cluster unit vectors by cosine into clusters of equal size.

    Args:
        points: `(num_points, dim)`, rows of unit norm (or zero).
        num_clusters: Must divide `num_points`.
        iterations: Rounds of assignment and update, at most; ends early when nothing moves.
        rng: Decides the starting centres (k-means++).

    Returns:
        The cluster of every point, `(num_points,)`; each cluster has `num_points / num_clusters` members.
    """
    centres = _starting_centres(points, num_clusters, rng)
    labels: Indices | None = None
    for _ in range(iterations):
        cost = -(points @ centres.T)
        moved = _swap(cost, _assign(cost))
        if labels is not None and np.array_equal(moved, labels):
            break
        labels = moved
        centres = _centres(points, labels, num_clusters)
    assert labels is not None
    return labels


def _starting_centres(points: Array, num_clusters: int, rng: np.random.Generator) -> Array:
    chosen = [int(rng.integers(len(points)))]
    distance = 1.0 - points @ points[chosen[0]]
    for _ in range(num_clusters - 1):
        # the small constant keeps identical points possible; cosine distance is half the squared Euclidean one
        weight = np.clip(distance, 0, None).astype(np.float64) + 1e-9
        weight[chosen] = 0.0
        chosen.append(int(rng.choice(len(points), p=weight / weight.sum())))
        distance = np.minimum(distance, 1.0 - points @ points[chosen[-1]])
    return points[chosen]


def _centres(points: Array, labels: Indices, num_clusters: int) -> Array:
    means = np.stack([points[labels == cluster].mean(axis=0) for cluster in range(num_clusters)])
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    np.divide(means, norms, out=means, where=norms > 0)
    return np.asarray(means, dtype=np.float32)


def _assign(cost: Array) -> Indices:
    """Assign points to clusters of equal size, cheapest pair first."""
    num_points, num_clusters = cost.shape
    labels = np.full(num_points, -1, dtype=np.int64)
    room = np.full(num_clusters, num_points // num_clusters)
    for flat in np.argsort(cost, axis=None, kind="stable"):
        point, cluster = divmod(int(flat), num_clusters)
        if labels[point] < 0 and room[cluster] > 0:
            labels[point] = cluster
            room[cluster] -= 1
    return labels


def _swap(cost: Array, labels: Indices) -> Indices:
    """Swap pairs of points between clusters as long as that lowers the cost: greedy assignment leaves bad last ones."""
    num_points, num_clusters = cost.shape
    labels = labels.copy()
    for _ in range(_MAX_SWAP_ROUNDS):
        gain = cost[np.arange(num_points), labels][:, None] - cost  # (point, cluster it would move to)
        best = np.full((num_clusters, num_clusters), -np.inf)
        mover = np.zeros((num_clusters, num_clusters), dtype=np.int64)
        for cluster in range(num_clusters):
            members = np.flatnonzero(labels == cluster)
            mover[cluster] = members[gain[members].argmax(axis=0)]
            best[cluster] = gain[members].max(axis=0)
        if not _apply_swaps(best + best.T, mover, labels):
            break
    return labels


def _apply_swaps(saving: npt.NDArray[np.float64], mover: Indices, labels: Indices) -> bool:
    """Apply the best swaps, at most one for each cluster, to `labels` in place; tell whether there was any."""
    busy: set[int] = set()
    num_clusters = len(saving)
    for flat in np.argsort(-saving, axis=None, kind="stable"):
        first, second = divmod(int(flat), num_clusters)
        if saving[first, second] <= 1e-6:
            break
        if first == second or first in busy or second in busy:
            continue
        labels[mover[first, second]], labels[mover[second, first]] = second, first
        busy |= {first, second}
    return bool(busy)
