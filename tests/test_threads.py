"""One model from many threads: every vector right, and the caller's own model as it was, whatever it is used for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from moee import MoEE
from moee.errors import InputError
from tests.architectures.tiny import build, tiny_config
from tests.checkpoints import save_tokenizer

GOLDEN = Path(__file__).parent / "golden" / "olmoe-tiny"
THREADS = 8
ROUNDING = 2e-5
"""Bound of float32 rounding: a batch of other texts multiplies matrices of other shapes. Dropout moves far more."""
TEXTS = [("a few words about cats and rates " * length).strip() for length in (1, 2, 3, 5, 9)] + [
    "one",
    "two words",
    "Time and tide wait for no man.",
    "x" * 60,
]
TOKENS = torch.tensor([[5, 9, 17, 3, 11, 8]])


@pytest.fixture
def llm() -> Any:
    """A language model whose vectors differ in training mode: half of its attention is dropped there."""
    return AutoModelForCausalLM.from_pretrained(GOLDEN, attention_dropout=0.5, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(GOLDEN)


def _tiny(model_type: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(tiny_config(model_type)).float().eval()


def _generate(model: Any) -> list[int]:
    with torch.no_grad():
        found = model.generate(TOKENS, max_new_tokens=4, do_sample=False, pad_token_id=0)
    return [int(token) for token in found[0]]


def _encode_from_threads(model: MoEE, calls: int, beside: Callable[[], None]) -> None:
    """Encode texts of mixed lengths from all threads at once, with `beside` going on in one more."""
    expected = np.stack([model.encode(text) for text in TEXTS])
    start, done = threading.Barrier(THREADS + 1), threading.Event()

    def work(thread: int) -> int:
        random = np.random.default_rng(thread)
        start.wait()
        for _ in range(calls):
            chosen = random.choice(len(TEXTS), int(random.integers(1, 4)), replace=False)
            found = model.encode([TEXTS[each] for each in chosen])
            np.testing.assert_allclose(found, expected[chosen], atol=ROUNDING)
        return calls

    def other() -> int:
        start.wait()
        beside()
        times = 1
        while not done.wait(0.05):  # leaves the interpreter to the others between two calls
            beside()
            times += 1
        return times

    with ThreadPoolExecutor(THREADS + 1) as pool:
        runner = pool.submit(other)
        workers = [pool.submit(work, thread) for thread in range(THREADS)]
        try:
            assert sum(each.result() for each in workers) == THREADS * calls
        finally:
            done.set()
        assert runner.result() >= 1


CALLS = [pytest.param(12, id="8x12"), pytest.param(200, id="8x200", marks=pytest.mark.slow)]


@pytest.mark.parametrize("calls", CALLS)
def test_every_vector_is_right_while_the_model_generates(llm: Any, tokenizer: Any, calls: int) -> None:
    before = _generate(llm)
    model = MoEE.from_model(llm, tokenizer, calibration="none")

    def generate() -> None:
        assert _generate(llm) == before

    _encode_from_threads(model, calls, generate)
    assert _generate(llm) == before
    assert not llm.training


@pytest.mark.parametrize("calls", CALLS)
def test_every_vector_is_right_while_the_model_is_in_training_mode(llm: Any, tokenizer: Any, calls: int) -> None:
    expected = MoEE.from_model(llm, tokenizer, calibration="none").encode(TEXTS)
    llm.train()
    model = MoEE.from_model(llm, tokenizer, calibration="none")
    assert llm.training
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=ROUNDING)

    def train() -> None:
        llm(input_ids=TOKENS, labels=TOKENS).loss.backward()  # no step: the weights stay
        assert all(module.training for module in llm.modules())
        assert len(_generate(llm)) > TOKENS.shape[1]

    _encode_from_threads(model, calls, train)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=ROUNDING)
    assert all(module.training for module in llm.modules())
    assert all(each.grad is not None and torch.isfinite(each.grad).all() for each in llm.model.layers[0].parameters())


@pytest.mark.parametrize("model_type", ["qwen3_moe", "jetmoe", "gpt_oss"])  # texts side by side, padded, with windows
def test_every_vector_of_other_architectures_is_right(model_type: str, tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    llm = _tiny(model_type).train()
    model = MoEE.from_model(llm, AutoTokenizer.from_pretrained(tmp_path), calibration="none")
    with torch.no_grad():
        _encode_from_threads(model, 4, lambda: llm(input_ids=TOKENS, use_cache=False))
    assert llm.training


@pytest.mark.parametrize("is_training", [False, True])
def test_a_pass_of_another_thread_in_the_midst_of_ours_sees_nothing_of_it(
    llm: Any, tokenizer: Any, is_training: bool
) -> None:
    model = MoEE.from_model(llm, tokenizer, calibration="none")
    expected, own = model.encode(TEXTS[:2]), llm(input_ids=TOKENS).logits.detach()
    llm.train(is_training)
    seen: list[Any] = []

    def look() -> None:
        modes = {module.training for module in llm.modules()}
        hooks = sum(len(module._forward_hooks) for module in llm.modules())
        patched = [module for module in llm.modules() if "forward" in vars(module)]
        config = (llm.config._attn_implementation, llm.config._experts_implementation)
        with torch.no_grad():
            seen.append((modes, hooks, patched, config, llm(input_ids=TOKENS).logits))

    thread = threading.Thread(target=look)

    def in_the_midst(*_: Any) -> None:
        if thread.ident is None:  # not in the pass that it starts itself
            thread.start()
            thread.join()

    config = (llm.config._attn_implementation, llm.config._experts_implementation)
    handle = llm.model.layers[1].mlp.register_forward_hook(in_the_midst)
    found = model.encode(TEXTS[:2])
    handle.remove()
    np.testing.assert_array_equal(found, expected)
    ((modes, hooks, patched, during, logits),) = seen
    assert (modes, hooks, patched, during) == ({is_training}, 1, [], config)
    if not is_training:
        torch.testing.assert_close(logits, own, atol=0, rtol=0)


def test_weights_that_change_in_the_midst_of_a_pass_are_named(llm: Any, tokenizer: Any) -> None:
    model = MoEE.from_model(llm, tokenizer, calibration="none")
    expected = model.encode(TEXTS[:2])

    def step(*_: Any) -> None:
        with torch.no_grad():
            llm.model.norm.weight.add_(0)

    handle = llm.model.layers[0].register_forward_hook(step)
    with pytest.raises(InputError, match=r"weights of .*olmoe-tiny.* were written to while texts went through"):
        model.encode(TEXTS[:2])
    handle.remove()
    np.testing.assert_array_equal(model.encode(TEXTS[:2]), expected)


def test_a_model_that_was_encoded_with_can_be_trained_on(llm: Any, tokenizer: Any) -> None:
    MoEE.from_model(llm, tokenizer, calibration="none").encode(TEXTS)
    llm.train()
    llm(input_ids=TOKENS, labels=TOKENS).loss.backward()  # fails where a tensor of inference mode was left in it
    assert llm.model.embed_tokens.weight.grad is not None


def test_threads_that_need_statistics_fit_them_once(
    llm: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MOEE_CACHE", str(tmp_path))
    monkeypatch.setattr("moee.embedder.calibration_texts", lambda: [f"sentence {number}" for number in range(40)])
    model = MoEE.from_model(llm, tokenizer)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: model.encode(TEXTS[0]), range(4)))
    assert all(np.array_equal(each, found[0]) for each in found)
    assert sum("has no calibration statistics" in record.message for record in caplog.records) == 1
