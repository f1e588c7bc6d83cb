"""A saved embedder: a folder with `config.json` and its statistics, never the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moee.errors import CheckpointError, InputError
from moee.files.atomic import atomic_folder, recover_folder
from moee.files.json import read_json
from moee.method.calibration import Calibration
from moee.method.config import EmbedderConfig

_KIND = "moee-embedder"
_CONFIG = "config.json"
_STATISTICS = "calibration.safetensors"
_SINCE_RENAMED = {("demo", "99c867577d1f0bf5"): "demo-0.1.0"}
"""What loads the weights of then, by name and fingerprint: the embedded default was written down anew after 0.1.0."""


@dataclass(frozen=True, slots=True)
class SavedEmbedder:
    """What a folder holds.

    Attributes:
        model: What to load: `"demo"`, a hub id, a folder; None if the model was in memory alone.
        revision: Revision of a hub id.
        fingerprint: Fingerprint of the weights that the statistics belong to.
        config: The embedder's configuration.
        calibrations: Statistics, the configured prompt's first; empty if none were fitted.
    """

    model: str | None
    revision: str | None
    fingerprint: str
    config: EmbedderConfig
    calibrations: tuple[Calibration, ...]

    @property
    def name(self) -> str:
        """What to load.

        Raises:
            InputError: If the model was in memory alone.
        """
        if self.model is None:
            raise InputError(
                "The embedder was saved from a model that was in memory alone, so there is no folder or hub id to load "
                "it from. Open it with MoEE.from_model(llm, tokenizer, saved=FOLDER); an index of it with "
                "Searcher.open(FOLDER, model=MoEE.from_model(llm, tokenizer))."
            )
        return _SINCE_RENAMED.get((self.model, self.fingerprint), self.model)


def is_saved_embedder(name: str | Path) -> bool:
    """Whether `name` is a folder that `write_embedder` wrote."""
    folder = Path(name).expanduser()
    recover_folder(folder)
    path = folder / _CONFIG
    if not path.is_file():
        return False
    try:
        values = read_json(path)
    except InputError:
        return False  # reading it as a model says what is wrong with it
    return isinstance(values, dict) and values.get("kind") == _KIND


def write_embedder(folder: Path, saved: SavedEmbedder) -> None:
    """Write an embedder, replacing `folder` as a whole.

    Raises:
        CheckpointError: If `folder` holds something else; it would be lost.
        OutputError: If it cannot be written.
    """
    if folder.exists() and any(folder.iterdir()) and not is_saved_embedder(folder):
        raise CheckpointError(
            f"{str(folder)!r} exists and is not a saved embedder; saving would replace what it holds. "
            "Choose another folder."
        )
    values: Mapping[str, Any] = {
        "kind": _KIND,
        "model": saved.model and portable(saved.model),
        "revision": saved.revision,
        "fingerprint": saved.fingerprint,
        "calibrations": [_file_name(number) for number in range(len(saved.calibrations))],
        "embedder": saved.config.to_dict(),
    }
    with atomic_folder(folder) as temporary:
        (temporary / _CONFIG).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for number, statistics in enumerate(saved.calibrations):
            statistics.save(temporary / _file_name(number))


def portable(model: str) -> str:
    """Make a relative folder absolute, so that it is found from any working directory."""
    path = Path(model).expanduser()
    return str(path.resolve()) if path.is_dir() else model


def _file_name(number: int) -> str:
    return _STATISTICS if number == 0 else f"calibration.{number}.safetensors"


def read_embedder(folder: Path) -> SavedEmbedder:
    """Read what `write_embedder` wrote.

    Raises:
        CheckpointError: If `folder` is no such folder, or a key is missing.
        CalibrationError: If a statistics file is damaged.
        InputError: If the configuration is of a newer version or holds an unknown value.
    """
    folder = folder.expanduser()
    if not is_saved_embedder(folder):
        raise CheckpointError(f"{str(folder)!r} is not a saved embedder. Give a folder that `MoEE.save` wrote.")
    values = read_json(folder / _CONFIG)
    missing = [key for key in ("model", "fingerprint", "embedder", "calibrations") if key not in values]
    if missing:
        raise CheckpointError(f"{str(folder / _CONFIG)!r} lacks {', '.join(missing)}. Save the embedder again.")
    return SavedEmbedder(
        model=values["model"] and str(values["model"]),
        revision=values.get("revision"),
        fingerprint=str(values["fingerprint"]),
        config=EmbedderConfig.from_dict(values["embedder"]),
        calibrations=tuple(Calibration.load(folder / name) for name in values["calibrations"]),
    )
