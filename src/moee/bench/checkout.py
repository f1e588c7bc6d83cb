"""The part of the benchmark that is not installed: peers, their processes, models of random weights, scaling.

It lies in `benchmarks/rivals` of a checkout, and is found beside the source of this package alone (`pip install -e`):
code in whatever folder a command happens to be run from is not loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moee.bench.entries import Entry
from moee.bench.weights import Setup
from moee.bench.worker import Worker
from moee.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks"


@dataclass(frozen=True, slots=True)
class Rivals:
    """What `benchmarks/rivals` offers.

    Attributes:
        peers: Entries by name, in the order of the tables.
        shapes: Models of random weights: name to the title of the published model.
        shape_setup: Makes the setup of one; takes what `Setup` takes.
        own_process: Puts an entry to work in a process of its own.
        choose_scaling: Turns the value of `--scaling` into names.
        run_scaling: Measures time against quantities, by name, so many times each, and returns the document.
        scaling_columns: Headings of `scaling_rows`.
        scaling_rows: Turns that document into rows of text.
        draw_scaling: Draws it.
    """

    peers: Mapping[str, Entry]
    shapes: Mapping[str, str]
    shape_setup: Callable[..., Setup]
    own_process: Callable[[str, Setup], Worker]
    choose_scaling: Callable[[str], list[str]]
    run_scaling: Callable[[Sequence[str], Setup, int], dict[str, Any]]
    scaling_columns: tuple[str, ...]
    scaling_rows: Callable[[Mapping[str, Any]], list[list[str]]]
    draw_scaling: Callable[[Figure, Mapping[str, Any]], None]


def find_rivals() -> Rivals | None:
    """Return what the checkout offers; None where the package was installed without one."""
    if not (FOLDER / "rivals" / "__init__.py").is_file():
        return None
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    found: Rivals = import_module("rivals").RIVALS
    return found


def require_rivals(what: str) -> Rivals:
    """Return what the checkout offers.

    Args:
        what: What needs it, for the message.

    Raises:
        InputError: If there is no checkout.
    """
    rivals = find_rivals()
    if rivals is None:
        raise InputError(
            f"{what} needs the folder benchmarks/rivals of moee's repository, which an installed package does not "
            "have. Clone the repository, install it with `pip install -e .`, and run the command from there; "
            "`moee bench` alone measures ours on the demo or a model folder."
        )
    return rivals
