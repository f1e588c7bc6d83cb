"""Throughput of the embedded default beside sentence-transformers, interleaved in one run at one dtype.

    make bench
    python benchmarks/throughput.py --texts 500 --rounds 5 --json benchmarks/results/throughput.json

Three contestants, each in a process of its own (so that peak memory is its own) and only one at work at a time:

- `moee`: `MoEE.encode` with the demo, default recipe: HS and RW, calibrated and fused;
- `st-carved`: sentence-transformers with last-token pooling on the same carved checkpoint: HS only;
- `st-dense`: the same on the dense model that the demo was carved from: HS only.

The texts are sentences of STSBenchmark where `MOEE_DATA` names the folder of evaluation sets, else the package's own
calibration sentences. Every contestant gets the same prompts. Loading and a warm-up are not counted.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

CONTESTANTS = ("moee", "st-carved", "st-dense")
TARGETS = {"st-carved": 1.2, "st-dense": 0.6}
"""Least ratio of our speed to the peer's that is promised."""
_WARM_UP = 64


def read_texts(count: int) -> tuple[list[str], str]:
    """Return `count` different sentences and where they are from."""
    data = os.environ.get("MOEE_DATA")
    if data and Path(data).is_dir():
        texts: dict[str, None] = {}
        for name in ("STSBenchmark", "SICK-R", "STS16"):
            with gzip.open(Path(data) / name / "test.jsonl.gz", "rt", encoding="utf-8") as lines:
                for line in lines:
                    row = json.loads(line)
                    texts.update({row["sentence1"]: None, row["sentence2"]: None})
            if len(texts) >= count:
                break
        return list(texts)[:count], "STSBenchmark"
    from moee.data import calibration_texts

    return calibration_texts()[:count], "built-in calibration sentences (MOEE_DATA is not set)"


def write_dense(folder: Path) -> None:
    """Write the dense model behind the demo as a folder that transformers loads."""
    from safetensors.torch import save_file

    from moee.carve.source import open_dense
    from moee.demo.build import find_gguf

    dense = open_dense(find_gguf())
    # not save_pretrained: transformers refuses to save what it read from a GGUF file
    config = {key: value for key, value in dense.config.items() if key != "quantization_config"}
    (folder / "config.json").write_text(json.dumps(config, default=str))
    tensors = {name: tensor.contiguous() for name, tensor in dense.tensors()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    dense.tokenizer.save_pretrained(folder)


def open_moee(_folder: Path, dtype: str) -> Callable[[list[str]], Any]:
    """Return our encoder."""
    from moee import MoEE

    model = MoEE.from_pretrained("demo", dtype=dtype)
    return model.encode


def open_sentence_transformers(folder: Path, dtype: str) -> Callable[[list[str]], Any]:
    """Return the peer's encoder over the checkpoint in `folder`, with the prompt put in as a user would have to."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    from moee.prompts import render

    transformer = Transformer(
        str(folder),
        model_kwargs={"dtype": dtype},
        # text only: the tokenizer has a chat template, and sentence-transformers would put every prompt into it
        modality_config={"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        module_output_name="token_embeddings",
    )
    transformer.tokenizer.pad_token = transformer.tokenizer.pad_token or transformer.tokenizer.eos_token
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="lasttoken")
    model = SentenceTransformer(modules=[transformer, pooling], device="cpu")
    return lambda texts: model.encode([render("prompteol", text) for text in texts], show_progress_bar=False)


def work(contestant: str, folder: Path, dtype: str, texts: list[str], pipe: Connection) -> None:
    """Encode `texts` each time the pipe asks, and answer with seconds and peak bytes."""
    encode = (open_moee if contestant == "moee" else open_sentence_transformers)(folder, dtype)
    encode(texts[:_WARM_UP])
    pipe.send(None)  # ready
    while pipe.recv() == "go":
        start = time.perf_counter()
        encode(texts)
        seconds = time.perf_counter() - start
        pipe.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def run(texts: list[str], rounds: int, dtype: str) -> dict[str, dict[str, list[float]]]:
    """Let the contestants encode in turn; return their seconds and peak bytes of every round."""
    from moee.demo.build import demo_folder

    context = multiprocessing.get_context("spawn")
    carved = demo_folder()
    results: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "peak_bytes": []} for name in CONTESTANTS}
    with tempfile.TemporaryDirectory() as temporary:
        write_dense(Path(temporary))
        folders = {"moee": carved, "st-carved": carved, "st-dense": Path(temporary)}
        pipes, processes = {}, []
        for name in CONTESTANTS:
            pipes[name], theirs = context.Pipe()
            process = context.Process(target=work, args=(name, folders[name], dtype, texts, theirs), daemon=True)
            process.start()
            processes.append(process)
            pipes[name].recv()
        for _ in range(rounds):
            for name in CONTESTANTS:
                pipes[name].send("go")
                seconds, peak = pipes[name].recv()
                results[name]["seconds"].append(seconds)
                results[name]["peak_bytes"].append(peak)
        for name, process in zip(CONTESTANTS, processes, strict=True):
            pipes[name].send("stop")
            process.join()
    return results


def versions() -> dict[str, str]:
    """Return the versions and the machine that a figure belongs to."""
    from importlib.metadata import version

    names = ("torch", "transformers", "sentence-transformers", "numpy")
    cores = {"cores": str(os.cpu_count()), "machine": platform.machine(), "python": platform.python_version()}
    return {name: version(name) for name in names} | cores


def main() -> None:
    """Run, print a table, and write the JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=2000, help="how many sentences (default 2000)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contestant encodes them (default 3)")
    parser.add_argument("--dtype", default="float32", help="of all contestants (default float32)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    texts, origin = read_texts(arguments.texts)
    print(f"{len(texts)} sentences of {origin}, {arguments.rounds} rounds, {arguments.dtype}")
    results = run(texts, arguments.rounds, arguments.dtype)
    medians = {name: statistics.median(each["seconds"]) for name, each in results.items()}
    for name, each in results.items():
        spread = f"{min(each['seconds']):.1f} to {max(each['seconds']):.1f} s"
        memory = max(each["peak_bytes"]) / 2**20
        print(
            f"{name:<10} {len(texts) / medians[name]:7.1f} texts/s   median {medians[name]:6.1f} s ({spread})", end=""
        )
        print(f"   peak memory {memory:6.0f} MiB")
    ratios = {name: medians[name] / medians["moee"] for name in TARGETS}
    for name, target in TARGETS.items():
        print(f"moee / {name}: {ratios[name]:.2f} times its speed (promised: {target})")
    if arguments.json:
        facts = {"texts": len(texts), "origin": origin, "dtype": arguments.dtype, "versions": versions()}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(facts | {"results": results, "ratios": ratios}, indent=2) + "\n")


if __name__ == "__main__":
    main()
