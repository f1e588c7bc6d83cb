"""The page that says whom the package is for: its tables come from result files."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The script, which imports others from its own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        yield importlib.import_module("for_me_page")
    for name in ("written_pages", "results_scores", "for_me_page"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("vectors", "found"),
    [
        (["hs", "hs=1,rw=0.2", "hs=1,rw=0.2,tokens=0.3,lexical=1"], "hs=1,rw=0.2,tokens=0.3,lexical=1"),
        (["hs", "sum"], "sum"),
    ],
)
def test_the_recipe_is_the_column_of_most_views(script: ModuleType, vectors: list[str], found: str) -> None:
    scores: Any = SimpleNamespace(vectors=dict.fromkeys(vectors))
    assert script.recipe_key(scores).vector == found


def test_the_page_fits_the_files(script: ModuleType) -> None:
    assert script.main(["--check"]) == 0
