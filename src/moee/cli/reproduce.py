"""`moee reproduce`: the tables and figures of the paper, made again from any model."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moee.cli import options
from moee.cli.console import note, print_json, print_records, print_text, shows_progress
from moee.cli.groups import Running, grouped
from moee.errors import InputError

if TYPE_CHECKING:
    from moee.evaluate.reproduce.exhibit import Exhibit, Options
    from moee.evaluate.reproduce.targets import Target
    from moee.evaluate.study import Study


@grouped
def reproduce(
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="TARGET...", help="table8, figure4, ..., or all. Without one, the list of targets."),
    ] = None,
    *,
    model: options.ModelName = "demo",
    data: Annotated[
        Path | None, typer.Option(help="Folder of evaluation sets, one subfolder each; MOEE_DATA if not given.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; created if need be.")] = Path(
        "reproduce"
    ),
    limit: Annotated[
        int | None, typer.Option(min=0, help="Rows used of each task; 0 for whole sets; see the defaults below.")
    ] = None,
    tasks: Annotated[str | None, typer.Option(metavar="A,B", help="Only these tasks, by name.")] = None,
    prompts: Annotated[
        str, typer.Option(metavar="none,prompteol", help="Prompts of the tables of scores, in the paper's words.")
    ] = "none,prompteol",
    keep_items: Annotated[
        bool, typer.Option("--keep-items", help="Tables 8 to 12: keep every pair's similarity in the JSON file.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of k-means, permutations and word clouds; scores use mteb's.")] = 42,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of kept model outputs; in the user cache if not given.")
    ] = None,
    max_length: Annotated[int, typer.Option(min=8, help="Longest prompt in tokens; longer texts are cut.")] = 128,
    running: Running,
    as_json: options.Json = False,
) -> None:
    """Make the paper's tables and figures again, from any model.

    Every score is shown as the original code computes it and done right, with the paper's number and a TF-IDF floor
    beside it. Tasks without data are named and left out. Each target writes a .json, .csv and .md file, and .png and
    .svg where it has a picture.

    The model runs once for each text and prompt; what it gave is kept, so a stopped run goes on where it was, and a
    second target that needs the same texts is quick.

    Without --limit a target uses 200 rows of each task (table1 and figure3: 2000 texts), because two prompts and two
    recipes, or nine prompts, are that many passes. --limit 0 takes whole sets, as the paper does; on a GPU, use that.

    \b
    Examples:
      moee reproduce                                   list the targets
      moee reproduce table8 --data sets --out results
      moee reproduce all --data sets --limit 50        a quick look at everything
      moee reproduce figure4 -m allenai/OLMoE-1B-7B-0924 --data sets
    """
    from moee.evaluate.reproduce.targets import check_packages, select_targets
    from moee.evaluate.reproduce.writer import prepare_folder
    from moee.evaluate.study import Study

    if not targets:
        _list_targets(as_json=as_json)
        return
    chosen = select_targets(targets)
    check_packages(chosen)
    folder, wanted = options.data_folder(data), _options(limit, tasks, prompts, keep_items=keep_items, seed=seed)
    prepare_folder(out)
    embedder = options.open_model(model, **running)

    def study_of(rows: int | None) -> Study:
        return Study(embedder, folder, cache=cache, limit=rows, max_length=max_length, show_progress=shows_progress())

    summary = _make_all(study_of, chosen, wanted, out)
    if as_json:
        print_json({"model": embedder.info.name, "out": str(out), "targets": summary})
    else:
        for path in (path for each in summary for path in each["files"]):
            print_text(path)


def _make_all(
    study_of: Callable[[int | None], Study], chosen: list[Target], wanted: Options, out: Path
) -> list[dict[str, Any]]:
    """Make and write each target; return a summary of each.

    One of several that has no data is left out with a note; if none has, that is an error.
    """
    from moee.evaluate.reproduce.run import NoDataError, Run, limited
    from moee.evaluate.reproduce.writer import write_exhibit

    runs: dict[int | None, Run] = {}  # targets that use the same rows share what they computed
    summary: list[dict[str, Any]] = []
    for target in chosen:
        used = limited(wanted, target.default_limit)
        if used not in runs:
            runs[used] = Run(study_of(used), wanted)
        run = runs[used]
        note(f"{target.name}: {target.shows} ({'all rows' if used is None else f'at most {used} rows of each task'})")
        started = time.perf_counter()
        try:
            exhibit = target.make(run)
        except NoDataError as error:
            if len(chosen) == 1:
                raise
            note(f"{target.name} was not made: {error}")
            summary.append({"target": target.name, "not_made": str(error), "files": []})
            continue
        written = write_exhibit(exhibit, out, run={**_about(run.study, wanted), "limit": used})
        summary.append(_summary(exhibit, written, time.perf_counter() - started))
    if not any(each["files"] for each in summary):
        raise InputError(f"None of the targets could be made. {summary[-1]['not_made']}")
    return summary


def _summary(exhibit: Exhibit, written: list[Path], seconds: float) -> dict[str, Any]:
    return {
        "target": exhibit.name,
        "title": exhibit.title,
        "seconds": round(seconds, 3),
        "notes": list(exhibit.notes),
        "files": [str(path) for path in written],
    }


def _about(study: Study, wanted: Options) -> dict[str, Any]:
    """Return the facts of the run that every file keeps."""
    info = study.embedder.info
    return {
        "model": info.name,
        "model_type": info.model_type,
        "layers": info.num_layers,
        "experts": sorted(set(info.num_experts)),
        "dtype": info.dtype,
        "weights": info.fingerprint,
        "max_length": study.max_length,
        "tasks": list(wanted.tasks) or "all in the data folder",
    }


def _options(limit: int | None, tasks: str | None, prompts: str, *, keep_items: bool, seed: int) -> Options:
    from moee.errors import check_choice
    from moee.evaluate.reproduce.exhibit import Options
    from moee.evaluate.reproduce.paper_scores import PROMPTS
    from moee.evaluate.tasks import task_row

    names = _names(prompts)
    for name in names:
        check_choice("prompt of the paper's tables", name, PROMPTS)
    if not names:
        raise InputError(f"--prompts is empty. Give {', '.join(PROMPTS)}, or one of them.")
    listed = _names(tasks or "")
    for name in listed:
        task_row(name)  # a misspelt name is reported before gigabytes are read
    return Options(limit=limit, tasks=listed, prompts=names, keep_items=keep_items, seed=seed)


def _names(listed: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(options.split_names(listed)))


def _list_targets(*, as_json: bool) -> None:
    from moee.evaluate.reproduce.targets import TARGETS

    rows = [
        {"target": each.name, "shows": each.shows, "default_limit": each.default_limit} for each in TARGETS.values()
    ]
    print_records(rows, {"target": "target", "shows": "shows", ">rows of a task": "default_limit"}, as_json=as_json)
