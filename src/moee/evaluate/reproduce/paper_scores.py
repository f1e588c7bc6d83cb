"""The numbers published in arXiv 2410.10814, and which of its models a loaded model is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from moee.types import Fusion, ModelInfo

METHODS: tuple[Fusion, ...] = ("hs", "rw", "concat", "sum")
"""Methods in the order of the paper's tables."""

METHOD_NAMES: Mapping[str, str] = MappingProxyType(
    {"hs": "HS", "rw": "RW", "concat": "MoEE (concat)", "sum": "MoEE (sum)"}
)
PROMPTS = ("none", "prompteol")
"""Prompts of the paper's tables, in its words."""


@cache
def paper() -> Mapping[str, Any]:
    """Return the published numbers, in points of 100. `Any`: nested JSON; see `paper_scores.json`."""
    return MappingProxyType(json.loads(files(__package__).joinpath("paper_scores.json").read_text(encoding="utf-8")))


def paper_types() -> tuple[str, ...]:
    """Return the task types of the paper, in the order of its tables 3 and 4."""
    return ("Classification", "Clustering", "PairClassification", "Reranking", "STS", "Summarization")


def paper_tasks(task_type: str) -> tuple[str, ...]:
    """Return the paper's tasks of a type, in its order."""
    return tuple(paper()["tasks"][task_type])


def paper_models() -> tuple[str, ...]:
    """Return the names of the paper's three models."""
    return tuple(paper()["models"])


def paper_score(task: str, model: str, prompt: str, method: str) -> float | None:
    """Return a published score, or None if the paper has none."""
    value = paper()["scores"].get(task, {}).get(model, {}).get(prompt, {}).get(method)
    return None if value is None else float(value)


def paper_mean(tasks: Sequence[str], model: str, prompt: str, method: str) -> float | None:
    """Return the mean of published scores over some of the paper's tasks, or None if one is missing."""
    values = [paper_score(task, model, prompt, method) for task in tasks]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def match_model(info: ModelInfo) -> str | None:
    """Return the paper's name of a model, or None if it is none of the three.

    A model matches by its hub id, or by its architecture: `model_type`, number of layers and number of experts. So a
    local copy and a fine-tuned sibling match too.
    """
    for name, facts in paper()["models"].items():
        if info.name.lower() == facts["hub"].lower():
            return str(name)
    found = (info.model_type, info.num_layers, set(info.num_experts))
    for name, facts in paper()["models"].items():
        if found == (facts["model_type"], facts["layers"], {facts["experts"]}):
            return str(name)
    return None


def reference_models(info: ModelInfo) -> tuple[str, ...]:
    """Return the paper's models to show beside a model: the one that it is, else all three."""
    matched = match_model(info)
    return (matched,) if matched is not None else paper_models()
