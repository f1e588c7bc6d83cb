"""The options that several commands share, and the one way from them to a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moee.errors import InputError, OutputError
from moee.files.atomic import check_writable
from moee.method.fusion import check_together, parse_weights

if TYPE_CHECKING:
    from moee.embedder import MoEE
    from moee.types import View

ModelName = Annotated[
    str,
    typer.Option(
        "--model", "-m", help='"demo", a model folder, a hub id, or a folder that `moee calibrate --out` wrote.'
    ),
]
IndexModel = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="Where the model of the index is now, if it was moved; another model is refused."
    ),
]
Recipe = Annotated[str | None, typer.Option(help="Named configuration: default, or paper (the original code's).")]
Prompt = Annotated[str | None, typer.Option(help="Name of a prompt, or a template that holds {text}.")]
Fusion = Annotated[
    str | None,
    typer.Option(
        metavar="weighted|hs|rw|concat|sum",
        help="Named views by --weights, hidden state, routing weights, or these two in one vector.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="VIEW=NUMBER,...",
        help="What each view counts, for example hs=1,rw=0.2,lexical=0.5; chooses --fusion weighted.",
    ),
]
Alpha = Annotated[
    str | None, typer.Option(metavar="NUMBER|slope|scale", help="Weight of the routing weights in the sum.")
]
IndexWeights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="VIEW=NUMBER,...",
        help="What each view of the index counts, for example hs=1,rw=0.2; one that is not named counts 0. The index's "
        "own if not given.",
    ),
]
CalibrationMethod = Annotated[
    str | None, typer.Option("--calibration", metavar="zscore|spectral|none", help="How frozen statistics are applied.")
]
Scoring = Annotated[
    str | None, typer.Option(metavar="softmax|native|logits|topk", help="How router logits become routing weights.")
]
Chunk = Annotated[
    int | None,
    typer.Option(
        metavar="TOKENS", help="Split texts over so many tokens, the prompt counted, into passages of whole sentences."
    ),
]
MaxLength = Annotated[int | None, typer.Option(help="Longest prompt in tokens; the model's own limit if not given.")]
Truncate = Annotated[str | None, typer.Option(metavar="warn|error|end", help="What to do with a text over the limit.")]
OnEmpty = Annotated[str | None, typer.Option(metavar="error|encode", help="What to do with an empty text.")]
BatchTokens = Annotated[int | None, typer.Option(help="Tokens in a batch, padding included; lower it to save memory.")]
Dtype = Annotated[
    str | None,
    typer.Option(
        metavar="float32|bfloat16|float16", help="Number type of the computation; chosen by the machine if not given."
    ),
]
Device = Annotated[str | None, typer.Option(help="For example cpu or cuda:0; chosen by the machine if not given.")]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory for the process, for example 4GiB; what is free if not given. A model that does not fit is "
        "read from disk a layer at a time.",
    ),
]
Precision = Annotated[
    str | None, typer.Option(metavar="exact|int8", help="int8: weights and activations of 8 bits, on a CPU.")
]
Input = Annotated[
    str,
    typer.Argument(
        metavar="INPUT", help="A .txt, .jsonl, .csv, .tsv (all also .gz) or .parquet file, or - for lines of text."
    ),
]
TextColumn = Annotated[str, typer.Option(help="Field of a .jsonl, .csv or .parquet file that holds the text.")]
IndexFolder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of an index.")]
Delimiter = Annotated[
    str | None,
    typer.Option(
        metavar="CHAR|tab", help="Character between the cells of a .csv file; a comma, in .tsv a tab, if not given."
    ),
]
Encoding = Annotated[str | None, typer.Option(help="Encoding of the input, such as utf-16; UTF-8 if not given.")]
OnBadRow = Annotated[
    str | None,
    typer.Option(
        metavar="error|skip",
        help="What to do with a row that cannot be used; skip leaves it out and writes INPUT.rejects.jsonl beside the "
        "output.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def parse_alpha(value: str | None) -> float | str | None:
    """Return the number, the rule (`"auto"` is a former name of `"slope"`), or None."""
    if value in (None, "auto", "slope", "scale"):
        return value
    try:
        return float(value)
    except ValueError as error:
        raise InputError(f"--alpha is {value!r}; it must be slope, scale or a number, for example 0.5.") from error


def fused_as(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as the embedder takes them: those that were given, weights and alpha read from what was written.

    Args:
        options: Options of a command by name, None where not given. `Any`: each has a type of its own.

    Raises:
        InputError: If weights or alpha cannot be read, or are given where they would not count.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if "weights" in given:
        given["weights"] = parse_weights(given["weights"])
    if "alpha" in given:
        given["alpha"] = parse_alpha(given["alpha"])
    check_together(given.get("fusion"), given.get("alpha"), given.get("weights"))
    return given


def named_weights(value: str | None) -> dict[View, float] | None:
    """Return named weights, or None; the errors are those of `moee.method.fusion.parse_weights`."""
    return None if value is None else parse_weights(value)


def split_names(listed: str) -> list[str]:
    """Return names that stand with commas between them."""
    return [name.strip() for name in listed.split(",") if name.strip()]


def find_data_folder(given: Path | None) -> Path | None:
    """Return the folder of evaluation sets: the option, else MOEE_DATA, else None."""
    named = given or os.environ.get("MOEE_DATA")
    return Path(named) if named else None


def data_folder(given: Path | None) -> Path:
    """Return the folder of evaluation sets."""
    found = find_data_folder(given)
    if found is None:
        raise InputError(
            "No evaluation sets: give --data FOLDER or set MOEE_DATA. docs/guides/evaluate.md shows the layout; "
            "`moee eval --mteb` takes tasks from the hub."
        )
    return found


def check_out_folder(folder: Path, *, holds: str) -> None:
    """Refuse an output folder that could not be written, or that holds something else which would be replaced.

    Args:
        folder: It is written as a whole, so what is in it goes.
        holds: A file by which an earlier result of the same command is known; that may be replaced.

    Raises:
        OutputError: If it is not safe or not possible to write it.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"Cannot write the folder {str(folder)!r}: there is a file of that name. Choose another.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / holds).is_file():
        raise OutputError(
            f"{str(folder)!r} holds other files (and no {holds}), and would be replaced as a whole. "
            "Choose a new or empty folder."
        )
    check_writable(folder)


def open_model(name: str, **options: Any) -> MoEE:
    """Load a model with the options that were given; those that were not keep the recipe's or the saved value.

    Args:
        name: As `MoEE.from_pretrained` takes it.
        **options: Its keyword arguments, alpha and weights as they were written; None means not given. `Any`: each has
            a type of its own and is checked there.
    """
    from moee.embedder import MoEE

    return MoEE.from_pretrained(name, **fused_as(options))
