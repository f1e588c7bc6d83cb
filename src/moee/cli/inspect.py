"""`moee inspect`: what a model offers, from its configuration alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from moee.cli import options
from moee.cli.console import print_json, print_table


def inspect(
    model: Annotated[str, typer.Argument(metavar="MODEL", help='"demo", a model folder, or a hub id.')],
    as_json: options.Json = False,
) -> None:
    """Describe a model without loading its weights.

    MoE layers, experts, router, sizes of the views and memory, from the configuration and the file headers.

    \b
    Examples:
      moee inspect demo
      moee inspect allenai/OLMoE-1B-7B-0924 --json
    """
    from moee.backends.inspect import inspect_model

    summary = asdict(inspect_model(model))
    if as_json:
        print_json(summary)
        return
    print_table(["property", "value"], [[name.replace("_", " "), _readable(value)] for name, value in summary.items()])


def _readable(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return _runs(list(value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "unknown" if value is None else str(value)


def _runs(values: list[object]) -> str:
    """Shorten a list of numbers: equal ones as `32 x 30`, consecutive ones as `0-29`."""
    if len(values) > 2 and len(set(values)) == 1:
        return f"{values[0]} x {len(values)}"
    if len(values) > 2 and all(isinstance(value, int) for value in values):
        numbers = [value for value in values if isinstance(value, int)]
        if numbers == list(range(numbers[0], numbers[0] + len(numbers))):
            return f"{numbers[0]}-{numbers[-1]}"
    return ", ".join(str(value) for value in values)
