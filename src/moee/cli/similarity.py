"""`moee similarity`: how alike texts are."""

from __future__ import annotations

from typing import Annotated

import typer

from moee.cli import options
from moee.cli.console import print_json, print_table
from moee.errors import InputError


def similarity(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT TEXT...", help="Two or more texts, each in quotes.")],
    *,
    model: options.ModelName = "demo",
    fusion: options.Fusion = None,
    alpha: options.Alpha = None,
    prompt: options.Prompt = None,
    recipe: options.Recipe = None,
    calibration: options.CalibrationMethod = None,
    scoring: options.Scoring = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Print how alike texts are.

    The matrix holds the cosine similarity of every text with every other.

    \b
    Examples:
      moee similarity "A cat sat down." "A kitten took a seat." "Rates rose again."
      moee similarity "first text" "second text" --fusion rw --json
    """
    from moee.corpus import check_text

    if len(texts) < 2:
        raise InputError(f"Only {len(texts)} text was given; similarity needs two or more. Put each text in quotes.")
    for number, text in enumerate(texts, start=1):
        check_text(text, f"text {number} of the command line")
    embedder = options.open_model(
        model,
        recipe=recipe,
        fusion=fusion,
        alpha=options.parse_alpha(alpha),
        prompt=prompt,
        calibration=calibration,
        scoring=scoring,
        dtype=dtype,
        device=device,
    )
    vectors = embedder.encode(texts)
    matrix = embedder.similarity(vectors, vectors)
    if as_json:
        print_json(
            {"model": embedder.info.name, "texts": texts, "similarity": [[float(v) for v in row] for row in matrix]}
        )
        return
    columns = ["", *(f">{number}" for number in range(1, len(texts) + 1)), "text"]
    rows = [
        [str(number), *(f"{value:.3f}" for value in row), text]
        for number, (text, row) in enumerate(zip(texts, matrix, strict=True), start=1)
    ]
    print_table(columns, rows)
