"""Quality by domain instead of task type, beside what knows words alone: the numbers behind `moee study domains`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from types import MappingProxyType

from moee.embedder import MoEE
from moee.evaluate.bootstrap import Interval, paired_mean_difference
from moee.evaluate.reproduce.exhibit import Cell, Exhibit, Table
from moee.evaluate.reproduce.run import NoDataError
from moee.evaluate.score_cache import ScoreStore, folder_digest
from moee.evaluate.studies.samples import Sample, load_sample, lookup
from moee.evaluate.tasks import SEED, TASK_DATA, TaskScore, check_folder, floors, score
from moee.files.atomic import cache_dir
from moee.method.config import EmbedderConfig, recipe_config
from moee.method.space import VectorSpace
from moee.progress import progress_bar
from moee.types import Array, View
from moee.view_store import ViewStore

DOMAINS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "science and medicine": ("SciFact",),
        "engineering": ("Cranfield",),
        "finance": ("Banking77Classification",),
        "forum questions": ("QuoraDuplicateRR", "WikiQA"),
        "news and chat": ("TwentyNewsgroupsClustering", "TwitterSemEval2015", "EmotionClassification"),
        "reviews": ("AmazonCounterfactual-en",),
    }
)
"""Domain and the sets that stand for it."""
VERSION = 1
"""Raised when the same settings would give other scores."""


@dataclass(frozen=True, slots=True)
class DomainTask:
    """One set of a domain.

    Attributes:
        domain: Key of `DOMAINS`.
        sample: The rows that were scored.
        scores: Score of each vector by its name.
        floor: Score of TF-IDF, or of BM25 in retrieval.
    """

    domain: str
    sample: Sample
    scores: Mapping[str, TaskScore]
    floor: TaskScore

    @property
    def floor_name(self) -> str:
        """What the floor is: BM25 in retrieval, TF-IDF elsewhere."""
        return floor_name(self.sample.task.task_type)


def floor_name(task_type: str) -> str:
    """Return what knows words alone in a task type: BM25 where something is searched in a corpus, else TF-IDF."""
    return "BM25" if TASK_DATA[task_type].has_corpus else "TF-IDF"


class DomainStudy:
    """Scores the sets of every domain with the default recipe, with fewer views, and with words alone.

    Args:
        embedder: The model; the default recipe is studied with its own statistics.
        folder: Folder of evaluation sets.
        limit: Texts of a set that the model runs, about.
        max_length: Limit of a prompt in tokens.
        cache: Folder of what is kept; None is `evaluate` in the package's cache folder.
        show_progress: Bars on stderr.

    Raises:
        NoDataError: If no set of any domain is there.
        DataError, InputError: If a set cannot be read, or `limit` is too small.
    """

    def __init__(
        self,
        embedder: MoEE,
        folder: Path,
        *,
        limit: int,
        max_length: int,
        cache: Path | None = None,
        show_progress: bool = False,
    ) -> None:
        check_folder(folder)
        present = {
            domain: [name for name in names if (folder / name / "dataset.json").is_file()]
            for domain, names in DOMAINS.items()
        }
        if not any(present.values()):
            listed = ", ".join(name for names in DOMAINS.values() for name in names)
            raise NoDataError(
                f"None of the sets {listed} is in {str(folder)!r}. docs/guides/evaluate.md has the layout."
            )
        self.embedder = embedder
        self.limit = limit
        self.config = recipe_config("default", model_type=embedder.info.model_type).replace(max_length=max_length)
        self.absent = [domain for domain, names in present.items() if not names]
        self._samples = [
            (domain, load_sample(folder, name, limit)) for domain, names in present.items() for name in names
        ]
        self._digests = {sample.task.name: folder_digest(folder / sample.task.name) for _, sample in self._samples}
        cache = cache if cache is not None else cache_dir() / "evaluate"
        self._store = ViewStore(embedder, cache, show_progress=show_progress, projections=False)
        self._scores = ScoreStore(cache)
        self._show_progress = show_progress

    def vectors(self) -> dict[str, EmbedderConfig]:
        """Return the configuration of each vector that is scored: the recipe's, and those with fewer of its views."""
        weights = dict(self.config.weights)
        found: dict[str, EmbedderConfig] = {"default recipe": self.config}
        for name, left_out in (("without words", ("lexical",)), ("without RW", ("rw",)), ("HS", ("*",))):
            kept: dict[View, float] = {
                view: weight for view, weight in weights.items() if view == "hs" or not {view, "*"} & set(left_out)
            }
            if kept != weights:
                found[name] = self.config.replace(weights=kept)
        return found

    def run(self) -> list[DomainTask]:
        """Score every set."""
        found = []
        with progress_bar("Sets", len(self._samples), enabled=self._show_progress) as advance:
            for domain, sample in self._samples:
                scores = {name: self._score(sample, config) for name, config in self.vectors().items()}
                every = floors(sample.data)
                floor = every["bm25"] if floor_name(sample.task.task_type) == "BM25" else every["tfidf"]
                found.append(DomainTask(domain, sample, scores, floor))
                advance(1)
        return found

    def _score(self, sample: Sample, config: EmbedderConfig) -> TaskScore:
        space = self._space(config)
        facts = {
            "domains": VERSION,
            "model": [self.embedder.info.fingerprint, self.embedder.info.dtype, self.embedder.info.precision],
            "config": config.to_dict(),
            "statistics": None if space.statistics is None else space.statistics.digest(),
            "task": sample.task.name,
            "data": self._digests[sample.task.name],
            "limit": self.limit,
            "seed": SEED,
        }
        kept = self._scores.get(facts)
        if kept is None:
            kept = score(sample.data, lookup(self._vectors(sample, space), sample), seed=SEED)
            self._scores.put(facts, kept)
        return kept

    def _space(self, config: EmbedderConfig) -> VectorSpace:
        changes = {name: value for name, value in config.to_dict().items() if name not in ("format_version", "recipe")}
        return self.embedder.with_settings(**changes).space()

    def _vectors(self, sample: Sample, space: VectorSpace) -> Array:
        views = self._store.views(sample.texts, self.config, description=sample.task.name)
        return space.fuse(space.blocks(views))


def minus_floor(tasks: Sequence[DomainTask], vector: str) -> Interval:
    """Return how far a vector is above the floors over sets, in points of 100, with its 95 % interval."""
    found = paired_mean_difference([task.scores[vector] for task in tasks], [task.floor for task in tasks])
    return Interval(100 * found.difference, 100 * found.low, 100 * found.high, found.resamples)


def verdict(tasks: Sequence[DomainTask]) -> str:
    """Return in a line what the default recipe is beside words alone, on the sets of one domain."""
    interval = minus_floor(tasks, "default recipe")
    names = " and ".join(dict.fromkeys(task.floor_name for task in tasks))
    shown = f"{interval.difference:+.1f} points [{interval.low:+.1f}, {interval.high:+.1f}]"
    if interval.low > 0:
        return f"Use it: {shown} against {names}."
    if interval.high < 0:
        return f"{names} alone is better: {shown}."
    return f"No difference from {names} that this sample shows: {shown}."


def exhibit(study: DomainStudy, tasks: Sequence[DomainTask], name: str = "domains") -> Exhibit:
    """Return the tables of a finished study: one line a domain with its verdict, and one a set."""
    vectors = list(study.vectors())
    by_domain = {domain: [task for task in tasks if task.domain == domain] for domain in DOMAINS}
    lines: list[tuple[Cell, ...]] = []
    for domain, mine in by_domain.items():
        if mine:
            interval = minus_floor(mine, "default recipe")
            means = [100 * fmean(task.scores[vector].main for task in mine) for vector in vectors]
            floor = 100 * fmean(task.floor.main for task in mine)
            lines.append((domain, *means, floor, interval.difference, interval.low, interval.high, verdict(mine)))
    sets: list[tuple[Cell, ...]] = [
        (
            task.domain,
            task.sample.task.name,
            task.scores[vectors[0]].metric,
            float(len(task.sample.rows)),
            *(100 * task.scores[vector].main for vector in vectors),
            task.floor_name,
            100 * task.floor.main,
        )
        for task in tasks
    ]
    ends = ("TF-IDF or BM25", "difference", "low", "high", "verdict")
    return Exhibit(
        name,
        f"Quality by domain: {study.embedder.info.name}",
        (
            Table("domains", "Mean of each domain's sets, points of 100", ("domain", *vectors, *ends), tuple(lines), 1),
            Table(
                "sets",
                "Main metric of each set, points of 100",
                ("domain", "set", "metric", "texts", *vectors, "words alone", "its score"),
                tuple(sets),
                1,
            ),
        ),
        tuple(_notes(study, by_domain)),
        settings={"limit": study.limit, "max_length": study.config.max_length, "weights": dict(study.config.weights)},
    )


def _notes(study: DomainStudy, by_domain: Mapping[str, Sequence[DomainTask]]) -> list[str]:
    lines = [f"{domain}: {verdict(tasks)}" for domain, tasks in by_domain.items() if tasks]
    lines += [f"{domain}: no set in the data folder." for domain in study.absent]
    lines.append(
        "The difference is the default recipe's to what knows words alone (BM25 in retrieval, TF-IDF elsewhere), with "
        "the 95 % interval of a paired bootstrap over the rows. A domain is one to three sets here, each of one task "
        f"type: it says how the method did on these, not on all texts of the field. About {study.limit} texts of each "
        f"set; prompts of at most {study.config.max_length} tokens. Words alone see whole texts."
    )
    return lines
