"""nDCG@10 of hybrid search through an index of the embedded default, beside words and vectors alone, on retrieval sets.

    MOEE_DATA=../shared/data python benchmarks/hybrid.py [--sets SciFact,Cranfield] [--store flat] [--json OUT.json]

Builds one hybrid index a set with the default recipe, in a folder that is kept: a run that was stopped goes on, and a
second one embeds nothing. Then each query is asked with several weights; its views are computed once. What the rows
mean:

- bm25 k1 0.9, b 0.4: the baseline of `moee eval`, over words as they stand, outside of any index.
- words: the index's own full-text search alone (stemmed words, BM25 with k1 1.2 and b 0.75).
- vectors: the views of the default recipe without the lexical one.
- hybrid: the default recipe, words and vectors with their weights.
- hybrid, words x2: the same with twice the weight of the words.

The whole of a set takes hours on two busy cores; --documents and --queries make it smaller, and easier. All rows are of
the same documents then, so they compare with each other and with nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from moee import MoEE
from moee.evaluate.tasks import load_task
from moee.evaluate.tasks.ranking import ndcg
from moee.evaluate.tasks.retrieval import RetrievalData, bm25_score
from moee.files.atomic import atomic_file
from moee.files.rows import Columns
from moee.index.build import build_index
from moee.index.fit import BuildOptions
from moee.index.records_from_file import read_corpus
from moee.index.searcher import Searcher
from moee.stores.registry import StoreSpec
from moee.types import View

SETS = "Cranfield,SciFact"
TOP = 10

Weights = Mapping[View, float]


def build(data: RetrievalData, model: MoEE, folder: Path, store: str) -> Path:
    """Build the index of a set's documents, or go on with it; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus, index = folder / "corpus.jsonl", folder / "index"
    rows = zip(data.document_ids, data.texts_at(data.documents), strict=True)
    corpus.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in rows), encoding="utf-8")
    options = BuildOptions(store=StoreSpec.parse(store, folder.name), calibrate="builtin", hybrid=True)
    build_index(index, read_corpus(str(corpus), Columns("text", "id", ())), model, options, show_progress=True)
    return index


def rows_of(weights: Weights) -> dict[str, Weights]:
    """Return the weights of every row, by its name."""
    dense: Weights = {view: weight for view, weight in weights.items() if view != "lexical"}
    return {
        "words": {"lexical": 1.0},
        "vectors": dense,
        "hybrid": weights,
        "hybrid, words x2": {**weights, "lexical": 2 * weights["lexical"]},
    }


def score(data: RetrievalData, searcher: Searcher) -> dict[str, Any]:
    """Return nDCG@10 x 100 and the mean milliseconds of a search without the model, by row."""
    judged = [q for q, name in enumerate(data.query_ids) if data.relevance.get(name)]
    texts = data.texts_at(data.queries[judged])
    blocks = searcher.query_blocks(texts)
    found: dict[str, Any] = {"bm25 k1 0.9, b 0.4": {"ndcg": 100 * bm25_score(data).main}}
    for name, weights in rows_of(searcher.weights).items():
        started, values = time.perf_counter(), []
        for row, text in enumerate(texts):
            own = {view: block[row] for view, block in blocks.items()}
            hits = searcher.find(searcher.weigh(own, weights=weights, text=text), TOP)
            values.append(_ndcg([hit.record.id for hit in hits], data.relevance[data.query_ids[judged[row]]]))
        seconds = time.perf_counter() - started
        found[name] = {"ndcg": 100 * float(np.mean(values)), "ms": 1000 * seconds / len(texts)}
    return found


def _ndcg(found: Sequence[str], judged: Mapping[str, int]) -> float:
    gains = np.array([float(judged.get(name, 0)) for name in found])
    return ndcg(gains, np.array(list(judged.values()), dtype=np.float64), TOP)


def main() -> None:
    """Build, ask and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=SETS)
    parser.add_argument("--store", default="flat", help="flat, lancedb or a PostgreSQL url")
    parser.add_argument("--documents", type=int, help="all judged ones, and the first others up to so many")
    parser.add_argument("--queries", type=int)
    parser.add_argument("--max-length", type=int, default=128, help="tokens of a text; longer ones are cut")
    parser.add_argument("--work", type=Path, default=Path("hybrid-indexes"), help="folder of the indexes")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    model = MoEE.from_pretrained("demo", dtype="float32", max_length=arguments.max_length, truncate="end")
    report: dict[str, Any] = {}
    for name in arguments.sets.split(","):
        folder = Path(os.environ["MOEE_DATA"]) / name
        loaded = load_task(folder, name, limit=arguments.queries, corpus_limit=arguments.documents)
        data = cast("RetrievalData", loaded)
        kind = arguments.store if arguments.store == "lancedb" else arguments.store.split(":")[0]
        work = arguments.work / f"{name}-{kind}-{len(data.documents)}-{arguments.max_length}"
        with Searcher.open(build(data, model, work, arguments.store), model=model) as searcher:
            rows = score(data, searcher)
            facts = {"documents": len(searcher), "queries": len(data.queries), "weights": dict(searcher.weights)}
            report[name] = {**facts, "store": kind, "max_length": arguments.max_length, "rows": rows}
        print(f"{name}: {len(data.documents)} documents, {len(data.queries)} queries, {searcher.weights}")
        for row, values in rows.items():
            print(f"  {row:22s} {values['ndcg']:6.2f}   {values.get('ms', float('nan')):7.1f} ms", flush=True)
    if arguments.json:
        with atomic_file(arguments.json) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
