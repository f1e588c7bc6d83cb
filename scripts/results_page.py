"""Write docs/results.md from the files in benchmarks/results/evaluation. With --check, fail if the page is out of date.

Every number on the page, and every sentence about one, is computed here from those files, so that the page cannot say
what was not measured. A part whose file is not there says so.

- `demo.json`: `moee eval`, all tasks, recipe `default` with three choices of calibration texts, and the controls.
- `demo-paper.json`: `moee eval`, samples of all tasks, recipes `paper` and `default` side by side.
- `table1.json`, `table5.json`, `figure4.json`, `figure5.json`: `moee reproduce`.

`make bench-evaluate` makes them again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results_says import sentences
from results_scores import FLOOR, FUSIONS, RECIPES, Key, Scores
from written_pages import write_or_check

from moee.evaluate.result_files import markdown_table
from moee.evaluate.tasks import TASK_DATA, TASK_TYPES, TASKS

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks" / "results" / "evaluation"
PAGE = ROOT / "docs" / "results.md"
ARTEFACTS = ("table1", "table5", "figure4", "figure5")
_DECIMALS = {"table1": 3}
_SAID = "Counts and averages are over the tasks that enter the means, all tasks with equal weight."
_ABSENT = "Not measured yet: `benchmarks/results/evaluation/{name}.json` is not there. `make bench-evaluate` makes it."

HEAD = """# Results

Written by `make results` from the files in `benchmarks/results/evaluation`; `make lint` fails when the two differ.
Every number and every sentence about a number is computed from them.
[Evaluate](guides/evaluate.md) explains the settings, the controls and the intervals.
"""

OF_THE_DEMO = """**What these results can say is little.**
The demo is a dense model of 135 million parameters, carved into experts by `moee carve`.
Its routers were fitted to the carving; the model was never trained as a Mixture of Experts.
So its routing weights (RW) say next to nothing of what the routers of trained MoE LLMs know, and no such LLM was run.
The page shows what the method does to this model, and what the controls make of it.
"""

REPEAT = """```sh
MOEE_DATA=sets make bench-evaluate   # hours on two cores, the first time; minutes from the cache
make results
```
"""

READING = """Scores are points of 100, each task's main metric by mteb's name and definition.
`hs`, `rw`, `concat` and `sum` are the fusions.
The statistics come from general sentences (`builtin`), from the task's own texts without their labels (`corpus`), or
are not used (`none`).
The `paper` recipe standardises over the batch at hand (`batch`), and leaves `hs` as it is.
TF-IDF knows words and no meaning: a floor.
"""


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the JSON files of the page that are in a folder, by name without the ending.

    Raises:
        SystemExit: If they are of several models: a page is about one.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in ("demo", "demo-paper", *ARTEFACTS):
        path = folder / f"{name}.json"
        if path.is_file():
            found[name] = json.loads(path.read_text(encoding="utf-8"))
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


def page(files: dict[str, dict[str, Any]]) -> str:
    """Return docs/results.md.

    Args:
        files: What `load` found.
    """
    full, sample = (Scores(files[name]) if name in files else None for name in ("demo", "demo-paper"))
    lines = [HEAD, *_what_was_run(files, full, sample), REPEAT]
    said = sentences(full, sample, files)
    lines += ["## What this says", "", *([_SAID, "", *said] if said else ["Nothing yet: no file is there."]), ""]
    lines += ["## The `default` recipe", ""]
    lines += _whole(full) if full is not None else [_ABSENT.format(name="demo"), ""]
    lines += ["## The `paper` recipe beside the default one", ""]
    lines += _beside(sample) if sample is not None else [_ABSENT.format(name="demo-paper"), ""]
    lines += ["## Tables and figures of the paper", ""]
    for name in ARTEFACTS:
        lines += _artefact(files[name]) if name in files else [f"### {name}", "", _ABSENT.format(name=name), ""]
    evaluations = {"demo.json": full, "demo-paper.json": sample}
    lines += ["## Not run", "", *_not_run({name: each for name, each in evaluations.items() if each is not None})]
    return "\n".join(lines).rstrip("\n") + "\n"


def _what_was_run(files: dict[str, dict[str, Any]], full: Scores | None, sample: Scores | None) -> list[str]:
    lines = ["## What was run", ""]
    if any(_model(document)[0] == "demo" for document in files.values()) or not files:
        lines.append(OF_THE_DEMO)
    for name, scores in (("demo", full), ("demo-paper", sample)):
        lines.append(f"- `{name}.json`: {_facts(scores) if scores is not None else 'not there.'}")
    for name in ARTEFACTS:
        facts = "not there."
        if name in files:
            run = files[name]["run"]
            rows = "all rows" if run["limit"] is None else f"at most {run['limit']} rows"
            facts = f"`moee reproduce`, {rows} of each task, prompts cut at {run['max_length']} tokens."
        lines.append(f"- `{name}.json`: {facts}")
    return [*lines, "", READING]


def _facts(scores: Scores) -> str:
    document, options = scores.document, scores.document["options"]
    model, versions = document["model"], document["versions"]
    texts = sum(task["texts"] for task in document["tasks"])
    rows = "all rows" if options["limit"] is None else f"{options['limit']} rows of each task, at equal distances"
    cut = "whole prompts" if options["max_length"] is None else f"prompts cut at {options['max_length']} tokens"
    corpus = "whole corpora"
    if options["corpus_limit"] is not None:
        corpus = f"retrieval corpora of {options['corpus_limit']} documents (all judged ones, then the first others)"
    packages = ", ".join(f"{name} {versions[name]}" for name in ("moee", "torch", "transformers") if name in versions)
    return (
        f"model `{model['name']}` ({model['model_type']}, weights {model['fingerprint']}, {model['dtype']}), "
        f"{len(document['tasks'])} tasks, {texts:,} texts, {rows}, split {options['split']}, {cut}, {corpus}; "
        f"{packages}; {document['written'][:10]}. {_full_or_not(options)}"
    )


def _full_or_not(options: dict[str, Any]) -> str:
    is_full = all(options[name] is None for name in ("limit", "max_length", "corpus_limit"))
    return (
        "Comparable with MTEB." if is_full else "With these limits the scores compare with each other, not with MTEB."
    )


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
        for fusion in FUSIONS
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
    left_out = ", ".join(task.name for task in scores.tasks if not task.in_means)
    note = f" Not in the means: {left_out}." if left_out else ""
    return [*markdown_table(columns, rows), "", f"In brackets the number of tasks.{note}"]


def _mean(scores: Scores, key: Key) -> str:
    mean = scores.mean_of_types(key)
    return "" if mean is None else f"{mean:.1f}"


def _task_table(scores: Scores, recipe: str, statistics: str) -> list[str]:
    keys = [FLOOR, *(Key(recipe, statistics, fusion) for fusion in FUSIONS)]
    rows = []
    for task in scores.tasks:
        found = [scores.rows(key).get(task.name) for key in keys]
        alpha = found[-1]["alpha"] if found[-1] is not None else None
        cells = ["" if row is None else f"{row['score']:.1f}" for row in found]
        rows.append([task.name, TASK_DATA[task.task_type].metric, *cells, "" if alpha is None else f"{alpha:.3f}"])
    return markdown_table(["task", "metric", ">TF-IDF", *(f">{fusion}" for fusion in FUSIONS), ">alpha of sum"], rows)


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
    lead = "V-measure grows with the number of clusters even for random ones; AMI and ARI are 0 on average for those."
    return ["### Clustering, corrected for chance", "", lead, "", *markdown_table(columns, rows), ""]


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
    note = (
        "In brackets the 95 % interval of a paired bootstrap over the task's items. "
        "About one in twenty such intervals leaves zero out by luck."
    )
    return [*markdown_table(columns, rows), "", note]


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
    if not scores.document["verdicts"]:
        return []
    lines = ["### Verdicts", "", "`sum` minus `hs`, then `sum` minus the sum with random projections, in points.", ""]
    for statistics in scores.controlled():
        of_these = [each for each in scores.document["verdicts"] if each["calibration_texts"] == statistics]
        lines += [f"Statistics `{statistics}`:", ""]
        lines += [*(f"- {each['scope']}: {each['sentence']}" for each in of_these), ""]
    return lines


def _artefact(document: dict[str, Any]) -> list[str]:
    table = document["tables"][0]
    decimals = _DECIMALS.get(document["target"], 2)
    is_number = {name: any(isinstance(row[name], int | float) for row in table["rows"]) for name in table["columns"]}
    rows = [[_cell(row[name], decimals) for name in table["columns"]] for row in table["rows"]]
    columns = [f">{name}" if is_number[name] else name for name in table["columns"]]
    notes = [f"- {note}" for note in document["notes"]]
    return [f"### {document['title']}", "", f"{table['title']}.", "", *markdown_table(columns, rows), "", *notes, ""]


def _cell(value: str | float | None, decimals: int) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.{decimals}f}"


def _not_run(evaluations: Mapping[str, Scores]) -> list[str]:
    if not evaluations:
        return ["No evaluation was run."]
    lines, of_paper = [], [task for task in TASKS if task.in_paper]
    for task in TASKS:
        reasons = {name: reason for name, each in evaluations.items() if (reason := each.why_not(task.name))}
        if len(set(reasons.values())) == 1 and len(reasons) == len(evaluations):
            lines.append(f"- {task.name}: {next(iter(reasons.values()))}")
        else:
            lines += [f"- {task.name}, in {name}: {reason}" for name, reason in reasons.items()]
    missing = sum(all(each.why_not(task.name) for each in evaluations.values()) for task in of_paper)
    lead = f"{missing} of the {len(of_paper)} tasks of the paper that moee knows were not run."
    return [lead, "", *(lines or ["Every task that moee knows was run."])]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the page; return the exit code."""
    return write_or_check(
        lambda folder, _page: page(load(folder)),
        arguments,
        folder=FOLDER,
        page=PAGE,
        target="results",
        description=__doc__,
    )


if __name__ == "__main__":
    raise SystemExit(main())
