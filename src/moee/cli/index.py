"""`moee index`: build, add to, delete from, and describe an index."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moee.cli import options
from moee.cli.console import note, print_json, print_result, print_table, print_text, shows_progress
from moee.cli.groups import Lengths, Reads, Running, grouped
from moee.cli.inputs import ON_EMPTY, reading_of, write_rejects
from moee.errors import InputError
from moee.memory import format_size

if TYPE_CHECKING:
    from moee.index.build import Built

app = typer.Typer(
    help="Build an index of texts for `moee search` and `moee serve`, and keep it up to date.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

IdColumn = Annotated[
    str | None,
    typer.Option(help="Column of unique ids; `id` if the file has it, else a digest of each text."),
]


@app.command()
@grouped
def build(
    source: options.Input,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the index.")],
    model: options.ModelName = "demo",
    text_column: options.TextColumn = "text",
    id_column: IdColumn = None,
    fields: Annotated[
        str | None, typer.Option(metavar="A,B", help="Columns to filter by and to show: strings, numbers, true/false.")
    ] = None,
    store: Annotated[
        str,
        typer.Option(
            metavar="flat|lancedb|URL",
            help="flat: files, exact. lancedb: files, for larger corpora. postgresql://...: a table with pgvector.",
        ),
    ] = "flat",
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Search by an approximate index (lancedb, postgresql).")
    ] = False,
    hybrid: Annotated[
        bool,
        typer.Option("--hybrid/--no-hybrid", help="Keep the words for full-text search, in place of a lexical block."),
    ] = False,
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="corpus|builtin|none",
            help="Whose statistics: of 4,096 of these texts, of built-in sentences, or nobody's. corpus helps where "
            "texts are compared in pairs, and harms where they fall into classes. If not given: the model's own from "
            "`moee calibrate`, else builtin.",
        ),
    ] = None,
    dims: Annotated[
        int | None, typer.Option(metavar="N", help="Shorten vectors to N dimensions, both views together.")
    ] = None,
    reduction: Annotated[
        str, typer.Option(metavar="pca|random", help="How: fitted to these texts, or by random directions.")
    ] = "pca",
    quantize: Annotated[
        str | None, typer.Option(metavar="int8|binary", help="8 bits or 1 bit a dimension (flat only).")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Measure what shorter and rounder vectors lose, on held-out texts.")
    ] = False,
    chunk: options.Chunk = None,
    chunks: Annotated[
        str,
        typer.Option(
            metavar="keep|pool",
            help="With --chunk: a record for each passage, which names its text, or one for each text, its vector made "
            "of its passages'.",
        ),
    ] = "keep",
    prompt: options.Prompt = None,
    query_prompt: Annotated[str | None, typer.Option(help="Prompt of queries, if it is another.")] = None,
    document_prompt: Annotated[str | None, typer.Option(help="Prompt of the texts, if it is another.")] = None,
    scoring: options.Scoring = None,
    weights: options.Weights = None,
    lengths: Lengths,
    reads: Reads,
    running: Running,
    as_json: options.Json = False,
) -> None:
    """Build an index from a file of texts.

    Views that weigh more than 0 are stored, each by itself, with HS and RW in any case; what they count is chosen at
    every search, and --weights says what counts if a search names nothing. The model and its statistics stay as they
    are for good.

    A build that was stopped, however it was, goes on with the same command; texts that are there are not embedded
    again. It can be searched meanwhile.

    \b
    Examples:
      moee index build papers.jsonl --out papers.index --fields year,venue
      moee index build reviews.csv --text-column review --id-column number --out reviews.index
      moee index build corpus.parquet --out small.index --dims 256 --quantize int8 --report
      moee index build books.jsonl --chunk 256 --out books.index
      moee index build notes.txt --out notes.index --store postgresql://me@localhost/notes
    """
    from moee.files.rows import Columns
    from moee.index.build import build_index
    from moee.index.fit import BuildOptions
    from moee.index.records_from_file import read_corpus
    from moee.stores.registry import StoreSpec

    how = BuildOptions(
        store=StoreSpec.parse(store, out.name, approximate=approximate),
        calibrate=calibrate,
        dims=dims,
        reduction=reduction,
        quantize=quantize,
        report=report,
        hybrid=hybrid,
        chunk=chunk,
        chunks=chunks,
    )
    corpus = read_corpus(source, Columns(text_column, id_column, _names(fields)), reading=reading_of(reads))
    embedder = options.open_model(
        model,
        prompt=prompt,
        query_prompt=query_prompt,
        document_prompt=document_prompt,
        scoring=scoring,
        weights=weights,
        **lengths,
        **running,
    )
    corpus = corpus.with_texts(embedder.config.on_empty, if_empty=ON_EMPTY)
    skipped = write_rejects(source, corpus.reading, beside=out)
    built = build_index(out, corpus, embedder, how, show_progress=shows_progress())
    _say_built(out, built, skipped, as_json=as_json)


@app.command()
@grouped
def add(
    folder: options.IndexFolder,
    source: options.Input,
    *,
    text_column: Annotated[
        str | None, typer.Option(help="Column of the texts; that of the build if not given.")
    ] = None,
    id_column: Annotated[str | None, typer.Option(help="Column of the ids; that of the build if not given.")] = None,
    reads: Reads,
    model: options.IndexModel = None,
    running: Running,
    as_json: options.Json = False,
) -> None:
    """Add the texts of a file to an index.

    A text of a known id replaces what that id named; only new and changed texts are embedded. Fields are those of the
    build. A stopped addition goes on with the same command.

    \b
    Examples:
      moee index add papers.index new-papers.jsonl
      moee index add reviews.index june.csv --text-column body
    """
    from moee.index.build import add_texts
    from moee.index.manifest import read_manifest
    from moee.index.records_from_file import read_addition
    from moee.index.searcher import Searcher

    reading = reading_of(reads)
    corpus = read_addition(read_manifest(folder), source, text_column=text_column, id_column=id_column, reading=reading)
    with Searcher.open(folder, model=model, **running) as searcher:
        corpus = corpus.with_texts(searcher.embedder.config.on_empty)
        skipped = write_rejects(source, reading, beside=folder)
        added = add_texts(searcher, corpus, show_progress=shows_progress())
    _say_built(folder, added, skipped, as_json=as_json)


@app.command()
def delete(
    folder: options.IndexFolder,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of the texts to delete.")],
    *,
    as_json: options.Json = False,
) -> None:
    """Delete texts from an index by their ids, all at once. In an index of passages, ids are those of documents.

    \b
    Examples:
      moee index delete papers.index 2410.10814 2409.02060
    """
    from moee.index.folder import open_index
    from moee.index.passages import delete_documents

    with open_index(folder) as index:
        if index.manifest.holds_passages:
            deleted, unknown = delete_documents(index.store, ids)
        else:
            known = set(index.store.texts_of(ids))
            deleted = index.store.delete(ids)
            unknown = [name for name in dict.fromkeys(ids) if name not in known]
        left = len(index.store)
    print_result({"deleted": deleted, "unknown": unknown, "num_texts": left}, str(deleted), as_json=as_json)
    missing = f"; not in the index: {', '.join(unknown)}" if unknown else ""
    note(f"{deleted} deleted, {left} left{missing}")


@app.command()
def info(folder: options.IndexFolder, *, as_json: options.Json = False) -> None:
    """Describe an index: its model, statistics, store, counts, sizes and fields. The model is not loaded.

    \b
    Examples:
      moee index info papers.index
      moee index info papers.index --json
    """
    from moee.index.folder import open_index
    from moee.index.info import describe

    with open_index(folder) as index:
        facts = describe(index)
    if as_json:
        print_json(facts)
        return
    print_table(["property", "value"], _lines(facts))
    if facts["report"] is not None:
        print_text()
        _print_report(facts["report"])
    for source in facts["sources"]:
        if not source["is_complete"]:
            note(f"Unfinished: not all of {source['path']} is in. The same command as before goes on with it.")


def _names(fields: str | None) -> tuple[str, ...]:
    names = options.split_names(fields or "")
    if fields is not None and len(names) != fields.count(",") + 1:
        raise InputError(f"--fields is {fields!r}; it must be names of columns with commas between: year,venue.")
    return tuple(dict.fromkeys(names))


def _say_built(folder: Path, built: Built, skipped: dict[str, Any], *, as_json: bool) -> None:
    """Print what was done, and the report if there is one. `Any`: part of the JSON."""
    rate = built.num_embedded / built.seconds
    if as_json:
        print_json(
            {
                "output": str(folder),
                "num_texts": built.num_records,
                "num_embedded": built.num_embedded,
                "num_updated": built.num_updated,
                "num_kept": built.num_kept,
                "seconds": round(built.seconds, 3),
                "texts_per_second": round(rate, 1),
                "calibrate": built.manifest.calibrate,
                "dims": dict(built.manifest.layout.dims),
                "alpha": built.manifest.alpha,
                "report": None if built.report is None else asdict(built.report),
                **skipped,
            }
        )
    elif built.report is not None:
        _print_report(asdict(built.report))
    else:
        print_text(str(folder))
    parts = [f"{built.num_embedded} texts embedded in {built.seconds:.1f} s ({rate:.0f} texts/s)"]
    parts += [f"{built.num_updated} with new fields"] if built.num_updated else []
    parts += [f"{built.num_kept} were there"] if built.num_kept else []
    note(f"{', '.join(parts)}; the index holds {built.num_records}.")
    note(f'Search it with: moee search {folder} "..."')


def _print_report(report: dict[str, Any]) -> None:
    """Print the table of `moee.stores.loss_report.LossReport`. `Any`: it may come from a file."""
    weights = report.get("weights") or {"hs": 1.0, "rw": report["alpha"]}  # as version 0.1 wrote it
    described = ", ".join(f"{view} {weight:.2f}" for view, weight in weights.items())
    title = (
        f"Losses on {report['num_queries']} queries among {report['num_documents']} texts, none of which was fitted on "
        f"({described}):"
    )
    dims = [_dims_of(loss) for loss in report["losses"]]
    views = list(dims[0])
    columns = ["stored as", ">dims", *(f">of {view}" for view in views)]
    columns += [">bytes a text", ">recall@10", ">Spearman", ""]
    rows = [
        [
            loss["stored"],
            str(sum(widths.values())),
            *(str(widths[view]) for view in views),
            str(loss["bytes_per_text"]),
            f"{loss['recall']:.3f}",
            f"{loss['spearman']:.4f}",
            "this index" if loss["is_chosen"] else "",
        ]
        for loss, widths in zip(report["losses"], dims, strict=True)
    ]
    print_table(columns, rows, title=title)


def _dims_of(loss: dict[str, Any]) -> dict[str, int]:
    """Return the lengths of the blocks; version 0.1 named those of two. `Any`: it may come from a file."""
    return dict(loss["dims"]) if "dims" in loss else {"hs": loss["hidden_dim"], "rw": loss["routing_dim"]}


def _number_of_texts(facts: dict[str, Any]) -> str:
    forms = {None: "", "keep": " passages of at most {} tokens", "pool": " made of passages of at most {} tokens"}
    of_what = forms[facts["chunks"]].format(facts["chunk"])
    return f"{facts['num_texts']}{of_what}{'' if facts['is_complete'] else ' so far: unfinished'}"


def _lines(facts: dict[str, Any]) -> list[list[str]]:
    """Return what `info` prints, a line each. `Any`: the facts are JSON."""
    model, vectors, calibration = facts["model"], facts["vectors"], facts["calibration"]
    reduced = "" if vectors["reduction"] is None else f", reduced by {vectors['reduction']}"
    weights = ", ".join(f"{view}={weight:.3g}" for view, weight in facts["weights"].items())
    dims = " + ".join(f"{view} {dim}" for view, dim in vectors["dims"].items())
    fields = ", ".join(f"{name} ({kind})" for name, kind in facts["fields"].items()) or "none"
    prompts = {name: value for name, value in facts["prompts"].items() if value is not None}
    lines = [
        ["texts", _number_of_texts(facts)],
        ["model", f"{model['name']} (weights {model['fingerprint']}, {model['dtype']}, {model['precision']})"],
        *([name.replace("_", " "), repr(value)] for name, value in prompts.items()),
        ["calibration", f"{calibration['method']}, {calibration['whose']}, {calibration['num_texts']} texts"],
        ["weights", f"{weights} if a search names none"],
        ["vectors", f"{dims} dimensions{reduced}, {vectors['stored_as']}"],
        ["words", "kept for full-text search" if facts["hybrid"] else "not kept"],
        ["store", " ".join(str(value) for value in facts["store"].values() if value)],
        ["size", format_size(facts["bytes"]) + (", and the table" if facts["store"]["kind"] == "pgvector" else "")],
        ["fields", fields],
    ]
    for source in facts["sources"]:
        ids = "digests" if source["id_column"] is None else f"column {source['id_column']!r}"
        state = f", {source['left_out']} left out" if source["left_out"] else ""
        state += "" if source["is_complete"] else ", unfinished"
        shown = f"{source['path']}: {source['rows']} rows, text {source['text_column']!r}, ids {ids}{state}"
        lines.append(["source", shown])
    return lines
