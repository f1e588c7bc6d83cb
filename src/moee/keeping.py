"""What lets an embedder be kept: saved to a folder, copied, pickled, opened again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from moee.backends.base import Backend
from moee.backends.open import Source, open_again
from moee.errors import InputError
from moee.method.calibration import Calibration
from moee.method.calibration_store import Statistics
from moee.method.config import EmbedderConfig
from moee.method.saved import SavedEmbedder, write_embedder


class Kept:
    """The part of `MoEE` that keeps it: its name, configuration and statistics, never the weights.

    Args:
        backend: Runs the model.
        config: Every choice between a text and its vector.
        batch_tokens: Token budget of a batch.
    """

    def __init__(self, backend: Backend, config: EmbedderConfig, *, batch_tokens: int) -> None:
        self._backend = backend
        self._config = config
        self._batch_tokens = batch_tokens
        self._known = Statistics(backend.info)
        self._source: Source | None = None

    def beside(self, config: EmbedderConfig, known: Statistics, source: Source | None) -> Self:
        """Return another embedder over the same model in memory."""
        other = type(self)(self._backend, config, batch_tokens=self._batch_tokens)
        other._known, other._source = known, source
        return other

    def save(self, folder: str | Path) -> None:
        """Write the embedder: `config.json` and its statistics, never the weights.

        Args:
            folder: Created or replaced as a whole.

        Raises:
            OutputError: If it cannot be written.
        """
        name, revision = (self._source.name, self._source.options.revision) if self._source else (None, None)
        statistics = self._known.of_all_prompts(self._config)
        write_embedder(
            Path(folder), SavedEmbedder(name, revision, self._backend.info.fingerprint, self._config, statistics)
        )

    def __copy__(self) -> Self:
        """Return another embedder with the same settings and statistics, over the same model in memory."""
        return self.beside(self._config, self._known.copy(), self._source)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return another embedder that shares nothing with this one but the model in memory, which none changes."""
        return self.beside(self._config, self._known.copy(), self._source)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the name of the model, how it was loaded, the configuration and the statistics; never weights.

        Raises:
            InputError: If the model is in memory alone.
        """
        info = self._backend.info
        if self._source is None:
            raise InputError(
                f"The embedder of {info.name!r} cannot be pickled or sent to another process: its model is in "
                "memory alone. Save the model with save_pretrained(FOLDER) and open MoEE.from_pretrained(FOLDER)."
            )
        known = self._known.known()
        return type(self)._again, (
            self._source,
            self._backend.info.fingerprint,
            self._config,
            self._batch_tokens,
            known,
        )

    @classmethod
    def _again(
        cls, source: Source, fingerprint: str, config: EmbedderConfig, tokens: int, known: dict[str, Calibration]
    ) -> Self:
        embedder = cls(open_again(source, fingerprint), config, batch_tokens=tokens)
        return embedder.beside(config, Statistics(embedder._backend.info, known), source)
