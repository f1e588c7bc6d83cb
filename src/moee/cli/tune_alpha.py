"""`moee tune-alpha`: choose the weight of the routing weights for texts of one's own, and save the choice."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from moee.cli import options
from moee.cli.console import note, print_json, print_table, shows_progress
from moee.cli.groups import Method, Reads, Running, grouped
from moee.cli.inputs import Input, reading_of, write_rejects
from moee.errors import InputError, check_choice

if TYPE_CHECKING:
    from moee.evaluate.alpha.tune import AlphaChoice, ScoredPairs, Tuning
    from moee.files.rows import Reading

PAIR_COLUMNS = ("text_a", "text_b", "score")


@grouped
def tune_alpha(
    texts: Annotated[str, typer.Argument(metavar="TEXTS", help="Unlabelled texts: any INPUT of `moee embed`.")],
    *,
    model: options.ModelName = "demo",
    method: Annotated[
        str,
        typer.Option(
            metavar="closed-form|scale|gradient|gradient-spearman|agreement|labels", help="Whose alpha is chosen."
        ),
    ] = "closed-form",
    pairs: Annotated[
        Path | None,
        typer.Option(help="For labels: a .csv file with the columns text_a, text_b and score (higher: more alike)."),
    ] = None,
    compare_prompt: Annotated[
        list[str] | None,
        typer.Option(help="For agreement: a second prompt, name or template. May be given again. Default: cot."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to save the embedder in, with the chosen alpha.")
    ] = None,
    sample: Annotated[int, typer.Option(help="Use at most this many of the texts.")] = 512,
    text_column: options.TextColumn = "text",
    reads: Reads,
    model_method: Method,
    running: Running,
    as_json: options.Json = False,
) -> None:
    """Choose alpha, the weight of the routing weights in the sum, for your own texts.

    Every way's choice is printed; --out saves the one of --method. All but labels need no labels. Calibrate first
    (`moee calibrate --texts`), for alpha depends on the statistics.

    \b
    Examples:
      moee tune-alpha corpus.jsonl -m my-embedder
      moee tune-alpha corpus.jsonl -m my-embedder --method agreement --out tuned
      moee tune-alpha corpus.jsonl --method labels --pairs scored.csv --out tuned
    """
    from moee.evaluate.alpha.tune import COMPARE_PROMPT, METHODS
    from moee.evaluate.alpha.tune import tune_alpha as tune

    check_choice("method", method, METHODS)
    if method == "labels" and pairs is None:
        raise InputError("--method labels needs scored pairs: give --pairs FILE.csv, with text_a, text_b and score.")
    if out is not None:
        options.check_out_folder(out, holds="config.json")
    given, pairs_reading = Input.read(texts, text_column, reads), reading_of(reads)
    scored = read_pairs(pairs, pairs_reading) if pairs is not None else None
    embedder = options.open_model(model, **model_method, **running)
    corpus = given.texts(embedder.config.on_empty)
    skipped = write_rejects(texts, given.reading, beside=out)
    if pairs is not None:
        write_rejects(str(pairs), pairs_reading, beside=out)
    found = tune(
        embedder,
        corpus,
        compare_prompts=compare_prompt or [COMPARE_PROMPT],
        pairs=scored,
        sample=sample,
        show_progress_bar=shows_progress(),
    )
    chosen = found.choice(method)
    if out is not None:
        embedder.with_settings(alpha=chosen.alpha).save(out)
    _report(found, chosen, out, skipped, as_json=as_json)


def read_pairs(path: Path, reading: Reading | None = None) -> ScoredPairs:
    """Read scored pairs from a `.csv` file (or `.csv.gz`) with the columns `text_a`, `text_b` and `score`.

    Args:
        path: The file.
        reading: Its delimiter and encoding, and what becomes of bad rows; None for the defaults.

    Raises:
        InputError: If it is another format, lacks a column, or a score is no finite number; names the line.
    """
    from moee.evaluate.alpha.tune import ScoredPairs
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


def _report(found: Tuning, chosen: AlphaChoice, out: Path | None, skipped: dict[str, Any], *, as_json: bool) -> None:
    """Print the choices. `Any`: part of the JSON."""
    if as_json:
        print_json(
            {
                "num_texts": found.num_texts,
                "configured_alpha": found.configured,
                "chosen": {"method": chosen.method, "alpha": chosen.alpha},
                "output": None if out is None else str(out),
                "choices": [_as_dict(choice) for choice in found.choices],
                **skipped,
            }
        )
    else:
        columns = ("", "method", ">alpha", ">RW share", ">with HS", ">with RW", "what it found")
        rows = [_row(choice, is_chosen=choice is chosen) for choice in found.choices]
        print_table(columns, rows)
        note("RW share: of the spread of the fused similarity. With HS, with RW: its Spearman correlation with each.")
    note(f"{found.num_texts} texts; the embedder's own alpha is {found.configured:.4g}.")
    if out is None:
        note(f"Nothing was saved. Keep {chosen.method}'s alpha with --out FOLDER, or use --alpha {chosen.alpha:.4g}.")
    else:
        note(f'Saved with alpha {chosen.alpha:.4g}: moee embed INPUT -m {out}, or MoEE.from_pretrained("{out}")')


def _as_dict(choice: AlphaChoice) -> dict[str, Any]:
    """Return the JSON form; `Any`: numbers, and an object of them."""
    values: dict[str, Any] = {
        "method": choice.method,
        "alpha": choice.alpha,
        "rw_share": choice.share,
        "spearman_with_hs": choice.with_hidden,
        "spearman_with_rw": choice.with_routing,
        **choice.detail,
    }
    if choice.over_hidden is not None:
        gain = choice.over_hidden
        values["gain_over_hs"] = {"difference": gain.difference, "low": gain.low, "high": gain.high}
    return values


def _row(choice: AlphaChoice, *, is_chosen: bool) -> list[str]:
    numbers = [f"{choice.alpha:.4f}", *(f"{x:.3f}" for x in (choice.share, choice.with_hidden, choice.with_routing))]
    found = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in choice.detail.items())
    if choice.over_hidden is not None:
        gain = choice.over_hidden
        found += f", gain over HS {gain.difference:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
    return ["*" if is_chosen else "", choice.method, *numbers, found]
