"""`moee study`: what the paper leaves open, measured with any model: routing, domains, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moee.cli import options
from moee.cli.console import note, print_json, print_text, shows_progress
from moee.cli.groups import Running, grouped

if TYPE_CHECKING:
    from moee.embedder import MoEE
    from moee.evaluate.reproduce.exhibit import Exhibit

app = typer.Typer(
    help="Measure what the paper leaves open: quality against routing, quality by domain, cost in production.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Data = Annotated[
    Path | None, typer.Option(help="Folder of evaluation sets, one subfolder each; MOEE_DATA if not given.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; created if need be.")]
Cache = Annotated[Path | None, typer.Option(help="Folder of what is kept; in the user cache if not given.")]


@app.command("routing")
@grouped
def routing(
    *,
    model: options.ModelName = "demo",
    data: Data = None,
    out: Out = Path("study"),
    axes: Annotated[
        str | None, typer.Option(metavar="A,B", help="Only these axes, of those listed below; all if not given.")
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Tasks or types, or all; the first set of each type if not given."),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=40, help="Texts of a task that each pass runs, about; rows lie at equal distances.")
    ] = 200,
    max_length: Annotated[int, typer.Option(min=8, help="Longest prompt in tokens; longer texts are cut.")] = 128,
    cache: Cache = None,
    running: Running,
    as_json: options.Json = False,
) -> None:
    """Measure quality against routing, for any MoE.

    Each axis changes one thing and leaves the rest as the model and the default recipe have it. Every point is scored
    with HS alone, RW alone, and both, on a sample of one set of each task type.

    \b
    Axes:
      active-experts     experts that every token uses, from one to all
      layers             MoE layers that RW is read from: thirds, halves, each alone
      experts            experts that RW is read from: those that vary most, and as many drawn by lot
      temperature        what router logits are divided by before they become RW
      scoring            softmax, native, logits, topk
      model-temperature  the same division inside the model, so that hidden states follow

    The first and the last need a pass of the model for each point; all others act on logits that one pass gives.
    Nothing of the model is changed on disk or in memory. A few architectures cannot be changed so; they are named, and
    their other axes are run. What is finished is kept, so a stopped study goes on where it was.

    Files: routing.csv (every point), routing.summary.csv (what varied most), figures as PNG and SVG, all of it as JSON
    and Markdown.

    \b
    Examples:
      moee study routing --data sets --out study
      moee study routing -m allenai/OLMoE-1B-7B-0924 --data sets --limit 400
      moee study routing -m carved --data sets --axes active-experts,layers
      moee study routing --data sets --tasks STSBenchmark,Banking77Classification
    """
    from moee.evaluate.reproduce.writer import prepare_folder
    from moee.evaluate.studies.points import AXES
    from moee.evaluate.studies.routing import RoutingStudy
    from moee.evaluate.studies.routing_exhibit import exhibit
    from moee.evaluate.studies.samples import choose_tasks

    wanted = options.split_names(axes) if axes else list(AXES)
    _check_names("axis", wanted, AXES)
    _check_packages()
    folder = options.data_folder(data)
    chosen = choose_tasks(folder, options.split_names(tasks or ""))
    prepare_folder(out)
    embedder = options.open_model(model, **running)
    study = RoutingStudy(
        embedder, folder, chosen, limit=limit, max_length=max_length, cache=cache, show_progress=shows_progress()
    )
    findings = study.run(wanted)
    _write(exhibit(study, findings), out, embedder, {"limit": limit}, as_json=as_json)


@app.command("domains")
@grouped
def domains(
    *,
    model: options.ModelName = "demo",
    data: Data = None,
    out: Out = Path("study"),
    limit: Annotated[
        int, typer.Option(min=40, help="Texts of a set that the model runs, about; rows lie at equal distances.")
    ] = 300,
    max_length: Annotated[int, typer.Option(min=8, help="Longest prompt in tokens; longer texts are cut.")] = 128,
    cache: Cache = None,
    running: Running,
    as_json: options.Json = False,
) -> None:
    """Measure quality by domain, beside what knows words alone.

    Science and medicine, engineering, finance, forum questions, news and chat, reviews: the default recipe, the same
    without words or RW, and TF-IDF (BM25 where something is searched), with a verdict a line each.

    Only sets of the data folder are used; what is finished is kept.

    Files: domains.csv (one line a domain), domains.sets.csv, and all of it as JSON and Markdown.

    \b
    Examples:
      moee study domains --data sets --out study
      moee study domains -m Qwen/Qwen1.5-MoE-A2.7B --data sets --limit 1000
    """
    from moee.evaluate.reproduce.writer import prepare_folder
    from moee.evaluate.studies.domains import DomainStudy, exhibit

    _check_packages()
    folder = options.data_folder(data)
    prepare_folder(out)
    embedder = options.open_model(model, **running)
    study = DomainStudy(
        embedder, folder, limit=limit, max_length=max_length, cache=cache, show_progress=shows_progress()
    )
    _write(exhibit(study, study.run()), out, embedder, {"limit": limit}, as_json=as_json)


@app.command("cost")
@grouped
def cost(
    *,
    model: options.ModelName = "demo",
    out: Out = Path("study"),
    rounds: Annotated[int, typer.Option(min=3, help="How often each entry runs one text.")] = 30,
    sizes: Annotated[
        str, typer.Option(metavar="N,N", help="Vectors of the indexes that are searched; each takes some disk.")
    ] = "10000,100000",
    running: Running,
    as_json: options.Json = False,
) -> None:
    """Measure what each view costs beside hidden states alone.

    Latency of one text and of a batch, length of the vector, memory of the statistics, search time. Beside them stand
    words alone and an encoder of MiniLM's shape with random weights. All entries run in turn, and ratios are taken
    within a round, so that they hold on a busy machine too. Needs no data.

    Files: cost.csv (encoding), cost.index.csv, cost.statistics.csv, and all of it as JSON and Markdown.

    \b
    Examples:
      moee study cost --out study
      moee study cost -m allenai/OLMoE-1B-7B-0924 --rounds 10 --sizes 10000
    """
    from moee.evaluate.reproduce.writer import prepare_folder
    from moee.evaluate.studies.cost import CostStudy
    from moee.evaluate.studies.cost_exhibit import exhibit

    numbers = _sizes(sizes)
    prepare_folder(out)
    embedder = options.open_model(model, **running)
    study = CostStudy(embedder, rounds=rounds, sizes=numbers, show_progress=shows_progress())
    _write(exhibit(study.run(), embedder.info), out, embedder, {"rounds": rounds}, as_json=as_json)


def _sizes(listed: str) -> list[int]:
    from moee.errors import InputError

    names = options.split_names(listed)
    if not names or not all(name.isdecimal() and int(name) >= 100 for name in names):
        raise InputError(f"--sizes is {listed!r}; it must be whole numbers, 100 or larger: for example 10000,100000.")
    return sorted({int(name) for name in names})


def _check_names(kind: str, given: Sequence[str], allowed: Mapping[str, str]) -> None:
    from moee.errors import InputError, check_choice

    for name in given:
        check_choice(kind, name, allowed)
    if not given:
        raise InputError(f"No {kind} is named. Choose from {', '.join(allowed)}.")


def _check_packages() -> None:
    from importlib.util import find_spec

    from moee.errors import MissingExtraError

    for package in ("matplotlib", "sklearn"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "the scores and figures of a study", "evaluate")


def _write(made: Exhibit, out: Path, embedder: MoEE, facts: Mapping[str, Any], *, as_json: bool) -> None:
    from moee.evaluate.reproduce.writer import write_exhibit

    info = embedder.info
    about = {
        "model": info.name,
        "model_type": info.model_type,
        "layers": info.num_layers,
        "experts": sorted(set(info.num_experts)),
        "active": sorted(set(info.top_k)),
        "dtype": info.dtype,
        "weights": info.fingerprint,
        **facts,
    }
    written = [str(path) for path in write_exhibit(made, out, run=about)]
    for line in made.notes:
        note(line)
    if as_json:
        print_json({"study": made.name, "run": about, "notes": list(made.notes), "files": written})
    else:
        for path in written:
            print_text(path)
