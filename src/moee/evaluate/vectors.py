"""Settings: from kept views to vectors, without the model.

Every setting but the `paper` recipe gives one vector for a text, whatever it is compared with. The `paper` recipe
standardises over the batches of each encode call, as the original code does, so its vectors are made call by call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from moee.errors import InputError, check_choice
from moee.evaluate.tasks import Embed
from moee.method.config import RECIPES, EmbedderConfig, recipe_config
from moee.method.fusion import FUSIONS, check_alpha, check_weights, uses_alpha
from moee.method.prompts import PROMPTS, resolve_prompt
from moee.method.routing import SCORINGS
from moee.method.space import VectorSpace
from moee.types import AlphaRule, Array, CalibrationMethod, Fusion, Scoring, View, Views

CalibrationTexts = Literal["builtin", "corpus", "none"]
RoutingSource = Literal["router", "random-projections", "shuffled", "hidden"]

OWN = "own"
"""Recipe of a setting that starts from an embedder's own configuration."""
_SHUFFLE_SEED = 20_241_010


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Everything that is chosen after the views are known, and the prompt.

    What is not given is the recipe's; once made, a setting says all of it.

    Attributes:
        recipe: `default`: one vector for a text, frozen statistics. `paper`: as the original code, defects included.
            `own` where `own` is given.
        own: Start from this configuration instead of a recipe: that of a saved embedder.
        fusion: `weighted`, `hs`, `rw`, `concat` or `sum`.
        weights: What the cosine of each view counts in `weighted`, which they choose by themselves; None elsewhere.
        alpha: Weight of RW in `sum`: a number, or a rule that takes it from the calibration texts, `"slope"` or
            `"scale"`; the `paper` recipe has no such texts, and 1 in their place.
        calibration_texts: Where frozen statistics and document frequencies come from: the built-in sentences, or the
            task's own texts without their labels. `none` leaves the views as they are. The `paper` recipe has
            statistics of its own.
        prompt: Name of a prompt, or a template.
        scoring: How router logits become weights; None is the recipe's.
        routing: `router`, or a control in its place: random projections of what the routers read, the routing weights
            of another text, or the hidden states a second time.
        calibration: Method for the hidden states; None is the recipe's.

    Raises:
        InputError: If a value is unknown, or does not go with the recipe.
    """

    recipe: str = "default"
    own: EmbedderConfig | None = None
    fusion: Fusion | None = None
    weights: Mapping[View, float] | None = None
    alpha: float | AlphaRule | None = None
    calibration_texts: CalibrationTexts = "builtin"
    prompt: str | None = None
    scoring: Scoring | None = None
    routing: RoutingSource = "router"
    calibration: CalibrationMethod | None = None

    def __post_init__(self) -> None:
        """Check every value, and take from the recipe what was not given."""
        if self.own is None:
            check_choice("recipe", self.recipe, RECIPES)
        else:
            object.__setattr__(self, "recipe", OWN)
        check_choice("calibration texts", self.calibration_texts, get_args(CalibrationTexts))
        check_choice("routing source", self.routing, get_args(RoutingSource))
        if self.scoring is not None:
            check_choice("scoring", self.scoring, SCORINGS)
        if self.calibration is not None:
            check_choice("calibration", self.calibration, get_args(CalibrationMethod))
        base = self._base()
        object.__setattr__(self, "prompt", base.prompt if self.prompt is None else self.prompt)
        resolve_prompt(self.prompt or "")
        self._settle_fusion(base)
        self._settle_alpha(base)

    def _settle_fusion(self, base: EmbedderConfig) -> None:
        fusion = self.fusion or ("weighted" if self.weights is not None else base.fusion)
        check_choice("fusion", fusion, FUSIONS)
        if self.weights is not None and fusion != "weighted":
            raise InputError(
                f"A setting has weights {dict(self.weights)} and fusion={fusion!r}, which has none of its own. "
                "Leave one of them out."
            )
        weights = base.weights if self.weights is None else self.weights
        object.__setattr__(self, "fusion", fusion)
        object.__setattr__(self, "weights", check_weights(weights) if fusion == "weighted" else None)

    def _settle_alpha(self, base: EmbedderConfig) -> None:
        # the configuration knows the rules, and their former name
        alpha = base.replace(alpha=base.alpha if self.alpha is None else self.alpha).alpha
        if not isinstance(alpha, str):
            alpha = check_alpha(alpha)
        elif base.calibration == "batch":
            alpha = 1.0  # there are no frozen statistics that a rule could read it from
        object.__setattr__(self, "alpha", alpha)

    def _base(self, model_type: str | None = None) -> EmbedderConfig:
        return recipe_config(self.recipe, model_type=model_type) if self.own is None else self.own

    @property
    def is_by_batch(self) -> bool:
        """Whether views are standardised over the batch at hand, as in the `paper` recipe."""
        return self._base().calibration == "batch"

    @property
    def statistics(self) -> str:
        """What the views are standardised with: `builtin`, `corpus`, `none`, or `batch` in the `paper` recipe."""
        return "batch" if self.is_by_batch else self.calibration_texts

    def config(self, model_type: str | None = None) -> EmbedderConfig:
        """Return the configuration of an embedder that gives these vectors."""
        config = self._base(model_type).replace(prompt=self.prompt, fusion=self.fusion, alpha=self.alpha)
        if self.weights is not None:
            config = config.replace(weights=self.weights)
        if self.scoring is not None:
            config = config.replace(scoring=self.scoring)
        if self.is_by_batch:
            return config  # standardises each call, whatever else is asked for
        if self.calibration is not None:
            config = config.replace(calibration=self.calibration)
        elif self.calibration_texts == "none":
            config = config.replace(calibration="none")
        return config

    def label(self) -> str:
        """Return a short name that no setting with other vectors has, as long as there is one `own` configuration."""
        parts = [self.recipe, self.vector]
        if uses_alpha(self.fusion or ""):
            parts.append(f"alpha={_shown(self.alpha)}")
        if not self.is_by_batch:
            parts.append(self.calibration_texts)
        if self.prompt != self._base().prompt:
            parts.append(f"prompt={self.prompt if self.prompt in PROMPTS else repr(self.prompt)}")
        if self.scoring is not None:
            parts.append(self.scoring)
        if self.calibration is not None:
            parts.append(f"calibration={self.calibration}")  # `none` alone is a prompt, or texts
        if self.routing != "router":
            parts.append(f"rw={self.routing}")
        return " ".join(parts)

    @property
    def vector(self) -> str:
        """What the vector is made of: the fusion's name, or the named weights, such as `hs=1 rw=0.2`."""
        if self.weights is None:
            return self.fusion or ""
        return " ".join(f"{view}={_shown(weight)}" for view, weight in self.weights.items() if weight)


def own_recipe(config: EmbedderConfig, model_type: str | None = None) -> str:
    """Return the recipe that an embedder follows: a named one, or `own` where its vectors are others.

    Args:
        config: The embedder's configuration; what it does with long and empty texts is left to the study.
        model_type: `model_type` of its model.
    """
    named = recipe_config(config.recipe, model_type=model_type) if config.recipe in RECIPES else None
    limits = {name: getattr(config, name) for name in ("max_length", "truncate", "on_empty")}
    return config.recipe if named is not None and named.replace(**limits) == config else OWN


def _shown(alpha: float | AlphaRule | None) -> str:
    """Return few digits where they say it all, else every digit."""
    if alpha is None or isinstance(alpha, str):
        return alpha or ""
    short = format(alpha, "g")
    return short if float(short) == alpha else repr(float(alpha))


def with_source(views: Views, setting: Setting) -> Views:
    """Return the views with the routing weights that the setting asks for.

    Raises:
        InputError: If it asks for random projections and the views have none.
    """
    if setting.routing != "random-projections":
        return views
    if views.projections is None:
        raise InputError(
            "These views hold no random projections of the routers' inputs. They exist for last-token pooling."
        )
    return replace(views, routing_weights=views.projections)


def embed_under(views: Views, setting: Setting, space: VectorSpace) -> Embed:
    """Return the encode call of a setting.

    Under a frozen recipe it looks up vectors that are made once. The `paper` recipe goes the original's way: each call
    is standardised by itself, and hidden states alone are not at all.

    Args:
        views: Views of the task's texts.
        setting: Where routing weights come from.
        space: The configuration behind the setting, and its statistics, fitted with the same source of routing.
    """
    source = with_source(views, setting)
    rng = np.random.default_rng(_SHUFFLE_SEED)

    def encode(views: Views) -> Array:
        blocks = space.blocks(views)
        if setting.routing == "shuffled":
            blocks["rw"] = blocks["rw"][rng.permutation(len(views))]
        if setting.routing == "hidden":
            blocks["rw"] = blocks["hs"]
        return space.fuse(blocks)

    if setting.is_by_batch:
        return lambda rows: encode(source.take(rows))
    vectors = encode(source)
    return lambda rows: vectors[rows]
