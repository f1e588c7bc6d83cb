"""`moee embed`: a file of texts into a file of vectors."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moee.cli import options
from moee.cli.console import note, print_json, print_json_lines, shows_progress
from moee.cli.groups import Fusing, Lengths, Method, Reads, Running, grouped
from moee.cli.inputs import ON_EMPTY, Input, write_rejects

if TYPE_CHECKING:
    from moee.embedder import MoEE
    from moee.files.write import Embedded


@grouped
def embed(
    source: options.Input,
    *,
    model: options.ModelName = "demo",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A .npy, .npz, .jsonl or .parquet file; JSON Lines on standard output if not given."
        ),
    ] = None,
    fusing: Fusing,
    method: Method,
    text_column: options.TextColumn = "text",
    reads: Reads,
    views: Annotated[
        bool, typer.Option("--views", help="Also write the hidden states and the routing weights themselves.")
    ] = False,
    lengths: Lengths,
    running: Running,
    as_json: options.Json = False,
) -> None:
    """Turn a file of texts into vectors.

    One vector for each text, in the order of the input.

    Every record of .jsonl and .parquet has index, text and embedding, and with --views also hidden_states and
    routing_weights. An .npz file has them as arrays, with layer_ids and num_experts; an .npy file has the vectors only.

    With -o, finished texts are kept in OUTPUT.parts until the file is written: run the same command again after a stop,
    and it goes on from there. A model larger than memory is read from disk a layer at a time (see --memory).

    \b
    Examples:
      moee embed reviews.csv --text-column review -o reviews.npy
      cat questions.txt | moee embed - --fusion hs > questions.jsonl
      moee embed reviews.csv --text-column review --weights hs=1,rw=0.2,lexical=1 -o reviews.npy
      moee embed papers.parquet -m allenai/OLMoE-1B-7B-0924 -o vectors.parquet
      moee embed papers.parquet -m deepseek-ai/deepseek-moe-16b-base --memory 8GiB -o vectors.parquet
    """
    from moee.files.write import check_output

    if output is not None:
        check_output(output, with_views=views)
    given = Input.read(source, text_column, reads)
    embedder = options.open_model(model, **fusing, **method, **lengths, **running)
    texts = given.texts(embedder.config.on_empty, if_empty=ON_EMPTY)
    skipped = write_rejects(source, given.reading, beside=output)
    started = time.perf_counter()
    embedded = _encode(embedder, texts, output, with_views=views)
    _deliver(embedder, embedded, output, skipped, as_json=as_json, seconds=time.perf_counter() - started)


def _encode(embedder: MoEE, texts: list[str], output: Path | None, *, with_views: bool) -> Embedded:
    """Run the model. With an output file, what is finished is kept beside it until the file is written."""
    from moee.files.write import Embedded
    from moee.view_store import ViewStore

    if output is None:
        views = embedder.encode_views(texts, show_progress_bar=shows_progress())
    else:
        store = ViewStore(embedder, parts_of(output), show_progress=shows_progress(), projections=False, strict=True)
        if done := len(set(texts)) - store.missing(list(dict.fromkeys(texts)), embedder.config):
            note(f"{done} texts were finished by an earlier run and are taken from {parts_of(output)}")
        views = store.views(texts, embedder.config)
    return Embedded(texts=texts, vectors=embedder.fuse(views), views=views if with_views else None)


def parts_of(output: Path) -> Path:
    """Return the folder in which finished texts are kept until `output` is written."""
    return output.with_name(f"{output.name}.parts")


def _deliver(
    embedder: MoEE, embedded: Embedded, output: Path | None, skipped: dict[str, Any], *, as_json: bool, seconds: float
) -> None:
    """Write the file or print the records, and say what was done. `Any`: part of the JSON."""
    from moee.files.write import jsonl_records, write

    summary: dict[str, Any] = {
        "model": embedder.info.name,
        "num_texts": len(embedded.texts),
        "dim": int(embedded.vectors.shape[1]),
        "dims": embedder.dims,
        "seconds": round(seconds, 3),
        "config": embedder.config.to_dict(),
        **skipped,
    }
    if output is not None:
        write(output, embedded)
        shutil.rmtree(parts_of(output), ignore_errors=True)
        if as_json:
            print_json({"output": str(output), **summary})
    elif as_json:
        print_json({**summary, "records": list(jsonl_records(embedded))})
    else:
        print_json_lines(jsonl_records(embedded))
    target = f" -> {output}" if output is not None else ""
    parts = ", ".join(f"{view} {dim}" for view, dim in embedder.dims.items())
    note(f"{summary['num_texts']} texts, {summary['dim']} dimensions ({parts}), {seconds:.1f} s{target}")
