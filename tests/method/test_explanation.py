"""The parts of a similarity: they add up, they are the ones of the vectors, and what is named is what counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moee import MoEE
from moee.data import calibration_texts
from moee.errors import InputError, TextTypeError, UnknownNameError
from moee.method.config import EmbedderConfig
from moee.method.explanation import Explanation, explain_pair
from moee.method.fusion import VIEWS, fuse, unit
from moee.method.space import VectorSpace
from moee.types import Fusion, View, Views

GOLDEN = Path(__file__).parents[1] / "golden" / "olmoe-tiny"
TOLERANCE = 1e-6
FUSIONS: tuple[Fusion, ...] = ("hs", "rw", "concat", "sum")
WEIGHTS: tuple[dict[View, float], ...] = (
    {"hs": 1, "rw": 0.2, "lexical": 1},
    {"hs": 2, "lexical": 0.5},
    {"rw": 1, "lexical": 3},
    {"lexical": 1},
    {"hs": 1, "rw": 0.3},
)
A, B = "A cat sat on the mat.", "The dog barked at the moon."
QUERY_PROMPT, DOCUMENT_PROMPT = 'The query "{text}" asks in one word for:"', 'The text "{text}" is in one word about:"'
SUM = {"fusion": "sum", "alpha": "slope", "calibration": "spectral", "routing_layers": "all"}
SMALL = Views(
    hidden_states=np.array([[1, 2], [3, -1]], dtype=np.float32),
    routing_weights=np.array([[0.7, 0.3, 0.2, 0.5, 0.3], [0.1, 0.9, 0.2, 0.2, 0.6]], dtype=np.float32),
    layer_ids=(1, 3),
    num_experts=(2, 3),
)


@pytest.fixture(scope="module")
def model() -> MoEE:
    """A real OLMoE, tiny and random, calibrated on sentences that no test embeds."""
    embedder = MoEE.from_pretrained(GOLDEN, dtype="float32", **SUM)
    embedder.calibrate(calibration_texts()[1000:1100])
    return embedder


@pytest.fixture(scope="module")
def asked() -> MoEE:
    """The same with prompts, and statistics, of its own for queries and for documents."""
    prompts = {"query_prompt": QUERY_PROMPT, "document_prompt": DOCUMENT_PROMPT}
    embedder = MoEE.from_pretrained(GOLDEN, dtype="float32", **SUM, **prompts)
    embedder.calibrate(calibration_texts()[1000:1100])
    return embedder


def explained(fusion: Fusion, views: Views = SMALL, alpha: float = 0.5) -> Explanation:
    space = VectorSpace(EmbedderConfig(fusion=fusion, alpha=alpha, calibration="none"))
    return explain_pair(("a", "b"), views, (space, space), model="m")


def assert_adds_up(found: Explanation) -> None:
    assert sum(found.view_parts.values()) == pytest.approx(found.similarity, abs=TOLERANCE)
    assert (found.view_parts.get("hs", 0), found.view_parts.get("rw", 0)) == (found.hidden, found.routing)
    for view, part in found.view_parts.items():
        assert found.shares[view] * found.cosines[view] == pytest.approx(part, abs=TOLERANCE)
    words = sum(word.part for word in found.words) + found.collisions
    assert words == pytest.approx(found.view_parts.get("lexical", 0), abs=TOLERANCE)
    assert sum(found.layer_parts) == pytest.approx(found.routing, abs=TOLERANCE)
    assert sum(part.sum() for part in found.parts) == pytest.approx(found.routing, abs=TOLERANCE)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("calibration", ["none", "zscore", "spectral"])
def test_parts_add_up_to_the_similarity_of_encode(model: MoEE, fusion: Fusion, calibration: str) -> None:
    other = model.with_settings(calibration=calibration)
    for a, b in [(A, B), (A, A)]:
        found = other.explain(a, b, fusion=fusion)
        assert_adds_up(found)
        alone = other.similarity(other.encode(a, fusion=fusion), other.encode(b, fusion=fusion))
        assert found.similarity == pytest.approx(float(alone[0, 0]), abs=TOLERANCE)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, 7.0])
def test_the_weight_of_routing_that_is_asked_for_is_the_one_explained(model: MoEE, alpha: float) -> None:
    found = model.explain(A, B, alpha=alpha)
    assert_adds_up(found)
    assert found.alpha == alpha
    vectors = model.encode([A, B], alpha=alpha)
    assert found.similarity == pytest.approx(float(model.similarity(*vectors)[0, 0]), abs=TOLERANCE)
    assert found.hidden_cosine is not None
    assert found.routing_cosine is not None
    assert found.hidden == pytest.approx(found.hidden_cosine / (1 + alpha), abs=TOLERANCE)
    assert found.routing == pytest.approx(alpha * found.routing_cosine / (1 + alpha), abs=TOLERANCE)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("calibration", ["none", "zscore"])
def test_named_views_add_up_under_any_weights(model: MoEE, weights: dict[View, float], calibration: str) -> None:
    other = model.with_settings(calibration=calibration)
    for a, b in [(A, B), (A, "???") if len(weights) > 1 else (A, A), (A, "A rat sits on mats.")]:
        found = other.explain(a, b, weights=weights)
        assert_adds_up(found)
        assert (found.fusion, found.alpha, dict(found.weights)) == ("weighted", None, weights)
        assert list(found.cosines) == list(found.view_parts) == [view for view in VIEWS if view in weights]
        vectors = other.encode([a, b], weights=weights)
        assert found.similarity == pytest.approx(float(other.similarity(*vectors)[0, 0]), abs=TOLERANCE)
        alone = {view: other.encode([a, b], weights={view: 1}) for view in weights if view != "lexical"}
        for view, pair in alone.items():
            assert found.cosines[view] == pytest.approx(float(pair[0] @ pair[1]), abs=TOLERANCE)


def test_views_carry_a_text_without_words(model: MoEE) -> None:
    found = model.explain(A, "!!!", weights={"hs": 1, "rw": 1, "lexical": 2})
    assert (found.cosines["lexical"], found.view_parts["lexical"], found.words) == (0, 0, ())
    # the text without words has vectors of two views, of 1/2 each; the other of three, of 1/4, 1/4 and 1/2
    assert found.shares["hs"] == pytest.approx((1 / 2 * 1 / 4) ** 0.5)
    full = model.explain(A, B, weights={"hs": 1, "rw": 1, "lexical": 2})
    assert dict(full.shares) == pytest.approx({"hs": 0.25, "rw": 0.25, "lexical": 0.5})


def test_the_mean_of_tokens_has_a_part(model: MoEE) -> None:
    tokens = np.array([[1, 0.5], [-1, 2]], dtype=np.float32)
    views = replace(SMALL, tokens=tokens, texts=("one word", "a word"))
    weights: dict[View, float] = {"hs": 1, "tokens": 3, "lexical": 2}
    space = VectorSpace(EmbedderConfig(weights=weights, fusion="weighted", calibration="none", prompt_tokens="apart"))
    found = explain_pair(("a", "b"), views, (space, space), model="m")
    assert_adds_up(found)
    assert found.cosines["tokens"] == pytest.approx(0)
    assert [word.word for word in found.words] == ["word"]
    assert not np.concatenate(found.parts).any()


def test_what_words_add_is_what_their_coordinates_hold(model: MoEE) -> None:
    narrow = model.with_settings(weights={"lexical": 1}, lexical_dim=16)
    one, other = "Baking bread in the ovens of old bakers, bread for all", "she bakes fresh breads, bread of the oven"
    found = narrow.explain(one, other)
    assert_adds_up(found)
    assert abs(found.collisions) > 0.01, "premise: of so few coordinates some hold several words"
    forms = {word.word: word.forms for word in found.words}
    assert forms["bak"] == ("baking", "bakes")
    assert set(forms) == {"bak", "bread", "oven", "the", "of"}
    assert [word.part for word in found.words] == sorted((word.part for word in found.words), reverse=True)
    wide = narrow.with_settings(lexical_dim=1 << 20).explain(one, other)
    assert wide.collisions == pytest.approx(0, abs=TOLERANCE)
    assert wide.similarity == pytest.approx(sum(word.part for word in wide.words), abs=TOLERANCE)


def test_every_part_is_the_product_of_two_elements() -> None:
    found = explained("sum")
    h, r = unit(SMALL.hidden_states).astype(float), unit(SMALL.routing_weights).astype(float)
    assert found.hidden == pytest.approx((h[0] * h[1]).sum() / 1.5, abs=TOLERANCE)
    np.testing.assert_allclose(np.concatenate(found.parts), 0.5 * r[0] * r[1] / 1.5, atol=TOLERANCE)
    assert [len(part) for part in found.parts] == [2, 3]
    assert found.layer_ids == (1, 3)


def test_a_fusion_of_one_view_leaves_the_other_without_a_part() -> None:
    hs, rw = explained("hs"), explained("rw")
    assert hs.routing == 0
    assert not np.concatenate(hs.parts).any()
    assert hs.routing_cosine is None
    assert rw.hidden == 0
    assert rw.hidden_cosine is None
    assert rw.similarity == rw.routing_cosine == pytest.approx(rw.routing)
    assert (hs.alpha, rw.alpha) == (None, None)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("zeroed", ["hidden_states", "routing_weights", "both"])
def test_a_text_without_a_direction_adds_nothing_and_breaks_nothing(fusion: Fusion, zeroed: str) -> None:
    hidden, routing = SMALL.hidden_states.copy(), SMALL.routing_weights.copy()
    if zeroed != "routing_weights":
        hidden[0] = 0
    if zeroed != "hidden_states":
        routing[0] = 0
    views = Views(hidden, routing, SMALL.layer_ids, SMALL.num_experts)
    found = explained(fusion, views)
    assert_adds_up(found)
    vectors = fuse({"hs": hidden, "rw": routing}, fusion, 0.5)
    assert found.similarity == pytest.approx(float(MoEE.similarity(None, *vectors)[0, 0]), abs=TOLERANCE)  # type: ignore[arg-type]
    if zeroed == "both":
        assert found.similarity == 0


def test_the_paper_recipe_is_explained_where_a_pair_has_a_meaning() -> None:
    paper = MoEE.from_pretrained(GOLDEN, dtype="float32", recipe="paper")
    hs = paper.explain(A, B, fusion="hs")
    assert_adds_up(hs)
    alone = paper.similarity(paper.encode(A, fusion="hs"), paper.encode(B, fusion="hs"))
    assert hs.similarity == pytest.approx(float(alone[0, 0]), abs=TOLERANCE)
    for fusion in ("rw", "concat", "sum"):
        with pytest.raises(InputError, match=r"any two texts come out as opposites.*calibration='spectral'"):
            paper.explain(A, B, fusion=fusion)
        free = paper.with_settings(calibration="none")
        found = free.explain(A, B, fusion=fusion)
        assert_adds_up(found)
        vectors = free.encode([A, B], fusion=fusion)
        assert found.similarity == pytest.approx(float(free.similarity(*vectors)[0, 0]), abs=TOLERANCE)


def test_standardised_over_their_batch_any_two_texts_are_opposites() -> None:
    """Why a pair is refused under batch calibration."""
    paper = MoEE.from_pretrained(GOLDEN, dtype="float32", recipe="paper")
    for pair in ([A, B], [A, "A cat sat on a mat."]):
        assert paper.similarity(*paper.encode(pair, fusion="rw"))[0, 0] == pytest.approx(-1, abs=1e-4)


def test_weights_are_those_the_model_gave(model: MoEE) -> None:
    found, views = model.explain(A, B), model.encode_views([A, B])
    np.testing.assert_allclose(np.concatenate(found.weights_a), views.routing_weights[0], atol=TOLERANCE)
    np.testing.assert_allclose(np.concatenate(found.weights_b), views.routing_weights[1], atol=TOLERANCE)
    assert all(weights.sum() == pytest.approx(1, abs=1e-5) for weights in (*found.weights_a, *found.weights_b))
    for difference, a, b in zip(found.difference(), found.weights_a, found.weights_b, strict=True):
        np.testing.assert_array_equal(difference, a - b)


def test_swapping_the_texts_keeps_the_parts(model: MoEE) -> None:
    one, other = model.explain(A, B), model.explain(B, A)
    assert one.similarity == pytest.approx(other.similarity, abs=TOLERANCE)
    np.testing.assert_allclose(np.concatenate(one.parts), np.concatenate(other.parts), atol=TOLERANCE)
    assert one.texts == other.texts[::-1]
    np.testing.assert_allclose(np.concatenate(one.weights_a), np.concatenate(other.weights_b), atol=TOLERANCE)


def test_top_experts_are_the_largest_parts_with_their_sign(model: MoEE) -> None:
    found = model.explain(A, B, fusion="rw")
    parts = np.concatenate(found.parts)
    top = found.top_experts(5)
    np.testing.assert_array_equal([abs(each.part) for each in top], np.sort(np.abs(parts))[::-1][:5])
    for each in top:
        layer = found.layer_ids.index(each.layer)
        assert found.parts[layer][each.expert] == each.part
        assert each.weights == (found.weights_a[layer][each.expert], found.weights_b[layer][each.expert])
    assert len(found.top_experts(10_000)) == np.count_nonzero(parts)
    assert model.explain(A, B, fusion="hs").top_experts() == []


def test_top_experts_of_a_text_are_those_above_their_usual_weight(model: MoEE) -> None:
    found = model.explain(A, B)
    assert found.mean_weights_b is not None
    above = np.concatenate(found.weights_b) - np.concatenate(found.mean_weights_b)
    top = found.top_experts_of("b", 4)
    np.testing.assert_allclose([each.weight - (each.mean or 0) for each in top], np.sort(above)[::-1][:4])
    assert len(found.top_experts_of("b", 10_000)) == np.count_nonzero(above > 0)


def test_without_statistics_top_experts_of_a_text_are_those_of_the_largest_weights(model: MoEE) -> None:
    found = model.with_settings(calibration="none").explain(A, B)
    assert (found.mean_weights_a, found.mean_weights_b) == (None, None)
    top = found.top_experts_of("a", 3)
    np.testing.assert_array_equal([each.weight for each in top], np.sort(np.concatenate(found.weights_a))[::-1][:3])
    assert {each.mean for each in top} == {None}
    negative = Views(SMALL.hidden_states, SMALL.routing_weights - 5, SMALL.layer_ids, SMALL.num_experts)
    assert len(explained("rw", negative).top_experts_of("a", 4)) == 4  # logits may all be below zero


def test_the_json_form_holds_every_part(model: MoEE) -> None:
    found = model.explain(A, B)
    document = json.loads(json.dumps(found.to_dict(top=3)))
    assert document["texts"] == [A, B]
    assert document["model"] == model.info.name
    assert document["fusion"] == "sum"
    assert document["alpha"] == model.alpha
    assert document["views"] == {
        view: {"weight": weight, "share": found.shares[view], "cosine": found.cosines[view], "part": part}
        for (view, part), weight in zip(found.view_parts.items(), (1, model.alpha), strict=True)
    }
    total = document["hidden"] + sum(value for layer in document["layers"] for value in layer["parts"])
    assert total == pytest.approx(document["similarity"], abs=TOLERANCE)
    assert [layer["layer"] for layer in document["layers"]] == list(model.info.layer_ids)
    for layer, num_experts in zip(document["layers"], model.info.num_experts, strict=True):
        assert sum(layer["parts"]) == pytest.approx(layer["part"])
        assert [len(weights) for weights in layer["weights"]] == [num_experts] * 2
    assert [set(each) for each in document["top_experts"]] == [{"layer", "expert", "part", "weights"}] * 3
    assert [len(side) for side in document["top_experts_of"]] == [3, 3]


def test_alpha_is_the_number_that_is_used_when_none_is_given(model: MoEE) -> None:
    assert model.alpha == model.calibration.alpha("spectral")  # type: ignore[union-attr]
    assert model.with_settings(alpha=0.25).alpha == 0.25
    assert model.with_settings(calibration="none").alpha == 1.0
    np.testing.assert_array_equal(model.encode([A, B]), model.encode([A, B], alpha=model.alpha))
    assert model.explain(A, B).alpha == model.alpha


def test_alpha_fits_the_statistics_that_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOEE_CACHE", str(tmp_path))
    fresh = MoEE.from_pretrained("fake", **SUM)
    assert fresh.with_settings(alpha=2.0).alpha == 2.0
    assert fresh.calibration is None  # a number needs none
    alpha = fresh.alpha
    assert fresh.calibration is not None
    assert alpha == fresh.calibration.alpha("spectral")


def test_what_cannot_be_explained_is_refused(model: MoEE) -> None:
    with pytest.raises(InputError, match="Text 1 is only whitespace"):
        model.explain(A, " ")
    with pytest.raises(TextTypeError, match=r"Text 0 is no string but a number \(3\)"):
        model.explain(3, B)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="Did you mean 'sum'"):
        model.explain(A, B, fusion="som")  # type: ignore[arg-type]
    found = model.explain(A, B)
    with pytest.raises(InputError, match="The number of experts is 0"):
        found.top_experts(0)
    with pytest.raises(UnknownNameError, match="Unknown text 'c'"):
        found.top_experts_of("c")  # type: ignore[arg-type]


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("calibration", ["none", "zscore", "spectral"])
@pytest.mark.parametrize("alpha", [None, 0.3])
def test_a_query_and_a_document_are_explained_as_they_are_encoded(
    asked: MoEE, fusion: Fusion, calibration: str, alpha: float | None
) -> None:
    other = asked.with_settings(calibration=calibration)
    found = other.explain(A, B, fusion=fusion, alpha=alpha, as_query=True)
    assert_adds_up(found)
    query, document = (
        other.encode_query(A, fusion=fusion, alpha=alpha),
        other.encode_document(B, fusion=fusion, alpha=alpha),
    )
    assert found.similarity == pytest.approx(float(query @ document), abs=TOLERANCE)
    assert abs(found.similarity - other.explain(A, B, fusion=fusion, alpha=alpha).similarity) > 1e-4
    assert abs(found.similarity - other.explain(B, A, fusion=fusion, alpha=alpha, as_query=True).similarity) > 1e-4
    np.testing.assert_array_equal(
        np.concatenate(found.weights_a), other.encode_views([A], prompt=QUERY_PROMPT).routing_weights[0]
    )
    np.testing.assert_array_equal(
        np.concatenate(found.weights_b), other.encode_views([B], prompt=DOCUMENT_PROMPT).routing_weights[0]
    )


def test_weights_of_a_query_and_a_document_that_differ_meet_in_their_geometric_mean(asked: MoEE) -> None:
    found = asked.explain(A, B, as_query=True)
    one, other = (asked.with_settings(prompt=prompt).alpha for prompt in (QUERY_PROMPT, DOCUMENT_PROMPT))
    assert abs(one - other) > 1e-3, "premise: each prompt has its own"
    assert found.alpha == pytest.approx((one * other) ** 0.5)
    assert found.hidden_cosine is not None
    assert found.routing_cosine is not None
    assert found.routing / found.hidden == pytest.approx(
        (found.alpha or 0) * found.routing_cosine / found.hidden_cosine, rel=1e-4
    )
    assert asked.explain(A, B, as_query=True, alpha=0.3).alpha == 0.3


def test_what_marks_a_query_is_measured_by_its_own_prompt(asked: MoEE) -> None:
    found = asked.explain(A, B, as_query=True)
    for means, prompt in ((found.mean_weights_a, QUERY_PROMPT), (found.mean_weights_b, DOCUMENT_PROMPT)):
        assert means is not None
        statistics = asked.with_settings(prompt=prompt).calibration
        assert statistics is not None
        np.testing.assert_array_equal(np.concatenate(means), statistics.routing_mean)
    for text, weights, means in (
        ("a", found.weights_a, found.mean_weights_a),
        ("b", found.weights_b, found.mean_weights_b),
    ):
        best = found.top_experts_of(text, 1)[0]  # type: ignore[arg-type]
        assert best.weight - (best.mean or 0) == pytest.approx(
            (np.concatenate(weights) - np.concatenate(means or ())).max()
        )


@pytest.mark.parametrize("prompts", [{}, {"query_prompt": "Query: {text}"}, {"document_prompt": "Text: {text}"}])
def test_the_configured_prompt_stands_in_for_one_that_is_missing(prompts: dict[str, str]) -> None:
    fake = MoEE.from_pretrained("fake", calibration="none", **prompts)
    found = fake.explain(A, B, as_query=True)
    assert found.similarity == pytest.approx(float(fake.encode_query(A) @ fake.encode_document(B)), abs=TOLERANCE)
    assert (found.to_dict() == fake.explain(A, B).to_dict()) == (not prompts)


def test_a_query_and_a_document_are_checked_as_a_pair(asked: MoEE) -> None:
    with pytest.raises(InputError, match="Text 1 is only whitespace"):
        asked.explain(A, " ", as_query=True)
    with pytest.raises(InputError, match="any two texts come out as opposites"):
        asked.with_settings(calibration="batch").explain(A, B, as_query=True)
