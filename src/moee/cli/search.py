"""`moee search`: ask an index."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moee.cli import options
from moee.cli.console import PLAIN_WIDTH, note, print_json, print_table
from moee.cli.groups import Loading, grouped

if TYPE_CHECKING:
    from moee.index.searcher import Searcher
    from moee.stores.store import Hit, Value
    from moee.types import View

_FIELD_WIDTH = 24
_LEAST_TEXT = 20
_COLUMN_GAP = 3


@grouped
def search(
    folder: options.IndexFolder,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for, in quotes.")],
    *,
    k: Annotated[int, typer.Option("-k", help="How many texts.")] = 10,
    weights: options.IndexWeights = None,
    fusion: Annotated[
        str | None,
        typer.Option(metavar="hs|rw|sum", help="Instead of weights: hidden states, routing weights, or both."),
    ] = None,
    alpha: options.Alpha = None,
    hybrid: Annotated[
        bool | None,
        typer.Option(
            "--hybrid/--no-hybrid",
            help="Search words too, or vectors alone. If not given: words too if the index keeps them.",
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option("--filter", metavar="EXPRESSION", help='Over the fields: year >= 2020 and lang in ("en", "de").'),
    ] = None,
    per_document: Annotated[
        bool, typer.Option("--per-document", help="The best passage of each document alone, in an index of passages.")
    ] = False,
    model: options.IndexModel = None,
    loading: Loading,
    as_json: options.Json = False,
) -> None:
    """Find the texts of an index that are most like a query.

    The model is the one that the index was built with. Weights say what each view counts when you ask: nothing is
    embedded again for others. The score is the mean of the cosines of the views under their weights; each stands beside
    it by its name. In a hybrid index `lexical` is full-text search: BM25, over that of the text whose words fit best.

    \b
    Examples:
      moee search papers.index "how do cells divide"
      moee search papers.index "how do cells divide" -k 3 --filter "year >= 2020"
      moee search papers.index "how do cells divide" --weights hs=1,rw=0.2
      moee search papers.index "how do cells divide" --fusion rw --json
      moee search papers.index "p53 mutations" --weights hs=1,lexical=2
      moee search papers.index "how do cells divide" --no-hybrid
    """
    from moee.index.searcher import Searcher

    weight = options.parse_alpha(alpha)
    chosen = weight if isinstance(weight, float) else None
    named = options.named_weights(weights)
    asked: dict[str, Any] = {"weights": named, "fusion": fusion, "alpha": chosen, "hybrid": hybrid}
    _check_question(folder, query, asked, where=where, per_document=per_document)
    with Searcher.open(folder, model=model, **loading) as searcher:
        hits = searcher.search(query, k, **asked, where=where, per_document=per_document)
        document = {
            "query": query,
            "weights": searcher.chosen_weights(**asked),
            "fusion": searcher.named_fusion(named, fusion, chosen),
            "alpha": searcher.alpha if chosen is None else chosen,
            "k": k,
            "filter": where,
            "num_texts": len(searcher),
            "results": [hit.to_dict() for hit in hits],
        }
        if as_json:
            print_json(document)
        else:
            _print_hits(hits, _shown_views(searcher, hits), list(searcher.manifest.file_fields))
        _say_state(searcher, hits, filtered=where is not None)


def _check_question(
    folder: Path,
    query: str,
    asked: Mapping[str, Any],
    *,
    where: str | None,
    per_document: bool,
) -> None:
    """Report what is wrong before a model is loaded for it; `asked` are named arguments of `settle_weights`."""
    from moee.files.text import check_text
    from moee.index.folder import EMBEDDER
    from moee.index.manifest import read_manifest
    from moee.index.passages import check_passages
    from moee.index.searcher import settle_weights
    from moee.method.saved import read_embedder
    from moee.stores.filters import Filter

    manifest = read_manifest(folder)
    check_text(query, "the query")
    settle_weights(manifest, read_embedder(folder / EMBEDDER).config, **asked)
    if where is not None:
        Filter.parse(where).check(manifest.layout.fields)
    if per_document:
        check_passages(manifest)


def _print_hits(hits: Sequence[Hit], views: Sequence[View], fields: Sequence[str]) -> None:
    """Print one line for each hit, the text cut to what room is left."""
    heads = ["score", *views, "id", *fields]
    rows = [
        [f"{hit.score:.3f}", *(f"{hit.cosines[view]:.3f}" for view in views), hit.record.id]
        + [_cut(_shown(hit.record.fields.get(name)), _FIELD_WIDTH) for name in fields]
        for hit in hits
    ]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PLAIN_WIDTH
    taken = sum(max(len(row[place]) for row in [heads, *rows]) + _COLUMN_GAP for place in range(len(heads)))
    room = max(width - taken - _COLUMN_GAP, _LEAST_TEXT)
    cells = [[*row, _cut(hit.record.text, room)] for row, hit in zip(rows, hits, strict=True)]
    print_table([">score", *(f">{view}" for view in views), "id", *fields, "text"], cells)


def _shown_views(searcher: Searcher, hits: Sequence[Hit]) -> list[View]:
    """Return the views of the index, without words if they were not searched."""
    return [view for view in searcher.views if all(view in hit.cosines for hit in hits)]


def _shown(value: Value) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cut(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _say_state(searcher: Searcher, hits: Sequence[Hit], *, filtered: bool) -> None:
    """Say why there may be less than one would expect."""
    for source in searcher.manifest.unfinished:
        note(
            f"The index is unfinished: {len(searcher)} texts so far, and not all {source.rows} of {source.path}. "
            "The command that began it goes on with it."
        )
    if not len(searcher):
        note("The index holds no texts.")
    elif not hits and filtered:
        note("No text passes the filter.")
