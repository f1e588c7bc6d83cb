"""The disk cache of scores: what a run has finished, an interrupted or later run does not do again.

Layout: `<cache>/scores/<key>.safetensors`: the items and targets as arrays, the rest as JSON in the file's metadata.
The key names everything that a score depends on; `SCORING_VERSION` is raised when a metric changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from moee.evaluate.tasks import TaskScore
from moee.files.atomic import atomic_file, best_effort

SCORING_VERSION = 2


class ScoreStore:
    """Scores by key.

    Args:
        folder: Folder of the cache; made when first written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "scores"

    def get(self, facts: Mapping[str, Any]) -> TaskScore | None:
        """Return the score that was stored under these facts, or None. A damaged file counts as none: it is remade."""
        path = self._path(facts)
        if not path.is_file():
            return None
        try:
            arrays = load_file(path)
            with safe_open(path, framework="numpy") as handle:
                about = json.loads((handle.metadata() or {})["score"])
            return TaskScore(
                metric=about["metric"],
                main=about["main"],
                metrics=about["metrics"],
                items=arrays["items"],
                targets=arrays.get("targets"),
                statistic=about["statistic"],
            )
        except (OSError, SafetensorError, KeyError, json.JSONDecodeError):
            return None

    def put(self, facts: Mapping[str, Any], score: TaskScore) -> None:
        """Keep a score; warn if the cache cannot be written."""
        path = self._path(facts)
        arrays = {"items": np.ascontiguousarray(score.items)}
        if score.targets is not None:
            arrays["targets"] = np.ascontiguousarray(score.targets)
        about = {
            "metric": score.metric,
            "main": score.main,
            "metrics": dict(score.metrics),
            "statistic": score.statistic,
        }
        metadata = {"score": json.dumps(about), "facts": json.dumps(dict(facts), sort_keys=True)}
        with best_effort(self._folder.parent):
            self._folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as temporary:
                # not `save_file`, which turns a full disk into an error of its own
                temporary.write_bytes(save(arrays, metadata=metadata))

    def _path(self, facts: Mapping[str, Any]) -> Path:
        text = json.dumps({"scoring": SCORING_VERSION, **facts}, sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"


def folder_digest(folder: Path) -> str:
    """Return a digest of the data files of a task's folder: their names and contents."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.jsonl*")):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
