"""Drawing, on figures that a caller makes: bars, stacked shares, heat map, boxes, lines, word clouds.

Colours are those of Okabe and Ito (Color Universal Design), which readers with any form of colour vision can tell
apart; what is compared also differs by hatch or marker. Legends stand outside the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "HS": "#0072B2",
        "RW": "#E69F00",
        "MoEE (concat)": "#CC79A7",
        "MoEE (sum)": "#009E73",
        "floor": "#000000",
    }
)
SHARES = ("#009E73", "#0072B2", "#E69F00", "#B0B0B0")
"""Colours of the pairs that both have right, HS only, RW only, and neither."""
_HATCHES = ("///", "", "...")
_MARKERS = ("o", "s", "^", "D")


@dataclass(frozen=True, slots=True)
class Bars:
    """One series of a bar chart.

    Attributes:
        label: In the legend.
        values: One for each group; None draws nothing.
        method: Decides the colour; a key of `COLOURS`.
        variant: Decides the hatch; 0 to 2.
    """

    label: str
    values: Sequence[float | None]
    method: str
    variant: int = 1


def draw_bars(
    figure: Figure, groups: Sequence[str], series: Sequence[Bars], axis: str, *, floor: Sequence[float | None] = ()
) -> None:
    """Draw grouped bars, with a short line across each group for the floor."""
    axes = figure.add_subplot()
    width = 0.84 / len(series)
    for place, bars in enumerate(series):
        offset = (place - (len(series) - 1) / 2) * width
        values = [np.nan if value is None else value for value in bars.values]
        axes.bar(
            np.arange(len(groups)) + offset,
            values,
            width,
            label=bars.label,
            color=COLOURS[bars.method],
            hatch=_HATCHES[bars.variant],
            edgecolor="white",
            linewidth=0.4,
        )
    axes.axhline(0, color="black", linewidth=0.8)
    label: str | None = "TF-IDF, no model"
    for place, value in enumerate(floor):
        if value is not None:
            axes.plot([place - 0.46, place + 0.46], [value, value], color=COLOURS["floor"], linewidth=1.4, label=label)
            label = None  # once in the legend
    axes.set_xticks(range(len(groups)), groups)
    _finish(axes, axis)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)


def draw_shares(figure: Figure, groups: Sequence[str], shares: Mapping[str, Sequence[float]], axis: str) -> None:
    """Draw horizontal bars that add up to 100, each part with its number."""
    axes = figure.add_subplot()
    left = np.zeros(len(groups))
    for colour, (label, values) in zip(SHARES, shares.items(), strict=True):
        bars = axes.barh(range(len(groups)), values, left=left, label=label, color=colour, edgecolor="white")
        axes.bar_label(
            bars, [f"{value:.0f}" if value >= 4 else "" for value in values], label_type="center", fontsize=8
        )
        left += np.asarray(values)
    axes.set_yticks(range(len(groups)), groups)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel(axis)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)


def draw_heat_map(figure: Figure, labels: Sequence[str], values: npt.NDArray[np.float64], axis: str) -> None:
    """Draw a square matrix of correlations with its numbers; a line parts the two halves."""
    axes = figure.add_subplot()
    # correlations are read by lightness; cividis is even in lightness for all readers
    image = axes.imshow(values, cmap="cividis", vmin=min(0.0, float(values.min())), vmax=1.0)
    lowest = min(0.0, float(values.min()))
    for row, column in np.ndindex(values.shape):
        value = float(values[row, column])
        colour = "white" if value < (lowest + 1) / 2 else "black"
        text = f"{value:.2f}".replace("0.", ".", 1)
        axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=colour)
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    middle = len(labels) / 2 - 0.5
    axes.axhline(middle, color="white", linewidth=2)
    axes.axvline(middle, color="white", linewidth=2)
    figure.colorbar(image, ax=axes, label=axis, shrink=0.8)


def draw_boxes(
    figure: Figure, groups: Sequence[str], series: Mapping[str, Sequence[Sequence[float]]], axis: str
) -> None:
    """Draw grouped box plots with every value as a point.

    Args:
        figure: Empty.
        groups: Along the x axis.
        series: Method to the values of each group.
        axis: Label of the y axis, with the unit.
    """
    axes = figure.add_subplot()
    width = 0.8 / len(series)
    for place, (method, values) in enumerate(series.items()):
        positions = np.arange(len(groups)) + (place - (len(series) - 1) / 2) * width
        boxes = axes.boxplot(
            values, positions=positions, widths=width * 0.8, patch_artist=True, showfliers=False, manage_ticks=False
        )
        for box in boxes["boxes"]:
            box.set(facecolor=COLOURS[method], alpha=0.55, label=method if box is boxes["boxes"][0] else None)
        for line in boxes["medians"]:
            line.set(color="black", linewidth=1.4)
        for position, points in zip(positions, values, strict=True):
            axes.plot([position] * len(points), points, _MARKERS[place], color=COLOURS[method], markersize=3, alpha=0.9)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_xlim(-0.5, len(groups) - 0.5)
    _finish(axes, axis)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)


def draw_lines(
    figure: Figure,
    bins: Sequence[str],
    series: Mapping[str, Sequence[tuple[float, float, float]]],
    axes_names: tuple[str, str],
) -> None:
    """Draw a value with its interval over ordered bins, a little apart for each method."""
    axes = figure.add_subplot()
    for place, (method, points) in enumerate(series.items()):
        middle, low, high = np.array(points, dtype=np.float64).T
        x = np.arange(len(bins)) + (place - (len(series) - 1) / 2) * 0.08
        axes.errorbar(
            x,
            middle,
            yerr=(middle - low, high - middle),
            color=COLOURS[method],
            marker=_MARKERS[place],
            linestyle=("-", "--", ":", "-.")[place],
            capsize=3,
            label=method,
        )
    axes.set_xticks(range(len(bins)), bins)
    axes.set_xlabel(axes_names[0])
    _finish(axes, axes_names[1])
    figure.legend(loc="outside lower center", ncols=4, frameon=False)


def draw_word_clouds(figure: Figure, rows: Mapping[str, Sequence[tuple[str, Mapping[str, float]]]], seed: int) -> None:
    """Draw one word cloud for each cluster, one row of clouds for each view.

    Args:
        figure: Empty.
        rows: View to (title, word weights) of each cluster.
        seed: Seed of the words' places.
    """
    cloud_of = import_module("wordcloud").WordCloud  # by name, for it ships no types
    columns = max(len(clouds) for clouds in rows.values())
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for line, (view, clouds) in zip(grid, rows.items(), strict=True):
        for axes, (title, weights) in zip(line, clouds, strict=False):
            cloud = cloud_of(
                width=480,
                height=320,
                background_color="white",
                random_state=seed,
                color_func=_one_colour(COLOURS[view]),
                prefer_horizontal=1.0,
                relative_scaling=0.4,
            )
            axes.imshow(cloud.generate_from_frequencies(dict(weights)).to_array(), interpolation="bilinear")
            axes.set_title(title, fontsize=9)


def _one_colour(colour: str) -> Any:
    """Return wordcloud's colour function: one colour for every word."""
    return lambda *_args, **_options: colour


def _finish(axes: Axes, label: str) -> None:
    axes.set_ylabel(label)
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
