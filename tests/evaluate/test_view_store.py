"""The disk cache of views: what it runs, what it keeps when a run is stopped, and what it gives back."""

from __future__ import annotations

import json
import logging
import resource
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from moee import EmbedderConfig, MoEE
from moee.errors import CheckpointError, OutputError
from moee.method.config import RECIPES
from moee.method.prompt_tokens import Apart
from moee.types import Scoring, Views
from moee.view_store import ViewStore
from tests.evaluate.conftest import GOLDEN, CountingBackend

TEXTS = [f"{'many ' * (number % 7)}words of text {number}" for number in range(60)]
CONFIG = EmbedderConfig()


def same(a: Views, b: Views, tolerance: float = 1e-6) -> bool:
    """Whether views are equal up to the rounding of sums, whose order depends on a batch's size."""
    assert a.projections is not None
    assert b.projections is not None
    pairs = [
        (a.hidden_states, b.hidden_states),
        (a.routing_weights, b.routing_weights),
        (a.projections, b.projections),
    ]
    equal = all(x.shape == y.shape and np.abs(x - y).max() <= tolerance for x, y in pairs)
    return equal and (a.layer_ids, a.num_experts) == (b.layer_ids, b.num_experts)


def shards(cache: Path) -> list[Path]:
    return sorted(cache.glob("views/*/*.safetensors"))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch is a file of its own."""
    monkeypatch.setattr("moee.view_store._CHUNK_CHARACTERS", 1)


# --- what is run ---------------------------------------------------------------------------------------------------


def test_a_second_request_runs_nothing(embedder: MoEE, backend: CountingBackend, tmp_path: Path) -> None:
    store = ViewStore(embedder, tmp_path)
    assert store.missing(TEXTS, CONFIG) == len(TEXTS)
    first = store.views(TEXTS, CONFIG)
    assert backend.sequences == len(TEXTS)
    batches = backend.batches
    for again in (store, ViewStore(embedder, tmp_path)):  # of this process, and as of a later one
        assert again.missing(TEXTS, CONFIG) == 0
        assert same(again.views(TEXTS, CONFIG), first)
    assert backend.batches == batches


def test_a_request_for_more_runs_the_new_ones_only(embedder: MoEE, backend: CountingBackend, tmp_path: Path) -> None:
    ViewStore(embedder, tmp_path).views(TEXTS[:40], CONFIG)
    mixed = [*TEXTS[50:], *TEXTS[:5]]
    found = ViewStore(embedder, tmp_path).views(mixed, CONFIG)
    assert backend.sequences == 40 + 10
    assert same(found, embedder.encode_views(mixed, projections=True))


def test_equal_texts_run_once_and_rows_keep_their_order(
    embedder: MoEE, backend: CountingBackend, tmp_path: Path
) -> None:
    texts = ["b", "a", "b", "", "a"]
    found = ViewStore(embedder, tmp_path).views(texts, CONFIG)
    assert backend.sequences == 3
    whole = embedder.with_settings(on_empty="encode").encode_views(texts, projections=True)
    assert same(found, whole)
    assert np.array_equal(found.hidden_states[0], found.hidden_states[2])


def test_views_of_two_stores_over_one_folder_are_seen_by_both(
    embedder: MoEE, backend: CountingBackend, tmp_path: Path
) -> None:
    one, two = ViewStore(embedder, tmp_path), ViewStore(embedder, tmp_path)
    one.views(TEXTS[:10], CONFIG)
    two.views(TEXTS[:10], CONFIG)
    two.views(TEXTS[10:20], CONFIG)
    one.views(TEXTS[:20], CONFIG)
    assert backend.sequences == 20


@pytest.mark.usefixtures("small_chunks")
def test_a_real_model_gives_the_same_whatever_the_files(tiny: MoEE, tmp_path: Path) -> None:
    store = ViewStore(MoEE(tiny._backend, CONFIG, batch_tokens=100), tmp_path)
    store.views(TEXTS[10:30], CONFIG)
    found = store.views(TEXTS[:30], CONFIG)
    assert len(shards(tmp_path)) > 2
    assert same(found, tiny.encode_views(TEXTS[:30], projections=True), 1e-5)


# --- what decides a view -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"fusion": "hs"},
        {"alpha": 0.25},
        {"calibration": "none"},
        {"scoring": "topk"},
        {"normalize": False},
        {"recipe": "paper", "truncate": "error", "on_empty": "encode"},
    ],
)
def test_what_comes_after_the_model_shares_its_views(
    embedder: MoEE, backend: CountingBackend, tmp_path: Path, change: dict[str, Any]
) -> None:
    store = ViewStore(embedder, tmp_path)
    store.views(TEXTS[:5], CONFIG)
    store.views(TEXTS[:5], CONFIG.replace(**change))
    assert backend.sequences == 5


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "ke"},
        {"max_length": 40},
        {"hidden_layers": [0, 1]},
        {"hidden_pooling": "mean"},
        {"routing_layers": "last"},
        {"routing_pooling": "mean"},
    ],
)
def test_what_the_model_is_asked_for_keeps_views_apart(
    embedder: MoEE, backend: CountingBackend, tmp_path: Path, change: dict[str, Any]
) -> None:
    store = ViewStore(embedder, tmp_path)
    store.views(TEXTS[:5], CONFIG)
    assert store.missing(TEXTS[:5], CONFIG.replace(**change)) == 5
    store.views(TEXTS[:5], CONFIG.replace(**change))
    assert backend.sequences == 10


APART = EmbedderConfig(prompt_tokens="apart")


def test_template_and_text_apart_have_a_folder_of_their_own_with_the_mean_of_tokens(
    embedder: MoEE, backend: CountingBackend, tmp_path: Path
) -> None:
    store = ViewStore(embedder, tmp_path)
    texts = [*TEXTS[:5], ""]
    assert store.views(texts, RECIPES["0.1"]).tokens is None
    assert store.missing(texts, APART) == 6
    found = store.views(texts, APART)
    whole = embedder.with_settings(prompt_tokens="apart", on_empty="encode").encode_views(texts, with_tokens=True)
    assert found.tokens is not None
    assert whole.tokens is not None
    np.testing.assert_allclose(found.tokens, whole.tokens, atol=1e-6)
    assert found.tokens[:5].any(axis=1).all()
    assert not found.tokens[5].any()
    batches = backend.batches
    for change in ({"weights": {"hs": 1, "tokens": 0.5}}, {"tokens_layer": 1}, {"routing_calibration": "scale"}):
        again = store.views(texts, APART.replace(**change)).tokens  # layer 1 of 2 is the middle
        np.testing.assert_array_equal(again, found.tokens)
    assert backend.batches == batches
    assert store.missing(texts, APART.replace(tokens_layer=0)) == 6
    described = [json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("views/*/about.json")]
    assert {(each.get("prompt_tokens"), each.get("tokens_layer")) for each in described} == {(None, None), ("apart", 1)}


@pytest.mark.parametrize("weights", [{"hs": 1}, {"hs": 1, "tokens": 0.3}])
def test_a_store_without_the_control_keeps_the_mean_of_tokens_only_if_it_counts(
    embedder: MoEE, tmp_path: Path, weights: dict[Any, float]
) -> None:
    config = APART.replace(weights=weights)
    store = ViewStore(embedder, tmp_path, projections=False, strict=True)
    assert (store.views(TEXTS[:3], config).tokens is not None) == ("tokens" in weights)
    # written without it, what needs it is computed anew
    needs = APART.replace(weights={"hs": 1, "tokens": 1})
    assert store.missing(TEXTS[:3], needs) == (0 if "tokens" in weights else 3)
    assert store.views(TEXTS[:3], needs).tokens is not None


def test_templates_that_write_the_same_string_are_told_apart_by_their_seams(embedder: MoEE, tmp_path: Path) -> None:
    store = ViewStore(embedder, tmp_path)
    one = store.views(["b c"], APART.replace(prompt="a: {text}")).tokens
    assert store.missing(["c"], APART.replace(prompt="a: b {text}")) == 1
    other = store.views(["c"], APART.replace(prompt="a: b {text}")).tokens
    assert one is not None
    assert other is not None
    assert not np.allclose(one, other)


def test_pooled_routing_is_kept_for_each_scoring(embedder: MoEE, backend: CountingBackend, tmp_path: Path) -> None:
    """Weights are averaged over tokens, not logits, so scoring comes first."""
    store = ViewStore(embedder, tmp_path)
    for scoring in ("softmax", "topk", "softmax"):
        config = CONFIG.replace(routing_pooling="mean", scoring=scoring)
        wanted = embedder.with_settings(routing_pooling="mean", scoring=scoring).encode_views(["a b"])
        assert np.array_equal(store.views(["a b"], config).routing_weights, wanted.routing_weights)
    assert backend.sequences == 2 + 3


@pytest.mark.parametrize("scoring", get_args(Scoring))
def test_kept_logits_are_scored_as_the_model_would(tiny: MoEE, tmp_path: Path, scoring: Scoring) -> None:
    store = ViewStore(tiny, tmp_path)
    store.views(TEXTS[:8], CONFIG.replace(scoring="logits"))
    found = store.views(TEXTS[:8], CONFIG.replace(scoring=scoring))
    wanted = tiny.with_settings(scoring=scoring).encode_views(TEXTS[:8])
    assert len(shards(tmp_path)) == 1
    np.testing.assert_allclose(found.routing_weights, wanted.routing_weights, atol=1e-6)
    assert (found.layer_ids, found.num_experts) == (wanted.layer_ids, wanted.num_experts)


def test_chosen_layers_are_those_of_the_model(tiny: MoEE, tmp_path: Path) -> None:
    store = ViewStore(tiny, tmp_path)
    for chosen in ("last", (0,), (-1, 0)):
        settings = {"routing_layers": chosen, "hidden_layers": chosen}
        wanted = tiny.with_settings(**settings).encode_views(TEXTS[:4], projections=True)
        assert same(store.views(TEXTS[:4], CONFIG.replace(**settings)), wanted, 1e-6)


def test_cleaning_shares_what_it_leaves_alike(embedder: MoEE, backend: CountingBackend, tmp_path: Path) -> None:
    store = ViewStore(embedder, tmp_path)
    texts = ["A whole sentence.", "no full stop", 'Quoted "words".', "One more, with a question?"]
    store.views(texts, CONFIG)
    paper, tidy = CONFIG.replace(cleaning="paper"), CONFIG.replace(cleaning="tidy")
    assert store.missing(texts, paper) == 2
    assert store.missing(texts, tidy) == 1
    found = store.views(texts, paper)
    assert backend.sequences == 4 + 2
    assert same(found, embedder.with_settings(cleaning="paper").encode_views(texts, projections=True))
    assert not np.allclose(found.hidden_states[1], store.views(texts, CONFIG).hidden_states[1])


def test_views_are_kept_by_weights_and_not_by_how_a_path_is_spelt(tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(GOLDEN / "olmoe-tiny")
    for name in (GOLDEN / "olmoe-tiny", tmp_path / "linked"):
        ViewStore(MoEE.from_pretrained(name), tmp_path / "cache").views(TEXTS[:3], CONFIG)
    assert len(shards(tmp_path / "cache")) == 1


def test_the_folder_says_what_it_holds(embedder: MoEE, tmp_path: Path) -> None:
    ViewStore(embedder, tmp_path).views(TEXTS[:3], CONFIG.replace(max_length=77))
    (about,) = tmp_path.glob("views/*/about.json")
    described = json.loads(about.read_text(encoding="utf-8"))
    assert described["fingerprint"] == embedder.info.fingerprint
    assert (described["model"], described["max_length"]) == ("fake", 77)
    assert not {"prompt", "cleaning", "scoring"} & set(described)
    assert about.parent.name.startswith("fake-")


def test_cut_prompts_are_counted_once_for_all_files(
    embedder: MoEE,
    backend: CountingBackend,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("moee.view_store._CHUNK_CHARACTERS", 100)
    monkeypatch.setattr(logging.getLogger("moee"), "propagate", True)
    with caplog.at_level(logging.WARNING, logger="moee"):
        ViewStore(embedder, tmp_path).views(TEXTS, CONFIG.replace(max_length=13), description="STS12")
    num_cut = sum(len(sequence) > 13 for sequence in Apart("prompteol", backend.tokenize, "none").encode(TEXTS))
    assert 0 < num_cut < len(TEXTS)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"STS12: {num_cut} of {len(TEXTS)} texts were cut to 13 tokens;")


# --- runs that are stopped -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_stopped_run_keeps_its_files_and_goes_on_from_there(tmp_path: Path, after: int, error: BaseException) -> None:
    stopped = CountingBackend(fails_after=after, error=error)
    with pytest.raises(type(error)):
        ViewStore(MoEE(stopped, CONFIG, batch_tokens=100), tmp_path).views(TEXTS, CONFIG)
    kept = {path: path.read_bytes() for path in shards(tmp_path)}
    assert len(kept) == after
    assert not list(tmp_path.rglob("*.tmp"))

    backend = CountingBackend()
    model = MoEE(backend, CONFIG)
    store = ViewStore(model, tmp_path)
    assert store.missing(TEXTS, CONFIG) == len(TEXTS) - stopped.sequences
    found = store.views(TEXTS, CONFIG)
    assert backend.sequences == len(TEXTS) - stopped.sequences
    assert {path: path.read_bytes() for path in shards(tmp_path) if path in kept} == kept
    assert same(found, model.encode_views(TEXTS, projections=True))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk on which no larger file can be written, as far as this process can see."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_chunks")
def test_a_full_disk_is_said_and_what_was_finished_is_kept(
    embedder: MoEE, backend: CountingBackend, tmp_path: Path
) -> None:
    store = ViewStore(MoEE(backend, embedder.config, batch_tokens=200), tmp_path)
    # longest texts first, so files hold ever more rows and the first ones are the smallest
    long, short = [f"{'word ' * 150}{n}" for n in range(3)], [f"w {n}" for n in range(28)]
    with files_of_at_most(1200), pytest.warns(UserWarning, match=r"The cache .* cannot be written \(File too large\)"):
        views = store.views([*long, *short], CONFIG)
    assert len(shards(tmp_path)) == 3
    assert not list(tmp_path.rglob("*.tmp"))
    run = backend.sequences
    later = ViewStore(MoEE(backend, embedder.config, batch_tokens=200), tmp_path)
    assert later.missing([*long, *short], CONFIG) == len(short)
    assert np.array_equal(later.views([*long, *short], CONFIG).hidden_states, views.hidden_states)
    assert backend.sequences == run + len(short)


def test_a_cache_that_cannot_be_written_is_one_warning_and_every_view_is_right(embedder: MoEE, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        store = ViewStore(embedder, tmp_path / "file")
        views = store.views(TEXTS, CONFIG)
        again = store.views([*TEXTS, "one more"], CONFIG)
    assert [str(each.message)[:10] for each in caught] == ["The cache "]
    expected = ViewStore(embedder, tmp_path / "folder").views(TEXTS, CONFIG)
    assert np.array_equal(views.hidden_states, expected.hidden_states)
    assert np.array_equal(again.hidden_states[: len(TEXTS)], expected.hidden_states)


def test_a_folder_to_go_on_from_that_cannot_be_made_is_said_before_the_model_runs(
    embedder: MoEE, backend: CountingBackend, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="Cannot make the folder"):
        ViewStore(embedder, tmp_path / "file", strict=True).views(TEXTS, CONFIG)
    assert backend.batches == 0


# --- files that were damaged ---------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite(path: Path) -> None:
    path.write_bytes(b"not a tensor file at all")


def leave_out_the_keys(path: Path) -> None:
    arrays = load_file(path)
    save_file({name: array for name, array in arrays.items() if name != "keys"}, path)


def drop_a_row(path: Path) -> None:
    arrays = load_file(path)
    save_file({**arrays, "routing": arrays["routing"][1:].copy()}, path)


@pytest.mark.parametrize("damage", [cut, empty, overwrite, leave_out_the_keys, drop_a_row])
def test_a_damaged_file_is_named_and_may_be_deleted(embedder: MoEE, tmp_path: Path, damage: Any) -> None:
    first = ViewStore(embedder, tmp_path).views(TEXTS, CONFIG)
    (path,) = shards(tmp_path)
    damage(path)
    with pytest.raises(CheckpointError, match=rf"{path.name}' is damaged .*Delete it: it will be computed again"):
        ViewStore(embedder, tmp_path).views(TEXTS, CONFIG)
    path.unlink()
    assert same(ViewStore(embedder, tmp_path).views(TEXTS, CONFIG), first)
