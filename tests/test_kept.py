"""What earlier versions wrote: folders under `kept/VERSION`, and the answers that version gave."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moee import MoEE
from moee.index.searcher import Searcher

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


@pytest.mark.parametrize("name", ["plain.index", "small.index"])
def test_an_index_gives_the_hits_of_then(kept: Path, name: str) -> None:
    answers = _answers(kept)
    wanted = answers["searches"][name]
    with Searcher.open(kept / name) as searcher:
        assert searcher.alpha == pytest.approx(wanted["alpha"])
        hits = searcher.search(answers["texts"][0], k=len(wanted["ids"]))
    np.testing.assert_allclose([hit.score for hit in hits], wanted["scores"], atol=ROUNDING)
    # equal scores within rounding may come in either order
    assert {hit.record.id for hit in hits} == set(wanted["ids"])
