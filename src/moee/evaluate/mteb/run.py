"""Our vectors in mteb: local folders as mteb tasks, an embedder as mteb's encoder, and a run that returns main scores.

Needs mteb 2.26 or newer (`pip install 'moee[evaluate]'`); `moee.evaluate.tasks` gives the same scores without it.
Works offline for local folders. Facts about mteb that this relies on: a task's dataset may be a local path; result
files are told apart by model, revision and `experiment_kwargs`, not by data.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from moee.errors import InputError
from moee.evaluate.mteb.encoder import (
    MtebEncoder,
    describe_model,
    encoder_from_embed,
    encoder_from_embedder,
    require_mteb,
    setting_experiment,
)
from moee.evaluate.mteb.layout import write_task
from moee.evaluate.tasks import TASK_DATA, Task, load_task, task_row

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask

__all__ = [
    "MtebEncoder",
    "describe_model",
    "encoder_from_embed",
    "encoder_from_embedder",
    "mteb_task",
    "run_mteb",
    "setting_experiment",
]

_MTEB_NAMES: Mapping[str, str] = {
    # the first SummEval averages correlations together with their p-values (mteb issue 1156)
    "SummEval": "SummEvalSummarization.v2",
}
"""Task -> mteb's task of the same data whose main score is ours, where it is not the one of `Task.mteb`."""


def mteb_task(
    folder: Path, name: str, workdir: Path, *, limit: int | None = None, corpus_limit: int | None = None
) -> AbsTask:
    """Turn a local folder into an mteb task, offline.

    The rows that `tasks.load_task` reads are written in mteb's layout to a folder under `workdir` named after their
    content, so the same rows are written once; the library `datasets` keeps a copy of its own in its cache folder. The
    task is mteb's own where mteb has it, with its settings and its name, and otherwise a task of mteb's class for the
    type.

    Args:
        folder: Folder of the evaluation set, with `dataset.json`.
        name: Name of a row of `tasks.TASKS`.
        workdir: Where mteb's files go; created if missing.
        limit: As in `load_task`.
        corpus_limit: As in `load_task`.

    Returns:
        The task, for `run_mteb` or `mteb.evaluate`. Its dataset revision is a digest of the rows.

    Raises:
        InputError: If mteb has no measure for the task, or the folder cannot be used.
        MissingExtraError: If mteb is not installed.
        OutputError: If `workdir` cannot be written.
    """
    require_mteb()
    row = task_row(name)
    data = load_task(folder, name, limit=limit, corpus_limit=corpus_limit)
    task_class = _task_class(row)
    written, revision = write_task(data, workdir, _columns(task_class), config=row.subset)
    dataset = {"path": str(written), "revision": revision}
    metadata = task_class.metadata.model_copy(update={"dataset": dataset, "eval_splits": ["test"]})
    if isinstance(metadata.eval_langs, Mapping):
        metadata = metadata.model_copy(update={"eval_langs": {row.subset: metadata.eval_langs[row.subset]}})
    # the files hold what mteb's class makes of the hub's, so its transformation of those must not run
    local = type(task_class.__name__, (task_class,), {"metadata": metadata, "dataset_transform": _as_it_is})
    return cast("AbsTask", local())


def _as_it_is(self: object, num_proc: int | None = None, **kwargs: object) -> None:
    """Leave a local dataset unchanged."""


def _task_class(row: Task) -> type[AbsTask]:
    """Return mteb's class of a task, or a new one under its name."""
    import mteb
    from mteb import abstasks

    if row.mteb is not None:
        return type(mteb.get_task(_MTEB_NAMES.get(row.name, row.mteb)))
    kind = TASK_DATA[row.task_type]
    if kind.mteb_class is None:
        raise InputError(
            f"mteb has no task {row.name!r} and no measure for its type {row.task_type}. "
            "Score it with the local runner."
        )
    base: type[AbsTask] = getattr(abstasks, kind.mteb_class)
    sampling = {"samples_per_label": row.samples_per_label, "n_experiments": row.runs}  # read by classification alone
    return type(row.name, (base,), {"metadata": _metadata(row, kind.metric)} | sampling)


def _metadata(row: Task, main_score: str) -> Any:  # a pydantic model that mypy cannot see without its plugin
    from mteb import TaskMetadata

    return TaskMetadata(
        name=row.name,
        description=f"{row.name}: a local {row.task_type} task of moee, not one of mteb's. {row.note}".strip(),
        dataset={"path": "local", "revision": "local"},
        type=cast("Any", row.task_type),
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=main_score,
        reference=None,
        date=None,
        domains=None,
        task_subtypes=None,
        license=None,
        annotations_creators=None,
        dialect=None,
        sample_creation=None,
        bibtex_citation=None,
    )


def _columns(task_class: type[AbsTask]) -> dict[str, str]:
    """Return what a task class calls the columns that classes may rename."""
    names = ("input1_column_name", "input2_column_name", "label_column_name", "input_column_name")
    columns = {name: getattr(task_class, name) for name in names if hasattr(task_class, name)}
    if hasattr(task_class, "column_names"):
        columns["input1_column_name"], columns["input2_column_name"] = task_class.column_names
    return columns


def run_mteb(
    encoder: MtebEncoder,
    tasks: Sequence[AbsTask | str],
    cache_folder: Path,
    *,
    show_progress: bool = False,
    batch_size: int = 32,
) -> dict[str, float]:
    """Run tasks in mteb and return their main scores.

    Results are kept in `cache_folder` in mteb's layout and reused when model, revision, settings and data are the same;
    results of other data under the same name are replaced.

    Args:
        encoder: The model.
        tasks: mteb tasks: of `mteb_task`, or names of mteb's own, whose data come from the hub.
        cache_folder: Folder for result files; created if missing.
        show_progress: Bars on stderr.
        batch_size: Batch size of mteb's data loaders; it changes no vector.

    Returns:
        Name of each task -> main score, 0 to 1. mteb rounds: retrieval and reranking scores to five decimals, and
        whatever it takes from a kept result to six.

    Raises:
        InputError: If mteb has no task of a name, or its data cannot be had; names the task.
        MissingExtraError: If mteb is not installed.
    """
    require_mteb()
    import mteb
    from mteb.cache import ResultCache

    cache = ResultCache(cache_folder)
    scores = {}
    for task in [_hub_task(task) if isinstance(task, str) else task for task in tasks]:
        kept = cache.load_task_result(task.metadata.name, encoder.mteb_model_meta)
        is_other_data = kept is not None and kept.dataset_revision != task.metadata.revision
        try:
            with _quiet(show_progress):
                result = mteb.evaluate(
                    cast("Any", encoder),
                    task,
                    co2_tracker=False,
                    cache=cache,
                    overwrite_strategy="always" if is_other_data else "only-missing",
                    encode_kwargs={"batch_size": batch_size, "show_progress_bar": show_progress},
                    show_progress_bar=show_progress,
                )
        except OSError as error:
            if task.data_loaded:  # the data were there, so the fault is elsewhere
                raise
            raise InputError(
                f"The data of {task.metadata.name} ({task.metadata.dataset['path']!r}) cannot be had: {error}. "
                "Tasks of the hub need the network or a filled hub cache; without either, give a folder of local data."
            ) from error
        scores[task.metadata.name] = float(result.task_results[0].get_score())
    return scores


def _hub_task(name: str) -> AbsTask:
    import mteb

    try:
        with _quiet(show_progress=False):
            return mteb.get_task(name)
    except KeyError as error:
        raise InputError(f"mteb has no task {name!r}: {error.args[0]} `mteb available-tasks` lists them.") from error


@contextmanager
def _quiet(show_progress: bool) -> Iterator[None]:
    """Keep mteb's advice and, without `show_progress`, the bars of `datasets` off the screen."""
    datasets = import_module("datasets")  # comes with mteb, without types
    sklearn_exceptions = import_module("sklearn.exceptions")
    was_shown = datasets.is_progress_bar_enabled()
    with warnings.catch_warnings():
        # the first versions of tasks are run on purpose: the paper and most published tables report those
        warnings.filterwarnings("ignore", message=r"The task '.*' is superseded by")
        # of mteb's classifier, stopped after 100 iterations by its settings, and of its further metrics
        warnings.simplefilter("ignore", sklearn_exceptions.ConvergenceWarning)
        warnings.simplefilter("ignore", sklearn_exceptions.UndefinedMetricWarning)
        if not show_progress:
            datasets.disable_progress_bars()
        try:
            yield
        finally:
            if was_shown:
                datasets.enable_progress_bars()
