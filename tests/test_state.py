"""What an embedder is made of: saved, pickled, copied, sent to processes, and told apart by its weights."""

from __future__ import annotations

import copy
import json
import logging
import multiprocessing
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload, disk_offload
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from moee import MoEE
from moee.errors import CalibrationError, CheckpointError, InputError
from tests.architectures.tiny import build, tiny_config
from tests.checkpoints import save_tokenizer

GOLDEN = Path(__file__).parent / "golden" / "olmoe-tiny"
TEXTS = [f"sentence {number} about {'cats' if number % 3 else 'rates'}" for number in range(30)]


@pytest.fixture
def llm() -> Any:
    return AutoModelForCausalLM.from_pretrained(GOLDEN, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(GOLDEN)


@pytest.fixture
def nameless(llm: Any) -> Any:
    """The same model without a trace of where it came from, and with other weights."""
    llm.config._name_or_path = ""
    with torch.no_grad():
        llm.model.layers[0].self_attn.q_proj.weight.mul_(1.5)
    return llm


# --- one fingerprint -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", [AutoModel, AutoModelForCausalLM])
def test_a_model_in_memory_has_the_fingerprint_of_its_folder(kind: Any, dtype: str, tokenizer: Any) -> None:
    in_memory = MoEE.from_model(kind.from_pretrained(GOLDEN, dtype=dtype), tokenizer, calibration="none")
    folder = MoEE.from_pretrained(GOLDEN, dtype=dtype, calibration="none")
    assert in_memory.info.fingerprint == folder.info.fingerprint
    np.testing.assert_array_equal(in_memory.encode(TEXTS), folder.encode(TEXTS))


@pytest.mark.parametrize("how", [{"memory": "2GiB"}, {"precision": "int8"}])
def test_each_way_to_load_a_folder_gives_its_fingerprint(how: dict[str, Any]) -> None:
    exact = MoEE.from_pretrained(GOLDEN, calibration="none")
    assert MoEE.from_pretrained(GOLDEN, calibration="none", **how).info.fingerprint == exact.info.fingerprint


@pytest.mark.parametrize("model_type", ["olmoe", "deepseek_v4", "jamba", "gpt_oss", "phimoe", "dbrx", "llama4_text"])
def test_a_model_that_is_saved_keeps_the_fingerprint_it_had_in_memory(model_type: str, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(tiny_config(model_type)).float().eval()
    save_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    before = MoEE.from_model(model, tokenizer, calibration="none").info.fingerprint
    model.save_pretrained(tmp_path)
    assert MoEE.from_pretrained(tmp_path, calibration="none").info.fingerprint == before


def _scale(path: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        with torch.no_grad():
            model.get_parameter(path).mul_(1.5)

    return change


def _set(key: str, value: Any) -> Callable[[Any], None]:
    return lambda model: setattr(model.config, key, value)


@pytest.mark.parametrize(
    "change",
    [
        _scale("model.embed_tokens.weight"),
        _scale("model.norm.weight"),
        _scale("model.layers.1.self_attn.v_proj.weight"),
        _scale("model.layers.1.mlp.gate.weight"),
        _scale("model.layers.1.mlp.experts.gate_up_proj"),
        _scale("model.layers.0.mlp.experts.down_proj"),
        _set("num_experts_per_tok", 1),
        _set("norm_topk_prob", True),
        _set("rms_norm_eps", 1e-2),
    ],
)
def test_what_decides_vectors_decides_the_fingerprint(change: Callable[[Any], None], llm: Any, tokenizer: Any) -> None:
    before = MoEE.from_model(llm, tokenizer, calibration="none").info.fingerprint
    change(llm)
    assert MoEE.from_model(llm, tokenizer, calibration="none").info.fingerprint != before


@pytest.mark.parametrize(
    "change",
    [
        _set("use_cache", False),
        _set("output_router_logits", True),
        _set("attention_dropout", 0.3),
        _set("router_aux_loss_coef", 0.5),
        _set("_attn_implementation", "eager"),
        lambda model: model.train(),
        lambda model: model.bfloat16(),
    ],
)
def test_what_decides_no_vector_does_not(change: Callable[[Any], None], llm: Any, tokenizer: Any) -> None:
    before = MoEE.from_model(llm, tokenizer, calibration="none").info.fingerprint
    change(llm)
    assert MoEE.from_model(llm, tokenizer, calibration="none").info.fingerprint == before


def test_the_spelling_of_a_folder_decides_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "model")
    (tmp_path / "linked").symlink_to(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    spellings = ("model", "./model/", str(tmp_path / "model"), "linked")
    found = {MoEE.from_pretrained(each, calibration="none").info.fingerprint for each in spellings}
    assert found == {MoEE.from_pretrained(GOLDEN, calibration="none").info.fingerprint}


# --- saved -----------------------------------------------------------------------------------------------------------


# statistics are rounded to float32 as they are written, hence a tolerance
def test_a_saved_embedder_of_a_model_in_memory_opens_in_both_ways(llm: Any, tokenizer: Any, tmp_path: Path) -> None:
    model = MoEE.from_model(llm, tokenizer, prompt="ke")
    model.calibrate(TEXTS)
    expected = model.encode(TEXTS)
    model.save(tmp_path / "saved")
    for opened in (
        MoEE.from_model(llm, tokenizer, saved=tmp_path / "saved"),
        MoEE.from_pretrained(tmp_path / "saved", dtype="float32"),
    ):
        assert opened.config == model.config
        np.testing.assert_allclose(opened.encode(TEXTS), expected, atol=1e-6)


def test_one_of_a_folder_opens_with_the_model_in_memory(llm: Any, tokenizer: Any, tmp_path: Path) -> None:
    model = MoEE.from_pretrained(GOLDEN, dtype="float32")
    model.calibrate(TEXTS)
    model.save(tmp_path / "saved")
    opened = MoEE.from_model(llm, tokenizer, saved=tmp_path / "saved")
    np.testing.assert_allclose(opened.encode(TEXTS), model.encode(TEXTS), atol=1e-6)
    changed = MoEE.from_model(llm, tokenizer, saved=tmp_path / "saved", fusion="hs")
    assert changed.config == model.config.replace(fusion="hs")


def test_one_of_a_model_in_memory_alone_says_how_to_open_it(nameless: Any, tokenizer: Any, tmp_path: Path) -> None:
    model = MoEE.from_model(nameless, tokenizer)
    model.calibrate(TEXTS)
    model.save(tmp_path / "saved")
    with pytest.raises(InputError, match=r"MoEE.from_model\(llm, tokenizer, saved=FOLDER\)"):
        MoEE.from_pretrained(tmp_path / "saved")
    opened = MoEE.from_model(nameless, tokenizer, saved=tmp_path / "saved")
    np.testing.assert_allclose(opened.encode(TEXTS), model.encode(TEXTS), atol=1e-6)
    nameless.save_pretrained(tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    opened = MoEE.from_model(loaded, tokenizer, saved=tmp_path / "saved")
    np.testing.assert_allclose(opened.encode(TEXTS), model.encode(TEXTS), atol=1e-6)


def test_statistics_of_other_weights_are_refused(llm: Any, tokenizer: Any, tmp_path: Path) -> None:
    model = MoEE.from_model(llm, tokenizer)
    model.calibrate(TEXTS)
    model.save(tmp_path / "saved")
    _scale("model.norm.weight")(llm)
    with pytest.raises(CalibrationError, match="fitted for the model"):
        MoEE.from_model(llm, tokenizer, saved=tmp_path / "saved")
    with pytest.raises(CheckpointError, match="not a saved embedder"):
        MoEE.from_model(llm, tokenizer, saved=GOLDEN)


def test_an_embedder_that_the_former_version_saved_still_opens(tmp_path: Path) -> None:
    model = MoEE.from_pretrained(GOLDEN, dtype="float32")
    model.calibrate(TEXTS)
    model.save(tmp_path / "saved")
    written = json.loads((tmp_path / "saved" / "config.json").read_text())
    # the fingerprint of this folder as it was computed before models in memory had the same
    assert written["fingerprint"] == "de7933d07e523bd8"
    assert written["model"] == str(GOLDEN)


# --- pickled, copied, sent -------------------------------------------------------------------------------------------


def _vectors(model: MoEE) -> Any:
    return model.encode(TEXTS)


@pytest.mark.parametrize("name", ["fake", GOLDEN])
def test_an_embedder_can_be_pickled(name: str | Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = MoEE.from_pretrained(name, prompt="ke", batch_tokens=64, fusion="concat")
    model.calibrate(TEXTS)
    pickled = pickle.dumps(model)
    assert len(pickled) < 200_000  # statistics, and no weights
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(pickled)
    assert (again.config, again.info, repr(again)) == (model.config, model.info, repr(model))
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))


def test_an_embedder_can_be_sent_to_a_spawned_process() -> None:
    model = MoEE.from_pretrained(GOLDEN, dtype="float32")
    model.calibrate(TEXTS)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(_vectors, (model,))
    # float32; the process may use another number of threads
    np.testing.assert_allclose(found, model.encode(TEXTS), atol=1e-5)


def test_a_model_in_memory_that_a_folder_holds_is_pickled_by_its_name(llm: Any, tokenizer: Any) -> None:
    model = MoEE.from_model(llm, tokenizer, calibration="none")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).encode(TEXTS), model.encode(TEXTS))


def test_a_model_in_memory_alone_is_not_pickled(nameless: Any, tokenizer: Any) -> None:
    model = MoEE.from_model(nameless, tokenizer, calibration="none")
    with pytest.raises(InputError, match=r"cannot be pickled .* its model is in memory alone"):
        pickle.dumps(model)
    np.testing.assert_array_equal(copy.deepcopy(model).encode(TEXTS), model.encode(TEXTS))


def test_a_pickle_of_weights_that_have_changed_is_refused(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "model")
    pickled = pickle.dumps(MoEE.from_pretrained(tmp_path / "model", calibration="none"))
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"num_experts_per_tok": 1}))
    with pytest.raises(CheckpointError, match="holds other weights than when the embedder was pickled"):
        pickle.loads(pickled)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_shares_the_model_and_nothing_else(copied: Callable[[MoEE], MoEE]) -> None:
    model = MoEE.from_pretrained("fake")
    model.calibrate(TEXTS)
    before, other = model.encode(TEXTS), copied(model)
    assert other.backend is model.backend
    np.testing.assert_array_equal(other.encode(TEXTS), before)
    other.calibrate(TEXTS[:9])
    np.testing.assert_array_equal(model.encode(TEXTS), before)


# --- models of all kinds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda llm: "some/path", r"is the name of one. Load it with MoEE.from_pretrained\('some/path'\)"),
        (lambda llm: Path("model"), r"MoEE.from_pretrained\('model'\)"),
        (nn.DataParallel, r"wrapped in DataParallel.*MoEE.from_model\(model.module, tokenizer\)"),
        (lambda llm: nn.Linear(2, 2), "takes a model of transformers, and got a Linear"),
        (lambda llm: None, "takes a model of transformers, and got a NoneType"),
    ],
)
def test_what_is_no_model_in_memory_is_refused(given: Any, message: str, llm: Any, tokenizer: Any) -> None:
    with pytest.raises(InputError, match=message):
        MoEE.from_model(given(llm), tokenizer)


@pytest.mark.parametrize("given", [None, "tokenizer", GOLDEN])
def test_a_missing_tokenizer_is_named(given: Any, llm: Any) -> None:
    with pytest.raises(InputError, match=r"The tokenizer is .* Pass the one of the model"):
        MoEE.from_model(llm, given)


@pytest.mark.parametrize("offload", [cpu_offload, disk_offload])
def test_weights_that_accelerate_keeps_elsewhere_are_brought(
    offload: Any, llm: Any, tokenizer: Any, tmp_path: Path
) -> None:
    model = MoEE.from_model(llm, tokenizer, calibration="none")
    expected, fingerprint = model.encode(TEXTS), model.info.fingerprint
    elsewhere = AutoModelForCausalLM.from_pretrained(GOLDEN, dtype=torch.float32)
    where = {"offload_dir": str(tmp_path)} if offload is disk_offload else {}
    offload(elsewhere, execution_device=torch.device("cpu"), **where)
    model = MoEE.from_model(elsewhere, tokenizer, calibration="none")
    assert (model.info.device, model.info.fingerprint) == ("cpu", fingerprint)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-6)
    assert {parameter.device.type for parameter in elsewhere.parameters()} == {"meta"}


@pytest.mark.parametrize("key", ["return_dict", "output_hidden_states", "output_router_logits"])
def test_what_the_configuration_asks_for_besides_is_no_matter(key: str, llm: Any, tokenizer: Any) -> None:
    expected = MoEE.from_model(llm, tokenizer, calibration="none").encode(TEXTS)
    setattr(llm.config, key, key != "return_dict")
    np.testing.assert_array_equal(MoEE.from_model(llm, tokenizer, calibration="none").encode(TEXTS), expected)
    assert getattr(llm.config, key) is (key != "return_dict")


@pytest.mark.parametrize("name", ["fake", GOLDEN])
def test_a_closed_model_says_so(name: Any) -> None:
    model = MoEE.from_pretrained(name, calibration="none")
    other = model.with_settings(fusion="hs")
    model.close()
    for use in (lambda: model.encode("a"), lambda: other.encode_views(["a"]), lambda: model.backend.tokenize(["a"])):
        with pytest.raises(InputError, match="is closed and its weights are gone"):
            use()
    model.close()
    assert model.info.hidden_size > 0


def test_a_cache_that_cannot_be_written_is_one_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("MOEE_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("moee.embedder.calibration_texts", lambda: TEXTS)
    with caplog.at_level(logging.WARNING, "moee"):
        model = MoEE.from_pretrained(GOLDEN)
        first = model.encode(TEXTS)
        np.testing.assert_array_equal(model.encode(TEXTS), first)
    assert ["could not be kept" in record.message for record in caplog.records].count(True) == 1
