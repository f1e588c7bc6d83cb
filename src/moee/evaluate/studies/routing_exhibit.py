"""The routing study as tables and figures, and what varied most in a few words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from moee.evaluate.reproduce.exhibit import Cell, Exhibit, Picture, Table
from moee.evaluate.studies.points import AXES
from moee.evaluate.studies.routing import VECTORS, Findings, Measured, RoutingStudy
from moee.evaluate.studies.samples import TYPES
from moee.evaluate.tasks import task_row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Mapping[str, str] = {"HS": "#0072B2", "RW": "#E69F00", "HS + RW": "#009E73"}
_MARKERS: Mapping[str, str] = {"HS": "o", "RW": "s", "HS + RW": "^"}
_LOGARITHMIC = ("active-experts", "temperature", "model-temperature", "experts")
_AXIS_LABELS: Mapping[str, str] = {
    "active-experts": "active experts",
    "layers": "layer read alone",
    "experts": "share of the experts read",
    "temperature": "temperature of RW",
    "model-temperature": "temperature in the model",
    "scoring": "scoring",
}


def exhibit(study: RoutingStudy, findings: Findings, name: str = "routing") -> Exhibit:
    """Return the tables and figures of a finished study.

    Args:
        study: What was run.
        findings: What it found.
        name: Name of the files.
    """
    summary = summary_table(findings)
    return Exhibit(
        name,
        f"Quality against routing: {study.embedder.info.name}",
        (points_table(findings), summary),
        tuple(notes(study, findings)),
        pictures=tuple(_pictures(findings)),
        settings=study.about(),
    )


def type_means(measured: Measured) -> dict[str, float]:
    """Return the mean of each task type in points of 100, in the order of `TYPES`."""
    kinds: dict[str, list[float]] = {}
    for name, each in measured.scores.items():
        kinds.setdefault(task_row(name).task_type, []).append(100 * each.main)
    return {kind: fmean(kinds[kind]) for kind in TYPES if kind in kinds}


def points_table(findings: Findings) -> Table:
    """Return every point of every axis with the three vectors."""
    kinds = list(type_means(findings.measured[0]))
    rows: list[tuple[Cell, ...]] = [
        (
            each.point.axis,
            each.point.label,
            each.point.place,
            "own" if each.point.is_own else "",
            each.vector,
            *type_means(each).values(),
            each.mean,
            each.mean - findings.own(each.vector).mean,
        )
        for each in findings.measured
    ]
    columns = ("axis", "point", "place", "setting", "vector", *kinds, "mean", "minus own")
    return Table("points", "Main metric of each task type, points of 100", columns, tuple(rows), decimals=1)


def summary_table(findings: Findings) -> Table:
    """Return, for each axis and vector, the lowest and highest point and how far apart they are."""
    rows: list[tuple[Cell, ...]] = []
    for axis in AXES:
        for vector in VECTORS:
            found = findings.of(axis, vector)
            if not found or (vector == "HS" and not _moves_hidden(axis)):
                continue
            low, high, own = _lowest(found), _highest(found), findings.own(vector)
            best, worst = high.minus(own), low.minus(own)
            rows.append(
                (
                    axis,
                    vector,
                    *(low.point.label, low.mean, worst.low, worst.high),
                    *(high.point.label, high.mean, best.low, best.high),
                    high.mean - low.mean,
                    own.mean,
                )
            )
    ends = [f"{which}{what}" for which in ("lowest", "highest") for what in ("", " mean", " low", " high")]
    columns = ("axis", "vector", *ends, "spread", "own mean")
    title = "What varies: lowest and highest point of each axis; low and high bound its difference to the own setting"
    return Table("summary", title, columns, tuple(rows), decimals=1)


def _moves_hidden(axis: str) -> bool:
    return axis in ("active-experts", "model-temperature")


def _lowest(found: Sequence[Measured]) -> Measured:
    return min(found, key=lambda each: each.mean)


def _highest(found: Sequence[Measured]) -> Measured:
    return max(found, key=lambda each: each.mean)


def notes(study: RoutingStudy, findings: Findings) -> list[str]:
    """Return the sentences below the tables: what varied most, and how it was measured."""
    lines = []
    for vector in VECTORS:
        spreads = {
            axis: _highest(found).mean - _lowest(found).mean
            for axis in AXES
            if (found := findings.of(axis, vector)) and (vector != "HS" or _moves_hidden(axis))
        }
        ordered = sorted(spreads, key=lambda axis: -spreads[axis])
        if ordered:
            listed = ", ".join(f"{axis} {spreads[axis]:.1f}" for axis in ordered)
            lines.append(f"{vector} varies by (highest minus lowest mean, points): {listed}.")
    gains = [
        f"{axis} at {high.point.label} ({interval.difference:+.1f} [{interval.low:+.1f}, {interval.high:+.1f}])"
        for axis in AXES
        if (found := findings.of(axis, "HS + RW"))
        and (interval := (high := _highest(found)).minus(findings.own("HS + RW"))).low > 0
    ]
    lines.append(
        f"HS + RW is above the model's own setting by more than the sample's luck on: {', '.join(gains) or 'no axis'}. "
        "The best of several points is above by luck more often than one in forty."
    )
    lines += [f"Left out, {axis}: {why}" for axis, why in findings.left_out.items()]
    counts = ", ".join(f"{sample.task.name} {len(sample.rows)}" for sample in study.samples)
    lines.append(
        f"Texts of each task: {counts}; prompts of at most {study.config.max_length} tokens; {findings.passes} passes "
        f"of {findings.texts} texts. Statistics of each point: its own, from {len(study._sentences)} built-in "
        f"sentences. HS + RW weighs RW by {study.weight:g}. Scores of such small samples compare with each other only."
    )
    return lines


def _pictures(findings: Findings) -> list[Picture]:
    axes = [axis for axis in AXES if findings.of(axis, "RW")]
    rows = (len(axes) + 2) // 3
    means = Picture(
        "points", "Mean over task types", (11, 0.6 + 2.9 * rows), lambda figure: _draw(figure, findings, axes)
    )
    if not findings.of("active-experts", "HS"):
        return [means]
    kinds = list(type_means(findings.measured[0]))
    size = (11.0, 0.6 + 2.9 * ((len(kinds) + 2) // 3))
    by_type = Picture("active-experts", "Active experts, by task type", size, lambda each: _draw_types(each, findings))
    return [means, by_type]


def _draw(figure: Figure, findings: Findings, axes: Sequence[str]) -> None:
    for number, axis in enumerate(axes, start=1):
        panel = figure.add_subplot((len(axes) + 2) // 3, 3, number)
        for vector in VECTORS:
            found = [each for each in findings.of(axis, vector) if axis == "scoring" or each.point.place is not None]
            _draw_line(panel, axis, vector, found, [each.mean for each in found])
        _finish(panel, axis)
    _legend(figure)


def _draw_types(figure: Figure, findings: Findings) -> None:
    kinds = list(type_means(findings.measured[0]))
    for number, kind in enumerate(kinds, start=1):
        panel = figure.add_subplot((len(kinds) + 2) // 3, 3, number)
        for vector in VECTORS:
            found = findings.of("active-experts", vector)
            _draw_line(panel, "active-experts", vector, found, [type_means(each)[kind] for each in found])
        _finish(panel, "active-experts")
        panel.set_title(kind, fontsize=9)
    _legend(figure)


def _draw_line(panel: Axes, axis: str, vector: str, found: Sequence[Measured], values: Sequence[float]) -> None:
    x = range(len(found)) if axis == "scoring" else [each.point.place or 0.0 for each in found]
    is_cloud = axis == "experts"  # several draws at one share: points, no line through them
    panel.plot(
        x,
        values,
        marker=_MARKERS[vector],
        markersize=4,
        linestyle="none" if is_cloud or axis == "scoring" else "-",
        color=COLOURS[vector],
        label=vector,
    )
    if axis == "scoring":
        panel.set_xticks(range(len(found)), [each.point.label for each in found])
    for place, value, each in zip(x, values, found, strict=True):
        if each.point.is_own:
            panel.plot([place], [value], marker="o", markersize=9, fillstyle="none", color=COLOURS[vector])


def _finish(panel: Axes, axis: str) -> None:
    if axis in _LOGARITHMIC:
        panel.set_xscale("log", base=2)
    panel.set_xlabel(_AXIS_LABELS[axis])
    panel.set_ylabel("points of 100")
    panel.grid(axis="y", linewidth=0.4, alpha=0.6)
    panel.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure) -> None:
    lines = figure.axes[0].get_lines()
    named = {str(line.get_label()): line for line in lines if not str(line.get_label()).startswith("_")}
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=3, frameon=False)
