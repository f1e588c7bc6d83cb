"""Figures of what was found, as PNG and SVG: bars of speed; whatever else draws itself goes the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moee.errors import MissingExtraError
from moee.files.atomic import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS_COLOUR, _PEER = "#0072B2", "#E69F00"
"""Okabe and Ito's colours, which readers with any form of colour vision can tell apart."""
_DPI = 150
_PANEL_INCHES = (4.0, 3.6)

Draw = Callable[["Figure", Mapping[str, Any]], None]
"""Draws a document on an empty figure."""


def check_plots() -> None:
    """Find out whether figures can be drawn, before minutes are spent on what they show.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise MissingExtraError("matplotlib", "figures", "evaluate") from error


def plot_files(target: Path) -> list[Path]:
    """Return the files that a figure called `target` is written to: its ending, if it has one, is replaced."""
    stem = target.with_suffix("") if target.suffix in (".png", ".svg") else target
    return [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]


def write_plot(document: Mapping[str, Any], target: Path, draw: Draw | None = None, *, panels: int = 2) -> list[Path]:
    """Draw a document of the benchmark.

    Args:
        document: What a run returned.
        target: Name of the figure.
        draw: Draws it on an empty figure; None is `draw_speed`.
        panels: How many panels stand side by side.

    Returns:
        The files.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        OutputError: If a file cannot be written.
    """
    check_plots()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # the salt and the missing date make the same numbers give the same SVG file
    with rc_context({"svg.hashsalt": "moee", "font.size": 9, "svg.fonttype": "none"}):
        figure = Figure(figsize=(panels * _PANEL_INCHES[0], _PANEL_INCHES[1]), layout="constrained")
        (draw or draw_speed)(figure, document)
        for path, metadata in zip(plot_files(target), (None, {"Date": None}), strict=True):
            with atomic_file(path) as temporary:
                figure.savefig(temporary, format=path.suffix[1:], dpi=_DPI, metadata=metadata)
    return plot_files(target)


def draw_speed(figure: Figure, document: Mapping[str, Any]) -> None:
    """Draw two panels of bars, one bar for each entry: speed, and percent of peak."""
    records = document["contestants"]
    single = document["workload"]["name"] == "single"
    speed, percent = figure.subplots(1, 2, sharey=True)
    values = [1000 * each["latency"]["p50"] if single else each["tokens_per_second"] for each in records]
    _bars(speed, records, values, "milliseconds a sentence, median" if single else "tokens a second, without padding")
    peaks = [each["percent_of_peak"]["median"] if "percent_of_peak" in each else np.nan for each in records]
    _bars(percent, records, peaks, "percent of a matrix product's speed")
    figure.suptitle(
        f"{document['model']['title'] or document['model']['name']}, {document['model']['layers']} layers, "
        f"{document['model']['dtype']}, {document['workload']['name']}"
    )


def _bars(axes: Axes, records: list[Mapping[str, Any]], values: list[float], label: str) -> None:
    names = [each["name"] for each in records]
    colours = [OURS_COLOUR if name.startswith("moee") else _PEER for name in names]
    bars = axes.barh(names, values, color=colours, hatch=["" if each == OURS_COLOUR else "///" for each in colours])
    for bar in bars:
        bar.set_edgecolor("white")
    axes.bar_label(bars, ["" if np.isnan(value) else f"{value:.0f}" for value in values], padding=3)
    axes.margins(x=0.18)
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    if not axes.yaxis_inverted():
        axes.invert_yaxis()
