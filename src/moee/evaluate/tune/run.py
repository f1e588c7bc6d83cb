"""Tune an embedder: run the model over siblings or labelled pairs once, try what there is, and say what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal, get_args

import numpy as np

from moee.data import calibration_texts
from moee.embedder import MoEE
from moee.errors import InputError, check_choice
from moee.evaluate.tune.criterion import Criterion, LabelledPairs, ScoredPairs, SiblingRank
from moee.evaluate.tune.search import (
    GRIDS,
    LAYERS,
    Candidate,
    Choice,
    Trial,
    choose,
    cosines_of,
    last_layers,
    with_layers,
)
from moee.evaluate.tune.siblings import Siblings
from moee.method.calibration import FROZEN_METHODS, Calibration
from moee.method.config import EmbedderConfig
from moee.method.fusion import check_weighted
from moee.method.lexical import DocumentFrequencies
from moee.method.routing import chosen_layers
from moee.method.space import VectorSpace
from moee.types import RoutingLayers, View, Views

Statistics = Literal["builtin", "own"]
STATISTICS: tuple[Statistics, ...] = get_args(Statistics)
PRESENT = "present"

SAMPLE = 400
"""Pairs used at most: 800 texts, and 160,000 similarities for each trial."""
MIN_OWN_TEXTS = 100
"""Statistics of fewer texts are noise."""
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Tuning:
    """A choice for an embedder, and how to put it to use.

    Attributes:
        choice: What was found.
        criterion: What it was judged by, in words.
        pairs: `halves`, `sentences`, `title` or `labelled`.
        num_pairs: How many.
        free: Views whose weights were chosen.
        notes: What a reader must know before the choice is believed.
        model: The embedder with the choice, by named weights.
    """

    choice: Choice
    criterion: str
    pairs: str
    num_pairs: int
    free: tuple[View, ...]
    notes: tuple[str, ...]
    model: MoEE

    def evidence(self) -> dict[str, Any]:
        """Return all that was tried, ready for JSON; scores x 100. `Any`: numbers, words and lists of them."""
        found, gain, info = self.choice, self.choice.gain, self.model.info
        return {
            "format_version": FORMAT_VERSION,
            "moee_version": version("moee"),
            "model": {"name": info.name, "fingerprint": info.fingerprint, "dtype": info.dtype},
            "criterion": self.criterion,
            "pairs": self.pairs,
            "num_pairs": self.num_pairs,
            "weights_chosen_of": list(self.free),
            "present": _record(found.present),
            "chosen": _record(found.chosen),
            "best": _record(found.best),
            "gain_of_best": [100 * gain.difference, 100 * gain.low, 100 * gain.high],
            "alone": {view: 100 * score for view, score in found.alone.items()},
            "candidates": [_record(trial) for trial in found.by_candidate],
            "curve": [{"view": view, **_record(trial)} for view, trial in found.curve],
            "notes": list(self.notes),
        }


def tune(
    embedder: MoEE,
    pairs: Siblings | ScoredPairs,
    *,
    free: Sequence[View] | None = None,
    layers: Sequence[str] = tuple(LAYERS),
    statistics: Sequence[Statistics] = STATISTICS,
    show_progress_bar: bool = False,
) -> Tuning:
    """Choose weights of the views, layers of RW and statistics for texts of one's own.

    The model runs over the texts once, and over the built-in sentences once if other layers are tried with built-in
    statistics. Nothing is changed; `Tuning.model` is another embedder over the same model in memory.

    Args:
        embedder: Any whose cosines are weighted ones of the views, with frozen statistics.
        pairs: Siblings, from `find_siblings`, or pairs with scores.
        free: Views whose weights are chosen, of `rw`, `tokens` and `lexical`; None is the first two with siblings, all
            with scored pairs.
        layers: Keys of `LAYERS`: layers of RW that are tried beside the present ones.
        statistics: Whose statistics are tried beside the present ones.
        show_progress_bar: Show progress on stderr.

    Raises:
        InputError: If the embedder cannot be tuned, or a name is unknown.
    """
    is_labelled = isinstance(pairs, ScoredPairs)
    embedder = _weighted(embedder)
    chosen = _free(embedder.config, free, is_labelled=is_labelled)
    for name in layers:
        check_choice("layers", name, LAYERS)
    for name in statistics:
        check_choice("statistics", name, STATISTICS)
    criterion: Criterion = LabelledPairs(pairs.scores) if isinstance(pairs, ScoredPairs) else SiblingRank()
    search = _Search(embedder, pairs.left, pairs.right, criterion, show_progress_bar)
    candidates = search.candidates(layers, statistics)
    choice = choose(criterion, [each.candidate for each in candidates], embedder.config.weights, chosen)
    notes = (*choice.notes, *_cautions(choice, chosen, is_labelled=is_labelled))
    kind = "labelled" if isinstance(pairs, ScoredPairs) else pairs.kind
    model = search.tuned(choice, candidates)
    return Tuning(choice, criterion.name, kind, len(pairs.left), chosen, notes, model)


def _record(trial: Trial) -> dict[str, Any]:
    return {
        "layers": trial.layers,
        "statistics": trial.statistics,
        "weights": dict(trial.weights),
        "score": 100 * trial.score,
    }


def _weighted(embedder: MoEE) -> MoEE:
    """Return the embedder by named weights: the sum of HS and RW, or one of them, is a case of these.

    Raises:
        InputError: If its vectors are no weighted cosines of the views, or it uses no frozen statistics.
    """
    config = embedder.config
    config.check_alone("tuned for")
    if config.calibration not in FROZEN_METHODS:
        raise InputError(
            f"Tuning compares statistics, and this embedder has calibration={config.calibration!r}, which uses none. "
            f"Load it with calibration={FROZEN_METHODS[0]!r}."
        )
    check_weighted(config.fusion, "tuned")
    weights = {view: weight for view, weight in embedder.space().weights().items() if weight}
    return embedder.with_settings(fusion="weighted", weights=weights)


def _free(config: EmbedderConfig, free: Sequence[View] | None, *, is_labelled: bool) -> tuple[View, ...]:
    default: tuple[View, ...] = ("rw", "tokens", "lexical") if is_labelled else ("rw", "tokens")
    for view in free or ():
        check_choice("view to be chosen", view, GRIDS)
    wanted = tuple(free) if free is not None else default
    return tuple(view for view in wanted if view != "tokens" or config.prompt_tokens == "apart")


def _cautions(choice: Choice, free: Sequence[View], *, is_labelled: bool) -> list[str]:
    """Return what the kind of pairs cannot tell."""
    if is_labelled:
        return ["The same pairs chose and are scored, so the gain is too bright by a little. Report none on them."]
    notes = [
        "Siblings measure search by topic. They are blind to what classes, paraphrases and kinds of questions need: "
        "for those give labelled pairs (--pairs)."
    ]
    alone = choice.alone
    if "lexical" in alone:
        words = f"words alone find {100 * alone['lexical']:.1f}, the hidden state alone {100 * alone['hs']:.1f}"
        if "lexical" in free:
            notes.append(
                f"Siblings share words ({words}), so they favour the view lexical: its weight may be too large."
            )
        else:
            notes.append(f"Siblings share words ({words}), so the weight of lexical was not chosen by them.")
    return notes


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A candidate, and what an embedder needs to follow it."""

    candidate: Candidate
    layers: RoutingLayers
    statistics: Calibration


class _Search:
    """The views of the pairs and of the built-in sentences, each computed once, and the candidates made of them."""

    def __init__(
        self, embedder: MoEE, left: Sequence[str], right: Sequence[str], criterion: Criterion, show_progress: bool
    ) -> None:
        self._embedder, self._criterion, self._show_progress = embedder, criterion, show_progress
        views: dict[View, float] = {"hs": 1.0, "rw": 1.0, "lexical": 1.0}
        if embedder.config.prompt_tokens == "apart":
            views = {"hs": 1.0, "rw": 1.0, "tokens": 1.0, "lexical": 1.0}
        self._wide = embedder.with_settings(routing_layers="all", weights=views)
        places: dict[str, int] = {}
        sides = [[places.setdefault(text, len(places)) for text in side] for side in (left, right)]
        self._texts = list(places)
        self._own = self._wide.encode_views(self._texts, show_progress_bar=show_progress)
        self._left, self._right = (self._own.take(np.array(side, dtype=np.int64)) for side in sides)
        self._builtin: Views | None = None

    def candidates(self, layers: Sequence[str], statistics: Sequence[Statistics]) -> list[_Fitted]:
        """Return the present choice, then the others, without statistics of too few texts."""
        config, info = self._embedder.config, self._embedder.info
        now = chosen_layers(config.routing_layers, info.layer_ids, info.num_layers)
        space = self._embedder.space()
        assert space.statistics is not None, "a frozen method has statistics"
        found = [self._candidate(PRESENT, PRESENT, now, space.statistics)]
        for name in layers:
            numbers = last_layers(info.layer_ids, name)
            for whose in statistics:
                if whose == "own" and len(self._texts) < MIN_OWN_TEXTS:
                    continue
                is_builtin = whose == "builtin"
                if is_builtin and numbers == now and space.statistics.texts == "builtin":
                    continue  # the present one
                fitted = self._fit(self._builtin_views() if is_builtin else self._own, numbers, whose)
                found.append(self._candidate(name, whose, numbers, fitted))
        return found

    def _builtin_views(self) -> Views:
        if self._builtin is None:
            self._builtin = self._wide.encode_views(calibration_texts(), show_progress_bar=self._show_progress)
        return self._builtin

    def _fit(self, views: Views, layers: Sequence[int], whose: Statistics) -> Calibration:
        words = DocumentFrequencies.fit(self._texts) if whose == "own" else None
        return Calibration.fit(
            with_layers(views, layers),
            info=self._embedder.info,
            config=self._config(layers),
            texts="builtin" if whose == "builtin" else "user",
            frequencies=words,
        )

    def _config(self, layers: Sequence[int]) -> EmbedderConfig:
        """Return the configuration of an embedder with some layers of RW, in the shortest form that means them."""
        info = self._embedder.info
        for named in ("all", "last_third"):
            if chosen_layers(named, info.layer_ids, info.num_layers) == tuple(layers):
                return self._embedder.config.replace(routing_layers=named)
        return self._embedder.config.replace(routing_layers=tuple(layers))

    def _candidate(self, name: str, whose: str, layers: Sequence[int], statistics: Calibration) -> _Fitted:
        config = self._embedder.config if name == PRESENT else self._config(layers)
        space = VectorSpace(config.replace(weights=self._wide.config.weights), statistics)
        sides = (with_layers(side, layers) for side in (self._left, self._right))
        cosines = cosines_of(self._criterion, space, *sides)
        return _Fitted(Candidate(name, whose, cosines), config.routing_layers, statistics)

    def tuned(self, choice: Choice, candidates: Sequence[_Fitted]) -> MoEE:
        """Return the embedder with the choice; with statistics of these texts for each of its prompts, if they won."""
        chosen = choice.chosen
        if chosen is choice.present:
            return self._embedder
        fitted = next(
            each
            for each in candidates
            if (each.candidate.layers, each.candidate.statistics) == (chosen.layers, chosen.statistics)
        )
        changed = self._embedder.with_settings(weights=dict(chosen.weights), routing_layers=fitted.layers)
        if chosen.statistics == PRESENT:
            return changed
        if chosen.statistics == "own" and len(changed.config.prompts()) > 1:
            changed.calibrate(self._texts, show_progress_bar=self._show_progress)
            return changed
        return self._embedder.with_statistics(changed.config, [fitted.statistics])
