"""Fill the tables of docs/results.md from the files in benchmarks/results/evaluation, and check what the page quotes.

A person writes the page; `written_pages` says how each number in it is checked.

- `demo.json`: `moee eval`, all tasks, recipe `default` with three choices of calibration texts, and the controls.
- `demo-paper.json`: `moee eval`, samples of all tasks, recipes `paper` and `default` side by side.
- `table1.json`, `table5.json`, `figure4.json`: `moee reproduce`.

`make bench-evaluate` makes them again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from results_scores import FLOOR, RECIPES, STATISTICS, Key, Scores
from written_pages import Measures, write_or_check

from moee.evaluate.bootstrap import Interval
from moee.evaluate.controls import NEGLIGIBLE, points
from moee.evaluate.result_files import markdown_table
from moee.evaluate.tasks import TASK_DATA, TASK_TYPES, TASKS

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks" / "results" / "evaluation"
PAGE = ROOT / "docs" / "results.md"
EXHIBITS = ("table1", "table5", "figure4")
FILES = ("demo", "demo-paper", *EXHIBITS)
OVER = {"hs": "with_minus_without", "random_sum": "with_minus_random"}
"""Names of what a vector with RW is compared with in quotations, and in the files."""
_DECIMALS = {"table1": 3}


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the JSON files of the page, by name without the ending.

    Raises:
        SystemExit: If one is not there, or they are of several models: a page is about one.
    """
    if missing := [name for name in FILES if not (folder / f"{name}.json").is_file()]:
        raise SystemExit(f"{folder} lacks {', '.join(f'{name}.json' for name in missing)}. Run: make bench-evaluate")
    found = {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in FILES}
    models = {name: _model(document) for name, document in found.items()}
    if len(set(models.values())) > 1:
        listed = ", ".join(f"{name}.json: {model} ({weights})" for name, (model, weights) in models.items())
        raise SystemExit(
            f"The files in {folder} are of several models: {listed}. Make them with one: make bench-evaluate"
        )
    return found


def _model(document: dict[str, Any]) -> tuple[str, str]:
    """Return the name and the digest of the weights that a file is about."""
    if "run" in document:
        return document["run"]["model"], document["run"]["weights"]
    return document["model"]["name"], document["model"]["fingerprint"]


def blocks(files: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Return the generated parts of docs/results.md.

    Args:
        files: What `load` found.
    """
    full, sample = (Scores(files[name]) for name in ("demo", "demo-paper"))
    return {
        "runs": _runs({"demo.json": full, "demo-paper.json": sample}),
        "default": _whole(full),
        "paper": _beside(sample),
        **{name: _exhibit(files[name]) for name in EXHIBITS},
        "not-run": _not_run({"demo.json": full, "demo-paper.json": sample}),
    }


def measures(files: dict[str, dict[str, Any]]) -> Measures:
    """Return what the page can quote; a column of scores is named `recipe statistics vector`, the floor `tf-idf`."""
    scores = {name: Scores(files[name]) for name in ("demo", "demo-paper")}

    def compare(file: str, first: str, second: str) -> dict[str, float]:
        found = scores[file].compare(_key(first), _key(second))
        if found is None:
            raise ValueError(f"{first} and {second} share no task in {file}.json")
        level = len(found) - found.higher - found.lower
        counts = {"higher": found.higher, "lower": found.lower, "level": level, "tasks": len(found)}
        return {"mean": found.mean, "largest": found.largest, **counts}

    def intervals(file: str, column: str) -> dict[str, float]:
        counted = {task.name for task in scores[file].counted}
        rows = [row for name, row in scores[file].rows(_key(column)).items() if name in counted]
        gains = [row["gain_over_hs"] for row in rows if "gain_over_hs" in row]
        least = 100 * NEGLIGIBLE
        above, below = sum(low > least for _, low, _ in gains), sum(high < -least for _, _, high in gains)
        return {"above": above, "below": below, "tasks": len(gains)}

    def verdict(file: str, statistics: str, scope: str, over: str, vector: str = "sum") -> dict[str, float]:
        found = scores[file].verdict(statistics, scope, vector)[OVER[over]]
        return {name: 100 * found[name] for name in ("difference", "low", "high")}

    def alpha(file: str, column: str) -> dict[str, float]:
        names = {task.name for task in scores[file].tasks}
        counted = {task.name for task in scores[file].counted}
        rows = scores[file].rows(_key(column))
        values = [rows[name]["alpha"] for name in names if name in rows]
        zero = sum(rows[name]["alpha"] == 0 for name in counted if name in rows)
        return {"least": min(values), "median": median(values), "most": max(values), "zero": zero}

    def clustering(file: str, task: str) -> dict[str, float]:
        keys = [_key(f"default {each} {vector}") for each in STATISTICS for vector in ("hs", "rw", "sum")]
        found = [scores[file].rows(key).get(task) for key in keys]
        return {"surplus": max(row["metrics"]["v_measure"] - row["metrics"]["ami"] for row in found if row)}

    def row(file: str, *wanted: str) -> dict[str, float]:
        chosen = dict(each.split("=") for each in wanted)
        records = files[file]["tables"][0]["rows"]
        found = [each for each in records if all(each[name] == value for name, value in chosen.items())]
        if len(found) != 1:
            raise ValueError(f"{len(found)} rows of {file}.json have {chosen}")
        return {name: value for name, value in found[0].items() if isinstance(value, int | float)}

    def missing() -> dict[str, float]:
        names = [task.name for task in TASKS if task.in_paper]
        return {
            "paper": len(names),
            "missing": sum(all(each.why_not(name) for each in scores.values()) for name in names),
        }

    return {each.__name__: each for each in (compare, intervals, verdict, alpha, clustering, row, missing)}


def _key(column: str) -> Key:
    return FLOOR if column == "tf-idf" else Key(*column.split())


def _runs(evaluations: Mapping[str, Scores]) -> list[str]:
    """Return the table of what was run; a limit that is not set is empty."""
    limits = ("limit", "max_length", "corpus_limit")
    rows = []
    for name, scores in evaluations.items():
        document, model = scores.document, scores.document["model"]
        versions = ", ".join(f"{each} {document['versions'][each]}" for each in ("moee", "torch", "transformers"))
        texts = sum(task["texts"] for task in document["tasks"])
        rows.append(
            [
                f"`{name}`",
                f"{model['name']} ({model['model_type']}, {model['fingerprint']}, {model['dtype']})",
                str(len(document["tasks"])),
                f"{texts:,}",
                *("" if document["options"][each] is None else str(document["options"][each]) for each in limits),
                f"{versions}; {document['written'][:10]}",
            ]
        )
    columns = ["file", "model", ">tasks", ">texts", ">rows of a task, at most", ">tokens of a prompt, at most"]
    return markdown_table([*columns, ">documents of a corpus, at most", "made with"], rows)


def _whole(scores: Scores) -> list[str]:
    keys = [FLOOR, *_result_keys(scores, ["default"])]
    lines = [f"### By task type{scores.samples}", "", *_type_table(scores, keys), ""]
    for statistics in scores.statistics("default"):
        title = f"### By task, statistics `{statistics}`{scores.samples}"
        lines += [title, "", *_task_table(scores, "default", statistics), ""]
    lines += _clustering(scores, keys)
    lines += [f"### `sum` minus `hs`{scores.samples}", "", *_gain_table(scores, ["default"]), ""]
    return lines + _controls(scores) + _verdicts(scores)


def _beside(scores: Scores) -> list[str]:
    keys = [FLOOR, *_result_keys(scores, RECIPES)]
    lines = [f"### By task type, both recipes{scores.samples}", "", *_type_table(scores, keys), ""]
    for recipe in RECIPES:
        for statistics in scores.statistics(recipe):
            title = f"### By task, recipe `{recipe}`, statistics `{statistics}`{scores.samples}"
            lines += [title, "", *_task_table(scores, recipe, statistics), ""]
    title = f"### `sum` minus `hs`, both recipes{scores.samples}"
    return [*lines, title, "", *_gain_table(scores, RECIPES), ""]


def _result_keys(scores: Scores, recipes: Sequence[str]) -> list[Key]:
    return [
        Key(recipe, statistics, fusion)
        for recipe in recipes
        for statistics in scores.statistics(recipe)
        for fusion in scores.vectors
        if scores.rows(Key(recipe, statistics, fusion))
    ]


def _type_table(scores: Scores, keys: Sequence[Key]) -> list[str]:
    means = {key: scores.type_means(key) for key in keys}
    kinds = [kind for kind in TASK_TYPES if any(kind in each for each in means.values())]
    counts = {kind: sum(task.task_type == kind for task in scores.counted) for kind in kinds}
    rows = [
        [
            *key.cells(),
            *(f"{each[kind]:.1f}" if kind in each else "" for kind in kinds),
            _mean(scores, key),
        ]
        for key, each in means.items()
    ]
    columns = ["recipe", "statistics", "vector", *(f">{kind} ({counts[kind]})" for kind in kinds), ">mean of types"]
    return markdown_table(columns, rows)


def _mean(scores: Scores, key: Key) -> str:
    mean = scores.mean_of_types(key)
    return "" if mean is None else f"{mean:.1f}"


def _task_table(scores: Scores, recipe: str, statistics: str) -> list[str]:
    keys = [FLOOR, *(Key(recipe, statistics, vector) for vector in scores.vectors)]
    summed = Key(recipe, statistics, "sum")
    rows = []
    for task in scores.tasks:
        found = [scores.rows(key).get(task.name) for key in keys]
        alpha = scores.rows(summed).get(task.name, {}).get("alpha")
        cells = ["" if row is None else f"{row['score']:.1f}" for row in found]
        rows.append([task.name, TASK_DATA[task.task_type].metric, *cells, "" if alpha is None else f"{alpha:.3f}"])
    columns = ["task", "metric", ">TF-IDF", *(f">{vector}" for vector in scores.vectors), ">alpha of sum"]
    return markdown_table(columns, rows)


def _clustering(scores: Scores, keys: Sequence[Key]) -> list[str]:
    rows = [
        [task.name, *key.cells(), *(_cell(row["metrics"][name], 1) for name in ("v_measure", "ami", "ari"))]
        for task in scores.tasks
        if task.task_type == "Clustering"
        for key in keys
        if (row := scores.rows(key).get(task.name)) is not None
    ]
    if not rows:
        return []
    columns = ["task", "recipe", "statistics", "vector", ">V-measure", ">AMI", ">ARI"]
    return ["### Clustering, corrected for chance", "", *markdown_table(columns, rows), ""]


def _gain_table(scores: Scores, recipes: Sequence[str]) -> list[str]:
    settings = [(recipe, statistics) for recipe in recipes for statistics in scores.statistics(recipe)]
    rows = []
    for task in scores.tasks:
        cells = []
        for recipe, statistics in settings:
            gain = scores.rows(Key(recipe, statistics, "sum")).get(task.name, {}).get("gain_over_hs")
            cells.append("" if gain is None else f"{gain[0]:+.2f} [{gain[1]:+.2f}, {gain[2]:+.2f}]")
        rows.append([task.name, *cells])
    columns = ["task", *(f">{recipe}, {statistics}" for recipe, statistics in settings)]
    return markdown_table(columns, rows)


def _controls(scores: Scores) -> list[str]:
    choices = scores.controlled()
    if not choices:
        return []
    # first what the controls are compared with
    named = {"sum": ("result", ""), "hs": ("result", ""), "rw": ("result", ""), **scores.controls()}
    rows = [
        [name, role, *(_mean(scores, Key("default", statistics, name)) for statistics in choices), meaning]
        for name, (role, meaning) in named.items()
    ]
    columns = ["vector", "role", *(f">{statistics}" for statistics in choices), "what it is"]
    return ["### Controls, mean of types", "", *markdown_table(columns, rows), ""]


def _verdicts(scores: Scores) -> list[str]:
    rows = [
        [each["calibration_texts"], each["scope"], each["vector"], *(_interval(each[name]) for name in OVER.values())]
        for statistics in scores.controlled()
        for each in scores.verdicts()
        if each["calibration_texts"] == statistics
    ]
    columns = ["statistics", "tasks", "vector", ">minus the same without RW", ">minus random projections in its place"]
    return ["### Verdicts", "", *markdown_table(columns, rows), ""]


def _interval(found: dict[str, Any] | None) -> str:
    return "" if found is None else points(Interval(**found))


def _exhibit(document: dict[str, Any]) -> list[str]:
    table = document["tables"][0]
    decimals = _DECIMALS.get(document["target"], 2)
    is_number = {name: any(isinstance(row[name], int | float) for row in table["rows"]) for name in table["columns"]}
    rows = [[_cell(row[name], decimals) for name in table["columns"]] for row in table["rows"]]
    columns = [f">{name}" if is_number[name] else name for name in table["columns"]]
    notes = [f"- {note}" for note in document["notes"]]
    return [f"### {document['title']}", "", f"{table['title']}.", "", *markdown_table(columns, rows), "", *notes]


def _cell(value: str | float | None, decimals: int) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.{decimals}f}"


def _not_run(evaluations: Mapping[str, Scores]) -> list[str]:
    rows = [
        [task.name, f"`{name}`", reason]
        for task in TASKS
        for name, each in evaluations.items()
        if (reason := each.why_not(task.name))
    ]
    return markdown_table(["task", "file", "why"], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the page; return the exit code."""
    return write_or_check(
        lambda folder, _page: (blocks(files := load(folder)), measures(files)),
        arguments,
        folder=FOLDER,
        page=PAGE,
        target="results",
        description=__doc__,
    )


if __name__ == "__main__":
    raise SystemExit(main())
