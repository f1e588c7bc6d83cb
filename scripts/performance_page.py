"""Fill the tables of docs/performance.md from the files in benchmarks/results/performance, and check what it quotes.

A person writes the page; `written_pages` says how each number in it is checked. The files are what `moee bench --json`
writes, of kind `speed` or of kind `law`, and what `benchmarks/sweep.py --json` and `benchmarks/precision.py` write.

`make bench-performance` makes them again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from written_pages import Measures, write_or_check

from moee.bench import tables
from moee.bench.checkout import require_rivals
from moee.bench.entries import OURS
from moee.evaluate.result_files import markdown_table

ROOT = Path(__file__).resolve().parent.parent
RIVALS = require_rivals("The performance page")
FOLDER = ROOT / "benchmarks" / "results" / "performance"
PAGE = ROOT / "docs" / "performance.md"
WANTED = (
    *(f"{model}-{workload}" for model in ("demo", "olmoe") for workload in ("short", "mixed", "single")),
    *(f"{model}-short" for model in ("qwen1.5-moe", "deepseek-moe")),
    "law",
    "sweep",
    "precision",
)
"""The files that `make bench-performance` writes, in the order of the page; others follow by name."""
WORKLOADS = {
    "short": "short sentences",
    "mixed": "texts of mixed length",
    "single": "one sentence at a time",
}


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the JSON files of a folder by name without the ending, in the order of the page.

    Raises:
        SystemExit: If one is of a kind that the page does not know.
    """
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    for name, document in found.items():
        if "starts_uncached" in document:
            document["kind"] = "sweep"
        if "arithmetic" in document:
            document["kind"] = "precision"
        if document.get("kind") not in ("speed", "law", "sweep", "precision"):
            raise SystemExit(f"{name}.json is of kind {document.get('kind')!r}; the page shows 'speed' and 'law'.")
    order = [name for name in WANTED if name in found] + [name for name in found if name not in WANTED]
    return {name: found[name] for name in order}


def blocks(files: Mapping[str, Mapping[str, Any]], figures: Path) -> dict[str, list[str]]:
    """Return the generated parts of docs/performance.md.

    Args:
        files: What `load` found.
        figures: Folder of the page's figures; one that is not there is not linked.
    """
    parts = {"speed": _speed, "law": _law}
    lines: list[str] = []
    for kind in ("speed", "law", "sweep", "precision"):
        for name, document in files.items():
            if document["kind"] == kind:
                lines += parts[kind](name, document, figures) if kind in parts else _studies(document)
    return {"machines": _machines(files), "measured": lines, "not-measured": _not_measured(files)}


def measures(files: Mapping[str, Mapping[str, Any]]) -> Measures:
    """Return what the page can quote."""

    def times(file: str, entry: str, other: str) -> dict[str, float]:
        speeds = {each["name"]: each["texts_per_second"] for each in files[file]["contestants"]}
        return {"speed": speeds[entry] / speeds[other]}

    def entry(file: str, name: str) -> dict[str, float]:
        (found,) = (each for each in files[file]["contestants"] if each["name"] == name)
        return {"peak": found["percent_of_peak"]["median"], "spread": 100 * found["seconds"]["spread"]}

    def model(file: str) -> dict[str, float]:
        found = files[file]["model"]
        return {"layers": found["layers"], "published": found["layers_published"]}

    def value(file: str, path: str) -> dict[str, float]:
        found: Any = files[file]
        for step in path.split("/"):
            found = found[step]
        return {"value": found}

    return {each.__name__: each for each in (times, entry, model, value)}


def _studies(document: Mapping[str, Any]) -> list[str]:
    return _sweep(document) if document["kind"] == "sweep" else _precision(document)


def _machines(files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return one line for each different machine, with the files that are from it."""
    found: dict[str, list[str]] = {}
    for name, document in files.items():
        machine = document["machine"]
        if document["kind"] == "precision":
            continue  # its section says how it was measured
        memory = f"{machine['memory_bytes'] / 2**30:.0f} GiB" if machine["memory_bytes"] else "unknown memory"
        packages = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
        accelerator = machine["accelerator"] or "no accelerator"
        line = (
            f"{machine['processor']} ({machine['instructions']}), {machine['cores']} cores, {machine['threads']} "
            f"threads used, {memory}, {accelerator}, {machine['system']}, Python {machine['python']}; {packages}"
        )
        if "written" in document:
            line += f"; {document['written'][:10]}"
        found.setdefault(line, []).append(f"`{name}.json`")
    return [f"- {', '.join(names)}: {line}." for line, names in found.items()] or ["No file is there yet."]


def _title(document: Mapping[str, Any]) -> str:
    model, load = document["model"], document["workload"]["name"]
    name = model["title"] or model["name"]
    layers = f", {model['layers']} of {model['layers_published']} layers" if model["random_weights"] else ""
    return f"{name}{layers}, {model['dtype']}: {WORKLOADS[load]}"


def _speed(name: str, document: Mapping[str, Any], figures: Path) -> list[str]:
    lines = [f"### {_title(document)}", "", *tables.about_model(document), *tables.about_workload(document), ""]
    lines += [*markdown_table(tables.speed_columns(document), tables.speed_rows(document)), ""]
    lines += _figure(name, f"Speed and percent of peak. {_title(document)}", figures)
    lines += [f"- {each['name']}: {each['about']}{_facts(each['facts'])}." for each in document["contestants"]]
    lines += [f"- {each['name']} did not run: {each['reason']}." for each in document["not_run"]]
    agreement = document["agreement"]
    if agreement["with"]:
        columns = ["entry", ">cosine of hidden states", ">cosine of router logits"]
        said = f"Cosines to `{agreement['reference']}` on {agreement['texts']} texts, median and (smallest)."
        lines += ["", said, "", *markdown_table(columns, tables.cosine_rows(document))]
    return [*lines, ""]


def _facts(facts: Mapping[str, Any]) -> str:
    names = {"batch_texts": "batch of {} texts", "batch_tokens": "batch of {} tokens"}
    said = [names.get(name, "{}").format(value) for name, value in facts.items()]
    return f" ({'; '.join(said)})" if said else ""


def _law(name: str, document: Mapping[str, Any], figures: Path) -> list[str]:
    lines = ["### Scaling", "", *_figure(name, "Seconds against tokens, length of a text, and experts", figures)]
    lines += [*markdown_table(list(RIVALS.scaling_columns), RIVALS.scaling_rows(document)), ""]
    for law in document["laws"].values():
        columns = [f">{law['axis']}", ">tokens in all", ">seconds, median", ">spread, %"]
        rows = [
            [f"{each['x']:.0f}", str(each["tokens"]), f"{each['median']:.2f}", f"{100 * each['spread']:.0f}"]
            for each in law["points"]
        ]
        lines += [f"#### {law['title']}", "", *markdown_table(columns, rows), ""]
    return [*lines, f"Medians of {document['rounds']} repeats.", ""]


def _sweep(document: Mapping[str, Any]) -> list[str]:
    columns = ["entry", ">texts", ">tokens", ">tokens/s", ">seconds", ">peak memory, GiB", ">from disk, GiB"]
    rows = [
        [
            name,
            str(each["texts"]),
            str(each["tokens"]),
            f"{each['tokens_per_second']:.1f}",
            f"{each['seconds']:.0f}",
            f"{each['peak_bytes'] / 2**30:.2f}",
            "unknown" if each["disk_bytes"] is None else f"{each['disk_bytes'] / 2**30:.2f}",
        ]
        for name, each in document["results"].items()
    ]
    asked = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in document["options"].items())
    cache = "with nothing of the files in the system's cache" if document["starts_uncached"] else "with files cached"
    return [
        "### Models larger than memory",
        "",
        f"`benchmarks/sweep.py` ({asked}), each entry {cache}.",
        "",
        *markdown_table(columns, rows),
        "",
        *(f"- {name} was left out: {reason}." for name, reason in document["left_out"].items()),
        "",
    ]


def _precision(document: Mapping[str, Any]) -> list[str]:
    """Return what 8 bits change: the speed of a layer, the vectors of the demo, and two tasks."""
    layers = [
        [str(each["tokens"]), f"{each['exact']['gflops']:.0f}", f"{each['int8']['gflops']:.0f}", f"{each['ratio']:.2f}"]
        for each in document["layers"]
    ]
    vectors = [
        [name, *(f"{each[key]:.4f}" for key in ("mean", "percentile_1", "min"))]
        for name, each in document["vectors"].items()
    ]
    sts = document["sts"]
    tasks = [[name, f"{score:.2f}", f"{sts['int8'][name]:.2f}"] for name, score in sts["exact"].items()]
    pairs = f"{sts['limit']} pairs each" if sts["limit"] else "whole sets"
    return [
        "### 8 bits",
        "",
        f"`benchmarks/precision.py` on {document['machine']['threads']} thread(s), in processor time, beside other "
        f"work: {document['arithmetic']}.",
        "",
        "One layer of OLMoE's width with random weights, experts and attention:",
        "",
        *markdown_table([">tokens", ">exact, GFLOP/s", ">int8, GFLOP/s", ">ratio"], layers),
        "",
        f"Cosine of the demo's vectors to the exact ones, over {document['sentences']} built-in sentences:",
        "",
        *markdown_table(["vector", ">mean", ">1st percentile", ">least"], vectors),
        "",
        f"Spearman x100 of the default vector, {pairs}, with {sts['statistics'].replace('those', 'the statistics')}:",
        "",
        *markdown_table(["task", ">exact", ">int8"], tasks),
        "",
    ]


def _figure(name: str, caption: str, figures: Path) -> list[str]:
    return [f"![{caption}](figures/{name}.png)", ""] if (figures / f"{name}.png").is_file() else []


def _not_measured(files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        f"- `{name}.json` is not there; `make bench-performance` makes it." for name in WANTED if name not in files
    ]
    if not any(each["machine"].get("accelerator") for each in files.values()):
        lines.append("- No accelerator: the same code runs with `--device cuda`, and was not run.")
    speeds = [each for each in files.values() if each["kind"] == "speed"]
    whole = {each["model"]["name"] for each in speeds if each["model"]["layers"] == each["model"]["layers_published"]}
    titles = [title for name, title in RIVALS.shapes.items() if name not in whole]
    if titles:
        lines.append(f"- All layers of {', '.join(titles)}, and trained weights of any of them.")
    ran = {each["name"] for document in speeds for each in document["contestants"]}
    lines += [f"- {name}: {_why(name, speeds)}." for name in (*OURS, *RIVALS.peers) if name not in ran]
    return lines


def _why(name: str, speeds: Sequence[Mapping[str, Any]]) -> str:
    reasons = {each["reason"] for document in speeds for each in document["not_run"] if each["name"] == name}
    return "; ".join(sorted(reasons)) or "not asked for"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the page; return the exit code."""
    return write_or_check(
        lambda folder, path: (blocks(files := load(folder), path.parent / "figures"), measures(files)),
        arguments,
        folder=FOLDER,
        page=PAGE,
        target="performance",
        description=__doc__,
    )


if __name__ == "__main__":
    raise SystemExit(main())
