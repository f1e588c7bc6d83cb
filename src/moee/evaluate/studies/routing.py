"""Quality against routing: the numbers behind `moee study routing`.

Every point of every axis is scored with three vectors: HS alone, RW alone, and both with the weight that RW has in the
default recipe. The statistics of each point are its own, fitted on the same built-in sentences. What a pass gave and
what a point scored is kept on disk, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np

from moee.backends.forward.changed_routing import RoutingChange, most_experts_of, with_routing
from moee.data import calibration_texts
from moee.embedder import MoEE
from moee.errors import InputError, MoEEError, check_choice
from moee.evaluate.bootstrap import Interval, paired_mean_difference
from moee.evaluate.score_cache import ScoreStore, folder_digest
from moee.evaluate.studies.points import AXES, Point, Reader, Reading, changes, points_of
from moee.evaluate.studies.samples import Sample, load_sample, lookup
from moee.evaluate.tasks import SEED, Embed, Task, TaskScore, score
from moee.files.atomic import cache_dir
from moee.method.calibration import Calibration
from moee.method.config import EmbedderConfig, recipe_config
from moee.method.routing import chosen_layers
from moee.method.space import VectorSpace
from moee.progress import progress_bar
from moee.types import Views
from moee.view_store import ViewStore

VECTORS: Mapping[str, str] = {"HS": "hs", "RW": "rw", "HS + RW": "sum"}
"""Name of each vector, and the fusion that makes it."""
SENTENCES = 128
"""Built-in sentences that the statistics of a point are fitted on, at equal distances."""
_WEIGHT = 0.2
VERSION = 1
"""Raised when a point of the same name means something else, so that kept scores are not used."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one vector scored at one point.

    Attributes:
        point: The point.
        vector: Key of `VECTORS`.
        scores: Score by name of the task.
    """

    point: Point
    vector: str
    scores: Mapping[str, TaskScore]

    @property
    def mean(self) -> float:
        """The mean over tasks, one of each type unless more were named, in points of 100."""
        return 100 * fmean(each.main for each in self.scores.values())

    def minus(self, other: Measured) -> Interval:
        """Return the difference of means with its 95 % interval of a paired bootstrap, in points of 100."""
        names = list(self.scores)
        found = paired_mean_difference([self.scores[name] for name in names], [other.scores[name] for name in names])
        return Interval(100 * found.difference, 100 * found.low, 100 * found.high, found.resamples)


@dataclass(slots=True)
class Findings:
    """All that a study found.

    Attributes:
        measured: Points in the order of the axes, vectors in that of `VECTORS`.
        left_out: Axes that this model cannot be studied on, and why.
        texts: Texts that each pass ran, the sentences among them.
        passes: Passes that were needed.
    """

    measured: list[Measured] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    texts: int = 0
    passes: int = 0

    def of(self, axis: str, vector: str) -> list[Measured]:
        """Return what a vector scored along an axis."""
        return [each for each in self.measured if each.point.axis == axis and each.vector == vector]

    def own(self, vector: str) -> Measured:
        """Return what a vector scores with the model and the recipe as they are."""
        return next(each for each in self.measured if each.point.is_own and each.vector == vector)


class RoutingStudy:
    """Scores the points of the axes with one model.

    Args:
        embedder: The model. Its configuration does not matter, the default recipe is studied.
        folder: Folder of evaluation sets.
        tasks: What to score.
        limit: Texts of a task that a pass runs, about.
        max_length: Limit of a prompt in tokens.
        cache: Folder of what is kept; None is `evaluate` in the package's cache folder.
        show_progress: Bars on stderr.

    Raises:
        DataError, InputError: If a task cannot be read, or `limit` is too small.
    """

    def __init__(
        self,
        embedder: MoEE,
        folder: Path,
        tasks: Sequence[Task],
        *,
        limit: int,
        max_length: int,
        cache: Path | None = None,
        show_progress: bool = False,
    ) -> None:
        self.embedder = embedder
        self.samples = [load_sample(folder, task.name, limit) for task in tasks]
        self._digests = {task.name: folder_digest(folder / task.name) for task in tasks}
        self._limit = limit
        self._cache = cache if cache is not None else cache_dir() / "evaluate"
        self._scores = ScoreStore(self._cache)
        self._show_progress = show_progress
        self.config = recipe_config("default", model_type=embedder.info.model_type).replace(max_length=max_length)
        self._captured = self.config.replace(routing_layers="all", scoring="logits", fusion="sum", alpha=1.0)
        texts = calibration_texts()
        places = np.linspace(0, len(texts) - 1, num=SENTENCES).astype(int)
        self._sentences = [texts[place] for place in places]

    @property
    def own(self) -> Reading:
        """How the default recipe reads the routers of this model."""
        info = self.embedder.info
        layers = chosen_layers(self.config.routing_layers, info.layer_ids, info.num_layers)
        return Reading(layers=layers, scoring=self.config.scoring)

    @property
    def weight(self) -> float:
        """The weight of RW beside HS in the default recipe."""
        return recipe_weight(self.config)

    def points(self, axes: Iterable[str]) -> tuple[list[Point], dict[str, str]]:
        """Return the points of axes, and the axes that this model cannot be studied on with the reason.

        Raises:
            UnknownNameError: If there is no such axis; suggests close matches.
        """
        found: list[Point] = []
        left_out: dict[str, str] = {}
        for axis in axes:
            check_choice("axis", axis, AXES)
            points = points_of(axis, self.embedder.info, self.own, most_experts_of(self.embedder.backend))
            try:
                for point in points:
                    self._model(point.change)
            except MoEEError as error:
                left_out[axis] = str(error)
            else:
                found += points
        return found, left_out

    def run(self, axes: Sequence[str]) -> Findings:
        """Score every point.

        Raises:
            InputError: If no axis is left, or a score cannot be computed.
        """
        points, left_out = self.points(axes)
        if not points:
            raise InputError(
                f"No axis can be studied with {self.embedder.info.name!r}. {next(iter(left_out.values()))}"
            )
        needed = changes(points)
        found: dict[tuple[int, str], Measured] = {}
        for number, change in enumerate(needed, start=1):
            mine = [place for place, point in enumerate(points) if point.change == change]
            label = f"Pass {number} of {len(needed)}{f' ({change.label})' if change.label else ''}"
            for place, each in self._score_pass(change, [(place, points[place]) for place in mine], label):
                found[place, each.vector] = each
        ordered = [found[place, vector] for place in range(len(points)) for vector in VECTORS]
        texts = len(self._sentences) + sum(len(sample.rows) for sample in self.samples)
        return Findings(ordered, left_out, texts, len(needed))

    def _score_pass(
        self, change: RoutingChange, points: Sequence[tuple[int, Point]], label: str
    ) -> list[tuple[int, Measured]]:
        one = _Pass(self._model(change), self._cache, self._captured, label, show_progress=self._show_progress)
        found = []
        with progress_bar(
            f"{label}: scores", len(points) * len(VECTORS) * len(self.samples), enabled=self._show_progress
        ) as advance:
            for place, point in points:
                for vector in VECTORS:
                    scores = {}
                    for sample in self.samples:
                        scores[sample.task.name] = self._score(one, point, vector, sample)
                        advance(1)
                    found.append((place, Measured(point, vector, scores)))
        return found

    def _score(self, one: _Pass, point: Point, vector: str, sample: Sample) -> TaskScore:
        facts = self._facts(one, point, vector, sample)
        kept = self._scores.get(facts)
        if kept is None:
            kept = score(sample.data, self._embed(one, point, vector, sample), seed=SEED)
            self._scores.put(facts, kept)
        return kept

    def _embed(self, one: _Pass, point: Point, vector: str, sample: Sample) -> Embed:
        reader, statistics = one.fitted(point.reading, self._vector_config("HS"), self._sentences)
        space = VectorSpace(self._vector_config(vector), statistics)
        vectors = space.fuse(space.blocks(reader.read(one.views(sample.texts))))
        return lookup(vectors, sample)

    def _vector_config(self, vector: str) -> EmbedderConfig:
        return self.config.replace(fusion=VECTORS[vector], alpha=self.weight)

    def _facts(self, one: _Pass, point: Point, vector: str, sample: Sample) -> dict[str, object]:
        """Everything that a score depends on; HS does not depend on how routers are read."""
        info = one.embedder.info
        return {
            "routing study": VERSION,
            "model": [info.fingerprint, info.dtype, info.precision],
            "config": self._vector_config(vector).to_dict(),
            "reading": None if vector == "HS" else asdict(point.reading),
            "sentences": SENTENCES,
            "task": sample.task.name,
            "data": self._digests[sample.task.name],
            "limit": self._limit,
            "seed": SEED,
        }

    def _model(self, change: RoutingChange) -> MoEE:
        if change == RoutingChange():
            return self.embedder
        return MoEE(with_routing(self.embedder.backend, change), self.embedder.config)

    def about(self) -> dict[str, object]:
        """Return the choices behind the numbers, ready for JSON."""
        return {
            "tasks": {sample.task.name: {"texts": len(sample.rows)} for sample in self.samples},
            "layers": list(self.own.layers),
            "scoring": self.own.scoring,
            "weight of RW": self.weight,
            "calibration": self.config.calibration,
            "sentences": SENTENCES,
            "max_length": self.config.max_length,
        }


class _Pass:
    """Views of one model, computed when they are first asked for."""

    def __init__(self, embedder: MoEE, cache: Path, config: EmbedderConfig, label: str, *, show_progress: bool) -> None:
        self.embedder = embedder
        self._store = ViewStore(embedder, cache, show_progress=show_progress, projections=False)
        self._config = config
        self._label = label
        self._known: dict[tuple[str, ...], Views] = {}
        self._fitted: tuple[Reading, Reader, Calibration] | None = None

    def fitted(self, reading: Reading, config: EmbedderConfig, sentences: Sequence[str]) -> tuple[Reader, Calibration]:
        """Return what reads the routers, and its statistics over some sentences; the last ones are remembered."""
        if self._fitted is None or self._fitted[0] != reading:
            info, views = self.embedder.info, self.views(sentences)
            reader = Reader(reading, info, views)
            fitted = Calibration.fit(reader.read(views), info=info, config=config, texts="routing study")
            self._fitted = reading, reader, fitted
        return self._fitted[1:]

    def views(self, texts: Sequence[str]) -> Views:
        """Return the views of texts, with the router logits of all layers."""
        key = tuple(texts)
        if key not in self._known:
            self._known[key] = self._store.views(texts, self._config, description=self._label)
        return self._known[key]


def recipe_weight(config: EmbedderConfig) -> float:
    """Return what the cosine of RW counts beside that of HS in a recipe, or a fifth where it leaves either out."""
    hidden, routing = config.weights.get("hs", 0.0), config.weights.get("rw", 0.0)
    return routing / hidden if hidden and routing else _WEIGHT
