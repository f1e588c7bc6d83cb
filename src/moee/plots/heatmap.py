"""The heat map of an explanation: layers down, experts across, colour for what each adds to the similarity.

Blue makes the texts more alike and red less, in a diverging scale centred on 0 whose two sides readers with any form of
colour vision can tell apart. Bars beside it add the experts of each layer up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from moee.errors import InputError
from moee.plots.figure_file import drawable, figure_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Wide = npt.NDArray[np.float64]

_COLOURS = "RdBu"
_POSITIVE, _NEGATIVE, _ABSENT = "#2166AC", "#B2182B", "#D9D9D9"
"""The ends of the scale, for bars, and the grey of a place where a narrower layer has no expert."""
_STRONG = 99.5
_OUTLIER = 0.75
"""The scale ends at this percentile of the absolute parts where it is below this share of the largest: a few experts
must not turn all others white."""
_CELL_INCHES = 0.2
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_TITLE_LETTERS = 90


@dataclass(frozen=True, slots=True)
class HeatMap:
    """What is drawn.

    Attributes:
        texts: The two texts; shortened where they are long.
        summary: A line below them.
        layer_ids: Decoder layer of every row.
        parts: One array for each layer, `(num_experts,)`; layers may differ in width.
        marked: (layer, expert) of the cells to be outlined and named.
    """

    texts: tuple[str, str]
    summary: str
    layer_ids: Sequence[int]
    parts: Sequence[Wide]
    marked: Sequence[tuple[int, int]] = ()


def write_heatmap(heatmap: HeatMap, path: Path) -> None:
    """Draw a heat map into a file.

    Raises:
        InputError: If the suffix is another, or no part differs from 0.
        MissingExtraError: If matplotlib is not installed.
        OutputError: If the file cannot be written.
    """
    if not any(part.any() for part in heatmap.parts):
        raise InputError(
            "There is nothing to draw: no expert has a part in this similarity. "
            "Explain with fusion 'sum', 'rw' or 'concat', and texts whose routing differs from the mean."
        )
    with figure_file(path, _size(heatmap)) as figure:
        draw_heatmap(figure, heatmap)


def draw_heatmap(figure: Figure, heatmap: HeatMap) -> None:
    """Draw a heat map on an empty figure."""
    grid = figure.add_gridspec(1, 2, width_ratios=(5, 1))
    cells = figure.add_subplot(grid[0])
    bars = figure.add_subplot(grid[1], sharey=cells)
    sizes = np.abs(np.concatenate(heatmap.parts))
    limit = _limit(sizes)
    factor, unit = _unit(limit)
    image = _draw_cells(cells, heatmap, limit, factor)
    _draw_marks(cells, heatmap)
    _draw_bars(bars, heatmap.parts)
    ends = "both" if sizes.max() > limit else "neither"
    scale = figure.colorbar(image, ax=cells, location="bottom", extend=ends, aspect=40, shrink=0.7, pad=0.02)
    scale.set_label(f"part of the similarity{unit}:  red makes the texts less alike,  blue more")
    title = [f"{name}: {drawable(text, _TITLE_LETTERS)}" for name, text in zip("AB", heatmap.texts, strict=True)]
    figure.suptitle("\n".join([*title, heatmap.summary]), fontsize=10, ha="left", x=0.02, parse_math=False)


def _limit(sizes: Wide) -> float:
    """Return the end of the scale: the largest size, or less if few experts are far beyond all others."""
    largest, usual = float(sizes.max()), float(np.percentile(sizes, _STRONG))
    return usual if 0 < usual < _OUTLIER * largest else largest


def _unit(limit: float) -> tuple[float, str]:
    """Return what to multiply by so that ticks are short numbers, and how a label says so."""
    power = math.floor(math.log10(limit))
    if -2 <= power <= 2:
        return 1.0, ""
    return 10.0**-power, f" × 10{str(power).translate(_SUPERSCRIPT)}"


def _size(heatmap: HeatMap) -> tuple[float, float]:
    """Return width and height in inches: cells of a readable size, within what fits a screen."""
    columns, rows = max(map(len, heatmap.parts)), len(heatmap.parts)
    return float(np.clip(columns * _CELL_INCHES + 3, 8, 16)), float(np.clip(rows * _CELL_INCHES + 2, 4, 12))


def _draw_cells(axes: Axes, heatmap: HeatMap, limit: float, factor: float) -> AxesImage:
    """Draw the cells and return the image, which a colour bar needs."""
    from matplotlib import colormaps

    columns = max(map(len, heatmap.parts))
    table = np.full((len(heatmap.parts), columns), np.nan)
    for row, part in zip(table, heatmap.parts, strict=True):
        row[: len(part)] = part * factor
    colours = colormaps[_COLOURS].with_extremes(bad=_ABSENT)
    end = limit * factor
    # `nearest` keeps the edges of cells sharp; a mesh of 15,000 cells makes an SVG that viewers cannot open
    image = axes.imshow(table, cmap=colours, aspect="auto", interpolation="nearest", vmin=-end, vmax=end)
    if np.isnan(table).any():
        axes.plot([], [], "s", color=_ABSENT, label="no such expert")
        axes.figure.legend(loc="outside lower right", fontsize=8, frameon=False)
    places = _every(len(heatmap.layer_ids), 32)
    axes.set_yticks(places, [str(heatmap.layer_ids[place]) for place in places])
    axes.set_xticks(_every(columns, 17))
    axes.set_ylabel("layer")
    axes.set_xlabel("expert")
    return image


def _draw_marks(axes: Axes, heatmap: HeatMap) -> None:
    """Outline the named cells and write the expert's number beside each."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    rows = {layer: row for row, layer in enumerate(heatmap.layer_ids)}
    columns = max(map(len, heatmap.parts))
    for layer, expert in heatmap.marked:
        row = rows[layer]
        axes.add_patch(Rectangle((expert - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.2))
        is_right = expert > columns * 0.9
        axes.annotate(
            str(expert),
            (expert - 0.5 if is_right else expert + 0.5, row),
            xytext=(-2 if is_right else 2, 0),
            textcoords="offset points",
            ha="right" if is_right else "left",
            va="center",
            fontsize=7,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )


def _draw_bars(axes: Axes, parts: Sequence[Wide]) -> None:
    sums = np.array([part.sum() for part in parts])
    factor, unit = _unit(float(np.abs(sums).max()) or 1.0)
    colours = [_POSITIVE if value >= 0 else _NEGATIVE for value in sums]
    axes.barh(range(len(sums)), sums * factor, color=colours, height=0.8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel(f"sum of layer{unit}")
    axes.tick_params(axis="y", left=False, labelleft=False)
    axes.locator_params(axis="x", nbins=3)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _every(count: int, most: int) -> list[int]:
    """Return evenly spaced places from 0, at most `most` of them, at a round distance."""
    steps = (1, 2, 4, 5, 8, 10, 16, 20, 32, 64, 128, 256)
    step = next((step for step in steps if count <= step * most), count)
    return list(range(0, count, step))
