"""Every table and figure that can be made, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING

from moee.errors import MissingExtraError, UnknownNameError

if TYPE_CHECKING:
    from moee.evaluate.reproduce.exhibit import Exhibit
    from moee.evaluate.reproduce.run import Run


TASK_LIMIT = 200
"""Rows of each task in most targets: whole sets in four passes (two prompts, two recipes) take two cores for hours."""


@dataclass(frozen=True, slots=True)
class Target:
    """One table or figure.

    Attributes:
        name: What the user calls it.
        shows: One line.
        place: `module:function` of this package; loaded only when it is made.
        default_limit: Rows of each task that are used unless told otherwise.
    """

    name: str
    shows: str
    place: str
    default_limit: int = TASK_LIMIT

    @property
    def needs(self) -> tuple[str, ...]:
        """Packages that are needed for its pictures."""
        if not self.name.startswith("figure"):
            return ()
        return ("matplotlib", "wordcloud") if self.name == "figure3" else ("matplotlib",)

    def make(self, run: Run) -> Exhibit:
        """Compute it."""
        module, _, function = self.place.partition(":")
        make: Callable[..., Exhibit] = getattr(import_module(f"{__package__}.{module}"), function)
        exhibit: Exhibit = (partial(make, name=self.name) if function == "score_table" else make)(run)
        return exhibit


_ALL = (
    Target("table1", "agreement of the k-means clusters of HS and RW", "clusters:table1", 2000),
    Target("table3", "mean of each task type, without a prompt and with PromptEOL", "means:table3"),
    Target("table4", "mean of each task type, beside trained models", "means:table4"),
    Target("table5", "last token or all tokens, last layer or all layers", "ablation:table5", 200),
    Target("table8", "STS, every task", "score_tables:score_table"),
    Target("table9", "classification, every task", "score_tables:score_table"),
    Target("table10", "pair classification, every task", "score_tables:score_table"),
    Target("table11", "clustering, every task", "score_tables:score_table"),
    Target("table12", "reranking, every task", "score_tables:score_table"),
    Target("figure1", "HS and MoEE (sum) by task type", "means:figure1"),
    Target("figure2", "pairs that HS, RW, both or neither get right", "right_pairs:figure2"),
    Target("figure3", "topics of the clusters of HS and RW", "clusters:figure3", 2000),
    Target("figure4", "agreement of similarities between nine prompts", "prompts_study:figure4", 200),
    Target("figure5", "spread of scores over nine prompts", "prompts_study:figure5", 200),
    Target("figure6", "text length and accuracy", "right_pairs:figure6"),
    Target("cases", "pairs that only one view gets right (tables 6 and 7)", "right_pairs:cases"),
)

TARGETS: Mapping[str, Target] = MappingProxyType({target.name: target for target in _ALL})
"""Targets in the paper's order."""


def check_packages(targets: list[Target]) -> None:
    """Check that the packages for the pictures are installed, before any work is done for them.

    Raises:
        MissingExtraError: If one is not; gives the install line.
    """
    for target in targets:
        for package in target.needs:
            if find_spec(package) is None:
                raise MissingExtraError(package, target.name, "evaluate")


def select_targets(names: list[str]) -> list[Target]:
    """Turn names into targets, each once, in the paper's order; `"all"` is every one.

    Raises:
        UnknownNameError: If a name is not a target; suggests close matches.
    """
    for name in names:
        if name != "all" and name not in TARGETS:
            raise UnknownNameError("target", name, [*TARGETS, "all"])
    return [target for target in _ALL if "all" in names or target.name in names]
