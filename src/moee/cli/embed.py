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
from moee.errors import InputError, check_choice

if TYPE_CHECKING:
    from moee.embedder import MoEE
    from moee.files.write import Embedded
    from moee.method.chunks import Chunk
    from moee.types import Views


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
    chunk: options.Chunk = None,
    chunks: Annotated[
        str | None,
        typer.Option(
            metavar="pool|keep",
            help="With --chunk: one vector for each text, made of its passages' (pool, the default), or one for each "
            "passage (keep).",
        ),
    ] = None,
    lengths: Lengths,
    running: Running,
    as_json: options.Json = False,
) -> None:
    """Turn a file of texts into vectors.

    One vector for each text, in the order of the input.

    Every record of .jsonl and .parquet has index, text and embedding, and with --views also hidden_states and
    routing_weights. An .npz file has them as arrays, with layer_ids and num_experts; an .npy file has the vectors only.

    With --chunk, long texts are split and nothing of them is cut off. Kept passages have the index of their text, and
    chunk, start and end: their number and place in it.

    With -o, finished texts are kept in OUTPUT.parts until the file is written: run the same command again after a stop,
    and it goes on from there. A model larger than memory is read from disk a layer at a time (see --memory).

    \b
    Examples:
      moee embed reviews.csv --text-column review -o reviews.npy
      cat questions.txt | moee embed - --fusion hs > questions.jsonl
      moee embed reviews.csv --text-column review --weights hs=1,rw=0.2,lexical=1 -o reviews.npy
      moee embed books.jsonl --chunk 256 --chunks keep -o passages.jsonl
      moee embed papers.parquet -m allenai/OLMoE-1B-7B-0924 -o vectors.parquet
      moee embed papers.parquet -m deepseek-ai/deepseek-moe-16b-base --memory 8GiB -o vectors.parquet
    """
    from moee.files.write import check_output

    if output is not None:
        check_output(output, with_views=views)
    keeps = _keeps_chunks(chunk, chunks, with_views=views)
    given = Input.read(source, text_column, reads)
    embedder = options.open_model(model, **fusing, **method, **lengths, **running)
    texts = given.texts(embedder.config.on_empty, if_empty=ON_EMPTY)
    skipped = write_rejects(source, given.reading, beside=output)
    started = time.perf_counter()
    if chunk is not None and not keeps:
        embedder.config.check_alone("made of chunks")
    split = None if chunk is None else embedder.split(texts, chunk)
    embedded = _encode(embedder, texts, output, split, keeps=keeps, with_views=views)
    skipped = {"num_texts": len(texts), **({"num_passages": sum(map(len, split))} if split else {}), **skipped}
    _deliver(embedder, embedded, output, skipped, as_json=as_json, seconds=time.perf_counter() - started)


def _keeps_chunks(chunk: int | None, chunks: str | None, *, with_views: bool) -> bool:
    """Return whether passages are kept, once the options are seen to fit."""
    if chunks is not None:
        check_choice("value of --chunks", chunks, ("pool", "keep"))
        if chunk is None:
            raise InputError("--chunks says what becomes of passages, and there are none. Give --chunk 256 too.")
    if chunk is not None and chunks != "keep" and with_views:
        raise InputError("--views has a row for each passage, and --chunks pool one for each text. Give --chunks keep.")
    return chunks == "keep"


def _encode(
    embedder: MoEE,
    texts: list[str],
    output: Path | None,
    split: list[list[Chunk]] | None,
    *,
    keeps: bool,
    with_views: bool,
) -> Embedded:
    """Run the model. With an output file, what is finished is kept beside it until the file is written."""
    from moee.files.write import Embedded, Passage

    if split is None:
        views = _views(embedder, texts, output)
        return Embedded(texts, embedder.fuse(views), views if with_views else None)
    passages = [each.text for own in split for each in own]
    views = _views(embedder, passages, output)
    if not keeps:
        return Embedded(texts, embedder.space().vectors(views, split))
    places = [
        Passage(index, number, each.start, each.end)
        for index, own in enumerate(split)
        for number, each in enumerate(own)
    ]
    return Embedded(passages, embedder.fuse(views), views if with_views else None, places)


def _views(embedder: MoEE, texts: list[str], output: Path | None) -> Views:
    from moee.view_store import ViewStore

    if output is None:
        return embedder.encode_views(texts, show_progress_bar=shows_progress())
    store = ViewStore(embedder, parts_of(output), show_progress=shows_progress(), projections=False, strict=True)
    if done := len(set(texts)) - store.missing(list(dict.fromkeys(texts)), embedder.config):
        note(f"{done} texts were finished by an earlier run and are taken from {parts_of(output)}")
    return store.views(texts, embedder.config)


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
    chunks = f" in {summary['num_passages']} passages" if "num_passages" in summary else ""
    note(f"{summary['num_texts']} texts{chunks}, {summary['dim']} dimensions ({parts}), {seconds:.1f} s{target}")
