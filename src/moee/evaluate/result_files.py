"""What an evaluation found, as JSON, CSV and Markdown: every number with what it was made with."""

from __future__ import annotations

import csv
import io
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from moee.errors import OutputError
from moee.evaluate.bootstrap import Interval
from moee.evaluate.controls import points
from moee.evaluate.runner import BASELINES, FLOOR, Evaluation, Result, type_means
from moee.evaluate.study import SEED, Study
from moee.evaluate.tasks import TASK_TYPES, Task, TaskScore
from moee.files.atomic import atomic_file

FORMAT_VERSION = 2
BM25 = BASELINES["bm25"]
BOTH_FLOORS = f"{FLOOR}, {BM25} in retrieval"
"""Row of the means in which each task type has the floor that is usual for it."""
SHOWN_ROLES = ("floor", "result")
"""What the main table holds; controls have one of their own."""
_PACKAGES = ("moee", "torch", "transformers", "numpy", "scipy", "scikit-learn")


def document(study: Study, evaluation: Evaluation, *, seconds: float) -> dict[str, Any]:
    """Return the JSON form: the run, every result, what was not run, and what the controls say."""
    info = study.embedder.info
    done = list(dict.fromkeys(result.task for result in evaluation.results))
    own = study.embedder.calibration
    return {
        "format_version": FORMAT_VERSION,
        # behind "builtin": the general sentences, unless the embedder was saved with statistics of its own
        "frozen_statistics": None if own is None else {"texts": own.texts, "num_texts": own.num_texts},
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {
            "name": info.name,
            "fingerprint": info.fingerprint,
            "model_type": info.model_type,
            "dtype": info.dtype,
        },
        "options": {
            "max_length": study.max_length,
            "limit": study.limit,
            "corpus_limit": study.corpus_limit,
            "split": study.split,
            "seed": SEED,
        },
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": platform.machine(),
        "seconds": round(seconds, 1),
        "tasks": [_task_record(study, task) for task in done],
        "results": [
            record(result, evaluation.gains.get((result.task.name, result.label))) for result in evaluation.results
        ],
        "summary": [{"setting": label, **means} for label, means in summary(evaluation).items()],
        "verdicts": [
            {
                "scope": each.scope,
                "calibration_texts": each.statistics,
                "vector": each.vector,
                "sentence": each.verdict.sentence,
                "with_minus_without": asdict(each.verdict.over_hs),
                "with_minus_random": None if each.verdict.over_random is None else asdict(each.verdict.over_random),
            }
            for each in evaluation.verdicts
        ],
        "over_words": [
            {"scope": each.scope, "setting": each.label, "floor": each.floor, **asdict(each.interval)}
            for each in evaluation.over_words
        ],
        "not_run": [
            {"task": each.task.name, "type": each.task.task_type, "in_paper": each.task.in_paper, "reason": each.reason}
            for each in evaluation.skipped
        ],
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _task_record(study: Study, task: Task) -> dict[str, Any]:
    data = study.task(task.name)
    found: dict[str, Any] = {
        "name": task.name,
        "type": task.task_type,
        "in_paper": task.in_paper,
        "data": study.digest(task.name),
        "texts": len(data.texts),
        **data.facts(),
    }
    if task.note:
        found["note"] = task.note
    return found


def record(result: Result, gain: Interval | None = None) -> dict[str, Any]:
    """Return one result as a flat mapping, scores x 100."""
    setting = result.setting
    row: dict[str, Any] = {
        "task": result.task.name,
        "type": result.task.task_type,
        "setting": result.label,
        "role": result.role,
        "recipe": setting.recipe if setting else None,
        "prompt": setting.prompt if setting else None,
        "fusion": setting.fusion if setting else None,
        "weights": dict(setting.weights) if setting and setting.weights is not None else None,
        "alpha": result.alpha,
        "calibration_texts": setting.statistics if setting else None,
        "scoring": setting.scoring if setting else None,
        "routing": setting.routing if setting else None,
        "metric": result.score.metric,
        "score": 100.0 * result.score.main,
        "num_items": len(result.score.items),
        # JSON has no NaN: a further metric that is not defined is null
        "metrics": {
            name: 100.0 * value if math.isfinite(value) else None for name, value in result.score.metrics.items()
        },
    }
    if result.meaning:
        row["meaning"] = result.meaning
    if gain is not None:
        row["gain_over_hs"] = [100.0 * gain.difference, 100.0 * gain.low, 100.0 * gain.high]
    return row


def summary(evaluation: Evaluation, *, roles: Sequence[str] = SHOWN_ROLES) -> dict[str, dict[str, float]]:
    """Return the mean of each task type, and the mean of these means, by setting; x 100.

    A setting is averaged only over what it has: rows are comparable when they cover the same tasks, as those of one
    run do unless a task failed. A row without some type has no mean of types, as BM25, which has scores in retrieval
    alone; with it, the two floors give a row together. A setting whose tasks all stay out of the means has no row.
    """
    table: dict[str, dict[str, float]] = {}
    for label, results in evaluation.by_label(roles=roles).items():
        if means := type_means(results):
            table[label] = dict(means)
    floor, bm25 = (table.get(label, {}) for label in (FLOOR, BM25))
    if bm25 and len(floor) > 1:
        table = {FLOOR: floor, BM25: bm25, BOTH_FLOORS: {**floor, **bm25}} | table
    most = max((len(means) for means in table.values()), default=0)
    for means in table.values():
        if len(means) == most:
            means["mean of types"] = sum(means.values()) / most
    return table


def summary_table(evaluation: Evaluation, *, roles: Sequence[str] = SHOWN_ROLES) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of the table of task types."""
    found = summary(evaluation, roles=roles)
    kinds = [kind for kind in TASK_TYPES if any(kind in means for means in found.values())]
    columns = ["setting", *(f">{kind}" for kind in kinds), ">mean of types"]
    rows = [
        [label, *(f"{means[name]:.1f}" if name in means else "" for name in (*kinds, "mean of types"))]
        for label, means in found.items()
    ]
    return columns, rows


def task_table(evaluation: Evaluation, *, roles: Sequence[str] = SHOWN_ROLES) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of the table of tasks: one row each, one column for each setting."""
    table = evaluation.by_label(roles=roles)
    tasks = list(dict.fromkeys(result.task for result in evaluation.results))
    columns = ["task", "metric", *(f">{label}" for label in table)]
    rows = []
    for task in tasks:
        scores = [results.get(task.name) for results in table.values()]
        metric = next((found.score.metric for found in scores if found is not None), "")
        rows.append(
            [task.name, metric, *("" if found is None else f"{100 * found.score.main:.1f}" for found in scores)]
        )
    return columns, rows


def clustering_table(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Return V-measure beside AMI and ARI, which chance does not raise."""
    columns = ["task", "setting", ">V-measure", ">AMI", ">ARI"]
    rows = [
        [
            result.task.name,
            result.label,
            *(f"{100 * _metric(result.score, name):.1f}" for name in ("v_measure", "ami", "ari")),
        ]
        for result in evaluation.results
        if "ami" in result.score.metrics and result.role in SHOWN_ROLES
    ]
    return columns, rows


def _metric(score: TaskScore, name: str) -> float:
    return score.metrics.get(name, float("nan"))


def controls_table(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Return the mean of types of every control, with what it is."""
    roles = {result.label: (result.role, result.meaning) for result in evaluation.results}
    found = summary(evaluation, roles=[role for role, _ in roles.values() if role not in SHOWN_ROLES])
    rows = [
        [label, roles[label][0], f"{means['mean of types']:.1f}", roles[label][1]]
        for label, means in found.items()
        if "mean of types" in means
    ]
    return ["setting", "role", ">mean of types", "what it is"], rows


def markdown(study: Study, evaluation: Evaluation, *, seconds: float) -> str:
    """Return the report for people."""
    info = study.embedder.info
    lines = [
        f"# Evaluation of {info.name}",
        "",
        f"{info.model_type}, weights {info.fingerprint}, {info.dtype}. Scores x 100. Prompts are cut at "
        f"{study.max_length or 'the model limit of'} tokens; retrieval corpora hold {study.corpus_limit or 'all'} "
        f"documents{'' if study.corpus_limit is None else ' at most (all judged ones)'}; "
        f"{'all rows' if study.limit is None else f'{study.limit} rows of each task'}; {seconds:.0f} s.",
        "",
        "A setting is named by recipe, fusion or weights of views, and the texts whose statistics it uses: `builtin` "
        "(general sentences), `corpus` (the task's own texts, without labels) or `none`; the `paper` recipe "
        f"standardises over the batch at hand. `{FLOOR}` knows words and no meaning: a floor.",
        "",
        "## By task type",
        "",
        *markdown_table(*summary_table(evaluation)),
        "",
        "## By task",
        "",
        *markdown_table(*task_table(evaluation)),
    ]
    if (clusters := clustering_table(evaluation))[1]:
        lines += ["", "## Clustering, corrected for chance", "", *markdown_table(*clusters)]
    if evaluation.gains:
        lines += [
            "",
            "## HS and RW minus HS, with 95 % bootstrap intervals",
            "",
            *markdown_table(*gains_table(evaluation)),
        ]
    if (words := words_table(evaluation))[1]:
        lines += ["", "## Minus the floor, with 95 % bootstrap intervals", "", *markdown_table(*words)]
    if (controls := controls_table(evaluation))[1]:
        lines += ["", "## Controls", "", *markdown_table(*controls), ""]
        lines += ["## What RW adds, with 95 % bootstrap intervals", "", *markdown_table(*verdict_table(evaluation)), ""]
        lines += [f"- {line}" for line in verdict_sentences(evaluation)]
    if evaluation.skipped:
        lines += ["", "## Not run", "", *(f"- {each.task.name}: {each.reason}" for each in evaluation.skipped)]
    return "\n".join(lines) + "\n"


def gains_table(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Return each task's difference between a vector of HS and RW and `hs` under the same statistics."""
    rows = [[task, label, *_difference(gain)] for (task, label), gain in evaluation.gains.items()]
    return ["task", "setting", ">minus hs", ">95 % interval"], rows


def words_table(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Return the difference of every setting and its floor, by type and by task."""
    rows = [[each.scope, each.label, each.floor, *_difference(each.interval)] for each in evaluation.over_words]
    return ["tasks", "setting", "floor", ">minus the floor", ">95 % interval"], rows


def verdict_table(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Return what RW adds to each vector, and what random projections in its place do, by type."""
    rows = [
        [
            each.scope,
            each.vector,
            each.statistics,
            points(each.verdict.over_hs),
            "" if each.verdict.over_random is None else points(each.verdict.over_random),
        ]
        for each in evaluation.verdicts
    ]
    return ["tasks", "vector", "statistics", ">minus the same without RW", ">minus random projections for RW"], rows


def verdict_sentences(evaluation: Evaluation) -> list[str]:
    """Return a sentence for every verdict."""
    return [f"{each.scope}, {each.vector}, {each.statistics}: {each.verdict.sentence}" for each in evaluation.verdicts]


def _difference(interval: Interval) -> list[str]:
    low, high, difference = (100 * value for value in (interval.low, interval.high, interval.difference))
    return [f"{difference:+.2f}", f"{low:+.2f} to {high:+.2f}"]


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table; a heading that starts with `>` is aligned right."""
    heads = [name.removeprefix(">") for name in columns]
    rule = ["---:" if name.startswith(">") else "---" for name in columns]
    return [f"| {' | '.join(map(_cell, cells))} |" for cells in (heads, rule, *rows)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")  # both stand in prompts of a user's own


def csv_text(evaluation: Evaluation) -> str:
    """Return one line for each result; the further metrics have columns of their own."""
    rows = [record(result, evaluation.gains.get((result.task.name, result.label))) for result in evaluation.results]
    flat: list[Mapping[str, Any]] = []
    for row in rows:
        metrics = row.pop("metrics")
        gain = row.pop("gain_over_hs", None)
        extra = dict(zip(("gain_over_hs", "gain_low", "gain_high"), gain, strict=True)) if gain else {}
        flat.append({**row, **extra, **metrics})
    names = list(dict.fromkeys(name for row in flat for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names)
    writer.writeheader()
    writer.writerows(flat)
    return stream.getvalue()


def write(study: Study, evaluation: Evaluation, folder: Path, *, seconds: float) -> list[Path]:
    """Write `results.json`, `results.csv` and `results.md`, each whole or not at all.

    Raises:
        OutputError: If a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot make the folder {str(folder)!r}: {error.strerror}. Choose another.") from error
    texts = {
        "results.json": json.dumps(document(study, evaluation, seconds=seconds), indent=1, allow_nan=False) + "\n",
        "results.csv": csv_text(evaluation),
        "results.md": markdown(study, evaluation, seconds=seconds),
    }
    for name, text in texts.items():
        with atomic_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]
