"""What was found, as rows of text: for the command and for the page of the docs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]
"""A JSON object that `run.run` returned."""


def speed_columns(document: Document) -> list[str]:
    """Return the headings of `speed_rows`; `>` marks a column of numbers."""
    one_by_one = document["workload"]["name"] == "single"
    speed = [">p50, ms", ">p95, ms"] if one_by_one else [">texts/s", ">tokens/s"]
    peaks = [">% of peak", ">useful %", "binds"] if _is_counted(document) else []
    return ["entry", "gives", *speed, ">spread, %", *peaks, ">peak memory, GiB"]


def speed_rows(document: Document) -> list[list[str]]:
    """Return one row for each entry that ran."""
    return [_speed_row(each, document) for each in document["contestants"]]


def _is_counted(document: Document) -> bool:
    return any("percent_of_peak" in each for each in document["contestants"])


def _speed_row(record: Mapping[str, Any], document: Document) -> list[str]:
    if document["workload"]["name"] == "single":
        speed = [f"{1000 * record['latency'][name]:.0f}" for name in ("p50", "p95")]
    else:
        speed = [f"{record['texts_per_second']:.1f}", f"{record['tokens_per_second']:.0f}"]
    cells = [record["name"], record["gives"], *speed, f"{100 * record['seconds']['spread']:.0f}"]
    if _is_counted(document):
        if "percent_of_peak" in record:
            percents = (record[name]["median"] for name in ("percent_of_peak", "percent_of_peak_useful"))
            cells += [*(f"{value:.0f}" for value in percents), record["binds"]]
        else:
            cells += ["", "", ""]
    return [*cells, f"{_memory(record) / 2**30:.2f}"]


def _memory(record: Mapping[str, Any]) -> int:
    return int(record["device_bytes"] or record["peak_bytes"])


def ratios(document: Document) -> list[tuple[str, float]]:
    """Return how many times a peer's speed ours is, for each peer; nothing if ours did not run."""
    speeds = {each["name"]: each["texts_per_second"] for each in document["contestants"]}
    ours = speeds.get("moee")
    return [] if ours is None else [(name, ours / speed) for name, speed in speeds.items() if name != "moee"]


def about_model(document: Document) -> list[str]:
    """Return sentences on the model that was run."""
    model = document["model"]
    layers = f"{model['layers']} of {model['layers_published']} layers"
    name = f"{model['title']} ({model['name']})" if model["title"] else model["name"]
    lines = [f"{name}: {model['model_type']}, {layers}, {model['dtype']} on {model['device']}."]
    if model["random_weights"]:
        lines.append("Its weights are random, so its routers choose almost uniformly; trained ones do not.")
    if "head_share" in model:
        said = f"{100 * model['head_share']:.1f} %"
        if model["layers"] != model["layers_published"]:
            said += f" ({100 * model['head_share_published']:.1f} % with all {model['layers_published']} layers)"
        work = f"{model['flops_per_token'] / 1e9:.3g} GFLOP a token in linear maps"
        lines.append(f"{work}; a language-model head over every token would add {said}.")
    if model["random_weights"] and "last_layer_share" in model:
        here, all_layers = (100 * model[name] for name in ("last_layer_share", "last_layer_share_published"))
        lines.append(
            "Computing the last layer for last tokens alone, which only ours does, saves more of few layers: "
            f"up to {here:.1f} % of the work here, {all_layers:.1f} % with all {model['layers_published']}."
        )
    return [*lines, *([model["note"]] if model["note"] else []), *([model["uncounted"]] if model["uncounted"] else [])]


def about_workload(document: Document) -> list[str]:
    """Return sentences on the texts, and on where the entries worked."""
    load, machine = document["workload"], document["machine"]
    gemm = max(each["gemm_flops"]["median"] for each in document["contestants"])
    where = "each entry in a process of its own" if document["processes"] == "own" else "all in one process"
    return [
        f"{load['texts']} texts, {load['tokens']} tokens with the prompt ({load['tokens_least']} to "
        f"{load['tokens_most']}, median {load['tokens_median']:.0f}): {load['origin']}.",
        f"{document['rounds']} repeats in turn, {where}; {machine['threads']} threads of {machine['processor']} "
        f"({machine['instructions']}), matrix products up to {gemm / 1e9:.0f} GFLOP/s.",
    ]


def cosine_rows(document: Document) -> list[list[str]]:
    """Return the cosines to the reference: entry, hidden states, routers; median and smallest of each."""
    rows = []
    for name, cosines in document["agreement"]["with"].items():
        cells = [
            f"{cosines[view]['median']:.6f} ({cosines[view]['smallest']:.6f})" if view in cosines else ""
            for view in ("hidden", "routers")
        ]
        rows.append([name, *cells])
    return rows
