"""`moee eval`: tasks to scores."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moee.cli import options
from moee.cli.console import complain, note, print_json, print_records, print_table, print_text, shows_progress
from moee.cli.groups import Running, grouped
from moee.errors import InputError, check_choice

if TYPE_CHECKING:
    from moee.evaluate.runner import Evaluation
    from moee.evaluate.study import Study
    from moee.evaluate.tasks import Task
    from moee.evaluate.vectors import Setting

DataFolder = Annotated[
    Path | None,
    typer.Option("--data", help="Folder with one subfolder for each task; MOEE_DATA if not given. See the guide."),
]
CacheFolder = Annotated[
    Path | None, typer.Option("--cache", help="Folder of kept views and scores; the package's cache if not given.")
]
Limit = Annotated[
    int | None,
    typer.Option(help="At most N pairs, texts, queries or articles of a task, and N of what belongs to them."),
]
MaxLength = Annotated[
    int, typer.Option(help="Longest prompt in tokens; longer texts are cut, with a warning. 0: the model's own limit.")
]
CorpusLimit = Annotated[
    int, typer.Option(help="Documents of a retrieval task: all judged ones, then the first others. 0: all.")
]


@grouped
def evaluate(
    *,
    model: options.ModelName = "demo",
    tasks: Annotated[
        str,
        typer.Option(
            "--tasks",
            "-t",
            metavar="NAMES",
            help="Tasks or task types with commas, or all, or paper. --list shows them.",
        ),
    ] = "all",
    data: DataFolder = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="default,paper,own",
            help="Recipes, with commas; own is what a saved embedder is configured to do, and the default for one with "
            "choices of its own.",
        ),
    ] = None,
    fusion: Annotated[
        str | None,
        typer.Option(metavar="weighted,hs,rw,concat,sum", help="Fusions, with commas; the recipe's if not given."),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VIEW=NUMBER,...",
            help="Named weights of the views hs, rw, tokens and lexical: one setting, beside those of --fusion. May be "
            "given again.",
        ),
    ] = None,
    alpha: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS|slope|scale", help="Weights of the routing weights in --fusion sum, with commas."
        ),
    ] = None,
    calibration_texts: Annotated[
        str,
        typer.Option(
            metavar="builtin,corpus,none",
            help="Whose statistics and counts of words: general sentences, the task's own texts (without labels), or "
            "none; with commas.",
        ),
    ] = "builtin",
    prompt: Annotated[
        str | None,
        typer.Option(help="Names of prompts with commas, or one template with {text}; the recipe's if not given."),
    ] = None,
    scoring: options.Scoring = None,
    baseline: Annotated[
        str,
        typer.Option(
            metavar="tfidf,bm25|none",
            help="Rows without a model: TF-IDF over the task's own words, and BM25 in retrieval; with commas.",
        ),
    ] = "tfidf,bm25",
    controls: Annotated[
        bool, typer.Option("--controls", help="Also score the controls, and say whether routing adds anything.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for results.json, .csv and .md.")] = None,
    limit: Limit = None,
    max_length: MaxLength = 128,
    corpus_limit: CorpusLimit = 1000,
    split: Annotated[str, typer.Option(help="Which split is scored: test, or dev where a task has one.")] = "test",
    through_mteb: Annotated[
        bool, typer.Option("--mteb", help="Score in mteb's own task objects; tasks without a folder come from the hub.")
    ] = False,
    list_tasks: Annotated[bool, typer.Option("--list", help="List the tasks and whether their data is there.")] = False,
    cache: CacheFolder = None,
    running: Running,
    as_json: options.Json = False,
) -> None:
    """Score a model on evaluation tasks.

    Every text goes through the model once for each prompt. What it gave is kept, so that fusions, alphas, calibrations
    and controls cost seconds, and a run that was stopped goes on where it was.

    Without --fusion and --weights the recipe's own vector is scored. TF-IDF and BM25 stand in every table: a model
    that does not pass them has learned nothing of use for the task.

    \b
    Examples:
      moee eval --data sets --tasks STS --fusion hs,sum
      moee eval --data sets --weights hs=1,rw=0.2 --weights hs=1,rw=0.2,lexical=1 --controls
      moee eval --data sets --tasks all --recipe default,paper --calibration-texts builtin,corpus --controls --out out
      moee eval --data sets --tasks STS12,SciFact --limit 200 --json
    """
    folder = options.find_data_folder(data) if through_mteb or list_tasks else options.data_folder(data)
    if list_tasks:
        _list(folder, as_json=as_json)
        return
    from moee.evaluate.runner import expand_settings
    from moee.evaluate.vectors import OWN, own_recipe
    from moee.method.fusion import parse_weights

    chosen: dict[str, Any] = {
        "fusions": _names(fusion) if fusion is not None else [],
        "weights": [parse_weights(each) for each in weights or []],
        "alphas": _alphas(alpha) if alpha is not None else [None],
        "calibration_texts": _names(calibration_texts),
        "prompts": [prompt] if prompt is None or "{" in prompt else _names(prompt),
        "scoring": scoring,
    }
    if alpha is not None and "sum" not in chosen["fusions"]:
        raise InputError(
            f"--alpha weighs the routing weights in --fusion sum, which is not among the fusions {chosen['fusions']}. "
            "Add it, or weigh views by name: --weights hs=1,rw=0.5."
        )
    baselines = _baselines(baseline)
    recipes = None if recipe is None else _names(recipe)
    # a misspelt name is reported before gigabytes are read
    expand_settings(recipes=[name for name in recipes or [] if name != OWN] or ["default"], **chosen)
    if through_mteb:
        _check_mteb_options(controls=controls, out=out, split=split)
        wanted = _names(tasks)
    else:
        from moee.evaluate.tasks import select_tasks

        wanted = [task.name for task in select_tasks(_names(tasks))]
    if folder is not None:
        from moee.evaluate.tasks import check_folder

        check_folder(folder)
    if out is not None:
        options.check_out_folder(out, holds="results.json")
    study_options: dict[str, Any] = {
        "cache": cache,
        "limit": _positive("--limit", limit),
        "max_length": _zero_is_none("--max-length", max_length),
        "corpus_limit": _zero_is_none("--corpus-limit", corpus_limit),
        "show_progress": shows_progress(),
    }
    embedder = options.open_model(model, **running)
    own = own_recipe(embedder.config, embedder.info.model_type)
    settings = expand_settings(recipes=recipes or [own], own=embedder.config, **chosen)
    if through_mteb:
        from moee.cli.evaluate_mteb import run_in_mteb

        run_in_mteb(embedder, folder, wanted, settings, study_options, as_json=as_json)
        return
    from moee.evaluate.study import Study

    assert folder is not None  # `data_folder` has refused that
    study, asked = Study(embedder, folder, split=split, **study_options), _Asked(wanted, settings, baselines, controls)
    _run(study, asked, out, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be scored: tasks by name, settings, floors, and whether controls stand beside them."""

    names: list[str]
    settings: list[Setting]
    baselines: list[str]
    controls: bool


def _run(study: Study, asked: _Asked, out: Path | None, *, as_json: bool) -> None:
    from moee.evaluate import result_files
    from moee.evaluate.runner import evaluate as run
    from moee.evaluate.tasks import task_row

    started = time.perf_counter()

    def keep(evaluation: Evaluation) -> None:
        if out is not None:
            result_files.write(study, evaluation, out, seconds=time.perf_counter() - started)

    tasks = [task_row(name) for name in asked.names]
    _announce(study, tasks, asked.settings)
    evaluation = run(study, tasks, asked.settings, controls=asked.controls, baselines=asked.baselines, on_task=keep)
    seconds = time.perf_counter() - started
    keep(evaluation)
    if as_json:
        print_json(result_files.document(study, evaluation, seconds=seconds))
    else:
        _print(evaluation)
    note(f"{len({result.task for result in evaluation.results})} tasks in {seconds:.0f} s{f' -> {out}' if out else ''}")
    failed = [each for each in evaluation.skipped if each.failed]
    for each in failed:
        complain(f"Failed: {each.task.name}: {each.reason}")
    if failed or not evaluation.results:
        raise typer.Exit(1)


def _announce(study: Study, tasks: list[Task], settings: list[Setting]) -> None:
    """Say what is ahead before the first minute is spent."""
    there = [task for task in tasks if study.has(task.name)]
    own = study.embedder.calibration
    if own is not None and own.texts != "builtin":
        note(f"'builtin' stands for the {own.num_texts} texts ({own.texts}) that this embedder was calibrated on")
    labels = ", ".join(setting.label() for setting in settings)
    note(f"{len(there)} of {len(tasks)} tasks have data; {len(settings)} settings: {labels}")


def _print(evaluation: Evaluation) -> None:
    from moee.evaluate import result_files

    if evaluation.results:
        print_table(*result_files.task_table(evaluation), title="Main score x 100")
        print_text()
        print_table(*result_files.summary_table(evaluation), title="Mean by task type")
    if (clusters := result_files.clustering_table(evaluation))[1]:
        print_text()
        print_table(*clusters, title="Clustering, corrected for chance (AMI, ARI)")
    if evaluation.gains:
        print_text()
        print_table(*result_files.gains_table(evaluation), title="HS and RW minus HS, with 95 % bootstrap intervals")
    if (words := result_files.words_table(evaluation))[1]:
        print_text()
        print_table(*words, title="Minus the floor, with 95 % bootstrap intervals")
    if (controls := result_files.controls_table(evaluation))[1]:
        print_text()
        print_table(*controls, title="Controls")
        print_text()
        print_table(*result_files.verdict_table(evaluation), title="What RW adds, with 95 % bootstrap intervals")
        for line in result_files.verdict_sentences(evaluation):
            print_text(line)
    if evaluation.skipped:
        print_text()
        for skipped in evaluation.skipped:
            print_text(f"not run: {skipped.task.name}: {skipped.reason}")


def _list(folder: Path | None, *, as_json: bool) -> None:
    from moee.evaluate.tasks import TASKS

    rows = [
        {
            "task": task.name,
            "type": task.task_type,
            "in_paper": task.in_paper,
            "mteb": task.mteb,
            "has_data": folder is not None and (folder / task.name / "dataset.json").is_file(),
            "note": task.note,
        }
        for task in TASKS
    ]
    columns = {"task": "task", "type": "type", "in the paper": "in_paper", "data": "has_data", "note": "note"}
    print_records(rows, columns, as_json=as_json)


def _check_mteb_options(*, controls: bool, out: Path | None, split: str) -> None:
    if controls or out is not None or split != "test":
        raise InputError(
            "--mteb prints the main scores of the test split, and mteb keeps result files of its own: --controls, "
            "--out and --split have no meaning with it. Leave them out, or leave out --mteb."
        )


def _names(value: str) -> list[str]:
    names = options.split_names(value)
    if not names:
        raise InputError(f"{value!r} names nothing. Give one or more names with commas between them.")
    return names


def _baselines(value: str) -> list[str]:
    from moee.evaluate.runner import BASELINES

    names = [] if value == "none" else _names(value)
    for name in names:
        check_choice("baseline", name, [*BASELINES, "none"])
    return names


def _alphas(value: str) -> list[Any]:
    return [options.parse_alpha(name) for name in _names(value)]


def _positive(option: str, value: int | None) -> int | None:
    if value is not None and value < 1:
        raise InputError(f"{option} is {value}; it must be 1 or larger. Leave it out for no limit.")
    return value


def _zero_is_none(option: str, value: int) -> int | None:
    if value < 0:
        raise InputError(f"{option} is {value}; it must be 0 (no limit) or larger.")
    return value or None
