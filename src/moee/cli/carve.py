"""`moee carve`: a dense LLM into a Mixture-of-Experts checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from moee.cli import options
from moee.cli.console import note, print_result, shows_progress
from moee.cli.groups import Reads, grouped
from moee.cli.inputs import Input, write_rejects


@grouped
def carve(
    dense: Annotated[
        str, typer.Argument(metavar="DENSE", help="Folder of a dense Llama or Qwen2 model, or its .gguf file.")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; it appears whole or not at all.")],
    texts: Annotated[
        str | None,
        typer.Option(
            "--texts", help="Text like that to be embedded: any INPUT of `moee embed`. Built-in if not given."
        ),
    ] = None,
    text_column: options.TextColumn = "text",
    reads: Reads,
    experts: Annotated[int | None, typer.Option(help="Routed experts in every layer.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Routed experts that each token uses.")] = None,
    shared: Annotated[
        int | None, typer.Option(help="Neurons of a layer that always run; about a third if not given.")
    ] = None,
    tokens: Annotated[int | None, typer.Option(help="Calibration tokens that the routers are fitted on.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed and texts give the same checkpoint.")] = None,
    as_json: options.Json = False,
) -> None:
    """Carve a dense LLM into an MoE, without training.

    Splits the feed-forward layers into experts with a router.

    The result is a standard qwen2_moe checkpoint with a report and a model card. Its routing decides what is computed,
    but no gradient has shaped it.

    \b
    Examples:
      moee carve SmolLM2-135M --out carved
      moee carve model.gguf --texts corpus.jsonl --experts 16 --top-k 12 --out carved
      moee inspect carved
    """
    from moee.carve import CarveConfig
    from moee.carve import carve as run_carve
    from moee.data import calibration_texts

    given: dict[str, Any] = {
        "num_experts": experts,
        "top_k": top_k,
        "shared_neurons": shared,
        "calibration_tokens": tokens,
        "seed": seed,
    }
    config = CarveConfig(**{name: value for name, value in given.items() if value is not None})
    options.check_out_folder(out, holds="carve_report.json")
    corpus, skipped = calibration_texts(), dict[str, Any]()
    if texts is not None:
        given_texts = Input.read(texts, text_column, reads)
        corpus = given_texts.texts("encode")  # blank lines between passages are none of them
        skipped = write_rejects(texts, given_texts.reading, beside=out)
    report = run_carve(dense, out, texts=corpus, config=config, progress=shows_progress())
    print_result({"output": str(out), **report.to_json(), **skipped}, str(out), as_json=as_json)
    note(f"Look at it with: moee inspect {out}. Use it with: moee embed INPUT -m {out}")
