"""How texts become vectors: one frozen value, its named recipes, and its file form.

Nothing here reads a model or computes a vector. A recipe is nothing but a named `EmbedderConfig`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from dataclasses import replace as _replace
from numbers import Real
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

from moee.errors import InputError, UnknownNameError, check_choice
from moee.files.json import parse_json
from moee.method.fusion import DEFAULT_WEIGHTS, VIEWS, check_alpha, check_weights, fusion_views
from moee.method.lexical import check_dim
from moee.method.prompts import resolve_prompt
from moee.method.routing import layer_number
from moee.types import (
    AlphaRule,
    CalibrationMethod,
    CapturePlan,
    Cleaning,
    EmptyText,
    Fusion,
    LayerChoice,
    Pooling,
    PromptTokens,
    RoutingCalibration,
    RoutingLayers,
    Scoring,
    Truncate,
    View,
)

FORMAT_VERSION = 2
"""Version of the JSON form. It rises when a file of this version could be misread by an older program."""

DEFAULT_LEXICAL_DIM = 2048

_CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "cleaning": get_args(Cleaning),
        "hidden_pooling": get_args(Pooling),
        "routing_pooling": get_args(Pooling),
        "scoring": get_args(Scoring),
        "fusion": get_args(Fusion),
        "calibration": get_args(CalibrationMethod),
        "on_empty": get_args(EmptyText),
        "truncate": get_args(Truncate),
        "prompt_tokens": get_args(PromptTokens),
        "routing_calibration": get_args(RoutingCalibration),
    }
)
_NAMED_LAYERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"hidden_layers": ("all", "last"), "routing_layers": ("all", "last", "last_third")}
)
_BEFORE_VERSION_2: Mapping[str, Any] = MappingProxyType(
    {
        "fusion": "sum",
        "alpha": "slope",
        "calibration": "spectral",
        "prompt_tokens": "filled",
        "routing_layers": "all",
        "routing_calibration": "scale",
    }
)
"""What a file of version 1 means where it says nothing: the defaults of the program that wrote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderConfig:
    """Every choice between a text and its vector, model apart. The defaults are the `default` recipe.

    Attributes:
        recipe: The named configuration that this one started from; a label, it decides nothing.
        prompt: Name of a prompt, or a template with one `{text}`.
        query_prompt: The same for `encode_query`; None means `prompt`.
        document_prompt: The same for `encode_document`; None means `prompt`.
        cleaning: What is done to a text before it is put into the prompt; see `moee.method.prompts.render`.
        hidden_pooling: Pooling of the hidden states over tokens.
        hidden_layers: Layers whose hidden states are averaged; `"last"` is after the final norm.
        routing_pooling: Pooling of the routing weights over tokens.
        routing_layers: MoE layers that are used, by decoder layer.
        include_attention_routers: Also use routers inside attention, in models that have them.
        scoring: How router logits become routing weights.
        fusion: `"weighted"` combines named views by `weights`; `"hs"`, `"rw"`, `"concat"` and `"sum"` are those of
            arXiv 2410.10814, of HS and RW alone.
        weights: What the cosine of every view counts in `fusion="weighted"`; a view that is not named counts 0.
        alpha: Weight of the routing weights in `fusion="sum"`: a number, or a rule that chooses it from the frozen
            statistics (`"slope"` or `"scale"`, see `moee.method.calibration`; without statistics it is 1.0, the
            constant of the original code).
        calibration: `"zscore"` and `"spectral"` use frozen statistics; `"batch"` standardises over the batch at hand
            as the original code does, so that a text's vector depends on its neighbours; `"none"` does nothing.
        gamma: Strength of `"spectral"`: 0 is `"zscore"`, 1 whitens the leading directions.
        routing_calibration: `"whiten"` centres and whitens the routing weights within each layer, and lets all layers
            count alike; `"scale"` gives all experts one scale.
        prompt_tokens: `"apart"` turns template and text into tokens apart, so that the template's are the same for
            every text; `"filled"` tokenises the filled template, where the text's end may merge with it.
        tokens_layer: Decoder layer whose output the view `tokens` averages over a text's own tokens; `"middle"` is the
            one in the middle, negative numbers count from the end.
        lexical_dim: Width of the lexical block, into which words are hashed.
        batch_size: Texts in a batch under `calibration="batch"`; nothing else depends on it.
        on_empty: What to do with a text that is empty or only whitespace.
        truncate: What to do with a text over the limit. `"warn"` cuts it and says so; `"end"` cuts it.
        max_length: The limit, in tokens of the whole prompt; None is the model's own.
        normalize: Scale every vector to unit length.

    Raises:
        InputError: If a value cannot be used.
        UnknownNameError: If a value is not one of a closed set; suggests close matches.
    """

    recipe: str = "default"
    prompt: str = "prompteol"
    query_prompt: str | None = None
    document_prompt: str | None = None
    cleaning: Cleaning = "none"
    hidden_pooling: Pooling = "last_token"
    hidden_layers: LayerChoice = "last"
    routing_pooling: Pooling = "last_token"
    routing_layers: RoutingLayers = "last_third"
    include_attention_routers: bool = False
    scoring: Scoring = "softmax"
    fusion: Fusion = "weighted"
    weights: Mapping[View, float] = field(default_factory=lambda: dict(DEFAULT_WEIGHTS), hash=False)
    alpha: float | AlphaRule = DEFAULT_WEIGHTS["rw"]
    calibration: CalibrationMethod = "zscore"
    gamma: float = 1.0
    routing_calibration: RoutingCalibration = "whiten"
    prompt_tokens: PromptTokens = "apart"
    tokens_layer: int | Literal["middle"] = "middle"
    lexical_dim: int = DEFAULT_LEXICAL_DIM
    batch_size: int = 128
    on_empty: EmptyText = "error"
    truncate: Truncate = "warn"
    max_length: int | None = None
    normalize: bool = True

    def __post_init__(self) -> None:
        """Check every value."""
        for name, allowed in _CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        for prompt in (self.prompt, self.query_prompt, self.document_prompt):
            if prompt is not None:
                resolve_prompt(prompt)
        for name in ("include_attention_routers", "normalize"):
            _check_bool(name, getattr(self, name))
        for name in ("hidden_layers", "routing_layers"):
            # JSON has no tuples; a list that came from a file must compare equal to what was saved.
            object.__setattr__(self, name, _checked_layers(name, getattr(self, name), _NAMED_LAYERS[name]))
        # numbers of numpy become plain ones: both are written as JSON, and gamma is part of a key
        object.__setattr__(self, "weights", check_weights(self.weights))
        object.__setattr__(self, "alpha", _checked_alpha(self.alpha))
        object.__setattr__(self, "gamma", _number("gamma", self.gamma, "a number"))
        if not 0 <= self.gamma <= 1:
            raise InputError(
                f"gamma is {self.gamma!r}; it must lie between 0 (as zscore) and 1 (whiten the leading directions)."
            )
        _check_count("batch_size", self.batch_size)
        _check_count("lexical_dim", self.lexical_dim)
        check_dim(self.lexical_dim)
        _check_tokens_layer(self.tokens_layer)
        if self.prompt_tokens == "filled" and "tokens" in self.views:
            raise InputError(
                "The view 'tokens' needs prompt_tokens='apart': in a filled template a text's own tokens cannot be "
                "told from the template's. Or leave it out of weights."
            )
        if self.max_length is not None:
            _check_count("max_length", self.max_length)

    def replace(self, **changes: Any) -> EmbedderConfig:
        """Return a copy with some values changed.

        Weights alone also choose `fusion="weighted"`, and alpha alone leaves it for `"sum"`: neither would count
        otherwise.

        Args:
            **changes: Any of the attributes. Typed `Any` because each attribute has a type of its own; every value is
                checked.

        Raises:
            UnknownNameError: If a name is not an attribute.
            InputError: If a value cannot be used.
        """
        _check_keys(changes)
        if "fusion" not in changes:
            if "weights" in changes:
                changes["fusion"] = "weighted"
            elif "alpha" in changes and self.fusion == "weighted":
                changes["fusion"] = "sum"
        return _replace(self, **changes)

    @property
    def views(self) -> tuple[View, ...]:
        """The views that a text's vector is made of, in their order there."""
        return fusion_views(self.fusion, self.weights)

    @property
    def captured(self) -> tuple[View, ...]:
        """The views that are computed: HS and RW come from every pass, the others are added where they count."""
        return tuple(view for view in VIEWS if view in ("hs", "rw") or view in self.views)

    def check_alone(self, done: str) -> None:
        """Refuse a configuration under which a text has no vector of its own.

        Args:
            done: What cannot be done with it, for the message.

        Raises:
            InputError: If texts are standardised over their batch.
        """
        if self.calibration == "batch":
            raise InputError(
                "calibration='batch' (of the recipe 'paper') makes a text's vector depend on the texts beside it, so "
                f"that it cannot be {done}. Use calibration='spectral', 'zscore' or 'none'."
            )

    def prompts(self) -> list[str]:
        """Return the configured prompts, the main one first, each once."""
        prompts = (self.prompt, self.query_prompt, self.document_prompt)
        return list(dict.fromkeys(prompt for prompt in prompts if prompt is not None))

    def search_prompts(self) -> tuple[str, str]:
        """Return the prompts of a query and of documents: the main one where there is none of their own."""
        return self.query_prompt or self.prompt, self.document_prompt or self.prompt

    def capture_plan(
        self, *, projections: bool = False, tokens_layer: int | None = None, text_span: tuple[int, int] = (0, 0)
    ) -> CapturePlan:
        """Return which rows of a forward pass the views are made of.

        Args:
            projections: Also capture the control for the routing weights.
            tokens_layer: Decoder layer of the view `tokens`, from `middle_layer`; None leaves it out.
            text_span: How many tokens the template has before and after every text.
        """
        return CapturePlan(
            hidden_pooling=self.hidden_pooling,
            hidden_layers=self.hidden_layers,
            routing_pooling=self.routing_pooling,
            routing_layers=self.routing_layers,
            scoring=self.scoring,
            projections=projections,
            tokens_layer=tokens_layer,
            text_span=text_span,
        )

    def middle_layer(self, num_layers: int) -> int:
        """Return the decoder layer, from 0, whose output the view `tokens` averages.

        Raises:
            InputError: If the model has no such layer.
        """
        if self.tokens_layer == "middle":
            return num_layers // 2
        return layer_number(self.tokens_layer, num_layers)

    def view_key(self) -> dict[str, Any]:
        """Return the choices that decide the views, and so which calibration statistics fit.

        Returns:
            A JSON-ready mapping, with the text of `prompt` in place of its name.
        """
        return {
            "prompt": resolve_prompt(self.prompt),
            "cleaning": self.cleaning,
            "hidden_pooling": self.hidden_pooling,
            "hidden_layers": _json_layers(self.hidden_layers),
            "routing_pooling": self.routing_pooling,
            "routing_layers": _json_layers(self.routing_layers),
            "include_attention_routers": self.include_attention_routers,
            "scoring": self.scoring,
            # named only where they differ from what version 1 did, so that its statistics stay valid
            **({"routing_calibration": self.routing_calibration} if self.routing_calibration != "scale" else {}),
            **(
                {"prompt_tokens": self.prompt_tokens, "tokens_layer": self.tokens_layer}
                if self.prompt_tokens != "filled"
                else {}
            ),
        }

    def statistics_key(self) -> str:
        """Return what frozen statistics depend on, as a key: two configurations that share it share statistics."""
        return repr((sorted(self.view_key().items()), self.gamma))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready mapping, with `format_version`."""
        values = asdict(self) | {"weights": dict(self.weights)}
        for name in ("hidden_layers", "routing_layers"):
            values[name] = _json_layers(values[name])
        return {"format_version": FORMAT_VERSION, **values}

    def to_json(self) -> str:
        """Return the JSON form, readable by `from_json`."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EmbedderConfig:
        """Build a configuration from what `to_dict` returned.

        Raises:
            InputError: If the version is newer than this program, or a value cannot be used.
            UnknownNameError: If a key is unknown; suggests close matches.
        """
        version = values.get("format_version", FORMAT_VERSION)
        if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= FORMAT_VERSION:
            raise InputError(
                f"The configuration has format version {version!r}; this program reads versions 1 to {FORMAT_VERSION}. "
                "Update moee, or save the embedder again with this version."
            )
        settings = {key: value for key, value in values.items() if key != "format_version"}
        _check_keys(settings)
        return cls(**({**_BEFORE_VERSION_2, **settings} if version == 1 else settings))

    @classmethod
    def from_json(cls, text: str) -> EmbedderConfig:
        """Build a configuration from its JSON form.

        Raises:
            InputError: If the text is not a JSON object, or as `from_dict`.
        """
        values = parse_json(text, "The configuration")
        if not isinstance(values, dict):
            raise InputError(f"The configuration must be a JSON object, not {type(values).__name__}.")
        return cls.from_dict(values)


def _number(name: str, value: object, allowed: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise InputError(f"{name} is {value!r}; it must be {allowed}, and finite.")
    return float(value)


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is {value!r}; it must be a whole number, 1 or larger.")


def _check_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InputError(f"{name} is {value!r}; it must be true or false.")


def _checked_alpha(value: object) -> float | AlphaRule:
    for rule in get_args(AlphaRule):
        if value == rule:
            return cast("AlphaRule", rule)
    if value == "auto":  # the name that "slope" had in version 1
        return "slope"
    return check_alpha(_number("alpha", value, '"slope", "scale" or a number'))


def _check_tokens_layer(value: object) -> None:
    if value != "middle" and (isinstance(value, bool) or not isinstance(value, int)):
        raise InputError(f'tokens_layer is {value!r}; it must be "middle" or the number of a layer, for example 8.')


def _checked_layers(name: str, value: object, named: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        if value not in named:
            raise UnknownNameError(name, value, named, hint="Or give a list of layer numbers.")
        return value
    numbers = tuple(value) if isinstance(value, (list, tuple)) else ()
    if not numbers or not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        allowed = ", ".join(f'"{each}"' for each in named)
        raise InputError(f"{name} is {value!r}; it must be {allowed}, or a list of layer numbers such as [-2, -1].")
    if len(set(numbers)) != len(numbers):
        raise InputError(f"{name} is {value!r}; a layer is named twice.")
    return numbers


def _json_layers(value: RoutingLayers) -> str | list[int]:
    return value if isinstance(value, str) else list(value)


def _check_keys(values: Mapping[str, Any]) -> None:
    names = [field.name for field in fields(EmbedderConfig)]
    for key in values:
        if key not in names:
            raise UnknownNameError("setting", key, names)


RECIPES: Mapping[str, EmbedderConfig] = MappingProxyType(
    {
        "default": EmbedderConfig(),
        # the default of version 0.1: MoEE(sum) of all routers under one scale, alpha by its slope
        "0.1": EmbedderConfig(recipe="0.1", **_BEFORE_VERSION_2),
        # What the public code of arXiv 2410.10814 does, defects included (docs: footguns). Its hidden states alone are
        # not standardised, its other methods are, over batches of 128; its vectors are not scaled to unit length.
        "paper": EmbedderConfig(
            recipe="paper",
            cleaning="paper",
            scoring="logits",
            fusion="sum",
            alpha=1.0,
            calibration="batch",
            routing_layers="all",
            routing_calibration="scale",
            prompt_tokens="filled",
            batch_size=128,
            on_empty="encode",
            truncate="error",
            normalize=False,
        ),
    }
)
"""Named configurations. `recipe_config` looks them up."""


def recipe_config(name: str, *, model_type: str | None = None) -> EmbedderConfig:
    """Return a recipe.

    Args:
        name: A key of `RECIPES`.
        model_type: `model_type` of the model, if known. The original code reads raw router logits from OLMoE and
            Qwen2-MoE but softmax weights from DeepSeekMoE, so `paper` depends on it.

    Raises:
        UnknownNameError: If there is no such recipe; suggests close matches.
    """
    check_choice("recipe", name, RECIPES)
    config = RECIPES[name]
    if name == "paper" and model_type is not None and model_type.startswith("deepseek"):
        return config.replace(scoring="softmax")
    return config
