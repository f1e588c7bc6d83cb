"""Where frozen statistics are kept between runs: shipped with the embedded default, or cached at first use."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
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


class Statistics:
    """The frozen statistics that one embedder knows, by what they depend on. Several threads may ask at once.

    Args:
        info: The embedder's model.
        known: Statistics to begin with, by `EmbedderConfig.statistics_key`; copied.
    """

    def __init__(self, info: ModelInfo, known: Mapping[str, Calibration] | None = None) -> None:
        self._info = info
        self._known = dict(known or {})
        self._fitting = threading.RLock()

    def copy(self) -> Statistics:
        """Return the same statistics in a place of their own: what is fitted there is not known here."""
        return Statistics(self._info, self._known)

    def known(self) -> dict[str, Calibration]:
        """Return all that are known, by `EmbedderConfig.statistics_key`."""
        return dict(self._known)

    def get(self, config: EmbedderConfig) -> Calibration | None:
        """Return the statistics of a configuration, or None if they are not known yet."""
        return self._known.get(config.statistics_key())

    def put(self, config: EmbedderConfig, statistics: Calibration) -> None:
        """Use statistics for a configuration from now on."""
        self._known[config.statistics_key()] = statistics

    def adopt(self, config: EmbedderConfig, statistics: Sequence[Calibration]) -> None:
        """Take over statistics, one for each prompt of `config` or none.

        Raises:
            CalibrationError: If they belong to another model or prompt.
        """
        for prompt, each in zip(config.prompts(), statistics, strict=False):
            each.check(self._info, config.replace(prompt=prompt))
            self.put(config.replace(prompt=prompt), each)

    def of_all_prompts(self, config: EmbedderConfig) -> tuple[Calibration, ...]:
        """Return the statistics of all prompts in their order, or none: on reading, they are matched by their order."""
        found = [self.get(config.replace(prompt=prompt)) for prompt in config.prompts()]
        known = tuple(each for each in found if each is not None)
        return known if len(known) == len(found) else ()

    def builtin(self, config: EmbedderConfig, fit: Callable[[], Calibration]) -> Calibration:
        """Return the statistics of a configuration: those that are known or kept, else what `fit` returns.

        Threads that ask at once wait for the one that fits.
        """
        with self._fitting:
            if (known := self.get(config)) is not None:
                return known
            found = find_statistics(self._info, config)
            if found is None:
                logger.warning(
                    "%s has no calibration statistics for this prompt: fitting them on built-in sentences, once. "
                    "calibration='none' does without; model.calibrate(texts) uses your own.",
                    self._info.name,
                )
                found = fit()
                store_statistics(found, self._info, config)
            self.put(config, found)
            return found


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
