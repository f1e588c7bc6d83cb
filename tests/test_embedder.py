"""The embedder on real tiny checkpoints and on the backend without weights."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from moee import MoEE
from moee.data import calibration_texts
from moee.errors import (
    CalibrationError,
    CheckpointError,
    InputError,
    NonFiniteActivationsError,
    TextTypeError,
    UnknownNameError,
)
from moee.method.fusion import unit
from moee.method.texts import FewTextsWarning, TruncationWarning

GOLDEN = Path(__file__).parent / "golden" / "olmoe-tiny"
TOLERANCE = 1e-5  # float32; the promise of docs/footguns.md


@pytest.fixture(scope="module")
def model() -> MoEE:
    """A real OLMoE, tiny and random, calibrated on sentences that no test embeds."""
    embedder = MoEE.from_pretrained(GOLDEN, dtype="float32")
    embedder.calibrate(calibration_texts()[1000:1300])
    return embedder


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    return calibration_texts()[:200]


@pytest.fixture(scope="module")
def vectors(model: MoEE, sentences: list[str]) -> np.ndarray:
    return model.encode(sentences)


def test_one_by_one_equals_batches(model: MoEE, sentences: list[str], vectors: np.ndarray) -> None:
    alone = np.concatenate([model.encode([text]) for text in sentences])
    assert np.abs(alone - vectors).max() <= TOLERANCE


def test_order_duplicates_and_batch_size_change_nothing(model: MoEE, sentences: list[str], vectors: np.ndarray) -> None:
    order = np.random.default_rng(0).permutation(len(sentences))
    shuffled = model.encode([sentences[index] for index in order])
    assert np.abs(shuffled - vectors[order]).max() <= TOLERANCE
    doubled = model.encode([*sentences, *sentences[::-1]])
    assert np.abs(doubled - np.concatenate([vectors, vectors[::-1]])).max() <= TOLERANCE
    small = MoEE.from_pretrained(GOLDEN, dtype="float32", batch_tokens=64)
    small.calibrate(calibration_texts()[1000:1300])
    assert np.abs(small.encode(sentences) - vectors).max() <= TOLERANCE


def test_padding_side_changes_nothing(sentences: list[str], vectors: np.ndarray) -> None:
    left = MoEE.from_pretrained(GOLDEN, dtype="float32", padding_side="left")
    left.calibrate(calibration_texts()[1000:1300])
    assert np.abs(left.encode(sentences) - vectors).max() <= TOLERANCE


def test_the_sum_is_the_weighted_sum_of_cosines(model: MoEE, sentences: list[str]) -> None:
    few = sentences[:20]
    hs, rw = (unit(model.encode(few, fusion=name)) for name in ("hs", "rw"))
    fused = model.encode(few, fusion="sum", alpha=0.7)
    np.testing.assert_allclose(fused @ fused.T, (hs @ hs.T + 0.7 * (rw @ rw.T)) / 1.7, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(fused, axis=1), 1, atol=1e-5)


def test_the_mean_of_tokens_counts_by_its_weight_and_not_at_all_for_a_text_without_any(sentences: list[str]) -> None:
    weights = {"hs": 1.0, "tokens": 0.5}
    settings = {"prompt_tokens": "apart", "calibration": "zscore", "on_empty": "encode", "weights": weights}
    model = MoEE.from_pretrained(GOLDEN, dtype="float32", **settings)
    model.calibrate(calibration_texts()[1000:1300])
    texts = [*sentences[:9], ""]
    hs, tokens = (model.encode(texts[:9], weights={view: 1}) for view in ("hs", "tokens"))
    fused = model.encode(texts)
    assert fused.shape[1] == sum(model.dims.values())
    np.testing.assert_allclose(fused[:9] @ fused[:9].T, (hs @ hs.T + 0.5 * tokens @ tokens.T) / 1.5, atol=1e-5)
    views = model.encode_views(texts)
    assert not model.space().blocks(views)["tokens"][9].any()
    np.testing.assert_allclose(np.linalg.norm(fused[9]), 1, atol=1e-5)  # HS carries it
    # a text's own tokens are the same whatever the template's end says, and so is their mean
    means = [model.encode_views(texts, prompt=each).tokens for each in ('say "{text}" :', 'say "{text}" in one word:')]
    assert means[0] is not None
    np.testing.assert_allclose(means[0], means[1], atol=TOLERANCE)


def test_the_four_fusions_have_the_expected_widths(model: MoEE) -> None:
    info = model.info
    routing = model.with_settings(fusion="rw").dims["rw"]
    assert 0 < routing < sum(info.num_experts)  # the last third
    widths = {name: model.encode(["one text"], fusion=name).shape[1] for name in ("hs", "rw", "concat", "sum")}
    both = info.hidden_size + routing
    assert widths == {"hs": info.hidden_size, "rw": routing, "concat": both, "sum": both}


def test_a_single_string_gives_a_single_vector(model: MoEE) -> None:
    np.testing.assert_array_equal(model.encode("a text"), model.encode(["a text"])[0])


def test_a_model_in_memory_is_used_without_a_copy_and_left_as_it_was(sentences: list[str]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    language_model = AutoModelForCausalLM.from_pretrained(GOLDEN, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(GOLDEN)
    ids = tokenizer("The cat", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        before = language_model(ids).logits
    embedder = MoEE.from_model(language_model, tokenizer, calibration="none")
    found = embedder.encode_views(sentences[:5])
    expected = MoEE.from_pretrained(GOLDEN, dtype="float32").encode_views(sentences[:5])
    np.testing.assert_allclose(found.hidden_states, expected.hidden_states, atol=TOLERANCE)
    np.testing.assert_allclose(found.routing_weights, expected.routing_weights, atol=TOLERANCE)
    with torch.no_grad():
        torch.testing.assert_close(language_model(ids).logits, before)


def test_queries_and_documents_have_prompts_of_their_own(sentences: list[str]) -> None:
    model = MoEE.from_pretrained(
        GOLDEN, dtype="float32", calibration="none", query_prompt="Query: {text}", document_prompt="Text: {text}"
    )
    few = sentences[:3]
    np.testing.assert_array_equal(model.encode_query(few), model.encode(few, prompt="Query: {text}"))
    np.testing.assert_array_equal(model.encode_document(few), model.encode(few, prompt="Text: {text}"))
    assert np.abs(model.encode_query(few) - model.encode_document(few)).max() > 1e-3


def test_the_ablation_of_the_paper_can_be_said(sentences: list[str]) -> None:
    """Table 5: last token or all tokens, last layer or all layers, for both views."""
    few = sentences[:4]
    seen = []
    for pooling in ("last_token", "mean", "weighted_mean"):
        for layers in ("last", "all", [1, -1]):
            model = MoEE.from_pretrained(
                GOLDEN,
                dtype="float32",
                hidden_pooling=pooling,
                routing_pooling=pooling,
                hidden_layers=layers,
                routing_layers=layers,
            )
            views = model.encode_views(few)
            assert views.layer_ids == {"last": (3,), "all": (0, 1, 2, 3)}.get(str(layers), (1, 3))
            seen.append(views.hidden_states)
    for index, first in enumerate(seen):
        assert all(np.abs(first - second).max() > 1e-4 for second in seen[index + 1 :])


def test_a_saved_embedder_gives_the_same_vectors(model: MoEE, sentences: list[str], tmp_path: Path) -> None:
    model.save(tmp_path / "saved")
    again = MoEE.from_pretrained(tmp_path / "saved", dtype="float32")
    # directions are kept in float32, everything else in float64
    np.testing.assert_allclose(again.encode(sentences[:10]), model.encode(sentences[:10]), atol=1e-6)
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["calibration.safetensors", "config.json"]


def test_a_saved_embedder_refuses_other_weights(model: MoEE, tmp_path: Path) -> None:
    model.save(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text(encoding="utf-8"))
    config["model"] = "fake"
    (tmp_path / "saved" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CalibrationError, match=r"fitted for the model .*olmoe-tiny.*not for 'fake'"):
        MoEE.from_pretrained(tmp_path / "saved")


def test_saving_does_not_replace_a_folder_of_something_else(model: MoEE, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(CheckpointError, match="is not a saved embedder"):
        model.save(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_statistics_are_fitted_once_and_cached(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MOEE_CACHE", str(tmp_path))
    with caplog.at_level(logging.WARNING, logger="moee"):
        first = MoEE.from_pretrained("fake").encode(["a text"])
        assert "fitting them on" in caplog.text
        caplog.clear()
        second = MoEE.from_pretrained("fake").encode(["a text"])
        assert caplog.text == ""
    np.testing.assert_array_equal(first, second)


def test_a_long_text_is_cut_with_a_warning(model: MoEE) -> None:
    with pytest.warns(TruncationWarning, match="were cut to 4096 tokens"):
        vector = model.encode(["word " * 200_000])  # 1 MB
    assert np.isfinite(vector).all()


def test_nan_names_the_text_and_the_layer() -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    broken = AutoModel.from_pretrained(GOLDEN, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(GOLDEN)
    embedder = MoEE.from_model(broken, tokenizer, calibration="none")
    broken.layers[2].mlp.gate.weight.data[0, 0] = float("nan")
    with pytest.raises(NonFiniteActivationsError, match=r"Text 0 \('a cat'\): the router logits of layer 2 is NaN"):
        embedder.encode(["a cat", "a dog"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"recipe": "papre"}, "Did you mean 'paper'"),
        ({"prompt": "promteol"}, "Did you mean 'prompteol'"),
        ({"scoring": "softmaxx"}, "Did you mean 'softmax'"),
        ({"calibration": "zcore"}, "Did you mean 'zscore'"),
        ({"alhpa": 1.0}, "Did you mean 'alpha'"),
        ({"dtype": "float31"}, "Did you mean 'float32'"),
        ({"device": "gpu0"}, "Device 'gpu0' cannot be used here"),
        ({"routing_layers": [17]}, "Layer 17 does not exist"),
    ],
)
def test_unknown_names_suggest_close_ones(settings: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        MoEE.from_pretrained(GOLDEN, **settings).encode_views(["a"])  # type: ignore[arg-type]


def test_an_unknown_fusion_suggests_close_ones(model: MoEE) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown fusion 'sums'.*Did you mean 'sum'"):
        model.encode(["a"], fusion="sums")  # type: ignore[arg-type]


def test_an_unknown_model_is_explained() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown model 'demoo'.*Did you mean 'demo'"):
        MoEE.from_pretrained("demoo")


def test_bad_texts_are_named(model: MoEE) -> None:
    with pytest.raises(InputError, match="got an empty list"):
        model.encode([])
    with pytest.raises(InputError, match="Text 1 is empty"):
        model.encode(["a", ""])
    with pytest.raises(TextTypeError, match="Text 1 is no string but a number"):
        model.encode(["a", 7])  # type: ignore[list-item]


def test_statistics_that_would_not_be_used_are_not_fitted() -> None:
    model = MoEE.from_pretrained("fake", calibration="none")
    with pytest.raises(InputError, match="calibration='none' uses no frozen statistics"):
        model.calibrate(["a", "b"])


def test_statistics_say_which_texts_they_are_from() -> None:
    model = MoEE.from_pretrained("fake")
    assert model.calibrate(["one text", "another text", "a third"]).texts == "user"
    assert model.calibrate().texts == "builtin"


def test_a_generator_is_encoded_and_gone_through_once(model: MoEE) -> None:
    texts = ["a cat", "a dog", "a cat"]
    assert np.array_equal(model.encode(text for text in texts), model.encode(texts))


def test_half_of_a_surrogate_pair_is_named(model: MoEE) -> None:
    with pytest.raises(InputError, match="Text 1 holds half of a surrogate pair at character 2"):
        model.encode(["fine", "ab\ud83d"])


def test_equal_texts_calibrate_nothing() -> None:
    fake = MoEE.from_pretrained("fake")
    with pytest.raises(InputError, match="at least 2 different texts, and all 300 are"):
        fake.calibrate(["The same line."] * 300)
    with pytest.warns(FewTextsWarning, match="Only 2 different texts"):
        assert fake.calibrate(text for text in ["one", "two", "one"]).num_texts == 2
