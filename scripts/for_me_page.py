"""Fill the tables of docs/is-it-for-me.md from result files, and check what the page quotes.

A person writes the page; `written_pages` says how each number in it is checked.

- `evaluation/demo.json`: `moee eval`, all tasks (`make bench-evaluate`).
- `evaluation/minilm.json`: what was measured of a trained embedder, and how.
- `performance/demo-short.json`: `moee bench` of the embedded default (`make bench-performance`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results_scores import Key, Scores
from written_pages import Blocks, Measures, write_or_check

from moee.evaluate.result_files import markdown_table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "is-it-for-me.md"
KINDS = ("STS", "Classification", "PairClassification", "Clustering", "Reranking", "Retrieval")
Document = Mapping[str, Any]


def read(path: Path) -> Document:
    """Return a result file.

    Raises:
        SystemExit: If it is not there.
    """
    if not path.is_file():
        raise SystemExit(f"{path} is not there. Run: make bench-evaluate bench-performance")
    found: Document = json.loads(path.read_text(encoding="utf-8"))
    return found


def make(folder: Path, _page: Path) -> tuple[Blocks, Measures]:
    """Return the generated parts of the page, and what it can quote."""
    trained = read(folder / "evaluation" / "minilm.json")
    scores = Scores(dict(read(folder / "evaluation" / "demo.json")))
    means = quality(scores, trained)

    def score(which: str, kind: str) -> dict[str, float]:
        return {"points": means[which][kind]}

    speed = read(folder / "performance" / "demo-short.json")
    return {"quality": _quality(means, recipe_key(scores)), "cost": _cost(speed, trained)}, {"score": score}


def recipe_key(scores: Scores) -> Key:
    """Return the column of the default recipe: the named weights of most views; `sum` in a file of version 0.1.0."""
    named = [name for name in scores.vectors if "=" in name]
    return Key("default", "builtin", max(named, key=lambda name: name.count("="), default="sum"))


def quality(scores: Scores, trained: Document) -> dict[str, dict[str, float]]:
    """Return the mean of each task type by what was scored, in the order of the page's table."""
    demo, floor, bm25 = (
        scores.type_means(key) for key in (recipe_key(scores), Key("", "", "tf-idf"), Key("", "", "bm25"))
    )
    words = floor | ({"Retrieval": bm25["Retrieval"]} if "Retrieval" in bm25 else {})
    found = {"demo": demo, "words": words, "minilm": trained["type_means"]}
    return {name: {kind: each[kind] for kind in KINDS if kind in each} for name, each in found.items()}


def _quality(means: Mapping[str, Mapping[str, float]], recipe: Key) -> list[str]:
    names = {
        "demo": f"embedded default, `{recipe.vector}`, built-in statistics (measured)",
        "words": "TF-IDF; in retrieval BM25, where it was measured",
        "minilm": "all-MiniLM-L6-v2 (measured, on other samples)",
    }
    body = [
        [names[name], *(f"{each[kind]:.1f}" if kind in each else "" for kind in KINDS)] for name, each in means.items()
    ]
    return markdown_table(["vectors", *(f">{kind}" for kind in KINDS)], body)


def _cost(speed: Document, trained: Document) -> list[str]:
    (timed,) = (each for each in speed["contestants"] if each["name"] == "moee")
    own, other = speed["model"]["flops_per_token"], trained["flops_per_token"]
    body = [
        [
            f"embedded default ({timed['gives']})",
            f"{1000 / timed['texts_per_second']:.0f} (measured)",
            f"{own / 1e9:.3f}",
            "1.00",
        ],
        ["all-MiniLM-L6-v2", "", f"{other / 1e9:.3f} (by calculation)", f"{other / own:.2f}"],
    ]
    return markdown_table(["vectors", ">1,000 texts, s", ">GFLOP a token", ">of the embedded default's"], body)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the page; return 1 if it is out of date or quotes a number that the files do not give."""
    return write_or_check(make, arguments, folder=RESULTS, page=PAGE, target="results", description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
