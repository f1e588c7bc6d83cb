"""Routing that is changed for a pass: the experts that ran are counted in every architecture."""

from __future__ import annotations

import numpy as np
import pytest

from moee.architectures import architecture_for
from moee.backends.fake import FakeBackend
from moee.backends.forward.changed_routing import (
    FIXED,
    NOT_LINEAR,
    ChangedRouting,
    RoutingChange,
    most_experts,
    with_routing,
)
from moee.errors import InputError, UnsupportedArchitectureError
from moee.types import CapturePlan
from tests.architectures.tiny import SEQUENCES, SUPPORTED, backend_for, tracing

PLAN = CapturePlan()
QUICK = ("qwen2_moe", "dbrx", "gemma4_text", "jetmoe", "deepseek_v3", "granitemoe", "ernie4_5_moe")
"""One architecture for each place where the number and the router's weights are kept."""
UNSCALED = ("inkling_text",)
"""Architectures whose router makes the logits of shared experts by the same map."""


def _every(names: list[str]) -> list[object]:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("model_type", _every([name for name in SUPPORTED if name not in FIXED]))
def test_so_many_experts_run_and_no_more_afterwards(model_type: str) -> None:
    backend = backend_for(model_type)
    before = backend.forward([SEQUENCES[2]], PLAN)
    most = min(3, most_experts(backend, architecture_for(model_type)))
    other = most if set(backend.info.top_k) != {most} else 1
    changed = with_routing(backend, RoutingChange(top_k=other))
    with tracing(changed) as traces:
        found = changed.forward([SEQUENCES[2]], PLAN)
    ran = {np.asarray(trace.experts).shape[1] for trace in traces.values() if trace.experts is not None}
    assert ran == {other}
    assert set(changed.info.top_k) == {other}
    assert changed.info.fingerprint != backend.info.fingerprint
    assert not np.array_equal(found.hidden_states, before.hidden_states)
    assert np.array_equal(before.hidden_states, backend.forward([SEQUENCES[2]], PLAN).hidden_states)


@pytest.mark.parametrize("model_type", sorted(FIXED))
def test_a_fixed_number_is_refused_by_name(model_type: str) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=model_type):
        with_routing(backend_for(model_type), RoutingChange(top_k=1))


@pytest.mark.parametrize(
    "model_type", _every([name for name in SUPPORTED if name not in UNSCALED and name not in NOT_LINEAR])
)
def test_temperature_leaves_the_logits_of_the_first_router_as_they_were(model_type: str) -> None:
    """Before the first router nothing is changed, so what is captured there must be the same numbers."""
    backend = backend_for(model_type)
    plain = backend.forward([SEQUENCES[2]], PLAN)
    hot = with_routing(backend, RoutingChange(temperature=8.0)).forward([SEQUENCES[2]], PLAN)
    one, other = (each.routing[:, : plain.num_experts[0]] for each in (plain, hot))
    if backend.sites[0].reads == "probabilities":  # logits are known up to a constant
        one, other = one - one.mean(), other - other.mean()
    np.testing.assert_allclose(one, other, atol=2e-4)
    assert np.array_equal(plain.hidden_states, backend.forward([SEQUENCES[2]], PLAN).hidden_states)


def test_logits_that_do_not_scale_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedArchitectureError, match="laguna"):
        with_routing(backend_for("laguna"), RoutingChange(temperature=2.0))


def test_temperature_reaches_what_is_computed() -> None:
    backend = backend_for("qwen2_moe")
    plain = backend.forward([SEQUENCES[2]], PLAN)
    hot = with_routing(backend, RoutingChange(temperature=8.0)).forward([SEQUENCES[2]], PLAN)
    assert not np.allclose(plain.hidden_states, hot.hidden_states, atol=1e-4)


@pytest.mark.parametrize("model_type", UNSCALED)
def test_a_temperature_that_cannot_be_set_is_refused(model_type: str) -> None:
    changed = with_routing(backend_for(model_type), RoutingChange(temperature=2.0))
    with pytest.raises(UnsupportedArchitectureError, match="temperature cannot be changed"):
        changed.forward([SEQUENCES[0]], PLAN)


def test_no_change_computes_the_same() -> None:
    backend = backend_for("olmoe")
    same = with_routing(backend, RoutingChange())
    assert isinstance(same, ChangedRouting)
    assert same.info == backend.info
    assert np.array_equal(
        same.forward([SEQUENCES[0]], PLAN).hidden_states, backend.forward([SEQUENCES[0]], PLAN).hidden_states
    )


def test_groups_bound_the_number() -> None:
    """Two of the groups are open: experts of the others must never be the ones that fill up."""
    with pytest.raises(InputError, match="from 1 to"):
        with_routing(backend_for("deepseek_v3"), RoutingChange(top_k=8))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"top_k": 0}, "at least 1"), ({"temperature": 0.0}, "above 0"), ({"temperature": float("inf")}, "finite")],
)
def test_values_that_mean_nothing(change: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RoutingChange(**change)  # type: ignore[arg-type]


def test_a_model_that_is_not_in_memory_is_refused() -> None:
    with pytest.raises(InputError, match="in memory as a whole"):
        with_routing(FakeBackend(), RoutingChange(top_k=1))
