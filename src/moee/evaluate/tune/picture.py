"""The curve of a tuning as a picture: the score as the weight of one view changes, a panel for each view."""

from __future__ import annotations

from pathlib import Path

from moee.evaluate.tune.run import Tuning
from moee.plots.figure_file import figure_file

_PANEL = (3.2, 2.6)  # inches


def draw_curve(tuning: Tuning, path: Path) -> None:
    """Write the curve to a PNG or SVG file.

    Raises:
        InputError, MissingExtraError, OutputError: As `moee.plots.figure_file.figure_file`.
    """
    found = tuning.choice
    views = list(dict.fromkeys(view for view, _ in found.curve))
    with figure_file(path, (_PANEL[0] * len(views), _PANEL[1])) as figure:
        panels = figure.subplots(1, len(views), sharey=True, squeeze=False)[0]
        for panel, view in zip(panels, views, strict=True):
            trials = [trial for name, trial in found.curve if name == view]
            weights = [trial.weights.get(view, 0.0) for trial in trials]
            # places, not values: the grid grows by factors and begins at 0
            panel.plot(range(len(trials)), [100 * trial.score for trial in trials], marker="o", color="#3b6ea5")
            panel.axvline(weights.index(found.chosen.weights.get(view, 0.0)), color="#b8860b", linestyle=":")
            panel.set_xticks(range(len(trials)), [f"{weight:g}" for weight in weights])
            panel.set_xlabel(f"weight of {view}")
        panels[0].set_ylabel("score x 100")
        figure.suptitle(f"{tuning.num_pairs} pairs ({tuning.pairs}); dotted: the choice", fontsize=9)
