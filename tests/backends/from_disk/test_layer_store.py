"""The layer store: every weight is what `from_pretrained` reads, and only two layers are ever in memory."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from moee.architectures import architecture_for
from moee.backends.checkpoint.support import auto_class
from moee.backends.forward.huggingface import text_model_of
from moee.backends.from_disk.layer_store import LayerStore
from moee.backends.from_disk.meta_model import MetaModel
from moee.errors import CheckpointError, InputError
from tests.architectures.test_wrappers import _wrapper_config
from tests.architectures.tiny import SUPPORTED, tiny_config, tiny_model
from tests.backends.checkpoint.test_deepseek_moe import write_checkpoint

GOLDEN = Path(__file__).parents[2] / "golden" / "olmoe-tiny"
CPU = torch.device("cpu")
Values = dict[str, torch.Tensor]


def open_store(folder: Path, model_type: str = "olmoe", **options: Any) -> LayerStore:
    given = {"dtype": torch.float32, "device": CPU, "architecture": architecture_for(model_type), **options}
    return LayerStore.open(folder, name="here", **given)


def values(module: nn.Module) -> Values:
    found = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: value.detach().clone() for name, value in found.items()}


def from_pretrained(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(folder)
    return text_model_of(auto_class(config).from_pretrained(folder, config=config, dtype=dtype))


def assert_same(found: Values, expected: Values) -> None:
    """Bit for bit, names, shapes and dtypes included."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
        assert torch.equal(found[name], value), name


def is_empty(store: LayerStore) -> bool:
    """Whether no decoder layer is in memory."""
    layers = [module for slots in store._slots for module in {slot.module for slot in slots.values()}]
    tensors = [each for layer in layers for each in [*layer.parameters(), *layer.buffers()]]
    assert tensors
    return all(each.is_meta for each in tensors)


def swept(store: LayerStore) -> Values:
    """The values of every layer while it is out, and of everything else; by name in the text model."""
    found = {name: value for name, value in values(store.model).items() if not value.is_meta}
    prefixes = {id(module): name for name, module in store.model.named_modules()}
    count = 0
    for number, layer in store.layers():
        assert number == count
        assert not any(value.is_meta for value in values(layer).values())
        taken = values(layer)
        assert sum(value.nbytes for value in taken.values()) == store.layer_bytes[number]
        found |= {f"{prefixes[id(layer)]}.{name}": value for name, value in taken.items()}
        count += 1
    assert count == store.num_layers
    assert is_empty(store)
    return found


def save(model_type: str, folder: Path, dtype: torch.dtype) -> Callable[[], Values]:
    """Write the tiny model in the published layout; return what makes the values that are expected in float32."""
    model = copy.deepcopy(tiny_model(model_type)).to(dtype)
    if type(model.config) not in AutoModel._model_mapping:
        return save_inside_a_wrapper(model_type, model, folder)
    model.save_pretrained(folder)
    if model_type == "deepseek_v4":
        # transformers 5.23 writes `model.norm.weight`, and on reading takes it for the norm of a compressor;
        # the published files have no such prefix
        file = folder / "model.safetensors"
        tensors = {name.removeprefix("model."): tensor for name, tensor in load_file(file).items()}
        save_file(tensors, file, metadata={"format": "pt"})
    return lambda: values(from_pretrained(folder))


def save_inside_a_wrapper(model_type: str, model: PreTrainedModel, folder: Path) -> Callable[[], Values]:
    """Write a decoder that no auto class loads alone as part of its multimodal model, whose towers are left out.

    Towers have their real size here, too much to load; that their tensors may lack shows that they are not asked for.
    """
    row = architecture_for(model_type)
    config = _wrapper_config(row.wrappers[0], tiny_config(model_type))
    with torch.device("meta"):
        whole = auto_class(config).from_config(config)
    decoder = text_model_of(model)
    prefix = MetaModel.of(whole).prefix
    tensors = {prefix + name: value for name, value in decoder.state_dict().items()}
    written = revert_weight_conversion(whole, tensors)
    config.save_pretrained(folder)
    save_file({name: value.contiguous() for name, value in written.items()}, folder / "model.safetensors")
    # what the file does not hold, the original computed in full precision
    computed = values(text_model_of(tiny_model(model_type)))
    return lambda: {
        **computed,
        **{name: value.to(computed[name].dtype) for name, value in decoder.state_dict().items()},
    }


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_every_weight_of_every_architecture_is_the_one_of_from_pretrained(model_type: str, tmp_path: Path) -> None:
    expected = save(model_type, tmp_path, torch.float32)()
    store = open_store(tmp_path, model_type)
    assert is_empty(store)
    assert len(store.layers_on_meta()) == store.num_layers
    assert_same(swept(store), expected)
    assert_same(values(store.load_all()), expected)
    assert not store.model.training


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_experts_may_stay_as_the_file_has_them(model_type: str, tmp_path: Path) -> None:
    expected = save(model_type, tmp_path, torch.bfloat16)()
    store = open_store(tmp_path, model_type, keep_experts=True)
    found = swept(store)
    kept = {name for name, value in found.items() if value.dtype == torch.bfloat16}
    fused = {
        f"{path}.{name}"
        for path, module in store.model.named_modules()
        if hasattr(module, "is_concatenated")
        for name in ("gate_up_proj", "up_proj", "down_proj")
        if hasattr(module, name)
    }
    assert kept == fused
    assert_same({name: value.float() if name in kept else value for name, value in found.items()}, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("model_type", ["deepseek_v3", "gpt_oss", "qwen3_next", "zaya"])
def test_weights_that_a_model_wants_in_float32_are(model_type: str, dtype: torch.dtype, tmp_path: Path) -> None:
    save(model_type, tmp_path, torch.bfloat16)
    assert_same(swept(open_store(tmp_path, model_type, dtype=dtype)), values(from_pretrained(tmp_path, dtype)))


def test_experts_of_a_wider_file_are_not_kept(tmp_path: Path) -> None:
    save("olmoe", tmp_path, torch.float32)
    kept = open_store(tmp_path, dtype=torch.bfloat16, keep_experts=True)
    assert_same(swept(kept), values(from_pretrained(tmp_path, torch.bfloat16)))


def test_the_loaded_model_computes_the_same() -> None:
    expected = from_pretrained(GOLDEN)
    store = open_store(GOLDEN)
    model = store.load_all()
    assert_same(values(model), values(expected))
    assert model.config._attn_implementation == expected.config._attn_implementation
    assert model.config._experts_implementation == expected.config._experts_implementation
    ids = torch.tensor([[3, 14, 15, 9]])
    with torch.inference_mode():
        assert torch.equal(model(input_ids=ids)[0], expected(input_ids=ids)[0])
    assert model is store.load_all()
    assert [number for number, _ in store.layers()] == list(range(store.num_layers))
    assert not is_empty(store)


def test_the_original_deepseek_layout(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    store = open_store(tmp_path, "deepseek")
    expected = values(AutoModel.from_pretrained(tmp_path, trust_remote_code=False, dtype=torch.float32))
    assert_same(swept(store), expected)


# --- folders -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """The golden model with about one tensor a file."""
    whole = load_file(GOLDEN / "model.safetensors")
    names = {name: f"model-{number:05d}.safetensors" for number, name in enumerate(sorted(whole))}
    for name, file in names.items():
        save_file({name: whole[name]}, tmp_path / file, metadata={"format": "pt"})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    (tmp_path / "config.json").write_bytes((GOLDEN / "config.json").read_bytes())
    return tmp_path


def shard_of(folder: Path, name: str) -> Path:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    return folder / index["weight_map"][name]


def rewritten(folder: Path, change: Callable[[Values], Values]) -> Path:
    tensors = change(load_file(GOLDEN / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_bytes((GOLDEN / "config.json").read_bytes())
    return folder


def test_a_sharded_folder(sharded: Path) -> None:
    assert_same(swept(open_store(sharded)), values(from_pretrained(GOLDEN)))


def test_the_language_model_head_is_never_read(sharded: Path) -> None:
    store = open_store(sharded)
    shard_of(sharded, "lm_head.weight").unlink()
    assert_same(values(store.load_all()), values(from_pretrained(GOLDEN)))


def test_bytes_are_counted(tmp_path: Path) -> None:
    save("olmoe", tmp_path, torch.bfloat16)
    store = open_store(tmp_path)
    in_file = load_file(tmp_path / "model.safetensors")
    assert store.bytes_read == 0
    swept(store)
    assert store.bytes_read == sum(each.nbytes for name, each in in_file.items() if ".layers." in name)
    assert sum(store.layer_bytes) == 2 * store.bytes_read, "bfloat16 in the file, float32 in memory"
    outside = {name: each for name, each in values(store.model).items() if not each.is_meta}
    assert store.resident_bytes == sum(each.nbytes for each in outside.values())


def test_weights_in_a_second_layout_are_ignored(tmp_path: Path) -> None:
    rewritten(tmp_path, lambda tensors: tensors)
    other = {name: torch.zeros_like(each) for name, each in load_file(tmp_path / "model.safetensors").items()}
    save_file(other, tmp_path / "zzz-original.safetensors")
    assert_same(swept(open_store(tmp_path)), values(from_pretrained(GOLDEN)))


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.1.mlp.experts.3.up_proj.weight",
        "model.layers.0.mlp.experts.0.down_proj.weight",
        "model.layers.1.self_attn.q_proj.weight",
        "model.embed_tokens.weight",
    ],
)
def test_a_missing_tensor_is_named_when_the_folder_is_opened(name: str, tmp_path: Path) -> None:
    rewritten(tmp_path, lambda tensors: {key: value for key, value in tensors.items() if key != name})
    with pytest.raises(CheckpointError, match=name.removeprefix("model.")) as caught:
        open_store(tmp_path)
    assert "incomplete" in str(caught.value)


def test_all_experts_of_a_kind_missing(tmp_path: Path) -> None:
    rewritten(tmp_path, lambda tensors: {key: value for key, value in tensors.items() if "1.mlp.experts" not in key})
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.experts\.down_proj"):
        open_store(tmp_path)
    rewritten(tmp_path, lambda tensors: {key: value for key, value in tensors.items() if "up_proj" not in key})
    with pytest.raises(CheckpointError, match=r"layers\.0\.mlp\.experts\.gate_up_proj.*incomplete"):
        open_store(tmp_path)


@pytest.mark.parametrize("name", ["model.layers.1.mlp.gate.weight", "model.layers.1.mlp.experts.3.up_proj.weight"])
def test_a_tensor_of_another_shape(name: str, tmp_path: Path) -> None:
    rewritten(tmp_path, lambda tensors: {**tensors, name: tensors[name][1:].contiguous()})
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp.*another architecture"):
        open_store(tmp_path)


def test_pickled_weights_can_only_be_loaded_whole(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((GOLDEN / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(CheckpointError, match="whole"):
        open_store(tmp_path)


def test_an_unknown_dtype(tmp_path: Path) -> None:
    rewritten(tmp_path, lambda tensors: tensors)
    file = tmp_path / "model.safetensors"
    raw = file.read_bytes()
    assert b'"F32"' in raw
    file.write_bytes(raw.replace(b'"F32"', b'"F31"'))
    with pytest.raises(CheckpointError, match="F31"):
        open_store(tmp_path).load_all()


def test_a_configuration_that_builds_nothing(tmp_path: Path) -> None:
    rewritten(tmp_path, lambda tensors: tensors)
    config = json.loads((GOLDEN / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden_act": "no such function"}))
    with pytest.raises(CheckpointError, match="no such function"):
        open_store(tmp_path)


# --- memory and the thread -----------------------------------------------------------------------------------------


@pytest.fixture
def deep(tmp_path: Path, few_objects: None) -> Path:
    """Five layers, whose fused experts have a shape that nothing else has."""
    config = copy.deepcopy(tiny_config("olmoe"))
    config.num_hidden_layers, config.num_experts, config.intermediate_size = 5, 7, 11
    from transformers import OlmoeForCausalLM

    OlmoeForCausalLM(config).save_pretrained(tmp_path, max_shard_size="16KB")
    return tmp_path


@pytest.fixture
def few_objects() -> Iterator[None]:
    """Leave the million objects that are there already out of the search for tensors."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def layers_alive() -> int:
    """How many layers have weights in this process, whoever holds them."""
    count = 0
    for each in gc.get_objects():
        # not isinstance: it asks every object for its class, and deprecated ones warn
        if issubclass(type(each), torch.Tensor) and each.shape == (7, 22, 32) and not each.is_meta:
            count += 1
    return count


def reading() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("moee-layers")]


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 120
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


def test_two_layers_are_in_memory_and_the_next_is_read_meanwhile(deep: Path) -> None:
    store = open_store(deep)
    assert layers_alive() == 0
    prepared = []
    for number, _ in store.layers(prepare=lambda each, _layer: prepared.append((each, layers_alive()))):
        assert prepared[-1][0] == number
        assert prepared[-1][1] <= 2
        wanted = 2 if number + 1 < store.num_layers else 1
        assert wait_for(lambda wanted=wanted: layers_alive() == wanted), "the next layer is read while this one is out"
        time.sleep(0.02)
        assert layers_alive() == wanted, "and not the one after it"
    assert len(prepared) == 5
    assert layers_alive() == 0
    assert not reading()


def test_closing_early_frees_and_joins(deep: Path) -> None:
    store = open_store(deep)
    layers = store.layers()
    next(layers)
    next(layers)
    assert isinstance(layers, Iterator)
    layers.close()  # type: ignore[attr-defined]  # a generator
    assert is_empty(store)
    assert layers_alive() == 0
    assert not reading()
    assert len(list(store.layers())) == 5, "the store can be used again"


def consume(store: LayerStore) -> None:
    for _ in store.layers():
        raise ZeroDivisionError


def test_an_error_of_the_consumer_frees_and_joins(deep: Path) -> None:
    store = open_store(deep)
    with pytest.raises(ZeroDivisionError):
        consume(store)
    gc.collect()
    assert is_empty(store)
    assert layers_alive() == 0
    assert not reading()


def test_one_pass_at_a_time(deep: Path) -> None:
    store = open_store(deep)
    first = store.layers()
    next(first)
    with pytest.raises(InputError, match="not finished"):
        next(store.layers())
    with pytest.raises(InputError, match="not finished"):
        store.load_all()
    assert len(list(first)) == 4, "the first pass goes on"


def test_a_file_that_vanishes_is_named_where_it_is_needed(sharded: Path) -> None:
    store = open_store(sharded)
    gone = shard_of(sharded, "model.layers.1.mlp.experts.2.down_proj.weight")
    gone.unlink()
    layers = store.layers()
    assert next(layers)[0] == 0
    with pytest.raises(CheckpointError, match=gone.name):
        next(layers)
    assert is_empty(store)
    assert not reading()
    with pytest.raises(CheckpointError, match=gone.name):
        store.load_all()
    assert is_empty(store), "layers that came before the error are freed too"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_file_that_becomes_shorter_is_named(dtype: torch.dtype, sharded: Path) -> None:
    store = open_store(sharded, dtype=dtype)
    cut = shard_of(sharded, "model.layers.1.input_layernorm.weight")
    cut.write_bytes(cut.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=rf"{cut.name}.*layers\.1\.input_layernorm"):
        list(store.layers())


def test_what_prepare_puts_on_a_layer_goes_with_it(deep: Path) -> None:
    store = open_store(deep)
    names = {name for _, layer in store.layers() for name in dict(layer.named_modules())}

    def prepare(number: int, layer: Any) -> None:
        layer.mlp.experts.gate_up_proj = None
        layer.mlp.experts.packed = torch.full((3,), number)
        layer.mlp.experts.register_buffer("scale", torch.ones(2))
        layer.mlp.experts.has_gate = "changed"
        layer.mlp.extra = nn.Linear(2, 2)

    for number, layer in store.layers(prepare=prepare):
        experts: Any = layer.mlp.experts
        assert experts.packed.tolist() == [number] * 3
        assert experts.has_gate == "changed"
    assert is_empty(store)
    for _, layer in store.layers():
        experts = layer.mlp.experts
        assert not hasattr(experts, "packed")
        assert not hasattr(experts, "scale")
        assert experts.has_gate is True
        assert experts.gate_up_proj.shape == (7, 22, 32)
        assert set(dict(layer.named_modules())) <= names
    kept = store.load_all(prepare=prepare)
    assert [layer.mlp.experts.packed.tolist() for layer in kept.layers] == [[number] * 3 for number in range(5)]


def test_an_error_of_prepare_frees_and_joins(deep: Path) -> None:
    store = open_store(deep)

    def fail(number: int, _layer: nn.Module) -> None:
        if number == 1:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(store.layers(prepare=fail))
    with pytest.raises(ZeroDivisionError):
        store.load_all(prepare=fail)
    gc.collect()
    assert is_empty(store)
    assert not reading()


def test_passes_give_the_same_values_in_inference_mode(deep: Path) -> None:
    store = open_store(deep)
    expected = values(from_pretrained(deep))
    with torch.inference_mode():
        assert_same(swept(store), expected)
        assert_same(swept(store), expected)
