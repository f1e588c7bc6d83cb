"""A model, a folder of evaluation sets and the cache between them: all that evaluation asks goes through here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from moee.data import calibration_texts
from moee.embedder import MoEE
from moee.errors import InputError
from moee.evaluate.score_cache import ScoreStore, folder_digest
from moee.evaluate.tasks import (
    SEED,
    TASK_DATA,
    DataError,
    Embed,
    Indices,
    TaskData,
    TaskScore,
    check_folder,
    load_task,
    score,
    task_row,
)
from moee.evaluate.vectors import Setting, embed_under, with_source
from moee.files.atomic import cache_dir
from moee.method.calibration import Calibration
from moee.method.calibration_store import find_statistics
from moee.method.config import EmbedderConfig
from moee.method.lexical import DocumentFrequencies
from moee.method.space import VectorSpace
from moee.types import Array, Views
from moee.view_store import ViewStore

MAX_LENGTH = 128
"""Default limit of a prompt in evaluation, in tokens. With it two cores need about an hour for all tasks."""
CORPUS_LIMIT = 1000
"""Default number of documents of a retrieval task, for the same reason."""
_RECENT = 3
"""Views of so many tasks and scorings are held in memory: the settings of a task come one after another."""


class Study:
    """Scores one model on the tasks of one folder; views are computed once and kept on disk.

    Args:
        embedder: The model. Only its own statistics are used from its configuration; each `Setting` names the rest.
        data: Folder with one subfolder for each task.
        cache: Folder of kept views; None is `evaluate` in the package's cache folder.
        limit: At most so many items of each task, and so many texts of its further parts; see `tasks.files.TaskFolder`.
        max_length: Limit of a prompt in tokens; longer texts are cut, and a warning says how many. None is the model's.
        corpus_limit: Documents of a retrieval task: all judged ones, then the first others. None keeps all.
        show_progress: Bars on stderr.
        split: Split that is scored; `dev` where a task has one.

    Raises:
        DataError: If `data` holds no evaluation set.
    """

    def __init__(  # noqa: PLR0913 - each is a choice of its own that a caller names
        self,
        embedder: MoEE,
        data: Path,
        *,
        cache: Path | None = None,
        limit: int | None = None,
        max_length: int | None = MAX_LENGTH,
        corpus_limit: int | None = CORPUS_LIMIT,
        show_progress: bool = False,
        split: str = "test",
    ) -> None:
        check_folder(data)
        self.embedder = embedder
        self.data = data
        self.limit = limit
        self.max_length = max_length
        self.corpus_limit = corpus_limit
        self.split = split
        self.cache = cache if cache is not None else cache_dir() / "evaluate"
        self.show_progress = show_progress
        self._store = ViewStore(embedder, self.cache, show_progress=show_progress)
        self._tasks: dict[str, TaskData] = {}
        self._statistics: dict[str, Calibration] = {}
        self._scores = ScoreStore(self.cache)
        self._digests: dict[str, str] = {}
        self._recent: list[tuple[TaskData, str, Indices, Views]] = []

    def has(self, name: str) -> bool:
        """Return whether the folder holds data of a task."""
        return (self.data / task_row(name).name / "dataset.json").is_file()

    def task(self, name: str) -> TaskData:
        """Return a task's data, read once.

        Raises:
            UnknownNameError: If there is no such task; suggests close matches.
            DataError: If its files are missing or wrong.
        """
        if name not in self._tasks:
            self._tasks[name] = load_task(
                self.data / name, name, limit=self.limit, corpus_limit=self.corpus_limit, split=self.split
            )
        return self._tasks[name]

    def views(self, texts: Sequence[str], config: EmbedderConfig, *, description: str = "Embedding") -> Views:
        """Return the views of texts under a configuration, from the cache where it has them."""
        return self._store.views(texts, self._limited(config), description=description)

    def missing(self, texts: Sequence[str], config: EmbedderConfig) -> int:
        """Return how many texts the model would have to be run for."""
        return self._store.missing(texts, self._limited(config))

    def config(self, setting: Setting) -> EmbedderConfig:
        """Return the configuration behind a setting, for this model and its length limit."""
        return self._limited(setting.config(self.embedder.info.model_type))

    def task_views(self, data: TaskData, setting: Setting) -> tuple[Indices, Views]:
        """Return the rows of `data.texts` that the task's encode calls will name, and their views."""
        config = self.config(setting)
        wanted = repr((sorted(config.view_key().items()), config.captured, config.max_length))
        for known, kept, rows, views in self._recent:
            if known is data and kept == wanted:
                return rows, views
        rows = data.embedded()
        views = self.views([data.texts[row] for row in rows], config, description=data.name)
        self._recent = [*self._recent[-_RECENT + 1 :], (data, wanted, rows, views)]
        return rows, views

    def statistics(self, data: TaskData, setting: Setting) -> Calibration | None:
        """Return the frozen statistics that a setting asks for.

        `builtin`: the embedder's own where they fit (those it was saved or shipped with), else fitted on the built-in
        sentences. `corpus`: fitted on the task's own texts, without labels; the words of these texts are counted too.

        Returns:
            None in the `paper` recipe, and where the setting asks for none.
        """
        config = self.config(setting)
        if setting.statistics in ("batch", "none") or config.calibration in ("none", "batch"):
            return None
        # a part of a set has the set's name, and statistics of its own
        origin = "builtin" if setting.statistics == "builtin" else f"corpus {data.name} {hash(data.texts)}"
        source = "random" if setting.routing == "random-projections" else "router"
        key = repr((origin, source, sorted(config.view_key().items()), config.captured, config.gamma))
        if key not in self._statistics:
            self._statistics[key] = self._fit(data, setting, config)
        return self._statistics[key]

    def _fit(self, data: TaskData, setting: Setting, config: EmbedderConfig) -> Calibration:
        info, words = self.embedder.info, None
        if setting.statistics == "corpus":
            rows, views = self.task_views(data, setting)
            words = DocumentFrequencies.fit(data.texts_at(rows))
        else:
            is_router = setting.routing != "random-projections"
            own = self.embedder.with_settings(**_settings(config)).calibration if is_router else None
            if found := own or (find_statistics(info, config) if is_router else None):
                return found
            views = self.views(calibration_texts(), config, description="Calibrating")
        source = with_source(views, setting)
        return Calibration.fit(source, info=info, config=config, texts=setting.statistics, frequencies=words)

    def alpha(self, data: TaskData, setting: Setting) -> float:
        """Return the weight of RW that a setting uses on a task: the number behind `"auto"`."""
        return self.space(data, setting).alpha

    def space(self, data: TaskData, setting: Setting) -> VectorSpace:
        """Return the way from views to vectors that a setting asks for, with its statistics."""
        return VectorSpace(self.config(setting), self.statistics(data, setting))

    def embed(self, data: TaskData, setting: Setting) -> Embed:
        """Return the encode call of a task under a setting.

        The call raises an `InputError` for training texts that no run draws: their views were not computed.
        """
        rows, views = self.task_views(data, setting)
        inner = embed_under(views, setting, self.space(data, setting))
        places = np.full(len(data.texts), -1, dtype=np.int64)
        places[rows] = np.arange(len(rows))

        def encode(wanted: Indices) -> Array:
            if (places[wanted] < 0).any():
                raise InputError(
                    f"{data.name}: an encode call names training texts that no run of the classification draws, so "
                    "they have no views. Use the seed and the sample size of its row in the table of tasks."
                )
            return inner(places[wanted])

        return encode

    def score(self, name: str, setting: Setting) -> TaskScore:
        """Return the score of a task under a setting, from the cache if it was computed before.

        Raises:
            InputError: If a vector or the score is NaN; names the task.
        """
        data = self.task(name)
        facts = self._facts(data, setting)
        found = self._scores.get(facts)
        if found is None:
            found = score(data, self.embed(data, setting), seed=SEED)
            self._scores.put(facts, found)
        return found

    def baseline(self, name: str, compute: Callable[[TaskData], TaskScore], label: str) -> TaskScore:
        """Return a score of a task that no model is needed for, from the cache if it was computed before.

        Args:
            name: Name of the task.
            compute: Makes the score from the task's data.
            label: Names the computation in the cache.
        """
        facts = {"baseline": label, **self._data_facts(name)}
        found = self._scores.get(facts)
        if found is None:
            found = compute(self.task(name))
            self._scores.put(facts, found)
        return found

    def digest(self, name: str) -> str:
        """Return a digest of a task's data files."""
        if name not in self._digests:
            self._digests[name] = folder_digest(self.data / name)
        return self._digests[name]

    def _data_facts(self, name: str) -> dict[str, object]:
        row = task_row(name)
        return {
            "task": name,
            "data": self.digest(name),
            "limit": self.limit,
            "corpus_limit": self.corpus_limit if TASK_DATA[row.task_type].has_corpus else None,
            "split": self.split,
            "seed": SEED,
        }

    def _facts(self, data: TaskData, setting: Setting) -> dict[str, object]:
        """Everything that a score depends on."""
        info, statistics = self.embedder.info, self.statistics(data, setting)
        return self._data_facts(data.name) | {
            "model": [info.fingerprint, info.dtype, info.precision],
            "setting": asdict(setting) | {"alpha": self.alpha(data, setting)},
            "config": self.config(setting).to_dict(),
            "statistics": None if statistics is None else statistics.digest(),
        }

    def _limited(self, config: EmbedderConfig) -> EmbedderConfig:
        return config.replace(max_length=self.max_length)


def _settings(config: EmbedderConfig) -> dict[str, object]:
    return {name: value for name, value in config.to_dict().items() if name != "format_version"}


__all__ = ["CORPUS_LIMIT", "MAX_LENGTH", "SEED", "DataError", "Study"]
