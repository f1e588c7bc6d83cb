"""Choose alpha for an embedder and texts of one's own, in every way of `ways`, and say what each choice would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np

from moee.embedder import MoEE
from moee.errors import InputError
from moee.evaluate.alpha import ways
from moee.evaluate.alpha.ways import PairCosines
from moee.evaluate.bootstrap import Interval
from moee.evaluate.tasks import Numbers
from moee.method.calibration import FROZEN_METHODS, Calibration
from moee.method.moments import spearman
from moee.method.space import VectorSpace
from moee.types import Views

Method = Literal["closed-form", "scale", "gradient", "gradient-spearman", "agreement", "labels"]
METHODS: tuple[Method, ...] = get_args(Method)

SAMPLE = 512
"""Texts used at most: they make 130,000 pairs, far more than one number needs."""
MIN_TEXTS = 8
COMPARE_PROMPT = "cot"
"""Second prompt of `agreement` unless others are named: as short as the default one, and as general."""


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """Pairs of texts that people scored; higher means more alike."""

    left: Sequence[str]
    right: Sequence[str]
    scores: Numbers


@dataclass(frozen=True, slots=True)
class AlphaChoice:
    """One way's alpha, and what it would do.

    Attributes:
        method: The way.
        alpha: Its choice.
        share: Share of RW in the spread of the fused similarity: alpha sd(cos_RW) / (sd(cos_HS) + alpha sd(cos_RW)).
        with_hidden: Spearman correlation of the fused similarity with cos_HS, over pairs of the texts.
        with_routing: The same with cos_RW.
        detail: What the way itself reports, by name.
        over_hidden: `labels` alone: its gain over HS alone on the scored pairs, with the interval.
    """

    method: Method
    alpha: float
    share: float
    with_hidden: float
    with_routing: float
    detail: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    over_hidden: Interval | None = None


@dataclass(frozen=True, slots=True)
class Tuning:
    """The choices of every way, in the order of `METHODS`.

    Attributes:
        choices: One for each way that had what it needs.
        num_texts: Texts used.
        configured: The alpha that the embedder has, a number also where it says `"auto"`.
    """

    choices: tuple[AlphaChoice, ...]
    num_texts: int
    configured: float

    def choice(self, method: str) -> AlphaChoice:
        """Return the choice of one way.

        Raises:
            InputError: If it was not computed; says what it needs.
        """
        for each in self.choices:
            if each.method == method:
                return each
        raise InputError(
            f"The method {method!r} gave no alpha here; there are {[each.method for each in self.choices]}. "
            "'labels' needs scored pairs, 'agreement' a second prompt."
        )


def tune_alpha(
    embedder: MoEE,
    texts: Sequence[str],
    *,
    compare_prompts: Sequence[str] = (COMPARE_PROMPT,),
    pairs: ScoredPairs | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
    show_progress_bar: bool = False,
) -> Tuning:
    """Choose alpha in every way.

    The embedder's statistics are used as they are: calibrate first. Nothing is changed; put a choice to use with
    `embedder.with_settings(alpha=...)`.

    Args:
        embedder: Its fusion must be `sum`, its calibration not the `paper` recipe's.
        texts: Texts of the kind that will be embedded, without labels; eight different ones at least.
        compare_prompts: For `agreement`, names or templates; the embedder's own prompt is always the first. Each costs
            one more pass over the texts. For another prompt the views are calibrated on the sampled texts.
        pairs: Scored pairs, for `labels`.
        sample: Use at most this many texts.
        seed: Seed of that sample, and of the other random choices.
        show_progress_bar: Show progress on stderr.

    Raises:
        InputError: If there are too few texts, or alpha is not used by this embedder.
    """
    _check(embedder)
    chosen = _sample(texts, sample, seed)
    views = embedder.encode_views(chosen, show_progress_bar=show_progress_bar)
    cosines = ways.all_pairs(*embedder.space().units(views).values())
    by_values, by_ranks = ways.by_gradient(cosines), ways.by_smooth_ranks(cosines, seed=seed)
    choices = [
        _choice("closed-form", ways.closed_form(cosines), cosines, {"correlation": ways.moments(cosines)[2]}),
        _choice("scale", ways.scale(cosines), cosines),
        _choice("gradient", by_values.alpha, cosines, {"objective": by_values.value, "steps": by_values.steps}),
        _choice("gradient-spearman", by_ranks.alpha, cosines, {"objective": by_ranks.value, "steps": by_ranks.steps}),
    ]
    others = [prompt for prompt in dict.fromkeys(compare_prompts) if prompt != embedder.config.prompt]
    if others:
        by_prompt = [_self_calibrated(embedder, views, embedder.config.prompt)]
        for prompt in others:
            again = embedder.encode_views(chosen, prompt=prompt, show_progress_bar=show_progress_bar)
            by_prompt.append(_self_calibrated(embedder, again, prompt))
        found = ways.by_agreement(by_prompt)
        # found in units of the self-calibrated views; what carries over is the multiple of their scale
        alpha = found.alpha / ways.scale(by_prompt[0]) * ways.scale(cosines)
        detail = {"agreement": found.by_alpha[found.alpha], "agreement_of_hs": found.by_alpha[0.0]}
        choices.append(_choice("agreement", alpha, cosines, detail))
    if pairs is not None:
        choices.append(_by_labels(embedder, pairs, cosines, seed))
    return Tuning(tuple(choices), len(chosen), embedder.alpha)


def _check(embedder: MoEE) -> None:
    config = embedder.config
    if config.fusion != "sum":
        raise InputError(
            f"alpha weighs RW in fusion='sum'; this embedder has fusion={config.fusion!r}, which uses none. "
            "Load it with fusion='sum'."
        )
    config.check_alone("tuned for: give alpha yourself")


def _sample(texts: Sequence[str], sample: int, seed: int) -> list[str]:
    different = list(dict.fromkeys(texts))  # repeats have cosine 1 and tell nothing
    if len(different) < MIN_TEXTS or sample < MIN_TEXTS:
        raise InputError(
            f"Choosing alpha needs {MIN_TEXTS} different texts or more; got {len(different)}, of which at most "
            f"{sample} may be used. Some hundreds are better."
        )
    places = np.random.default_rng(seed).permutation(len(different))[:sample]
    return [different[place] for place in sorted(places)]


def _self_calibrated(embedder: MoEE, views: Views, prompt: str) -> PairCosines:
    """Return the cosines with statistics of these very texts: other prompts need not have any of their own."""
    config = embedder.config.replace(prompt=prompt)
    is_frozen = config.calibration in FROZEN_METHODS
    statistics = Calibration.fit(views, info=embedder.info, config=config, texts="tuning") if is_frozen else None
    return ways.all_pairs(*VectorSpace(config, statistics).units(views).values())


def _by_labels(embedder: MoEE, pairs: ScoredPairs, cosines: PairCosines, seed: int) -> AlphaChoice:
    places: dict[str, int] = {}
    left, right = ([places.setdefault(text, len(places)) for text in side] for side in (pairs.left, pairs.right))
    blocks = embedder.space().units(embedder.encode_views(list(places))).values()
    of_pairs = PairCosines(*(np.einsum("nd,nd->n", units[left].astype(np.float64), units[right]) for units in blocks))
    found = ways.best_by_labels(of_pairs, pairs.scores, scale_alpha=ways.scale(cosines), seed=seed)
    detail = {"spearman": found.by_alpha[found.alpha], "spearman_of_hs": found.by_alpha[0.0]}
    return _choice("labels", found.alpha, cosines, detail, found.over_hidden)


def _choice(
    method: Method,
    alpha: float,
    cosines: PairCosines,
    detail: Mapping[str, float] | None = None,
    over_hidden: Interval | None = None,
) -> AlphaChoice:
    sd_hidden, sd_routing, _ = ways.moments(cosines)
    fused = cosines.fused(alpha)
    return AlphaChoice(
        method,
        alpha,
        share=alpha * sd_routing / (sd_hidden + alpha * sd_routing),
        with_hidden=spearman(fused, cosines.hidden),
        with_routing=spearman(fused, cosines.routing),
        detail=MappingProxyType(dict(detail or {})),
        over_hidden=over_hidden,
    )
