"""`moee eval --mteb`: the same settings in mteb's own task objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from moee.cli.console import note, print_json, print_table
from moee.errors import InputError
from moee.files.atomic import cache_dir

if TYPE_CHECKING:
    from moee.embedder import MoEE
    from moee.evaluate.study import Study
    from moee.evaluate.vectors import Setting


def run_in_mteb(
    embedder: MoEE,
    folder: Path | None,
    names: list[str],
    settings: list[Setting],
    study_options: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    """Run tasks in mteb under every setting, and print their main scores.

    A task with a folder in `folder` runs on kept views; any other name is mteb's own and comes from the hub.

    Raises:
        InputError: If mteb has no such task, its data cannot be had, or a setting cannot be run on a hub task.
    """
    from moee.evaluate.mteb.encoder import describe_model, encoder_from_embed, encoder_from_embedder, setting_experiment
    from moee.evaluate.mteb.run import mteb_task, run_mteb
    from moee.evaluate.study import Study as LocalStudy

    study = LocalStudy(embedder, folder, **study_options) if folder is not None else None
    cache = (study_options["cache"] or cache_dir() / "evaluate") / "mteb"
    max_length, quiet = study_options["max_length"], not study_options["show_progress"]
    rows: list[dict[str, Any]] = []
    for name in _expand(names, study):
        is_local = study is not None and _is_local(study, name)
        for setting in settings:
            if is_local:
                assert study is not None
                data = study.task(name)
                task: Any = mteb_task(
                    study.data / name, name, cache / "tasks", limit=study.limit, corpus_limit=study.corpus_limit
                )
                experiment = setting_experiment(setting, max_length=max_length)
                encoder = encoder_from_embed(
                    data, study.embed(data, setting), describe_model(embedder.info, experiment)
                )
            else:
                task = name
                encoder = encoder_from_embedder(_configured(embedder, setting, max_length), show_progress=not quiet)
            found = run_mteb(encoder, [task], cache / "results", show_progress=not quiet)
            rows += [
                {"task": title, "setting": setting.label(), "score": 100.0 * score, "local": is_local}
                for title, score in found.items()
            ]
    if as_json:
        print_json({"model": embedder.info.name, "results": rows})
    else:
        cells = [[str(row["task"]), str(row["setting"]), f"{row['score']:.2f}"] for row in rows]
        print_table(["task", "setting", ">score"], cells, title="Main score x 100, by mteb")
    note(f"mteb's result files: {cache / 'results'}")


def _expand(names: list[str], study: Study | None) -> list[str]:
    """Turn groups of tasks into names; what is no row of ours is left for mteb."""
    from moee.evaluate.tasks import TASK_TYPES, TASKS, select_tasks

    known = {task.name for task in TASKS} | set(TASK_TYPES) | {"all", "paper"}
    found: list[str] = []
    for name in names:
        if name not in known:
            found.append(name)
            continue
        rows = select_tasks([name])
        here = [task.name for task in rows if study is not None and _is_local(study, task.name)]
        # a single name without a folder is looked for on the hub; a group means what is there
        found += here or [task.mteb or task.name for task in rows]
    return list(dict.fromkeys(found))


def _is_local(study: Study, name: str) -> bool:
    from moee.evaluate.tasks import TASKS

    return any(task.name == name for task in TASKS) and study.has(name)


def _configured(embedder: MoEE, setting: Setting, max_length: int | None) -> MoEE:
    if setting.statistics == "corpus":
        raise InputError(
            "calibration texts 'corpus' need a task's texts beforehand, which a hub task gives only while it runs. "
            "Use builtin, or calibrate on texts of your own: moee calibrate MODEL --texts FILE --out FOLDER."
        )
    if setting.routing != "router":
        raise InputError("Controls are scored on local sets only.")
    config = setting.config(embedder.info.model_type).to_dict()
    del config["format_version"]
    return embedder.with_settings(**{**config, "max_length": max_length, "on_empty": "encode"})
