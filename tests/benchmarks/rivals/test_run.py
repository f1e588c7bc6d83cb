"""Whole runs on small models: everyone computes the same, and the document holds what was found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rivals import RIVALS
from rivals.peers import PEERS
from rivals.shapes import SHAPES
from rivals.workers import OwnProcess, WorkerError

from moee.backends.int8 import is_available
from moee.bench import tables
from moee.bench.entries import OURS, Computed, Runner, choose_ours, choose_peers, prompts_of
from moee.bench.run import Options, run
from moee.bench.same_vectors import DisagreementError, compare, token_digest
from moee.bench.weights import Setup, Weights
from moee.bench.worker import LocalWorker, Repeat
from moee.bench.workloads import Workload, make_workload
from moee.errors import InputError, UnknownNameError
from tests.bench.conftest import GOLDEN, TinySetup
from tests.benchmarks.rivals.gguf_file import write_gguf

ENTRIES = {**OURS, **PEERS}
SHARED = ("moee", "original", "transformers")
WITH_SENTENCE_TRANSFORMERS = (*SHARED, "sentence-transformers")


def build(name: str, setup: Setup, weights: Weights | None = None) -> Runner:
    return ENTRIES[name].open(setup, weights)


def measured(setup: Setup, *names: str, **options: Any) -> dict[str, Any]:
    wanted = Options(entries=names, **{"texts": 6, "repeats": 1, "processes": "shared", **options})
    document = run(setup, wanted, RIVALS)
    read: dict[str, Any] = json.loads(json.dumps(document, allow_nan=False))
    assert read == document, "what is written is what is read"
    return read


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """A run of everyone that can run on a small checkpoint, around one model."""
    pytest.importorskip("sentence_transformers")
    setup = Setup(model=str(GOLDEN), layers=None, dtype="float32", device="cpu", threads=1)
    return measured(setup, *WITH_SENTENCE_TRANSFORMERS, "llama-cpp", texts=20)


@pytest.mark.skipif(is_available() is not None, reason="this processor has no 8-bit products")
def test_int8_runs_beside_the_exact_way_and_leaves_its_weights_alone(golden: Setup) -> None:
    weights = Weights(golden, with_head=False)
    texts = ["a cat sat", "the rates rose again, and nobody knew why"]
    exact = build("moee", golden, weights)
    before = exact.vectors(texts)
    pointers = {parameter.data_ptr() for parameter in weights.base.parameters()}
    int8 = build("moee-int8", golden, weights)
    rounded, after = int8.vectors(texts), exact.vectors(texts)
    assert np.array_equal(before.hidden, after.hidden)
    assert {parameter.data_ptr() for parameter in weights.base.parameters()} == pointers
    assert not np.allclose(rounded.hidden, after.hidden, rtol=1e-5)
    found = measured(golden, "moee", "moee-int8")
    assert [each["name"] for each in found["contestants"]] == ["moee", "moee-int8"]
    assert 0.9 < found["agreement"]["with"]["moee-int8"]["hidden"]["median"] < 0.999999


def test_a_run_says_what_ran_and_how_fast(document: dict[str, Any]) -> None:
    assert [each["name"] for each in document["contestants"]] == list(WITH_SENTENCE_TRANSFORMERS)
    assert [each["name"] for each in document["not_run"]] == ["llama-cpp"]
    assert document["processes"] == "shared"
    assert document["model"]["name"] == "olmoe-tiny"
    assert not document["model"]["random_weights"]
    assert document["workload"]["texts"] == 20
    for record in document["contestants"]:
        (turn,) = record["turns"]
        assert record["texts_per_second"] == pytest.approx(20 / turn["seconds"])
        assert record["tokens_per_second"] == pytest.approx(document["workload"]["tokens"] / turn["seconds"])
        assert 0 < record["percent_of_peak"]["median"] <= 1.001 * record["percent_of_peak_useful"]["median"]
        assert record["peak_bytes"] > 1e7
        assert record["binds"] in ("compute", "memory")
        assert "latency" not in record


def test_everyone_computes_the_same(document: dict[str, Any]) -> None:
    found = document["agreement"]
    assert found["reference"] == "moee"
    assert set(found["with"]) == set(WITH_SENTENCE_TRANSFORMERS) - {"moee"}
    for name, cosines in found["with"].items():
        for view in ("hidden", "routers") if ENTRIES[name].gives == "HS + RW" else ("hidden",):
            assert cosines[view]["smallest"] > 0.99999, (name, view)


def test_ours_counts_less_work_than_the_whole_model(document: dict[str, Any]) -> None:
    """A shared beginning once, the last layer for the last token: fewer operations, the same vectors."""
    ours, peer = (each for each in document["contestants"] if each["name"] in ("moee", "transformers"))
    assert ours["turns"][0]["work"] is not None
    assert peer["turns"][0]["work"] is None
    assert peer["computed_flops"] == peer["useful_flops"] == ours["useful_flops"]
    assert 0.3 * ours["useful_flops"] < ours["computed_flops"] < ours["useful_flops"]


def test_tables_have_a_cell_for_every_column(document: dict[str, Any]) -> None:
    columns = tables.speed_columns(document)
    rows = tables.speed_rows(document)
    assert [row[0] for row in rows] == list(WITH_SENTENCE_TRANSFORMERS)
    assert {len(row) for row in rows} == {len(columns)}
    speeds = {each["name"]: each["tokens_per_second"] for each in document["contestants"]}
    assert dict(tables.ratios(document))["original"] == pytest.approx(speeds["moee"] / speeds["original"])
    assert len(tables.cosine_rows(document)) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "model_type"), [("olmoe", "olmoe"), ("qwen1.5-moe", "qwen2_moe")])
def test_random_shapes_run_around_one_model(shape: str, model_type: str) -> None:
    pytest.importorskip("sentence_transformers")
    setup = TinySetup(model=shape, layers=1, dtype="float32", device="cpu", threads=1, model_type=model_type)
    document = measured(setup, *WITH_SENTENCE_TRANSFORMERS)
    assert [each["name"] for each in document["contestants"]] == list(WITH_SENTENCE_TRANSFORMERS)
    assert document["model"]["random_weights"]
    assert document["model"]["layers_published"] == SHAPES[shape].layers
    assert min(each["hidden"]["median"] for each in document["agreement"]["with"].values()) > 0.99999
    assert "choose almost uniformly" in " ".join(tables.about_model(document))


@pytest.mark.slow
def test_a_class_without_a_head_gets_one_for_the_original_way() -> None:
    pytest.importorskip("sentence_transformers")
    setup = TinySetup(model="deepseek-moe", layers=2, dtype="float32", device="cpu", threads=1, model_type="deepseek")
    document = measured(setup, *WITH_SENTENCE_TRANSFORMERS)
    assert [each["name"] for each in document["contestants"]] == list(WITH_SENTENCE_TRANSFORMERS)
    original = document["contestants"][1]
    assert "no head for this class" in original["facts"]["notes"]
    assert document["agreement"]["with"]["original"]["routers"]["median"] > 0.99999


def test_one_sentence_at_a_time_has_latencies(golden: Setup) -> None:
    document = measured(golden, "moee", "transformers", workload="single", texts=3, repeats=2)
    for record in document["contestants"]:
        assert [len(turn["latencies"]) for turn in record["turns"]] == [3, 3]
        assert [turn["passes"] for turn in record["turns"]] == [3, 3]
        assert 0 < record["latency"]["p50"] <= record["latency"]["p95"]
        assert sum(record["turns"][0]["latencies"]) == pytest.approx(record["turns"][0]["seconds"])
    assert ">p95, ms" in tables.speed_columns(document)


def test_llama_cpp_runs_a_file_of_the_same_weights(golden: Setup, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    setup = replace(golden, gguf=write_gguf(GOLDEN, tmp_path / "golden.gguf"))
    assert PEERS["llama-cpp"].why_not(setup) is None
    found = measured(setup, "moee", "llama-cpp")
    assert [each["name"] for each in found["contestants"]] == ["moee", "llama-cpp"]
    assert found["agreement"]["with"]["llama-cpp"]["hidden"]["smallest"] > 0.99999


@pytest.mark.slow
def test_each_can_have_a_process_of_its_own(golden: Setup) -> None:
    document = measured(golden, "moee", "transformers", processes="own")
    assert document["processes"] == "own"
    assert [each["name"] for each in document["contestants"]] == ["moee", "transformers"]
    assert document["agreement"]["with"]["transformers"]["hidden"]["smallest"] > 0.99999


@pytest.mark.slow
def test_a_process_that_cannot_build_says_why(golden: Setup) -> None:
    broken = Setup(model="/no/such/folder", layers=None, dtype="float32", device="cpu", threads=1)
    with pytest.raises(WorkerError, match=r"transformers: Unknown model '/no/such/folder'"):
        OwnProcess("transformers", broken)
    worker = OwnProcess("transformers", golden)
    with pytest.raises(WorkerError, match="transformers: ValueError: need at least one array"):
        worker.vectors([])
    assert worker.token_ids(["a cat"]) == build("moee", golden).token_ids(["a cat"])
    worker.close()


class Planted:
    """A worker whose vectors or ids are not those of the model."""

    def __init__(self, worker: LocalWorker, *, ids: bool = False) -> None:
        self._worker, self._ids, self.closed = worker, ids, False

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        found = self._worker.token_ids(texts)
        return [[*each[:-1], each[-1] + 1] for each in found] if self._ids else found

    def vectors(self, texts: Sequence[str]) -> Computed:
        found = self._worker.vectors(texts)
        return found if self._ids else Computed(found.hidden[:, ::-1].copy(), found.routers)

    def facts(self) -> dict[str, Any]:
        return {}

    def warm_up(self, texts: Sequence[str]) -> None:
        raise AssertionError("who disagrees is not warmed up")

    def repeat(self, texts: Sequence[str], *, one_by_one: bool) -> Repeat:
        raise AssertionError("who disagrees is not timed")

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("ids", "reason"), [(True, "does not run the same token ids"), (False, "computes something else .median cosine")]
)
def test_who_computes_something_else_is_turned_away(golden: Setup, ids: bool, reason: str) -> None:
    weights = Weights(golden, with_head=False)
    ours = LocalWorker(build("moee", golden, weights), golden)
    tokenizer = golden.tokenizer()
    load: Workload = make_workload("short", 4, lambda texts: tokenizer(list(texts))["input_ids"])
    expected = tokenizer(prompts_of(load.texts))["input_ids"]
    wrong = Planted(LocalWorker(build("transformers", golden, weights), golden), ids=ids)
    workers: dict[str, Any] = {"moee": ours, "transformers": wrong}
    reasons: dict[str, str] = {}
    assert compare(workers, ENTRIES, load, expected, reasons)["token_ids"] == token_digest(expected)
    assert list(workers) == ["moee"]
    assert wrong.closed
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(reasons["transformers"])
    with pytest.raises(DisagreementError, match=f"moee was not timed: .*{reason}"):
        compare(
            {"transformers": LocalWorker(build("transformers", golden, weights), golden), "moee": wrong},
            ENTRIES,
            load,
            expected,
            {},
        )


def test_a_batch_of_the_original_way_is_cut_to_fit_memory(golden: Setup) -> None:
    original: Any = build("original", golden)
    original.prepare(["a cat"] * 200)
    assert original.facts["batch_texts"] == 128
    one, many = original._kept_bytes(1, 10), original._kept_bytes(64, 10)
    assert many == 64 * one
    # the logits alone: 600 words of float32 for each of 10 tokens
    assert one > 600 * 10 * 4


def test_names_are_checked_with_close_matches() -> None:
    known = list(PEERS)
    assert choose_ours("exact,int8") == list(OURS)
    assert choose_ours("int8") == ["moee-int8"]
    assert choose_peers("all", known) == known
    assert choose_peers("none", known) == []
    assert choose_peers("transformers, original", known) == ["original", "transformers"]
    with pytest.raises(UnknownNameError, match="Did you mean 'transformers'"):
        choose_peers("transformer", known)
    with pytest.raises(UnknownNameError, match="Did you mean 'exact'"):
        choose_ours("exat")


def test_every_peer_that_cannot_run_has_a_reason(golden: Setup) -> None:
    reasons = {name: entry.why_not(golden) for name, entry in PEERS.items()}
    assert reasons["original"] is None
    assert reasons["transformers"] is None
    assert reasons["llama-cpp"] is not None
    assert reasons["sentence-transformers-dense"] is not None


def test_wrong_options_are_refused(golden: Setup) -> None:
    with pytest.raises(InputError, match="--repeats is 0"):
        run(golden, Options(entries=("moee",), repeats=0))
    layered = Setup(model=str(GOLDEN), layers=2, dtype="float32", device="cpu", threads=1)
    with pytest.raises(InputError, match="--layers is for models of random weights"):
        layered.settled()
