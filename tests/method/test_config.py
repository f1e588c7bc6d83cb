"""The configuration: what it accepts, its file form, and which choices decide the views."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from moee.errors import InputError, UnknownNameError
from moee.method.config import FORMAT_VERSION, RECIPES, EmbedderConfig, recipe_config


def test_the_default_recipe_is_the_default_of_every_setting() -> None:
    assert RECIPES["default"] == EmbedderConfig()


def test_the_paper_recipe_copies_the_original() -> None:
    config = RECIPES["paper"]
    assert (config.cleaning, config.calibration, config.batch_size, config.alpha) == ("paper", "batch", 128, 1.0)
    assert (config.scoring, config.normalize) == ("logits", False)


@pytest.mark.parametrize(
    ("model_type", "scoring"), [("olmoe", "logits"), ("qwen2_moe", "logits"), ("deepseek", "softmax"), (None, "logits")]
)
def test_the_paper_recipe_reads_routers_as_the_original_does_for_each_model(
    model_type: str | None, scoring: str
) -> None:
    assert recipe_config("paper", model_type=model_type).scoring == scoring


def test_unknown_recipe_suggests_close_matches() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'paper'"):
        recipe_config("papr")


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("fusion", "summ", "Unknown fusion 'summ'.*Did you mean 'sum'"),
        ("scoring", "sofmax", "Unknown scoring 'sofmax'.*Did you mean 'softmax'"),
        ("hidden_pooling", "last", "Unknown hidden_pooling 'last'"),
        ("routing_pooling", "men", "Unknown routing_pooling 'men'.*'mean'"),
        ("calibration", "z-score", "Unknown calibration 'z-score'.*'zscore'"),
        ("prompt", "prompteo", "Unknown prompt 'prompteo'"),
        ("query_prompt", "kee", "Unknown prompt 'kee'"),
        ("document_prompt", "{text}{text}", "2 times"),
        ("truncate", "start", "Unknown truncate 'start'"),
        ("on_empty", "skip", "Unknown on_empty 'skip'"),
        ("cleaning", True, "Unknown cleaning True"),
        ("alpha", -0.5, "alpha is -0.5; it must be a number from 0 to"),
        ("alpha", float("nan"), "alpha is nan"),
        ("alpha", "atuo", 'alpha is .atuo.; it must be "slope", "scale" or a number'),
        ("gamma", 1.5, "gamma is 1.5"),
        ("gamma", None, "gamma is None"),
        ("batch_size", 0, "batch_size is 0; it must be a whole number, 1 or larger"),
        ("max_length", 12.5, "max_length is 12.5"),
        ("max_length", -1, "max_length is -1"),
        ("normalize", "yes", "normalize is 'yes'; it must be true or false"),
        ("hidden_layers", "lst", "Unknown hidden_layers 'lst'.*'last'"),
        ("hidden_layers", [], "hidden_layers is \\[\\]"),
        ("routing_layers", [1, 1], "a layer is named twice"),
        ("routing_layers", ["1"], "list of layer numbers"),
    ],
)
def test_a_bad_value_is_refused_and_named(setting: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        EmbedderConfig(**{setting: value})


def test_replace_changes_and_checks() -> None:
    assert EmbedderConfig().replace(fusion="hs", alpha=0).fusion == "hs"
    with pytest.raises(InputError):
        EmbedderConfig().replace(fusion="both")
    with pytest.raises(UnknownNameError, match=r"Unknown setting 'fusoin'.*Did you mean 'fusion'"):
        EmbedderConfig().replace(fusoin="hs")


@pytest.mark.parametrize(
    "config",
    [
        *RECIPES.values(),
        EmbedderConfig(prompt="Über {text}:", hidden_layers=(-2, -1), routing_layers=(0, 3), alpha=0.25, max_length=77),
    ],
)
def test_json_round_trip(config: EmbedderConfig) -> None:
    text = config.to_json()
    assert json.loads(text)["format_version"] == FORMAT_VERSION
    assert EmbedderConfig.from_json(text) == config


def test_json_of_a_newer_version_is_refused() -> None:
    with pytest.raises(InputError, match="format version 99; this program reads versions 1 to 2"):
        EmbedderConfig.from_json('{"format_version": 99}')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "must be a JSON object, not list"),
        ('{"format_version": 1, "fusionn": "hs"}', "Unknown setting 'fusionn'.*'fusion'"),
    ],
)
def test_json_that_is_no_configuration_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        EmbedderConfig.from_json(text)


@pytest.mark.parametrize("number", [np.float32(0.25), np.float64(0.25), 0.25])
def test_numbers_of_numpy_are_numbers(number: Any) -> None:
    config = EmbedderConfig(alpha=number, gamma=number)
    assert config == EmbedderConfig(alpha=0.25, gamma=0.25)
    assert config.statistics_key() == EmbedderConfig(gamma=0.25).statistics_key()
    assert EmbedderConfig.from_json(config.to_json()) == config


def test_the_view_key_resolves_the_prompt() -> None:
    named = EmbedderConfig(prompt="prompteol")
    spelled = EmbedderConfig(prompt='This sentence : "{text}" means in one word:"')
    assert named.view_key() == spelled.view_key()
    json.dumps(named.view_key())


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "ke"},
        {"cleaning": "paper"},
        {"hidden_pooling": "mean"},
        {"hidden_layers": (-2,)},
        {"routing_pooling": "mean"},
        {"routing_layers": (1,)},
        {"scoring": "logits"},
        {"include_attention_routers": True},
    ],
)
def test_what_decides_the_views_changes_the_view_key(change: dict[str, Any]) -> None:
    assert EmbedderConfig(**change).view_key() != EmbedderConfig().view_key()


@pytest.mark.parametrize("change", [{"fusion": "hs"}, {"alpha": 3.0}, {"calibration": "none"}, {"normalize": False}])
def test_what_comes_after_the_views_leaves_the_view_key(change: dict[str, Any]) -> None:
    assert EmbedderConfig(**change).view_key() == EmbedderConfig().view_key()
