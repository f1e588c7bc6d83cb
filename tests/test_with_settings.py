"""`MoEE.with_settings`: a second embedder over the model in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moee import MoEE
from moee.errors import CalibrationError, InputError, UnknownNameError

GOLDEN = Path(__file__).parent / "golden" / "olmoe-tiny"
TEXTS = [f"sentence {number} about {'cats' if number % 3 else 'rates'}" for number in range(30)]


@pytest.fixture
def fake() -> MoEE:
    model = MoEE.from_pretrained("fake")
    model.calibrate(TEXTS)
    return model


@pytest.mark.parametrize(
    "changes",
    [
        {"fusion": "hs"},
        {"alpha": 0.3},
        {"calibration": "none"},
        {"calibration": "zscore"},
        {"normalize": False, "calibration": "none", "fusion": "concat"},
        {"max_length": 9, "truncate": "end", "calibration": "none"},
        {"calibration": "batch", "scoring": "logits", "cleaning": "paper"},
    ],
)
def test_its_vectors_are_those_of_a_model_loaded_with_the_settings(fake: MoEE, changes: dict[str, Any]) -> None:
    other = fake.with_settings(**changes)
    assert other.config == fake.config.replace(**changes)
    loaded = MoEE.from_pretrained("fake", **changes)
    if loaded.config.calibration in ("zscore", "spectral"):
        loaded.calibrate(TEXTS)
    assert np.array_equal(other.encode(TEXTS), loaded.encode(TEXTS))


def test_the_first_embedder_stays_as_it_was(fake: MoEE) -> None:
    before, config = fake.encode(TEXTS), fake.config
    other = fake.with_settings(fusion="rw", alpha=2.0, scoring="topk", calibration="none", prompt="ke")
    assert other.encode(TEXTS).shape == (30, other.dims["rw"])
    assert fake.config == config
    assert np.array_equal(fake.encode(TEXTS), before)


def test_the_model_is_shared_and_not_loaded_again() -> None:
    model = MoEE.from_pretrained(GOLDEN, dtype="float32", calibration="none", batch_tokens=64)
    other = model.with_settings(scoring="logits", fusion="rw")
    assert other.info is model.info
    wanted = MoEE.from_pretrained(GOLDEN, dtype="float32", calibration="none", scoring="logits", fusion="rw")
    assert np.abs(other.encode(TEXTS) - wanted.encode(TEXTS)).max() < 1e-5


def test_statistics_serve_wherever_the_views_are_the_same(fake: MoEE) -> None:
    own = fake.calibration
    assert own is not None
    for changes in ({"fusion": "hs"}, {"alpha": 0.1}, {"calibration": "zscore"}, {"max_length": 50}):
        assert fake.with_settings(**changes).calibration is own
    for changes in ({"prompt": "ke"}, {"scoring": "topk"}, {"routing_layers": "last"}, {"gamma": 0.5}):
        assert fake.with_settings(**changes).calibration is None


@pytest.mark.parametrize("changes", [{}, {"fusion": "hs"}, {"alpha": 0.1}, {"prompt": "ke"}])
def test_statistics_that_the_second_fits_leave_the_first_alone(fake: MoEE, changes: dict[str, Any]) -> None:
    before, own = fake.encode(TEXTS[:3]), fake.calibration
    other = fake.with_settings(**changes)
    fitted = other.calibrate(TEXTS[:20])
    assert other.calibration is fitted
    assert fake.calibration is own
    assert np.array_equal(fake.encode(TEXTS[:3]), before)
    fake.calibrate(TEXTS[5:25])
    assert other.calibration is fitted


def test_a_chain_of_changes_is_one_change(fake: MoEE) -> None:
    chain = fake.with_settings(fusion="hs").with_settings(calibration="none").with_settings(fusion="sum", alpha=0.5)
    assert chain.config == fake.with_settings(calibration="none", fusion="sum", alpha=0.5).config


def test_no_change_is_the_same_embedder_in_all_but_name(fake: MoEE) -> None:
    same = fake.with_settings()
    assert same is not fake
    assert same.config == fake.config
    assert np.array_equal(same.encode(TEXTS), fake.encode(TEXTS))


def test_what_cannot_be_changed_or_is_unknown_is_refused(fake: MoEE) -> None:
    with pytest.raises(InputError, match="include_attention_routers is chosen when a model is loaded"):
        fake.with_settings(include_attention_routers=True)
    with pytest.raises(UnknownNameError, match=r"Unknown setting 'fusoin'.*Did you mean 'fusion'"):
        fake.with_settings(fusoin="hs")
    with pytest.raises(UnknownNameError, match=r"Unknown fusion 'som'"):
        fake.with_settings(fusion="som")
    with pytest.raises(InputError, match="alpha is -1"):
        fake.with_settings(alpha=-1.0)
    assert fake.with_settings(include_attention_routers=False).config == fake.config


def test_a_saved_second_embedder_holds_its_own_settings_and_statistics(fake: MoEE, tmp_path: Path) -> None:
    other = fake.with_settings(weights={"hs": 1, "rw": 0.7, "tokens": 1, "lexical": 1})
    other.save(tmp_path / "saved")
    loaded = MoEE.from_pretrained(tmp_path / "saved")
    assert loaded.config == other.config
    assert loaded.calibration is not None
    assert loaded.calibration.num_texts == len(TEXTS)
    assert np.abs(loaded.encode(TEXTS) - other.encode(TEXTS)).max() < 1e-6
    assert np.abs(loaded.encode(TEXTS) - fake.encode(TEXTS)).max() > 1e-3


def test_statistics_of_its_own_are_shared_with_nobody(fake: MoEE) -> None:
    before = fake.encode(TEXTS[:3])
    other = MoEE.from_pretrained("fake")
    other.calibrate([f"other {number}" for number in range(40)])
    apart = fake.with_statistics(fake.config, [other.calibration])
    assert np.array_equal(apart.encode(TEXTS[:3]), other.encode(TEXTS[:3]))
    apart.calibrate([f"and more {number}" for number in range(50)])
    assert np.array_equal(fake.encode(TEXTS[:3]), before)
    assert fake.with_statistics(fake.config, ()).calibration is None


def test_statistics_of_another_prompt_are_refused(fake: MoEE) -> None:
    with pytest.raises(CalibrationError, match="fitted with prompt = "):
        fake.with_statistics(fake.config.replace(prompt="ke"), [fake.calibration])
