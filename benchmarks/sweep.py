"""A model larger than the memory it may use: the layer sweep beside the model in memory, and beside accelerate.

    python benchmarks/sweep.py --layers 16 --memory 4GiB --tokens 20000 --json benchmarks/results/sweep.json
    python benchmarks/sweep.py --layers 3 --hidden 256 --memory 200MiB --tokens 3000

The model has the shape of OLMoE-1B-7B-0924 and random bfloat16 weights, in files of the published layout. Each
contestant has a process of its own, and only one runs at a time:

- `sweep`: `MoEE.from_pretrained(folder, memory=...)`, every layer read once for many texts;
- `memory`: the same without a limit, skipped where the weights do not fit;
- `accelerate`: transformers with `device_map="auto"` and offload to disk under the same limit, on the texts of
  one batch: it reads the weights anew for every batch, so its speed does not depend on how many there are.

The files' pages are dropped from the system's cache before each one starts, where the system can. Loading is timed on
its own, and so is the first encoding: a warm-up would be a whole pass over the disk.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from moee.errors import InputError
from moee.memory import available_bytes, format_size, parse_size

CONTESTANTS = ("sweep", "memory", "accelerate")
COMPARED = 200
"""Texts whose vectors are compared."""
_SEED = 2410
_RAM_SHARE = 0.9
"""Part of the free memory that weights may take; larger ones are not loaded whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a contestant is given.

    Attributes:
        contestant: One of `CONTESTANTS`.
        folder: The checkpoint.
        scratch: A folder for what it writes.
        memory: Its limit, for example `"4GiB"`.
        dtype: Computed in.
        tokens: Prompt tokens wanted.
        batch_tokens: Tokens in accelerate's one batch, padding counted.
    """

    contestant: str
    folder: Path
    scratch: Path
    memory: str
    dtype: str
    tokens: int
    batch_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a contestant took.

    Attributes:
        texts: Encoded.
        tokens: In their prompts, padding not counted.
        load_seconds: Until the model could be used.
        seconds: Duration of encoding.
        peak_bytes: Most memory that the process had.
        called_bytes: Read through calls while encoding; pages of a mapped file are not among them.
        disk_bytes: Fetched from the disk while encoding; what the system had cached is not among them.
        facts: Anything else.
    """

    texts: int
    tokens: int
    load_seconds: float
    seconds: float
    peak_bytes: int
    called_bytes: int | None
    disk_bytes: int | None
    facts: dict[str, Any]

    @property
    def speed(self) -> float:
        """Tokens a second while encoding."""
        return self.tokens / self.seconds


# --- the checkpoint ------------------------------------------------------------------------------------------------


def model_config(layers: int, hidden: int) -> dict[str, Any]:
    """Return OLMoE's `config.json` with some layers and a hidden size; the experts are half as wide, as published."""
    from rivals.shapes import SHAPES

    size = {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": hidden // 2}
    names = {"model_type": "olmoe", "architectures": ["OlmoeForCausalLM"], "dtype": "bfloat16"}
    ids = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    return {**SHAPES["olmoe"].config, **size, **names, **ids, "tie_word_embeddings": False}


def write_checkpoint(folder: Path, layers: int, hidden: int) -> None:
    """Write random weights, one file per layer; a folder that has them already is left as it is."""
    import torch
    from safetensors.torch import save_file

    from moee.demo.build import demo_folder

    config = model_config(layers, hidden)
    index = folder / "model.safetensors.index.json"
    if index.is_file() and json.loads((folder / "config.json").read_text(encoding="utf-8")) == config:
        return
    if folder.is_dir() and any(folder.iterdir()):
        sys.exit(
            f"{str(folder)!r} holds something else. Give an empty folder, or the layers and width it was made with."
        )
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(_SEED)

    def drawn(*shape: int) -> torch.Tensor:
        # variance 1 / inputs keeps activations finite at any depth
        return torch.empty(shape, dtype=torch.bfloat16).normal_(0, shape[-1] ** -0.5, generator=generator)

    places: dict[str, str] = {}
    for number in range(layers + 1):
        file = f"model-{number + 1:05d}-of-{layers + 1:05d}.safetensors"
        tensors = layer_tensors(config, number, drawn) if number < layers else outer_tensors(config, drawn)
        save_file(tensors, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(tensors, file)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((demo_folder() / name).read_bytes())
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")  # last: a mark of the end


def layer_tensors(config: dict[str, Any], number: int, drawn: Callable[..., Any]) -> dict[str, Any]:
    """Return the tensors of one decoder layer under their published names; `Any` is a torch tensor."""
    import torch

    hidden, width, experts = (config[key] for key in ("hidden_size", "intermediate_size", "num_experts"))
    prefix = f"model.layers.{number}"
    tensors = {f"{prefix}.self_attn.{each}_proj.weight": drawn(hidden, hidden) for each in "qkvo"}
    for norm in ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm"):
        tensors[f"{prefix}.{norm}.weight"] = torch.ones(hidden, dtype=torch.bfloat16)
    tensors[f"{prefix}.mlp.gate.weight"] = drawn(experts, hidden)
    for expert in range(experts):
        block = f"{prefix}.mlp.experts.{expert}"
        tensors[f"{block}.gate_proj.weight"] = drawn(width, hidden)
        tensors[f"{block}.up_proj.weight"] = drawn(width, hidden)
        tensors[f"{block}.down_proj.weight"] = drawn(hidden, width)
    return tensors


def outer_tensors(config: dict[str, Any], drawn: Callable[..., Any]) -> dict[str, Any]:
    """Return the tensors outside the layers; `Any` is a torch tensor."""
    import torch

    hidden, words = config["hidden_size"], config["vocab_size"]
    return {
        "model.embed_tokens.weight": drawn(words, hidden) * hidden**0.5,
        "model.norm.weight": torch.ones(hidden, dtype=torch.bfloat16),
        "lm_head.weight": drawn(words, hidden),
    }


def different_texts() -> Iterator[str]:
    """Yield different texts without end: the evaluation sets' or the package's own, then pairs of them."""
    from moee.data import calibration_texts

    pool = list(calibration_texts())
    data = os.environ.get("MOEE_DATA")
    if data and Path(data).is_dir():
        import gzip

        found: dict[str, None] = {}
        for name in ("STSBenchmark", "SICK-R", "STS16"):
            with gzip.open(Path(data) / name / "test.jsonl.gz", "rt", encoding="utf-8") as lines:
                for row in map(json.loads, lines):
                    found |= {row["sentence1"]: None, row["sentence2"]: None}
        pool = list(found)
    yield from pool
    for distance in range(1, len(pool)):
        for number, text in enumerate(pool):
            yield f"{text} {pool[(number + distance) % len(pool)]}"


def texts_of(count: int, measure: Callable[[str], int]) -> tuple[list[str], int]:
    """Return texts whose prompts have at least `count` tokens, and how many they have."""
    texts, total = [], 0
    for text in different_texts():
        if total >= count:
            break
        texts.append(text)
        total += measure(text)
    return texts, total


# --- contestants ---------------------------------------------------------------------------------------------------


def prompt_tokens(folder: Path) -> tuple[Any, Callable[[str], int]]:
    """Return the tokenizer and what counts the tokens of a text's prompt; `Any`: transformers' tokenizers."""
    from transformers import AutoTokenizer

    from moee.method.prompts import render

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer, lambda text: len(tokenizer(render("prompteol", text))["input_ids"])


def run_moee(task: Task) -> Result:
    """Encode with our embedder; the vectors of the first texts go to the scratch folder."""
    import numpy as np

    from moee import MoEE

    _, measure = prompt_tokens(task.folder)
    texts, tokens = texts_of(task.tokens, measure)
    limit: dict[str, Any] = {"memory": task.memory} if task.contestant == "sweep" else {}
    start = time.perf_counter()
    model = MoEE.from_pretrained(
        task.folder, dtype=task.dtype, prompt="prompteol", fusion="concat", calibration="none", **limit
    )
    load_seconds = time.perf_counter() - start
    with reads() as read:
        start = time.perf_counter()
        vectors = model.encode(texts)
        seconds = time.perf_counter() - start
    if not np.isfinite(vectors).all():
        sys.exit("Vectors are not finite.")
    np.save(task.scratch / f"{task.contestant}.npy", vectors[:COMPARED])
    return Result(
        texts=len(texts), tokens=tokens, load_seconds=load_seconds, seconds=seconds, peak_bytes=peak(), **read, facts={}
    )


def run_accelerate(task: Task) -> Result:
    """Run one batch through transformers with the layers that do not fit offloaded to disk by accelerate."""
    import torch
    from transformers import AutoModel

    from moee.method.prompts import render

    tokenizer, measure = prompt_tokens(task.folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    texts, _ = texts_of(task.tokens, measure)
    texts = sorted(texts, key=measure)
    middle, width = len(texts) // 2, measure(texts[len(texts) // 2])
    # texts of like lengths, as a careful user would batch them
    chosen = texts[middle : middle + max(1, task.batch_tokens // width)]
    batch = tokenizer([render("prompteol", text) for text in chosen], padding=True, return_tensors="pt")
    start = time.perf_counter()
    model = AutoModel.from_pretrained(
        task.folder,
        dtype=getattr(torch, task.dtype),
        device_map="auto",
        max_memory={"cpu": parse_size(task.memory)},
        offload_folder=task.scratch / "offload",
        local_files_only=True,
    )
    load_seconds = time.perf_counter() - start
    forget(task.scratch / "offload")  # just written, so all of it would be cached
    places = [str(place) for place in getattr(model, "hf_device_map", {}).values()]
    with reads() as read, torch.inference_mode():
        start = time.perf_counter()
        output = model(**batch, use_cache=False, output_router_logits=True)
        seconds = time.perf_counter() - start
    if not torch.isfinite(output.last_hidden_state).all():
        sys.exit("Hidden states are not finite.")
    return Result(
        texts=len(chosen),
        tokens=int(batch["attention_mask"].sum()),
        load_seconds=load_seconds,
        seconds=seconds,
        peak_bytes=peak(),
        **read,
        facts={"modules_on_disk": places.count("disk"), "modules_in_memory": len(places) - places.count("disk")},
    )


def peak() -> int:
    """Return the most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextlib.contextmanager
def reads() -> Iterator[dict[str, int | None]]:
    """Count what is read inside the context; None where the system does not tell."""
    found: dict[str, int | None] = {"called_bytes": None, "disk_bytes": None}
    before = _counters()
    yield found
    after = _counters()
    if before and after:
        found["called_bytes"] = after["rchar"] - before["rchar"]
        found["disk_bytes"] = after["read_bytes"] - before["read_bytes"]


def _counters() -> dict[str, int] | None:
    try:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


# --- processes -----------------------------------------------------------------------------------------------------


def in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own and return what it returns.

    This one stays small: a process starts with the peak of the one that started it.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:
        process.join()
        sys.exit(f"{function.__name__} ended with code {process.exitcode}.")
    process.join()
    return answer


def _answer(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    pipe.send(function(*arguments))


def forget(folder: Path) -> bool:
    """Drop the folder's files from the system's cache of pages; return whether the system can."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in (each for each in folder.glob("*") if each.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # pages that are not written yet stay
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def memory_size(text: str) -> str:
    """Check a size and return it as it was given."""
    try:
        parse_size(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def lacks_memory(folder: Path) -> str:
    """Return why the weights cannot be in memory, experts as they are stored; empty if they can or nobody knows."""
    stored, free = sum(path.stat().st_size for path in folder.glob("*.safetensors")), available_bytes()
    if free is None or stored <= _RAM_SHARE * free:
        return ""
    return f"needs {format_size(stored)}, and {format_size(free)} are free"


def compare(scratch: Path) -> float | None:
    """Return the largest difference between the two embedders' vectors, of unit length; None if one is missing."""
    import numpy as np

    files = [scratch / f"{name}.npy" for name in ("sweep", "memory")]
    if not all(path.is_file() for path in files):
        return None
    first, second = map(np.load, files)
    return float(np.abs(first - second).max())


def machine() -> dict[str, Any]:
    """Return what the figures belong to; `Any`: a JSON object."""
    import torch

    from moee.bench.machine import describe

    return describe("cpu", torch.get_num_threads())


# --- the report ----------------------------------------------------------------------------------------------------


def show(name: str, result: Result) -> None:
    """Print a line about one contestant."""
    read = "?" if result.called_bytes is None else f"{result.called_bytes / 2**30:.2f}"
    disk = "?" if result.disk_bytes is None else f"{result.disk_bytes / 2**30:.2f}"
    print(
        f"{name:<10} {result.speed:8.1f} tokens/s   {result.tokens} tokens of {result.texts} texts in "
        f"{result.seconds:.1f} s   load {result.load_seconds:.1f} s   peak {result.peak_bytes / 2**30:.2f} GiB   "
        f"read {read} GiB, from disk {disk} GiB   {result.facts or ''}",
        flush=True,
    )


def arguments_of() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=16, help="of the model (default 16, as published)")
    parser.add_argument("--hidden", type=int, default=2048, help="its width (default 2048, as published)")
    parser.add_argument("--memory", type=memory_size, default="4GiB", help="limit (default 4GiB)")
    parser.add_argument("--tokens", type=int, default=20000, help="prompt tokens to encode (default 20000)")
    parser.add_argument("--batch-tokens", type=int, default=4096, help="of accelerate's batch (default 4096)")
    parser.add_argument("--dtype", default="float32", help="of all contestants (default float32)")
    parser.add_argument("--contestants", default=",".join(CONTESTANTS), help="which ones, with commas between")
    parser.add_argument("--folder", type=Path, help="keep the checkpoint here, and use it again")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    found = parser.parse_args()
    unknown = set(found.contestants.split(",")) - set(CONTESTANTS)
    if unknown:
        parser.error(f"unknown contestants {sorted(unknown)}; choose from {', '.join(CONTESTANTS)}")
    return found


def run(arguments: argparse.Namespace, scratch: Path) -> tuple[dict[str, Result], dict[str, str], bool]:
    """Let the contestants run in turn; return their results, why some were left out, and if each began uncached."""
    folder = arguments.folder or scratch / "model"
    in_process(write_checkpoint, folder, arguments.layers, arguments.hidden)
    stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    print(f"{arguments.layers} layers of width {arguments.hidden}, {stored / 2**30:.2f} GiB of bfloat16 in files")
    results: dict[str, Result] = {}
    skipped: dict[str, str] = {}
    is_cold = True
    for name in arguments.contestants.split(","):
        if name == "memory" and (lack := lacks_memory(folder)):
            skipped[name] = lack
            print(f"{name:<10} left out: {lack}")
            continue
        task = Task(
            contestant=name,
            folder=folder,
            scratch=scratch,
            memory=arguments.memory,
            dtype=arguments.dtype,
            tokens=arguments.tokens,
            batch_tokens=arguments.batch_tokens,
        )
        is_cold = forget(folder) and is_cold
        results[name] = in_process(run_accelerate if name == "accelerate" else run_moee, task)
        show(name, results[name])
    return results, skipped, is_cold


def main() -> None:
    """Run, print a table, and write the JSON if asked to."""
    arguments = arguments_of()
    with tempfile.TemporaryDirectory(prefix="moee-sweep-") as temporary:
        results, skipped, is_cold = run(arguments, Path(temporary))
        difference = in_process(compare, Path(temporary))
    ratios = {
        name: results["sweep"].speed / results[name].speed
        for name in ("memory", "accelerate")
        if {"sweep", name} <= results.keys()
    }
    for name, ratio in ratios.items():
        print(f"sweep / {name}: {ratio:.2f} times its speed")
    if difference is not None:
        print(f"largest difference between the vectors of sweep and memory: {difference:.1e}")
    if arguments.json:
        options = {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()}
        facts = {
            "options": {key: value for key, value in options.items() if key not in ("json", "folder")},
            "machine": in_process(machine),
            "starts_uncached": is_cold,
            "results": {name: asdict(each) | {"tokens_per_second": each.speed} for name, each in results.items()},
            "left_out": skipped,
            "ratios": ratios,
            "largest_difference": difference,
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
