"""`moee map`: every text of an index a point in the plane, in topics with labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moee.cli import options
from moee.cli.console import note, print_json, print_table

if TYPE_CHECKING:
    from moee.maps.pipeline import MadeMap


def map_(
    folder: options.IndexFolder,
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Path of the table; DIR/map.parquet if not given."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Path of the picture, .png or .svg; DIR/map.png if not given.")
    ] = None,
    topics: Annotated[
        int | None,
        typer.Option(metavar="N", help="Divide all texts into N topics (k-means), not dense groups."),
    ] = None,
    min_texts: Annotated[
        int | None, typer.Option(metavar="N", help="Fewest texts of a dense group; 5, or one in 100, if not given.")
    ] = None,
    max_points: Annotated[
        int, typer.Option(metavar="N", help="Most texts of a map; from a larger index, N are chosen by chance.")
    ] = 50_000,
    weights: options.IndexWeights = None,
    fusion: Annotated[
        str | None,
        typer.Option(metavar="hs|rw|sum", help="Instead of weights: hidden states, routing weights, or both."),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Weight of the routing weights in the sum; the index's own.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same map.")] = 0,
    as_json: options.Json = False,
) -> None:
    """Draw the map of an index.

    Every text becomes a point near those it is like (UMAP); dense groups are topics, labelled by the words that mark
    them. Needs no model. Written are a picture, a table with places, topics, fields and vectors, and DIR/map.json,
    which `moee serve --index DIR` shows.

    \b
    Examples:
      moee map papers.index
      moee map papers.index --topics 12 --plot papers.svg
      embedding-atlas papers.index/map.parquet --text text --x x --y y --neighbors neighbors
    """
    from moee.files.atomic import check_writable
    from moee.index.folder import open_index
    from moee.maps.picture import write_picture
    from moee.maps.pipeline import MapOptions, make_map
    from moee.maps.table import check_table, write_table
    from moee.plots.figure_file import check_figure

    chosen = MapOptions(
        max_points=max_points,
        seed=seed,
        topics=topics,
        min_texts=min_texts,
        weights=options.named_weights(weights),
        fusion=fusion,
        alpha=alpha,
    )
    with open_index(folder) as index:
        table, picture = out or index.folder / "map.parquet", plot or index.folder / "map.png"
        check_figure(picture)
        check_table()
        for path in (table, picture):
            check_writable(path)
        made = make_map(index, chosen, on_step=note)
        write_table(made, index.manifest.layout.fields, table)
        write_picture(made.corpus_map, picture, title=f"Map of {index.folder.name}")
        made.corpus_map.save(index.folder)  # last: whoever finds it finds the others
    note(f"Written: {picture}, {table}, {index.folder / 'map.json'}")
    if as_json:
        print_json(_document(made, table, picture))
    else:
        _print_topics(made)


def _document(made: MadeMap, table: Path, picture: Path) -> dict[str, Any]:
    from dataclasses import asdict

    found = made.corpus_map
    return {
        "points": len(found),
        "unclustered": int((found.topic < 0).sum()),
        "topics": [asdict(topic) for topic in found.topics],
        "origin": asdict(found.origin),
        "table": str(table),
        "picture": str(picture),
    }


def _print_topics(made: MadeMap) -> None:
    found = made.corpus_map
    alone = int((found.topic < 0).sum())
    rows = [[str(topic.topic), str(topic.count), topic.label] for topic in found.topics]
    print_table([">topic", ">texts", "label"], [*rows, *([["-", str(alone), "(in no topic)"]] if alone else [])])
    if not found.topics:
        note("No group of texts is dense enough for a topic. --topics N divides the map into N.")
