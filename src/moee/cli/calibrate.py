"""`moee calibrate`: fit the frozen statistics of a model and save them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from moee.cli import options
from moee.cli.console import note, print_result, shows_progress
from moee.cli.groups import Method, Reads, Running, grouped
from moee.cli.inputs import Input, write_rejects


@grouped
def calibrate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help='"demo", a model folder, or a hub id.')],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for config.json and calibration.safetensors; weights stay put.")
    ],
    texts: Annotated[
        str | None,
        typer.Option("--texts", help="Your own texts, unlabelled: any INPUT of `moee embed`. Built-in if not given."),
    ] = None,
    text_column: options.TextColumn = "text",
    reads: Reads,
    method: Method,
    running: Running,
    as_json: options.Json = False,
) -> None:
    """Fit frozen statistics and save an embedder with them.

    Statistics of your own kind of text are worth more than the built-in general ones. They are fitted once and then
    frozen: the vector of a text never depends on the texts beside it.

    \b
    Examples:
      moee calibrate demo --texts corpus.jsonl --out my-embedder
      moee embed new.txt -m my-embedder -o new.npy
    """
    options.check_out_folder(out, holds="calibration.safetensors")
    given = Input.read(texts, text_column, reads) if texts is not None else None
    embedder = options.open_model(model, **method, **running)
    corpus, skipped = None, dict[str, Any]()
    if given is not None:
        corpus = given.texts(embedder.config.on_empty)
        skipped = write_rejects(given.source, given.reading, beside=out)
    statistics = embedder.calibrate(corpus, show_progress_bar=shows_progress())
    embedder.save(out)
    document = {"output": str(out), "model": embedder.info.name, "num_texts": statistics.num_texts, **skipped}
    print_result(document, str(out), as_json=as_json)
    use = f'moee embed INPUT -m {out}, or MoEE.from_pretrained("{out}")'
    note(f"Fitted on {statistics.num_texts} texts. Use it with: {use}")
