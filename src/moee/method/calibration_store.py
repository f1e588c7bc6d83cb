"""Where frozen statistics are kept between runs: shipped with the embedded default, or cached at first use."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from moee.errors import CalibrationError, first_line
from moee.files.atomic import cache_dir
from moee.method.calibration import Calibration
from moee.method.config import EmbedderConfig
from moee.types import ModelInfo

logger = logging.getLogger("moee")

_FOLDER = "calibration"


def statistics_path(info: ModelInfo, config: EmbedderConfig) -> Path:
    """Return where the built-in statistics of this model and configuration are cached. The file may not exist."""
    settings = json.dumps([config.view_key(), config.gamma], sort_keys=True)
    digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
    rounded = "" if info.precision == "exact" else f"-{info.precision}"
    return cache_dir() / _FOLDER / f"{info.model_type}-{info.fingerprint}-{digest}{rounded}.safetensors"


def find_statistics(info: ModelInfo, config: EmbedderConfig) -> Calibration | None:
    """Return the built-in statistics that belong to this model and configuration, or None if none are kept."""
    # statistics of the exact model serve the rounded one, and never the other way round
    kept = [statistics_path(each, config) for each in (replace(info, precision="exact"), info)]
    for path in (*_shipped(), *kept):
        if not path.is_file():
            continue
        statistics = Calibration.load(path)
        try:
            statistics.check(info, config)
        except CalibrationError:
            continue  # of another model or prompt; the embedder fits what it needs
        return statistics
    return None


def store_statistics(statistics: Calibration, info: ModelInfo, config: EmbedderConfig) -> None:
    """Keep statistics in the cache for later runs, if it can be written; they are in use already, so else only warn."""
    path = statistics_path(info, config)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        statistics.save(path)
    except OSError as error:
        logger.warning(
            "The statistics could not be kept in %s (%s), so the next run will fit them again. Set MOEE_CACHE to a "
            "folder that can be written.",
            path.parent,
            first_line(error),
        )


def _shipped() -> list[Path]:
    folder = Path(str(files("moee") / "demo" / "assets"))
    return sorted(folder.glob("calibration*.safetensors"))
