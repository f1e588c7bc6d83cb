"""`moee bench`: speed, memory and percent of peak, in a checkout beside peers on the same weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moee.cli import options
from moee.cli.console import note, print_table, print_text
from moee.errors import InputError, OutputError, UnknownNameError, check_choice
from moee.files.atomic import atomic_file, check_writable

if TYPE_CHECKING:
    from moee.bench.checkout import Rivals
    from moee.bench.run import Options
    from moee.bench.weights import Setup

SHAPES = ("olmoe", "qwen1.5-moe", "deepseek-moe")
"""Models of random weights that a checkout has."""


def bench(
    model: Annotated[
        str, typer.Option("--model", "-m", help="demo, olmoe, qwen1.5-moe, deepseek-moe, or a model folder.")
    ] = "demo",
    *,
    layers: Annotated[
        int | None,
        typer.Option(min=1, help="Layers of olmoe, qwen1.5-moe and deepseek-moe; half of the model's by default."),
    ] = None,
    workload: Annotated[str, typer.Option(metavar="short|mixed|single", help="What is encoded; see below.")] = "short",
    texts: Annotated[int | None, typer.Option(min=1, help="How many; 256 short, 64 mixed, 20 single.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed passes of each entry.")] = 3,
    peers: Annotated[
        str | None,
        typer.Option(
            metavar="A,B|all|none",
            help="original, transformers, sentence-transformers, sentence-transformers-dense, llama-cpp. "
            "In a checkout alone, there all by default.",
        ),
    ] = None,
    precision: Annotated[str, typer.Option(metavar="exact,int8", help="How moee computes.")] = "exact,int8",
    scaling: Annotated[
        str | None,
        typer.Option(
            metavar="tokens,length,experts|all",
            help="Measure how time grows with a quantity instead; no peers. In a checkout alone.",
        ),
    ] = None,
    law: Annotated[str | None, typer.Option(hidden=True)] = None,
    rounds: Annotated[int | None, typer.Option(hidden=True)] = None,
    batch_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens in a batch of ours.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch; its own choice if not given.")] = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    gguf: Annotated[Path | None, typer.Option(help="The same weights as a GGUF file, for llama-cpp.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write everything here.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw it: FILE.png and FILE.svg.")] = None,
) -> None:
    """Measure speed and memory, in a checkout beside peers on the same weights.

    Entries are timed in turn. A speed is shown with its percent of peak: the operations that were carried out, against
    what a large matrix product of the same dtype reaches on the same threads just before. All must return the same
    hidden states before anything is timed.

    Peers, scaling, and the models of random weights are in the folder benchmarks of the repository, which an installed
    package does not have. olmoe, qwen1.5-moe and deepseek-moe have the widths of the published models, fewer layers,
    and random weights.

    \b
    Workloads:
      short    sentences, of the STS sets in MOEE_DATA or built in
      mixed    texts of 8 to 512 tokens
      single   one sentence at a time: latency

    \b
    Examples:
      moee bench
      moee bench -m olmoe --layers 4 --workload mixed --json olmoe-mixed.json
      moee bench --scaling all --plot scaling
    """
    from moee.bench.entries import choose_ours
    from moee.bench.run import Options
    from moee.bench.weights import settle
    from moee.bench.workloads import WORKLOADS

    _refuse_old_names(law=law, rounds=rounds)
    rivals = _rivals(model, peers, scaling)
    for path in (json_file, *_plots(plot)):
        if path is not None:
            _make_room(path)
    if gguf is not None and not gguf.is_file():
        raise InputError(f"--gguf is {str(gguf)!r}: there is no such file.")
    names = (*choose_ours(precision), *_peers(peers, rivals))
    check_choice("workload", workload, WORKLOADS)
    quantities = rivals.choose_scaling(scaling) if rivals and scaling is not None else []
    chosen_dtype, chosen_device = settle(dtype, device)
    setup = _setup_class(model, rivals)(
        model=model,
        layers=layers,
        dtype=chosen_dtype,
        device=chosen_device,
        threads=threads or _default_threads(),
        batch_tokens=batch_tokens,
        gguf=gguf,
    )
    if rivals and quantities:
        document = _scaling(rivals, quantities, setup, repeats)
    else:
        wanted = Options(entries=names, workload=workload, texts=texts, repeats=repeats)
        document = _speeds(setup, wanted, rivals)
    if json_file is not None:
        with atomic_file(json_file) as temporary:
            temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if plot is not None:
        from moee.bench.plots import write_plot

        draw, panels = (rivals.draw_scaling, len(quantities)) if rivals and quantities else (None, 2)
        note(f"Figure: {' and '.join(path.name for path in write_plot(document, plot, draw, panels=panels))}")


def _refuse_old_names(*, law: str | None, rounds: int | None) -> None:
    """Say what an option of an earlier release is called."""
    for old, value, new in (("--law", law, "--scaling"), ("--rounds", rounds, "--repeats")):
        if value is not None:
            raise InputError(f"{old} is called {new}. Give {new} {value}.")


def _rivals(model: str, peers: str | None, scaling: str | None) -> Rivals | None:
    """Return what a checkout adds; asking for it by name where there is none is an error, which says what is missing.

    Raises:
        InputError: If an option needs the checkout and there is none.
        UnknownNameError: If the model is neither the demo, a shape, nor a folder; names close matches.
    """
    from moee.bench.checkout import find_rivals, require_rivals

    rivals = find_rivals()
    if scaling is not None:
        rivals = require_rivals("--scaling")
    if peers not in (None, "none"):
        rivals = require_rivals("--peers")
    if model in SHAPES:
        rivals = require_rivals(f"The model {model!r} of random weights")
    elif model != "demo" and not Path(model).expanduser().is_dir():
        raise UnknownNameError("model", model, ("demo", *SHAPES), hint="Or give an existing model folder.")
    return rivals


def _peers(peers: str | None, rivals: Rivals | None) -> list[str]:
    from moee.bench.entries import choose_peers

    if rivals is None:
        if peers is None:
            note("Peers are not measured: they are in a checkout of the repository, not in the installed package.")
        return []
    return choose_peers(peers or "all", list(rivals.peers))


def _setup_class(model: str, rivals: Rivals | None) -> Callable[..., Setup]:
    from moee.bench.weights import Setup

    return rivals.shape_setup if rivals and model in SHAPES else Setup


def _make_room(path: Path) -> None:
    """Find out whether a file can be written, and make its folder, before hours of work."""
    check_writable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot make the folder {str(path.parent)!r}: {error.strerror or error}.") from error


def _default_threads() -> int:
    import torch

    return torch.get_num_threads()


def _plots(plot: Path | None) -> list[Path]:
    if plot is None:
        return []
    from moee.bench.plots import check_plots, plot_files

    check_plots()
    return plot_files(plot)


def _speeds(setup: Setup, wanted: Options, rivals: Rivals | None) -> dict[str, Any]:
    from moee.bench import run as benchmark
    from moee.bench import tables

    document = benchmark.run(setup, wanted, rivals)
    for line in (*tables.about_model(document), *tables.about_workload(document)):
        print_text(line)
    print_text()
    print_table(tables.speed_columns(document), tables.speed_rows(document))
    print_text()
    for name, ratio in tables.ratios(document):
        print_text(f"moee has {ratio:.2f} times the speed of {name}.")
    for each in document["not_run"]:
        print_text(f"Not run: {each['name']}: {each['reason']}.")
    return document


def _scaling(rivals: Rivals, quantities: list[str], setup: Setup, repeats: int) -> dict[str, Any]:
    document = rivals.run_scaling(quantities, setup, repeats)
    print_table(rivals.scaling_columns, rivals.scaling_rows(document))
    return document
