"""The carve from end to end, on tiny random models."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from moee.carve import CarveConfig, CarveReport, carve
from moee.carve.plan import CarvePlan
from moee.carve.sequences import batches, passages_of
from moee.errors import CheckpointError, InputError, MissingExtraError, UnsupportedArchitectureError


@pytest.fixture(scope="module")
def carved(llama: Path, texts: list[str], small: CarveConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "carved"
    carve(llama, out, texts=texts, config=small)
    return out


def token_ids() -> torch.Tensor:
    return torch.randint(1, 257, (4, 24), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_with_all_experts_the_carved_model_equals_the_dense_one(
    family: str, request: pytest.FixtureRequest, texts: list[str], small: CarveConfig, tmp_path: Path
) -> None:
    dense = request.getfixturevalue(family)
    config = dataclasses.replace(small, top_k=small.num_experts, router_scale=1e-6)
    report = carve(dense, tmp_path / "out", texts=texts, config=config)
    with torch.inference_mode():
        expected = AutoModelForCausalLM.from_pretrained(dense)(token_ids()).logits
        actual = AutoModelForCausalLM.from_pretrained(tmp_path / "out")(token_ids()).logits
        without_ffn = AutoModelForCausalLM.from_pretrained(dense)
        for layer in without_ffn.model.layers:
            layer.mlp.down_proj.weight.zero_()
        assert (without_ffn(token_ids()).logits - expected).abs().max() > 1, "premise: the FFN matters"
    assert (actual - expected).abs().max() < 1e-4
    assert report.perplexity_ratio == pytest.approx(1, abs=1e-5)
    assert report.active_neuron_share == 1


def test_the_attention_biases_of_qwen2_are_kept(
    qwen2: Path, texts: list[str], small: CarveConfig, tmp_path: Path
) -> None:
    carve(qwen2, tmp_path / "out", texts=texts, config=small)
    written, dense = load_file(tmp_path / "out" / "model.safetensors"), load_file(qwen2 / "model.safetensors")
    names = [name for name in dense if name.endswith("_proj.bias")]
    assert len(names) == 6
    assert all(torch.equal(written[name], dense[name]) for name in names)


def test_the_checkpoint_has_the_published_layout(carved: Path) -> None:
    names = set(load_file(carved / "model.safetensors"))
    expected = {f"model.layers.1.mlp.experts.3.{kind}_proj.weight" for kind in ("gate", "up", "down")}
    expected |= {f"model.layers.1.mlp.shared_expert.{kind}_proj.weight" for kind in ("gate", "up", "down")}
    expected |= {"model.layers.1.mlp.gate.weight", "model.layers.1.mlp.shared_expert_gate.weight"}
    assert expected <= names
    _, loading = AutoModelForCausalLM.from_pretrained(carved, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert AutoTokenizer.from_pretrained(carved)("a")["input_ids"]


def test_the_checkpoint_has_what_other_engines_do_not_make_up(carved: Path, llama: Path) -> None:
    """vLLM wants biases of query, key and value; llama.cpp an output matrix, and no gate of exactly zero."""
    written, dense = load_file(carved / "model.safetensors"), load_file(llama / "model.safetensors")
    config = json.loads((carved / "config.json").read_text())
    biases = {name: tensor for name, tensor in written.items() if name.endswith("_proj.bias")}
    assert len(biases) == 2 * 3
    for name, bias in biases.items():
        assert torch.equal(bias, torch.zeros(len(dense[name.replace("bias", "weight")])))
    assert "lm_head.weight" not in dense, "premise: the dense model shares its embedding"
    assert torch.equal(written["lm_head.weight"], dense["model.embed_tokens.weight"])
    assert (config["qkv_bias"], config["tie_word_embeddings"], config["norm_topk_prob"]) == (True, False, False)
    gates = [tensor for name, tensor in written.items() if name.endswith("shared_expert_gate.weight")]
    assert len(gates) == 2
    assert all(((gate > 0) & (gate < 1e-5)).all() for gate in gates)


def test_the_form_of_0_1_0_computes_the_same_within_the_spread_of_the_routing(
    llama: Path, texts: list[str], small: CarveConfig, tmp_path: Path
) -> None:
    from moee.carve.checkpoint import moe_config, moe_tensors, write_checkpoint
    from moee.carve.source import open_dense

    carve(llama, tmp_path / "out", texts=texts, config=dataclasses.replace(small, router_scale=1e-5))
    plan, source = CarvePlan.load(tmp_path / "out" / "carve" / "plan.safetensors"), open_dense(llama)
    former, dtype = tmp_path / "former", torch.float32
    former.mkdir()
    config = moe_config(source.config, plan, dtype=dtype, form="0.1.0")
    write_checkpoint(former, config, moe_tensors(source.tensors(), plan, dtype=dtype, form="0.1.0"))
    assert (config["qkv_bias"], config["tie_word_embeddings"], config["norm_topk_prob"]) == (False, True, True)
    names = set(load_file(former / "model.safetensors"))
    assert set(load_file(tmp_path / "out" / "model.safetensors")) - names == {
        "lm_head.weight",
        *(f"model.layers.{layer}.self_attn.{which}_proj.bias" for layer in (0, 1) for which in "qkv"),
    }
    with torch.inference_mode():
        mine, theirs = (
            AutoModelForCausalLM.from_pretrained(folder)(token_ids()).logits for folder in (tmp_path / "out", former)
        )
    torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=0)


def test_tokens_choose_different_experts(carved: Path, small: CarveConfig) -> None:
    model = AutoModelForCausalLM.from_pretrained(carved)
    chosen: list[torch.Tensor] = []
    for layer in model.model.layers:
        layer.mlp.gate.register_forward_hook(lambda _module, _args, output: chosen.append(output[2]))
    with torch.inference_mode():
        model(token_ids())
    for indices in chosen:
        assert indices.shape == (96, small.top_k)
        assert len({tuple(sorted(row.tolist())) for row in indices}) > 1


def test_leaving_experts_out_changes_the_logits(carved: Path, llama: Path) -> None:
    with torch.inference_mode():
        dense = AutoModelForCausalLM.from_pretrained(llama)(token_ids()).logits
        sparse = AutoModelForCausalLM.from_pretrained(carved)(token_ids()).logits
    assert (dense - sparse).abs().max() > 1e-2


def test_the_seed_decides_the_result(
    llama: Path, texts: list[str], small: CarveConfig, carved: Path, tmp_path: Path
) -> None:
    first = json.loads((carved / "carve_report.json").read_text())
    again = carve(llama, tmp_path / "again", texts=texts, config=small)
    other = carve(llama, tmp_path / "other", texts=texts, config=dataclasses.replace(small, seed=1))
    assert again.tensors_sha256 == first["tensors_sha256"]
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (carved / "model.safetensors").read_bytes()
    assert other.tensors_sha256 != first["tensors_sha256"]


def test_r_squared_in_the_report_is_that_of_the_written_router(
    llama: Path, texts: list[str], small: CarveConfig, carved: Path
) -> None:
    """Recomputed from the files alone: the router as written, and the dense model's activations."""
    report = json.loads((carved / "carve_report.json").read_text())
    plan, written = CarvePlan.load(carved / "carve" / "plan.safetensors"), load_file(carved / "model.safetensors")
    dense, tokenizer = AutoModelForCausalLM.from_pretrained(llama), AutoTokenizer.from_pretrained(llama)
    from moee.carve.sequences import prepare

    heldback = prepare(texts, tokenizer, small)
    inputs: list[torch.Tensor] = []
    dense.model.layers[1].mlp.register_forward_pre_hook(lambda _module, args: inputs.append(args[0]))
    ffn = dense.model.layers[1].mlp
    x_rows, y_rows = [], []
    with torch.inference_mode():
        for row in heldback.heldback:
            dense.model(torch.tensor([row]))
            x = inputs.pop()[0]
            a = torch.nn.functional.silu(ffn.gate_proj(x)) * ffn.up_proj(x)
            energy = (a.abs() * ffn.down_proj.weight.norm(dim=0)).square()
            x_rows.append(x)
            y_rows.append(
                torch.stack([energy[:, members].sum(1) for members in torch.from_numpy(plan.experts(1))], dim=1)
            )
    x, energy = torch.cat(x_rows).double().numpy(), torch.cat(y_rows).double().numpy()
    # the floor is a thousandth of the median on the profile tokens; here of the held-back ones: the same to a digit
    logs = np.log(energy + 1e-3 * np.median(energy))
    y = logs - logs.mean(1, keepdims=True)
    z = x @ (written["model.layers.1.mlp.gate.weight"].double().numpy().T / small.router_scale)
    r2 = 1 - np.sum((y - z) ** 2) / np.sum((y - y.mean(0)) ** 2)
    assert report["router_r2"][1] == pytest.approx(r2, abs=5e-3)
    assert r2 > 0.1, "premise: the router explains something"


def test_the_report_counts_what_was_used(carved: Path, small: CarveConfig, llama: Path, texts: list[str]) -> None:
    values = json.loads((carved / "carve_report.json").read_text())
    report = CarveReport.from_json(values)
    assert report.to_json() == values
    assert report.shared_neurons == 16
    assert report.expert_size == 8
    assert report.active_neuron_share == (16 + 2 * 8) / 48
    assert report.calibration_tokens >= small.calibration_tokens
    assert report.heldback_tokens >= small.heldback_tokens
    card = (carved / "README.md").read_text()
    assert f"{report.perplexity_carved:.2f}" in card
    assert "not learned together with the model" in card


def test_heldback_text_is_in_no_calibration_sequence(llama: Path, texts: list[str], small: CarveConfig) -> None:
    from moee.carve.sequences import prepare

    tokenizer = AutoTokenizer.from_pretrained(llama)
    made = prepare([*texts, *texts], tokenizer, small)
    calibration = tokenizer.decode([token for row in made.calibration for token in row])
    assert made.heldback_texts
    assert not [text for text in made.heldback_texts if text in calibration]
    assert made.heldback == passages_of(made.heldback_texts, tokenizer, small.sequence_length)


def test_batches_keep_every_token_and_the_limit(llama: Path) -> None:
    rows = [[1] * length for length in (3, 60, 7, 7, 1, 90)]
    made = list(batches(rows, batch_tokens=64))
    assert sorted(int(count) for batch in made for count in batch.attention_mask.sum(1)) == [1, 3, 7, 7, 60, 90]
    assert all(batch.input_ids.numel() <= 64 or len(batch.input_ids) == 1 for batch in made)


def test_progress_goes_to_stderr(
    llama: Path, texts: list[str], small: CarveConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    carve(llama, tmp_path / "out", texts=texts, config=small, progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "Router statistics" in shown.err


def test_a_carve_that_fails_leaves_nothing(llama: Path, texts: list[str], small: CarveConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"distinct texts give \d+ calibration tokens"):
        carve(llama, tmp_path / "out", texts=texts[:20], config=small)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_nothing(
    llama: Path, texts: list[str], small: CarveConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moee.carve import pipeline

    def interrupt(*_args: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "_carved_perplexity", interrupt)
    with pytest.raises(KeyboardInterrupt):
        carve(llama, tmp_path / "out", texts=texts, config=small)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_experts": 5, "shared_neurons": 16}, r"leave 32, which do not divide into 5 .*shared_neurons=18"),
        ({"num_experts": 64, "top_k": 2}, r"Choose fewer experts"),
        ({"shared_neurons": 48}, r"leave 0"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(
    changes: dict[str, int], message: str, llama: Path, texts: list[str], small: CarveConfig, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        carve(llama, tmp_path / "out", texts=texts, config=dataclasses.replace(small, **changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"top_k": 33}, r"top_k is 33; it must lie between 1 and num_experts \(32\)"),
        ({"num_experts": 1}, "at least 2 experts"),
        ({"router_scale": 0.0}, "finite number above 0"),
        ({"prompt_share": 1.5}, "between 0 and 1"),
        ({"calibration_tokens": 0}, "at least 1"),
        ({"dtype": "int8"}, "Unknown dtype 'int8'"),
    ],
)
def test_configurations_are_checked(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CarveConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"model_type": "gpt2"}, UnsupportedArchitectureError, "type 'gpt2'.*llama, qwen2"),
        ({"model_type": "mixtral", "num_local_experts": 8}, InputError, "Mixture of Experts already.*8"),
        ({"model_type": "llama", "attention_bias": True}, UnsupportedArchitectureError, "biases"),
        ({"model_type": "llama"}, CheckpointError, "no weights"),
    ],
)
def test_other_models_are_refused(
    config: dict[str, object], error: type[Exception], message: str, texts: list[str], tmp_path: Path
) -> None:
    dense = tmp_path / "dense"
    dense.mkdir()
    (dense / "config.json").write_text(json.dumps(config))
    with pytest.raises(error, match=message):
        carve(dense, tmp_path / "out", texts=texts)


def test_sources_that_cannot_be_read_say_why(llama: Path, texts: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither a folder nor a \.gguf file"):
        carve(tmp_path / "absent", tmp_path / "out", texts=texts)
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        carve(tmp_path, tmp_path / "out", texts=texts)
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in llama.iterdir():
        (broken / path.name).write_bytes(path.read_bytes()[: 2000 if path.suffix == ".safetensors" else None])
    with pytest.raises(CheckpointError, match="Cannot load"):
        carve(broken, tmp_path / "out", texts=texts)
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="only pickle files"):
        carve(broken, tmp_path / "out", texts=texts)


def test_a_missing_extra_gives_the_install_line(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else found(name))
    (tmp_path / "dense.gguf").write_bytes(b"GGUF")
    with pytest.raises(MissingExtraError, match=r"pip install 'moee\[gguf\]'"):
        carve(tmp_path / "dense.gguf", tmp_path / "out", texts=texts)
