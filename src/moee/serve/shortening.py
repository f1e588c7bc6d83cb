"""`dimensions`: shorter vectors, by the reduction that was fitted with the index that is served."""

from __future__ import annotations

from moee.errors import InputError
from moee.method.fusion import fuse, unit
from moee.stores.reduce import Reducer
from moee.types import Array, Fusion


def check_dimensions(reducer: Reducer, dimensions: int, fusion: Fusion) -> None:
    """Refuse a length that a reduction does not give.

    Raises:
        InputError: If it is longer than what was fitted, or the fusion is `"concat"`.
    """
    if fusion == "concat":
        raise InputError(
            "dimensions cannot be given with fusion='concat': a reduction keeps each view at unit length, and concat "
            "weighs the views by their own lengths. Use sum, hs or rw."
        )
    if fusion == "sum":
        reducer.truncate(dimensions)
        return
    most = reducer.hidden_dim if fusion == "hs" else reducer.routing_dim
    least = most if reducer.is_turned else 1  # dimensions that were mixed have no order
    if not least <= dimensions <= most:
        allowed = f"{most} alone" if least == most else f"{least} to {most}"
        raise InputError(
            f"dimensions is {dimensions} with fusion={fusion!r}; the reduction that was fitted with the index allows "
            f"{allowed}. Leave it out for whole vectors."
        )


def shorten(reducer: Reducer, blocks: tuple[Array, Array], dimensions: int, fusion: Fusion, alpha: float) -> Array:
    """Shorten and fuse two views.

    Args:
        reducer: Reduction that was fitted with the index.
        blocks: Unit hidden states `(num_texts, hidden_size)`, unit routing weights `(num_texts, sum of num_experts)`.
        dimensions: Checked by `check_dimensions`.
        fusion: `"hs"`, `"rw"` or `"sum"`.
        alpha: Weight of the routing weights in `"sum"`.

    Returns:
        `(num_texts, dimensions)` float32 of unit length. Under `"sum"` their dot products are the scores of a search
        in an index of as many dimensions.
    """
    hidden, routing = blocks
    if fusion == "hs":
        return unit(hidden @ reducer.hidden_directions[:, :dimensions])
    if fusion == "rw":
        return unit(routing @ reducer.routing_directions[:, :dimensions])
    return fuse(*reducer.truncate(dimensions).reduce(hidden, routing), fusion, alpha)
