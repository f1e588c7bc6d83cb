"""`moee similarity`: how alike texts are, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moee.cli import options
from moee.cli.console import note, print_json, print_table, print_text
from moee.cli.groups import Fusing, Loading, Method, grouped
from moee.errors import InputError

if TYPE_CHECKING:
    from moee.embedder import MoEE
    from moee.method.explanation import Explanation


@grouped
def similarity(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT TEXT...", help="Two or more texts, each in quotes.")],
    *,
    model: options.ModelName = "demo",
    fusing: Fusing,
    method: Method,
    loading: Loading,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show what makes two texts alike, in parts of views, words, layers, experts."),
    ] = False,
    as_query: Annotated[
        bool,
        typer.Option(
            "--as-query",
            help="With --explain: the first text is a query and the second a document, each with its own prompt.",
        ),
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --explain: draw the parts as a heat map, .png or .svg.")
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", help="With --explain: how many experts and words are named.")] = 10,
    as_json: options.Json = False,
) -> None:
    """Print how alike texts are.

    The matrix holds the cosine similarity of every text with every other.
    With --explain, the similarity of two texts is split into exact parts that add up to it.

    \b
    Examples:
      moee similarity "A cat sat down." "A kitten took a seat." "Rates rose again."
      moee similarity "first text" "second text" --fusion rw --json
      moee similarity "first text" "second text" --weights hs=1,rw=0.2,lexical=0.5 --explain
      moee similarity "first text" "second text" --explain --plot parts.png
      moee similarity "a query" "a text that it found" -m papers.index/embedder --explain --as-query
    """
    _check(texts, explain=explain, as_query=as_query, plot=plot, top=top)
    embedder = options.open_model(model, **fusing, **method, **loading)
    if explain:
        explanation = embedder.explain(texts[0], texts[1], as_query=as_query)
        if plot is not None:
            explanation.heatmap(plot)
            note(f"Heat map: {plot}")
        if as_json:
            print_json(explanation.to_dict(top=top))
        else:
            _print_explanation(explanation, top)
    else:
        _print_matrix(embedder, texts, as_json=as_json)


def _check(texts: list[str], *, explain: bool, as_query: bool, plot: Path | None, top: int) -> None:
    """Refuse what cannot be done before a model is loaded."""
    from moee.files.atomic import check_writable
    from moee.files.text import check_text
    from moee.plots.figure_file import check_figure

    if len(texts) < 2:
        raise InputError(f"Only {len(texts)} text was given; similarity needs two or more. Put each text in quotes.")
    if explain and len(texts) != 2:
        raise InputError(f"{len(texts)} texts were given; --explain takes exactly two. Put each text in quotes.")
    if not explain and plot is not None:
        raise InputError(f"--plot {plot} draws an explanation. Give --explain too.")
    if not explain and as_query:
        raise InputError("--as-query says how two texts are explained. Give --explain too.")
    if top < 1:
        raise InputError(f"--top is {top}; it must be 1 or larger.")
    for number, text in enumerate(texts, start=1):
        check_text(text, f"text {number} of the command line")
    if plot is not None:
        check_figure(plot)
        check_writable(plot)


def _print_matrix(embedder: MoEE, texts: list[str], *, as_json: bool) -> None:
    views = embedder.encode_views(texts)
    vectors = embedder.fuse(views)
    matrix = embedder.similarity(vectors, vectors)
    if as_json:
        units = embedder.space().units(views)
        print_json(
            {
                "model": embedder.info.name,
                "texts": texts,
                "similarity": matrix.tolist(),
                "cosines": {view: (units[view] @ units[view].T).tolist() for view in embedder.config.views},
            }
        )
        return
    columns = ["", *(f">{number}" for number in range(1, len(texts) + 1)), "text"]
    rows = [
        [str(number), *(f"{value:.3f}" for value in row), text]
        for number, (text, row) in enumerate(zip(texts, matrix, strict=True), start=1)
    ]
    print_table(columns, rows)


def _print_explanation(explanation: Explanation, top: int) -> None:
    """Print the parts: of views, shared words, layers, the experts of the pair, and the experts of each text."""
    from moee.method.fusion import VIEW_NAMES

    rows = [
        [
            VIEW_NAMES[view],
            _shown(explanation.weights.get(view), 3),
            f"{explanation.cosines[view]:.3f}",
            f"{part:.4f}",
        ]
        for view, part in explanation.view_parts.items()
    ]
    total = ["similarity", "", "", f"{explanation.similarity:.4f}"]
    print_table(["view", ">weight", ">cosine", ">part"], [*rows, total])
    if "lexical" in explanation.view_parts:
        _print_words(explanation, top)
    if "rw" in explanation.view_parts:
        _print_experts(explanation, top)


def _print_words(explanation: Explanation, top: int) -> None:
    """Print the words that both texts share; what is not shown is added up."""
    shown = explanation.words[:top]
    rows = [[" / ".join(dict.fromkeys(each.forms)), f"{each.part:.5f}"] for each in shown]
    others = explanation.view_parts["lexical"] - sum(each.part for each in shown) - explanation.collisions
    if explanation.words[top:]:
        rows.append([f"({len(explanation.words) - len(shown)} further words)", f"{others:.5f}"])
    if abs(explanation.collisions) >= _LEAST_SHOWN:
        rows.append(["(other words that share a coordinate)", f"{explanation.collisions:.5f}"])
    print_text()
    print_table(["word", ">part"], rows or [["(no word in common)", ""]], title="Words that both texts share")


def _print_experts(explanation: Explanation, top: int) -> None:
    if not explanation.layer_ids:
        return
    layers = zip(explanation.layer_ids, explanation.layer_parts, strict=True)
    print_text()
    print_table([">layer", ">part"], [[str(layer), f"{part:.5f}"] for layer, part in layers], title="Parts of layers")
    print_text()
    print_table(
        [">layer", ">expert", ">part", ">weight 1", ">weight 2"],
        [
            [str(each.layer), str(each.expert), f"{each.part:.5f}", *(f"{weight:.5f}" for weight in each.weights)]
            for each in explanation.top_experts(top)
        ],
        title="Experts with the largest parts",
    )
    marking = (explanation.top_experts_of("a", top), explanation.top_experts_of("b", top))
    for number, experts in enumerate(marking, start=1):
        print_text()
        print_table(
            [">layer", ">expert", ">weight", ">usual weight"],
            [[str(each.layer), str(each.expert), f"{each.weight:.5f}", _shown(each.mean, 5)] for each in experts],
            title=f"Experts that mark text {number}",
        )


_LEAST_SHOWN = 5e-6
"""Below, five decimals show zero."""


def _shown(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
