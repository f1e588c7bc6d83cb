"""Options that go together: one parameter of a command for a whole group, which gets the options that were given.

A group is a TypedDict whose keys are options, or a dataclass whose fields say in their metadata what they are for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, TypedDict, get_type_hints, is_typeddict

import typer

from moee.cli import options
from moee.serve.settings import twin


class Loading(TypedDict, total=False):
    """How the model computes; `MoEE.from_pretrained` takes each by its name, as it does those below."""

    dtype: options.Dtype
    device: options.Device
    memory: options.Memory
    precision: options.Precision


class Running(Loading, total=False):
    """The same, for commands that run many texts."""

    batch_tokens: options.BatchTokens


class Method(TypedDict, total=False):
    """What the model reads, and how its two views are made comparable."""

    prompt: options.Prompt
    recipe: options.Recipe
    calibration: options.CalibrationMethod
    scoring: options.Scoring


class Fusing(TypedDict, total=False):
    """How the views become one vector."""

    fusion: options.Fusion
    weights: options.Weights
    alpha: options.Alpha


class Lengths(TypedDict, total=False):
    """What becomes of texts that are too long or empty."""

    max_length: options.MaxLength
    truncate: options.Truncate
    on_empty: options.OnEmpty


class Reads(TypedDict, total=False):
    """How a file of texts is read; `moee.files.rows.Reading` takes each by its name."""

    delimiter: options.Delimiter
    encoding: options.Encoding
    on_bad_row: options.OnBadRow


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with an option for each member of its groups, in their places.

    A TypedDict holds the options that were given; a dataclass is made of all of its own.
    """
    parameters: list[inspect.Parameter] = []
    members: dict[str, list[str]] = {}
    hints = get_type_hints(command, include_extras=True)
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        if is_typeddict(hint) or is_dataclass(hint):
            found = list(_members(hint))
            members[parameter.name] = [each.name for each in found]
            parameters += found
        else:
            parameters.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(command)
    def run(**values: Any) -> None:  # whatever the options hold
        for name, keys in members.items():
            given = {key: value for key in keys if (value := values.pop(key)) is not None}
            values[name] = hints[name](**given)
        command(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    return run


def _members(group: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    if is_typeddict(group):
        defaults = dict.fromkeys(hints)
    else:
        described = {each.name: each for each in fields(group) if each.metadata}
        defaults = {name: each.default for name, each in described.items()}
        for name, each in described.items():
            option = typer.Option(*each.metadata["names"], envvar=twin(name), help=each.metadata["help"])
            hints[name] = Annotated[hints[name], option]
    for name, default in defaults.items():
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])
