"""Settings: from kept views to vectors, without the model.

Every setting but the `paper` recipe gives one vector for a text, whatever it is compared with. The `paper` recipe
standardises over the batches of each encode call, as the original code does, so its vectors are made call by call.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from moee.errors import InputError, check_choice
from moee.evaluate.tasks import Embed
from moee.method.config import RECIPES, EmbedderConfig, recipe_config
from moee.method.fusion import FUSIONS, check_alpha, uses_alpha
from moee.method.prompts import PROMPTS, resolve_prompt
from moee.method.routing import SCORINGS
from moee.method.space import VectorSpace
from moee.types import Array, CalibrationMethod, Fusion, Scoring, Views

CalibrationTexts = Literal["builtin", "corpus", "none"]
RoutingSource = Literal["router", "random-projections", "shuffled", "hidden"]

_SHUFFLE_SEED = 20_241_010


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Everything that is chosen after the views are known, and the prompt.

    Attributes:
        recipe: `default`: one vector for a text, frozen statistics. `paper`: as the original code, defects included.
        fusion: `hs`, `rw`, `concat` or `sum`.
        alpha: Weight of RW in `sum`; `"auto"` is the closed form from the calibration texts; 1 in the `paper` recipe.
        calibration_texts: Where frozen statistics come from: the built-in sentences, or the task's own texts without
            their labels. `none` leaves the views as they are. The `paper` recipe has statistics of its own.
        prompt: Name of a prompt, or a template.
        scoring: How router logits become weights; None is the recipe's.
        routing: `router`, or a control in its place: random projections of what the routers read, the routing weights
            of another text, or the hidden states a second time.
        calibration: Method for the hidden states; None is the recipe's.

    Raises:
        InputError: If a value is unknown, or does not go with the recipe.
    """

    recipe: str = "default"
    fusion: Fusion = "sum"
    alpha: float | Literal["auto"] = "auto"
    calibration_texts: CalibrationTexts = "builtin"
    prompt: str = "prompteol"
    scoring: Scoring | None = None
    routing: RoutingSource = "router"
    calibration: CalibrationMethod | None = None

    def __post_init__(self) -> None:
        """Check every value."""
        check_choice("recipe", self.recipe, RECIPES)
        check_choice("fusion", self.fusion, FUSIONS)
        check_choice("calibration texts", self.calibration_texts, get_args(CalibrationTexts))
        check_choice("routing source", self.routing, get_args(RoutingSource))
        if self.scoring is not None:
            check_choice("scoring", self.scoring, SCORINGS)
        if self.calibration is not None:
            check_choice("calibration", self.calibration, get_args(CalibrationMethod))
        if self.alpha != "auto":
            check_alpha(self.alpha)
        resolve_prompt(self.prompt)

    @property
    def statistics(self) -> str:
        """What the views are standardised with: `builtin`, `corpus`, `none`, or `batch` in the `paper` recipe."""
        return "batch" if self.recipe == "paper" else self.calibration_texts

    def config(self, model_type: str | None = None) -> EmbedderConfig:
        """Return the configuration of an embedder that gives these vectors."""
        config = recipe_config(self.recipe, model_type=model_type).replace(
            prompt=self.prompt, fusion=self.fusion, alpha=1.0 if self._is_paper_auto() else self.alpha
        )
        if self.scoring is not None:
            config = config.replace(scoring=self.scoring)
        if self.recipe == "paper":
            return config  # standardises each call, whatever else is asked for
        if self.calibration is not None:
            config = config.replace(calibration=self.calibration)
        elif self.calibration_texts == "none":
            config = config.replace(calibration="none")
        return config

    def label(self) -> str:
        """Return a short name that no setting with other vectors has."""
        parts = [self.recipe, self.fusion]
        if uses_alpha(self.fusion):
            parts.append(f"alpha={_shown(self.alpha)}")
        if self.recipe != "paper":
            parts.append(self.calibration_texts)
        if self.prompt != "prompteol":
            parts.append(f"prompt={self.prompt if self.prompt in PROMPTS else repr(self.prompt)}")
        if self.scoring is not None:
            parts.append(self.scoring)
        if self.calibration is not None:
            parts.append(f"calibration={self.calibration}")  # `none` alone is a prompt, or texts
        if self.routing != "router":
            parts.append(f"rw={self.routing}")
        return " ".join(parts)

    def _is_paper_auto(self) -> bool:
        return self.recipe == "paper" and self.alpha == "auto"


def _shown(alpha: float | Literal["auto"]) -> str:
    """Return few digits where they say it all, else every digit."""
    if alpha == "auto":
        return alpha
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

    if setting.recipe == "paper":
        return lambda rows: encode(source.take(rows))
    vectors = encode(source)
    return lambda rows: vectors[rows]
