"""The demo's builder. Tests that build the whole model are marked slow and share one build."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from moee import MoEE
from moee.demo import build, demo_folder, demo_report, heldback_texts, weights
from moee.errors import CheckpointError, OutputError
from moee.method.saved import SavedEmbedder, read_embedder, write_embedder
from tests.weights import lend_weights


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    lend_weights(folder)
    return folder


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the assets that a test may damage, and a cache with a file without tensors in the weights' place."""
    from gguf import GGUFWriter

    copy = tmp_path / "assets"
    shutil.copytree(build.ASSETS, copy)
    monkeypatch.setattr(build, "ASSETS", copy)
    monkeypatch.setenv("MOEE_CACHE", str(tmp_path / "cache"))
    weights.weights_path().parent.mkdir(parents=True)
    writer = GGUFWriter(weights.weights_path(), "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    monkeypatch.setattr(build, "GGUF_SHA256", weights.file_sha256(weights.weights_path()))
    return copy


def made_in(cache: Path) -> list[str]:
    """Names of what is in a cache besides the lent weights."""
    return [path.name for path in cache.iterdir() if path.name != weights.weights_path().parent.name]


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
def test_the_build_is_what_was_measured_and_the_second_call_uses_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from moee.carve.checkpoint import TensorDigest

    monkeypatch.setenv("MOEE_CACHE", str(cache))
    folder = demo_folder()
    built = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert demo_folder() == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == built
    digest = TensorDigest()
    with safe_open(folder / "model.safetensors", framework="pt") as stored:
        for name in stored.keys():  # noqa: SIM118
            digest.add(name, stored.get_tensor(name))
    assert digest.hexdigest() == demo_report().tensors_sha256
    assert made_in(cache) == [folder.name], "nothing else is left in the cache"

    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = 'This sentence : "A cat sat on 2 mats." means in one word:"'
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text, "no token is added before or after"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        logits = model(torch.tensor([tokenizer("The capital of France is")["input_ids"]])).logits
    assert tokenizer.decode(logits[0, -1].argmax()).strip() == "Paris"


@pytest.mark.slow
def test_two_processes_of_other_numbers_of_threads_may_build_at_once(tmp_path: Path) -> None:
    code = "from moee.demo import demo_folder; print(demo_folder())"
    lend_weights(tmp_path)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "MOEE_CACHE": str(tmp_path), "OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for threads in (1, 2)
    ]
    folders = {Path(process.communicate(timeout=300)[0].strip()).name for process in running}
    # each would refuse what it built if its digest were another than the one that ships
    assert [process.returncode for process in running] == [0, 0]
    assert made_in(tmp_path) == list(folders) == [f"demo-{demo_report().tensors_sha256[:12]}"]


@pytest.mark.slow
def test_what_0_1_0_saved_opens_with_the_weights_of_then(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MOEE_CACHE", str(cache))
    config = MoEE.from_pretrained("fake", calibration="none", fusion="hs").config
    write_embedder(tmp_path / "saved", SavedEmbedder("demo", None, "99c867577d1f0bf5", config, ()))
    assert read_embedder(tmp_path / "saved").name == "demo-0.1.0"
    former = MoEE.from_pretrained(tmp_path / "saved", dtype="float32")
    today = MoEE.from_pretrained("demo", dtype="float32").with_settings(calibration="none", fusion="hs")
    assert former.info.fingerprint == "99c867577d1f0bf5"
    text = ["The harbour was frozen until the end of March."]
    cosine = float((former.encode(text) @ today.encode(text).T)[0, 0])
    assert 0.999 < cosine < 1 - 1e-6, "near, and not the same"
    write_embedder(tmp_path / "today", SavedEmbedder("demo", None, today.info.fingerprint, config, ()))
    assert read_embedder(tmp_path / "today").name == "demo"


@pytest.mark.slow
def test_the_tokenizer_agrees_with_the_one_transformers_reads_from_the_file(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    monkeypatch.setenv("MOEE_CACHE", str(cache))
    gguf = weights.find_gguf()
    ours = AutoTokenizer.from_pretrained(demo_folder())
    theirs = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    texts = [
        *heldback_texts(),
        "",
        "  two  spaces ",
        "In 1984, 3.14 and 2,000.",
        "naïve Zürich 東京 🎉",
        "a<|im_end|>b\n",
    ]
    assert ours(texts)["input_ids"] == theirs(texts)["input_ids"]
    assert ours.special_tokens_map == theirs.special_tokens_map


@pytest.mark.slow
def test_the_built_in_sentences_are_enough_for_a_carve_with_default_sizes(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    from moee.carve import CarveConfig
    from moee.carve.sequences import prepare
    from moee.data import calibration_texts

    monkeypatch.setenv("MOEE_CACHE", str(cache))
    made = prepare(calibration_texts(), AutoTokenizer.from_pretrained(demo_folder()), CarveConfig())
    assert sum(map(len, made.calibration)) >= CarveConfig().calibration_tokens


@pytest.mark.slow
def test_the_weights_are_those_that_transformers_reads_from_the_file() -> None:
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM

    from moee.demo.gguf import dense_config, dense_tensors, open_gguf

    gguf = weights.find_gguf()
    source = open_gguf(gguf)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    expected = model.state_dict()
    names = set()
    for name, values in dense_tensors(source):
        np.testing.assert_array_equal(values, expected[name].numpy())
        names.add(name)
    assert names == set(expected) - {"lm_head.weight"}
    for key, value in dense_config(source).items():
        assert getattr(model.config, key) == pytest.approx(value), key


def test_the_assets_are_small_and_whole() -> None:
    report = demo_report()
    assert sum(path.stat().st_size for path in build.ASSETS.iterdir()) < 4_000_000
    assert report.calibration_tokens >= 100_000
    assert report.perplexity_ratio <= 1.25
    assert report.top_k < report.num_experts, "the routing leaves something out"
    assert len(report.router_r2) == 30
    texts = heldback_texts()
    assert len(set(texts)) == len(texts) > 100


def test_every_heldback_text_names_source_and_licence() -> None:
    with gzip.open(build.ASSETS / build.HELDBACK_NAME, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    assert all(row["source"] and row["licence"] for row in rows)


def test_a_damaged_plan_is_refused_and_nothing_is_left(assets: Path) -> None:
    damage(assets / build.PLAN_NAME)
    with pytest.raises(CheckpointError, match=r"plan\.safetensors.*its SHA-256 is .*expected .*Install moee again"):
        demo_folder()
    assert made_in(assets.parent / "cache") == []


def test_a_damaged_manifest_is_refused(assets: Path) -> None:
    (assets / build.MANIFEST_NAME).write_text("{")
    with pytest.raises(CheckpointError, match="Cannot read"):
        demo_folder()
    (assets / build.MANIFEST_NAME).write_text('{"format_version": 0}')
    with pytest.raises(CheckpointError, match="another format version"):
        demo_folder()


def test_a_cache_that_cannot_be_written_is_named(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    occupied = assets.parent / "occupied"
    occupied.write_text("")
    fetched = weights.weights_path()
    monkeypatch.setattr(build, "find_gguf", lambda: fetched)
    monkeypatch.setenv("MOEE_CACHE", str(occupied))
    with pytest.raises(OutputError, match="MOEE_CACHE"):
        demo_folder()


def test_an_interrupted_build_leaves_nothing(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(folder: Path, *_others: object) -> str:
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "write_demo", interrupt)
    with pytest.raises(KeyboardInterrupt):
        demo_folder()
    assert made_in(assets.parent / "cache") == []


def test_a_build_with_another_digest_is_refused(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "write_demo", lambda *_: "0" * 64)
    with pytest.raises(CheckpointError, match=r"digest 0+, expected"):
        demo_folder()
    assert made_in(assets.parent / "cache") == []


def test_an_incomplete_folder_in_the_cache_is_built_again(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = demo_report().tensors_sha256
    target = assets.parent / "cache" / f"demo-{digest[:12]}"
    target.mkdir(parents=True)
    (target / "model.safetensors").write_bytes(b"half")

    def write(folder: Path, *_others: object) -> str:
        (folder / "model.safetensors").write_bytes(b"whole")
        return digest

    monkeypatch.setattr(build, "write_demo", write)
    assert demo_folder() == target
    assert (target / "model.safetensors").read_bytes() == b"whole"
    assert made_in(target.parent) == [target.name]
