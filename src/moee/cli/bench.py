"""`moee bench`: speed, memory and percent of peak, beside peers on the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moee.cli import options
from moee.cli.console import note, print_table, print_text
from moee.errors import InputError, OutputError, check_choice
from moee.files.atomic import atomic_file, check_writable

if TYPE_CHECKING:
    from moee.bench.weights import Setup


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
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each contestant.")] = 3,
    peers: Annotated[
        str,
        typer.Option(
            metavar="A,B|all|none",
            help="original, transformers, sentence-transformers, sentence-transformers-dense, llama-cpp.",
        ),
    ] = "all",
    precision: Annotated[str, typer.Option(metavar="exact,int8", help="How moee computes.")] = "exact,int8",
    law: Annotated[
        str | None,
        typer.Option(metavar="tokens,length,experts|all", help="Measure the law of cost instead; no peers."),
    ] = None,
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
    """Measure speed and memory beside peers on the same weights.

    Contestants take turns. A speed is shown with its percent of peak: the operations that were carried out, against
    what a large matrix product of the same dtype reaches on the same threads just before. All must return the same
    hidden states before anything is timed.

    olmoe, qwen1.5-moe and deepseek-moe have the widths of the published models, fewer layers, and random weights.

    \b
    Workloads:
      short    sentences, of the STS sets in MOEE_DATA or built in
      mixed    texts of 8 to 512 tokens
      single   one sentence at a time: latency

    \b
    Examples:
      moee bench
      moee bench -m olmoe --layers 4 --workload mixed --json olmoe-mixed.json
      moee bench --law all --plot cost-law
    """
    from moee.bench.contestants import choose
    from moee.bench.law import choose_laws
    from moee.bench.weights import Setup, check_model, settle
    from moee.bench.workloads import WORKLOADS

    check_model(model)
    for path in (json_file, *_plots(plot)):
        if path is not None:
            _make_room(path)
    if gguf is not None and not gguf.is_file():
        raise InputError(f"--gguf is {str(gguf)!r}: there is no such file.")
    contestants = tuple(choose(peers, precision))
    check_choice("workload", workload, WORKLOADS)
    laws = choose_laws(law) if law is not None else []
    chosen_dtype, chosen_device = settle(dtype, device)
    setup = Setup(
        model=model,
        layers=layers,
        dtype=chosen_dtype,
        device=chosen_device,
        threads=threads or _default_threads(),
        batch_tokens=batch_tokens,
        gguf=gguf,
    )
    document = _laws(laws, setup, rounds) if laws else _speeds(setup, contestants, workload, texts, rounds)
    if json_file is not None:
        with atomic_file(json_file) as temporary:
            temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if plot is not None:
        from moee.bench.plots import write_plot

        note(f"Figure: {' and '.join(path.name for path in write_plot(document, plot))}")


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


def _speeds(
    setup: Setup, contestants: tuple[str, ...], workload: str, texts: int | None, rounds: int
) -> dict[str, Any]:
    from moee.bench import rounds as benchmark
    from moee.bench import tables

    wanted = benchmark.Options(contestants=contestants, workload=workload, texts=texts, rounds=rounds)
    document = benchmark.run(setup, wanted)
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


def _laws(laws: list[str], setup: Setup, rounds: int) -> dict[str, Any]:
    from moee.bench import tables
    from moee.bench.law import run_laws

    document = run_laws(laws, setup, rounds)
    print_table(tables.LAW_COLUMNS, tables.law_rows(document))
    return document
