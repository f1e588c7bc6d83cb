from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from moee.carve import checkpoint
from moee.carve.checkpoint import Form, TensorDigest, moe_tensors, write_checkpoint
from moee.carve.plan import CarvePlan
from moee.errors import CheckpointError


def make_plan(*, layers: int = 2, neurons: int = 12, hidden: int = 4) -> CarvePlan:
    rng = np.random.default_rng(0)
    return CarvePlan(
        neuron_order=np.stack([rng.permutation(neurons) for _ in range(layers)]),
        routers=torch.randn(layers, 4, hidden, generator=torch.Generator().manual_seed(0)).bfloat16(),
        num_experts=4,
        top_k=3,
        shared_neurons=4,
        router_scale=0.5,
    )


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    plan = make_plan()
    plan.save(tmp_path / "plan.safetensors")
    loaded = CarvePlan.load(tmp_path / "plan.safetensors")
    np.testing.assert_array_equal(loaded.neuron_order, plan.neuron_order)
    assert torch.equal(loaded.routers, plan.routers)
    assert (loaded.num_experts, loaded.top_k, loaded.shared_neurons, loaded.router_scale) == (4, 3, 4, 0.5)
    assert load_file(tmp_path / "plan.safetensors")["neuron_order"].dtype == torch.uint16


def test_a_damaged_plan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.safetensors"
    make_plan().save(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="Cannot read the plan"):
        CarvePlan.load(path)
    with pytest.raises(CheckpointError, match="Cannot read the plan"):
        CarvePlan.load(tmp_path / "absent.safetensors")


def test_a_neuron_that_is_there_twice_is_refused() -> None:
    plan = make_plan()
    order = plan.neuron_order.copy()
    order[1, 0] = order[1, 1]
    with pytest.raises(CheckpointError, match="not a permutation"):
        CarvePlan(order, plan.routers, num_experts=4, top_k=3, shared_neurons=4, router_scale=0.5)


@pytest.mark.parametrize(("form", "factor"), [("portable", 4), ("0.1.0", 3)])
def test_down_projections_carry_the_factors_and_all_neurons_are_placed(form: Form, factor: int) -> None:
    plan = make_plan(layers=1)
    down = torch.arange(48.0).reshape(4, 12)
    parts = dict(moe_tensors([("model.layers.0.mlp.down_proj.weight", down)], plan, dtype=torch.float32, form=form))
    shared = parts.pop("model.layers.0.mlp.shared_expert.down_proj.weight") / 2
    experts = [parts[f"model.layers.0.mlp.experts.{expert}.down_proj.weight"] / factor for expert in range(4)]
    joined = torch.cat([shared, *experts], dim=1)
    torch.testing.assert_close(joined, down[:, torch.from_numpy(plan.neuron_order[0])])


def test_weights_of_another_size_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"shape \(13, 4\); the plan is for 2 layers of 12 neurons"):
        list(
            moe_tensors([("model.layers.0.mlp.gate_proj.weight", torch.zeros(13, 4))], make_plan(), dtype=torch.float32)
        )
    with pytest.raises(CheckpointError, match="the plan is for 2 layers"):
        list(moe_tensors([("model.layers.2.mlp.up_proj.weight", torch.zeros(12, 4))], make_plan(), dtype=torch.float32))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_tensors_depend_on_no_machine_and_no_number_of_threads(threads: int) -> None:
    """Selections, products with one number and rounding alone: no sum whose order a library could choose."""
    rng = np.random.default_rng(0)
    order = np.stack([rng.permutation(1024)])
    # whole numbers in the place of random ones: the same from every library
    routers = ((torch.arange(8 * 64) * 37 % 101 - 50) / 64).reshape(1, 8, 64).bfloat16()
    plan = CarvePlan(order, routers, num_experts=8, top_k=6, shared_neurons=256, router_scale=0.02)

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return ((torch.arange(rows * columns) * 7919 % 65521 - 32768) / 99991).reshape(rows, columns)

    sizes = {"mlp.gate_proj": (1024, 64), "mlp.up_proj": (1024, 64), "mlp.down_proj": (64, 1024)}
    sizes |= {f"self_attn.{which}_proj": (64, 64) for which in "qkvo"}
    dense = [(f"model.layers.0.{name}.weight", matrix(*size)) for name, size in sizes.items()]
    dense.append(("model.embed_tokens.weight", matrix(512, 64)))
    digest, before = TensorDigest(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for name, tensor in moe_tensors(dense, plan, dtype=torch.bfloat16):
            digest.add(name, tensor)
    finally:
        torch.set_num_threads(before)
    assert digest.hexdigest() == "c2e810dce3f4563e269a8070743c5784732e75a5a25027ca9edb89746482500c"


def test_the_digest_sees_content_and_names_but_not_order_or_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = [("a", torch.arange(6).reshape(2, 3)), ("b", torch.ones(3, dtype=torch.bfloat16)), ("c", torch.zeros(2))]

    def digest(items: list[tuple[str, torch.Tensor]]) -> str:
        made = TensorDigest()
        for name, tensor in items:
            made.add(name, tensor)
        return made.hexdigest()

    expected = digest(tensors)
    assert digest(tensors[::-1]) == expected
    assert digest([("a", torch.arange(6).reshape(3, 2)), *tensors[1:]]) != expected
    assert digest([("A", tensors[0][1]), *tensors[1:]]) != expected
    assert digest([*tensors[:2], ("c", torch.tensor([0.0, 1.0]))]) != expected
    monkeypatch.setattr(checkpoint, "_SHARD_BYTES", 20)
    assert write_checkpoint(tmp_path, {"model_type": "x"}, tensors) == expected
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 48 + 6 + 8
    stored = {name: load_file(tmp_path / file)[name] for name, file in index["weight_map"].items()}
    assert digest(list(stored.items())) == expected
    assert sorted(set(index["weight_map"].values())) == sorted(
        path.name for path in tmp_path.glob("model-*.safetensors")
    )
