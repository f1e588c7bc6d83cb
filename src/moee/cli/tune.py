"""`moee tune`: choose weights, layers and statistics for texts of one's own, and save the choice with its evidence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
import typer

from moee.cli import options
from moee.cli.console import note, print_json, print_table, print_text, shows_progress
from moee.cli.groups import Method, Reads, Running, grouped
from moee.cli.inputs import reading_of, write_rejects
from moee.errors import InputError, check_choice

if TYPE_CHECKING:
    from moee.evaluate.tune.criterion import ScoredPairs
    from moee.evaluate.tune.run import Tuning
    from moee.evaluate.tune.search import Trial
    from moee.evaluate.tune.siblings import Siblings
    from moee.files.rows import Reading

PAIR_COLUMNS = ("text_a", "text_b", "score")
EVIDENCE = "tune.json"
"""File beside a saved embedder that holds all that was tried."""
_BAR = 24


@grouped
def tune(
    texts: Annotated[
        str | None,
        typer.Argument(metavar="[TEXTS]", help="Unlabelled documents: any INPUT of `moee embed`. Not with --pairs."),
    ] = None,
    *,
    model: options.ModelName = "demo",
    siblings: Annotated[
        str | None,
        typer.Option(
            metavar="halves|sentences|title",
            help="What belongs together in a document: its two halves, two neighbouring sentences, or title and body. "
            "If not given: title with --title-column, else halves.",
        ),
    ] = None,
    title_column: Annotated[
        str | None, typer.Option(help="Field of a .jsonl, .csv or .parquet file that holds the title.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="A .csv file with the columns text_a, text_b and score (higher: more alike), in place of TEXTS."
        ),
    ] = None,
    choose: Annotated[
        str | None,
        typer.Option(
            metavar="rw,tokens,lexical",
            help="Views whose weights are chosen, beside 1 for hs. If not given: rw,tokens; with --pairs lexical too.",
        ),
    ] = None,
    layers: Annotated[
        str, typer.Option(metavar="NAMES", help="Layers of the routing weights that are tried, with commas.")
    ] = "all,last_half,last_third,last_sixth",
    statistics: Annotated[
        str, typer.Option(metavar="builtin,own", help="Whose statistics are tried, with commas.")
    ] = "builtin,own",
    sample: Annotated[int, typer.Option(help="Use at most so many pairs.")] = 400,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help=f"Folder to save the embedder in, with the choice and {EVIDENCE}."),
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="Also draw the curve: a .png or .svg file.")] = None,
    text_column: options.TextColumn = "text",
    reads: Reads,
    method: Method,
    running: Running,
    as_json: options.Json = False,
) -> None:
    """Choose the weights of the views, the layers of the routing weights and the statistics for your own texts.

    Without labels the structure of documents decides: how well is the sibling of a text found among all others? That is
    search by topic; where classes or paraphrases matter, a few labelled pairs (--pairs) say more. What there is stays
    unless something else is better by a whole 95 % interval.

    \b
    Examples:
      moee tune corpus.jsonl
      moee tune papers.jsonl --title-column title --text-column abstract --out tuned
      moee tune --pairs scored.csv --out tuned --figure curve.svg
    """
    from moee.evaluate.tune.run import tune as run

    wanted = _wanted(choose, layers, statistics)
    if figure is not None:
        from moee.plots.figure_file import check_figure

        check_figure(figure, extra="evaluate")
    if out is not None:
        options.check_out_folder(out, holds="config.json")
    reading, source = reading_of(reads), str(pairs) if pairs is not None else texts
    given: Siblings | ScoredPairs
    if pairs is not None:
        _refuse_with_pairs(texts=texts, siblings=siblings, title_column=title_column)
        given = read_pairs(pairs, reading)
    else:
        given = _siblings(texts, (text_column, title_column), siblings, sample, reading)
    embedder = options.open_model(model, **method, **running)
    skipped = write_rejects(source or "", reading, beside=out)
    found = run(embedder, given, **wanted, show_progress_bar=shows_progress())
    if out is not None:
        _save(found, out)
    if figure is not None:
        from moee.evaluate.tune.picture import draw_curve

        draw_curve(found, figure)
    document = {**found.evidence(), "output": None if out is None else str(out), **skipped}
    print_json(document) if as_json else _print(found)
    for line in found.notes:
        note(line)
    _say_next(found, out)


def tune_alpha() -> None:
    """Say what to use: `moee tune`."""
    raise InputError(
        "`moee tune-alpha` is now `moee tune`, which chooses the weight of the routing weights and more: moee tune "
        "TEXTS -m MODEL --out FOLDER, or, with labelled pairs, moee tune --pairs FILE.csv -m MODEL --out FOLDER."
    )


def _wanted(choose: str | None, layers: str, statistics: str) -> dict[str, Any]:
    """Return what is tried, by the arguments of `tune`."""
    from moee.evaluate.tune.run import STATISTICS
    from moee.evaluate.tune.search import GRIDS, LAYERS

    wanted: dict[str, Any] = {
        "layers": _names("--layers", layers),
        "statistics": _names("--statistics", statistics),
        "free": None if choose is None else _names("--choose", choose),
    }
    allowed = {"layers": LAYERS, "statistics": STATISTICS, "free": GRIDS}
    for name, names in wanted.items():
        for each in names or ():
            check_choice("view to be chosen" if name == "free" else name, each, allowed[name])
    return wanted


def _names(option: str, value: str) -> list[str]:
    names = options.split_names(value)
    if not names:
        raise InputError(
            f"{option} is {value!r}, which names nothing. Give one or more names with commas between them."
        )
    return names


def _refuse_with_pairs(**given: str | None) -> None:
    for name, value in given.items():
        if value is not None:
            option = "TEXTS" if name == "texts" else f"--{name.replace('_', '-')}"
            raise InputError(f"--pairs takes the place of documents: leave out {option} ({value!r}), or --pairs.")


def _siblings(
    source: str | None, columns: tuple[str, str | None], kind: str | None, sample: int, reading: Reading
) -> Siblings:
    from moee.evaluate.tune.siblings import KINDS, MIN_SIBLINGS, find_siblings
    from moee.files.read import read_rows
    from moee.files.rows import Columns

    if source is None:
        raise InputError(
            "Nothing to tune for: give a file of documents, TEXTS, or labelled pairs with --pairs FILE.csv."
        )
    if kind is not None:
        check_choice("kind of siblings", kind, KINDS)
    if sample < MIN_SIBLINGS:
        raise InputError(f"--sample is {sample}; it must be {MIN_SIBLINGS} or larger, and some hundreds are better.")
    text, title = columns
    rows = read_rows(source, Columns(text, fields=() if title is None else (title,)), reading=reading)
    rows = reading.with_text(rows, text, "error")
    titles = None if title is None else [row.values[title] for row in rows]
    return find_siblings([row.values[text] for row in rows], titles, kind=cast("Any", kind), sample=sample)


def read_pairs(path: Path, reading: Reading | None = None) -> ScoredPairs:
    """Read scored pairs from a `.csv` file (or `.csv.gz`) with the columns `text_a`, `text_b` and `score`.

    Args:
        path: The file.
        reading: Its delimiter and encoding, and what becomes of bad rows; None for the defaults.

    Raises:
        InputError: If it is another format, lacks a column, or a score is no finite number; names the line.
    """
    from moee.evaluate.tune.criterion import ScoredPairs
    from moee.files.read import input_format, read_rows
    from moee.files.rows import Columns, Reading

    if input_format(path) != ".csv":
        raise InputError(
            f"--pairs is {str(path)!r}; it must be a .csv file with the columns {', '.join(PAIR_COLUMNS)}."
        )
    reading = reading or Reading()
    left, right, scores = list[str](), list[str](), list[float]()
    for row in read_rows(str(path), Columns(PAIR_COLUMNS[0], fields=PAIR_COLUMNS[1:]), reading=reading):
        one, other, written = (row.values[name] for name in PAIR_COLUMNS)
        score = _score(written)
        if not math.isfinite(score):
            message = f"The score {row.place} is {written!r}; it must be a finite number."
            reading.leave_out(row.place, InputError(message))
            continue
        left.append(one)
        right.append(other)
        scores.append(score)
    reading.check_left(scores)
    return ScoredPairs(left, right, np.array(scores, dtype=np.float64))


def _score(written: str) -> float:
    try:
        return float(written)
    except ValueError:
        return math.nan


def _save(found: Tuning, out: Path) -> None:
    from moee.files.atomic import atomic_file

    found.model.save(out)
    with atomic_file(out / EVIDENCE) as temporary:
        temporary.write_text(json.dumps(found.evidence(), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _print(found: Tuning) -> None:
    choice = found.choice
    alone = [[view, f"{100 * score:.1f}"] for view, score in choice.alone.items()]
    print_table(
        ["view alone", ">score"], alone, title=f"{found.num_pairs} pairs ({found.pairs}): {found.criterion} x 100"
    )
    print_text()
    trials = [("present", choice.present), *(("", each) for each in choice.by_candidate)]
    rows = [
        ["*" if trial is choice.chosen else label, trial.layers, trial.statistics, *_weighed(trial)]
        for label, trial in trials
    ]
    columns = ["", "layers", "statistics", "best weights", ">score"]
    print_table(columns, rows, title="Layers and statistics; * is the choice")
    print_text()
    curve = [[view, *_point(trial, view, choice.chosen)] for view, trial in choice.curve]
    print_table(["view", ">weight", ">score", ""], curve, title="Around the choice, one weight at a time")


def _weighed(trial: Trial) -> tuple[str, str]:
    weights = ",".join(f"{view}={weight:g}" for view, weight in trial.weights.items())
    return weights, f"{100 * trial.score:.1f}"


def _point(trial: Trial, view: Any, chosen: Trial) -> tuple[str, str, str]:
    weight = trial.weights.get(view, 0.0)
    mark = " *" if weight == chosen.weights.get(view, 0.0) else ""
    return f"{weight:g}", f"{100 * trial.score:.1f}", "█" * round(_BAR * max(trial.score, 0.0)) + mark


def _say_next(found: Tuning, out: Path | None) -> None:
    weights, _ = _weighed(found.choice.chosen)
    if out is None:
        note(f"Nothing was saved. Keep the choice ({weights}) with --out FOLDER.")
    else:
        note(f'Saved with {weights} and {EVIDENCE}: moee embed INPUT -m {out}, or MoEE.from_pretrained("{out}")')
