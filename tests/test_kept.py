"""What earlier versions wrote: folders under `kept/VERSION`, and the answers that version gave."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moee import MoEE
from moee.index.build import add_texts
from moee.index.folder import REPORT, open_index
from moee.index.info import describe
from moee.index.map_file import CorpusMap
from moee.index.records_from_file import read_addition
from moee.index.searcher import Searcher
from moee.view_store import ViewStore

GOLDEN = Path(__file__).parent / "golden" / "olmoe-tiny"
VERSIONS = sorted(path.name for path in (Path(__file__).parent / "kept").iterdir())
FORMER_MODEL = "/models/olmoe-tiny"
"""Where the model lay when the folders were written: it is the golden checkpoint."""
ROUNDING = 1e-5
"""Bound of float32 rounding between machines."""


@pytest.fixture(params=VERSIONS)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the folders of one version that names the model where it lies today."""
    folder = tmp_path / "kept"
    shutil.copytree(Path(__file__).parent / "kept" / str(request.param), folder)
    for path in folder.rglob("*.json"):
        path.write_text(path.read_text(encoding="utf-8").replace(FORMER_MODEL, GOLDEN.as_posix()), encoding="utf-8")
    return folder


def _answers(kept: Path) -> Any:
    return json.loads((kept / "answers.json").read_text(encoding="utf-8"))


def test_a_saved_embedder_gives_the_vectors_of_then(kept: Path) -> None:
    answers = _answers(kept)
    vectors = MoEE.from_pretrained(kept / "embedder", dtype="float32").encode(answers["texts"])
    np.testing.assert_allclose(vectors, answers["vectors"], atol=ROUNDING)


@pytest.mark.parametrize("name", ["plain.index", "small.index", "lance.index", "binary.index"])
def test_an_index_gives_the_hits_of_then(kept: Path, name: str) -> None:
    answers = _answers(kept)
    wanted = answers["searches"][name]
    with Searcher.open(kept / name) as searcher:
        assert searcher.alpha == pytest.approx(wanted["alpha"])
        hits = searcher.search(answers["texts"][0], k=len(wanted["ids"]))
    np.testing.assert_allclose([hit.score for hit in hits], wanted["scores"], atol=ROUNDING)
    # equal scores within rounding may come in either order
    assert {hit.record.id for hit in hits} == set(wanted["ids"])


@pytest.mark.parametrize("name", ["lance.index", "binary.index"])
@pytest.mark.parametrize(
    ("label", "how"), [("", {}), ("alpha=0.5", {"alpha": 0.5, "fusion": "sum"}), ("rw", {"fusion": "rw"})]
)
def test_an_index_is_asked_in_the_ways_of_then(kept: Path, name: str, label: str, how: dict[str, Any]) -> None:
    """One is of both views by default, the other of hidden states alone; each can be asked for what it is not."""
    answers = _answers(kept)
    wanted = {each["id"]: each for each in answers["searches"][name]["asked"][label]}
    with Searcher.open(kept / name) as searcher:
        hits = [hit.to_dict() for hit in searcher.search(answers["texts"][0], k=len(wanted), **how)]
    assert {hit["id"] for hit in hits} == set(wanted)
    for hit in hits:
        assert {key: hit[key] for key in wanted[hit["id"]]} == pytest.approx(wanted[hit["id"]], abs=ROUNDING)


@pytest.mark.parametrize("name", ["plain.index", "small.index", "lance.index", "binary.index"])
def test_texts_are_added_to_an_index_of_then(kept: Path, name: str, tmp_path: Path) -> None:
    """What is written by today's version is read again with what was there."""
    source = tmp_path / "more.jsonl"
    with Searcher.open(kept / name) as searcher:
        before = len(searcher)
        manifest = searcher.manifest
        fields = dict.fromkeys(manifest.layout.fields)
        source.write_text(json.dumps({"id": "new", "text": "Owls hunt at night.", **fields}) + "\n", encoding="utf-8")
        corpus = read_addition(manifest, str(source))
        assert add_texts(searcher, corpus).num_embedded == 1
    with Searcher.open(kept / name) as searcher:
        assert len(searcher) == before + 1
        assert searcher.search("Owls hunt at night.", 1)[0].record.text == "Owls hunt at night."


def test_an_index_is_described_with_what_was_measured_then(kept: Path) -> None:
    with open_index(kept / "binary.index") as index:
        facts = describe(index)
    assert facts["vectors"]["stored_as"] == "binary"
    assert facts["report"] == json.loads((kept / "binary.index" / REPORT).read_text(encoding="utf-8"))


def test_a_map_still_belongs_to_its_index(kept: Path) -> None:
    with open_index(kept / "plain.index") as index:
        found = CorpusMap.load(index.folder)
        assert found is not None
        assert found.staleness(index.manifest, len(index.store)) is None


def test_views_that_were_kept_are_not_computed_again(kept: Path) -> None:
    answers = _answers(kept)
    model = MoEE.from_pretrained(kept / "embedder", dtype="float32")
    store = ViewStore(model, kept, projections=False, strict=True)
    assert store.missing(answers["texts"], model.config) == 0
    views = store.views(answers["texts"], model.config)
    np.testing.assert_allclose(views.hidden_states[:, :8], answers["hidden_states"], atol=ROUNDING)
    np.testing.assert_allclose(views.routing_weights[:, :8], answers["routing_weights"], atol=ROUNDING)
