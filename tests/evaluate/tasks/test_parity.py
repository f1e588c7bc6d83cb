"""The local scores equal mteb's own, computed by mteb from the same vectors."""

from __future__ import annotations

from pathlib import Path

import pytest

from moee.backends.fake import FakeBackend
from moee.evaluate.mteb.run import describe_model, encoder_from_embed, mteb_task, run_mteb
from moee.evaluate.tasks import load_task, score
from tests.evaluate.tasks.miniatures import MINIATURES, hashed_embed, write_miniature

IN_MTEB = [name for name in MINIATURES if name != "Lee50"]
ROUNDED = ("SciFact", "Cranfield", "WikiQA")
"""Tasks whose main score mteb rounds to five decimals."""


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the copies that `datasets` makes out of the user's cache."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")


def compare(
    folder: Path, name: str, workdir: Path, *, limit: int | None = None, corpus_limit: int | None = None
) -> None:
    data = load_task(folder, name, limit=limit, corpus_limit=corpus_limit)
    embed = hashed_embed(data)
    task = mteb_task(folder, name, workdir, limit=limit, corpus_limit=corpus_limit)
    meta = describe_model(FakeBackend().info, {"recipe": "made up"})
    (theirs,) = run_mteb(encoder_from_embed(data, embed, meta), [task], workdir / "results").values()
    ours = score(data, embed).main
    assert (round(ours, 5) if name in ROUNDED else ours) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_MTEB)
def test_a_miniature_scores_as_in_mteb(tmp_path: Path, name: str) -> None:
    compare(write_miniature(tmp_path / "data", name), name, tmp_path)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("STS12", 300),
        ("TwitterSemEval2015", 300),
        ("AmazonCounterfactual-en", 100),
        ("TwentyNewsgroupsClustering", 1000),
        ("WikiQA", 40),
        ("Cranfield", 40),
        ("SummEval", 10),
    ],
)
def test_rows_of_a_real_set_score_as_in_mteb(tmp_path: Path, data_folder: Path, name: str, limit: int) -> None:
    compare(data_folder / name, name, tmp_path, limit=limit, corpus_limit=400)
