"""The disk cache of views: a model runs once for each prompt, and every later question is answered from files.

Kept for each rendered prompt, in float32: the hidden state, the raw router logits, where template and text are
tokenised apart the mean over the text's tokens, and a random projection of the routers' inputs (the control). Scoring,
calibration, weights, fusion and alpha come after the cache, so they are free.

Layout: `<cache>/views/<key>/about.json` and `<id>.safetensors`, where the key names everything but the prompt that
decides a view. Each file holds some hundreds of texts and appears whole or not at all, so a run that is stopped at any
moment loses at most one file (or one chunk of a model that is read from disk), and two runs may share the folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from moee.embedder import MoEE
from moee.errors import CheckpointError, NonFiniteActivationsError, OutputError
from moee.files.atomic import atomic_file, best_effort
from moee.method.config import EmbedderConfig
from moee.method.prompts import TemplateParts, clean, render
from moee.method.routing import chosen_layers, score_layers
from moee.method.texts import counting_cuts
from moee.progress import progress_bar
from moee.types import Views

logger = logging.getLogger("moee")

_CHUNK_CHARACTERS = 40_000
"""Characters of text in a file: some twenty seconds of a small model on two cores, which is what a stop can lose."""
_PROMPT = 40
"""Characters that a prompt adds, about."""
_DIGEST = 16
_ARRAYS = ("hidden_states", "routing", "projections", "tokens")
_AFTER_VIEWS = ("prompt", "cleaning", "scoring", "routing_calibration", "tokens_layer")
"""Settings of a view's key that name no folder: they are in the key of a prompt, come later, or are added apart."""

Shard = dict[str, npt.NDArray[Any]]


class ViewStore:
    """Views of texts from one model, computed where missing.

    Args:
        embedder: The model. Its configuration does not matter: every request brings its own.
        folder: Folder of the cache; made when first written.
        show_progress: Bars on stderr.
        projections: Also keep what no configuration may ask for yet: random projections of the routers' inputs (the
            control), and the view `tokens` where it can be had.
        strict: Treat empty and long texts as the configuration says, and raise where the folder cannot be written.
            Otherwise an empty text is the bare prompt, long ones are cut and counted in the log, and the folder is a
            cache: one that cannot be written is a warning.
    """

    def __init__(
        self,
        embedder: MoEE,
        folder: Path,
        *,
        show_progress: bool = False,
        projections: bool = True,
        strict: bool = False,
    ) -> None:
        self._embedder = embedder
        self._strict = strict
        self._projections = projections
        self._folder = folder
        self._show_progress = show_progress
        self._shards: dict[Path, dict[Path, Shard]] = {}
        self._places: dict[Path, dict[bytes, tuple[Path, int]]] = {}

    def views(self, texts: Sequence[str], config: EmbedderConfig, *, description: str = "Embedding") -> Views:
        """Return the views of texts, in their order.

        Args:
            texts: Strings. An empty one stands for the bare prompt.
            config: Prompt, cleaning, pooling, layers, scoring and `max_length` are used; nothing else is.
            description: Words before the progress bar.

        Raises:
            OutputError: If a file cannot be written; what was computed before is kept.
            CheckpointError: If a file of the cache is damaged; names it.
        """
        folder = self._folder / "views" / self._key(config)
        keys = _keys(texts, config)
        self._open(folder)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._places[folder]}
        if missing:
            try:
                self._compute(folder, missing, config, description)
            except NonFiniteActivationsError as error:
                text = list(missing.values())[error.row]  # of what was run; the caller counts what was given
                raise NonFiniteActivationsError(row=list(texts).index(text), what=error.what, text=text) from error
        return replace(self._gather(folder, keys, config), texts=tuple(texts))

    def missing(self, texts: Sequence[str], config: EmbedderConfig) -> int:
        """Return how many different prompts of these texts are not in the cache."""
        folder = self._folder / "views" / self._key(config)
        self._open(folder)
        return len(set(_keys(texts, config)) - set(self._places[folder]))

    def _about(self, config: EmbedderConfig) -> dict[str, Any]:
        info = self._embedder.info
        about = {key: value for key, value in config.view_key().items() if key not in _AFTER_VIEWS}
        if config.routing_pooling != "last_token":
            about["scoring"] = config.scoring  # pooled routing is scored before it is averaged
        about |= {"fingerprint": info.fingerprint, "dtype": info.dtype}
        if info.precision != "exact":
            about["precision"] = info.precision
        if not self._projections:
            about["projections"] = False
        if self._keeps_tokens(config):
            about["tokens_layer"] = config.middle_layer(info.num_layers)
        return about | {"max_length": config.max_length}

    def _keeps_tokens(self, config: EmbedderConfig) -> bool:
        return config.prompt_tokens == "apart" and (self._projections or "tokens" in config.captured)

    def _key(self, config: EmbedderConfig) -> str:
        about = self._about(config)
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        return f"{self._embedder.info.model_type}-{digest}"

    def _open(self, folder: Path) -> None:
        """Read the files that appeared since the last look."""
        shards, places = self._shards.setdefault(folder, {}), self._places.setdefault(folder, {})
        for path in sorted(folder.glob("*.safetensors")):
            if path not in shards:
                self._add(shards, places, path, _load(path))

    @staticmethod
    def _add(shards: dict[Path, Shard], places: dict[bytes, tuple[Path, int]], path: Path, shard: Shard) -> None:
        shards[path] = shard
        for row, key in enumerate(shard["keys"]):
            places.setdefault(key.tobytes(), (path, row))

    def _compute(self, folder: Path, missing: dict[bytes, str], config: EmbedderConfig, description: str) -> None:
        """Run the model over texts, and write and open a file whenever some of them are finished."""
        model = self._embedder.with_settings(**_capture_settings(config, strict=self._strict))
        self._make(folder, config)
        keys, texts = list(missing), list(missing.values())
        waiting: list[tuple[Sequence[int], Views]] = []
        is_swept = model.info.weights == "disk"

        def keep() -> None:
            if waiting:
                places = [place for each, _ in waiting for place in each]
                self._write(folder, [keys[place] for place in places], [views for _, views in waiting])
                waiting.clear()

        with (
            self._counting(description, len(missing), config.max_length),
            progress_bar(description, len(missing), enabled=self._show_progress) as advance,
        ):

            def finished(places: Sequence[int], views: Views) -> None:
                waiting.append((places, views))
                # batches from disk come a chunk at a time, and the next chunk may be long in coming
                if (
                    is_swept
                    or sum(len(texts[place]) + _PROMPT for each, _ in waiting for place in each) >= _CHUNK_CHARACTERS
                ):
                    keep()
                advance(len(places))

            try:
                tokens = self._keeps_tokens(config)
                model.encode_views(texts, projections=self._projections, with_tokens=tokens, on_batch=finished)
            finally:
                keep()  # what was finished before a failure or an interrupt

    def _counting(self, description: str, num_texts: int, max_length: int | None) -> AbstractContextManager[None]:
        if self._strict:
            return nullcontext()
        advice = "A larger max length (--max-length) keeps more."
        return counting_cuts(num_texts, max_length, advice=advice, label=f"{description}: ")

    def _write(self, folder: Path, keys: Sequence[bytes], parts: Sequence[Views]) -> None:
        """Write one file of finished texts, and open it."""
        shard: Shard = {
            "keys": np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), _DIGEST),
            "hidden_states": np.concatenate([views.hidden_states for views in parts]),
            "routing": np.concatenate([views.routing_weights for views in parts]),
        }
        for name in ("projections", "tokens"):
            arrays = [array for views in parts if (array := getattr(views, name)) is not None]
            if arrays:
                shard[name] = np.concatenate(arrays)
        path = folder / f"{uuid.uuid4().hex}.safetensors"
        with self._keeping(), atomic_file(path) as temporary:
            # not `save_file`, which turns a full disk into an error of its own
            temporary.write_bytes(save(shard))
        self._add(self._shards[folder], self._places[folder], path, shard)

    def _make(self, folder: Path, config: EmbedderConfig) -> None:
        """Make the folder and the file that says what it holds."""
        about = folder / "about.json"
        with self._keeping():
            folder.mkdir(parents=True, exist_ok=True)
            if not about.is_file():
                with atomic_file(about) as temporary:
                    described = {"model": self._embedder.info.name, **self._about(config)}
                    temporary.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        """Warn if a cache cannot be written; raise if it is what a stopped command goes on from."""
        if not self._strict:
            with best_effort(self._folder):
                yield
            return
        try:
            yield
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"Cannot make the folder {str(self._folder)!r}: {error.strerror}.") from error

    def _gather(self, folder: Path, keys: Sequence[bytes], config: EmbedderConfig) -> Views:
        places, shards = self._places[folder], self._shards[folder]
        found: dict[str, npt.NDArray[np.float32]] = {}
        rows_by_shard: dict[Path, list[tuple[int, int]]] = {}
        for target, key in enumerate(keys):
            path, row = places[key]
            rows_by_shard.setdefault(path, []).append((target, row))
        for path, pairs in rows_by_shard.items():
            targets, rows = (np.array(column) for column in zip(*pairs, strict=True))
            for name in _ARRAYS:
                if name in shards[path]:
                    array = shards[path][name]
                    found.setdefault(name, np.empty((len(keys), array.shape[1]), dtype=np.float32))[targets] = array[
                        rows
                    ]
        info, routing = self._embedder.info, found["routing"]
        layers = chosen_layers(config.routing_layers, info.layer_ids, info.num_layers)
        sites = [place for place, layer in enumerate(info.layer_ids) if layer in layers]
        layer_ids = tuple(info.layer_ids[site] for site in sites)
        num_experts = tuple(info.num_experts[site] for site in sites)
        if config.routing_pooling == "last_token" and sites:
            top_k = [info.top_k[site] for site in sites]
            routing = score_layers(routing, num_experts, top_k, config.scoring, scoring_func=info.scoring_func)
        return Views(
            found["hidden_states"], routing, layer_ids, num_experts, found.get("projections"), found.get("tokens")
        )


def _capture_settings(config: EmbedderConfig, *, strict: bool) -> dict[str, Any]:
    """Return the settings that decide what the model gives, for `MoEE.with_settings`."""
    names = ("recipe", "prompt", "cleaning", "hidden_pooling", "hidden_layers", "routing_pooling", "routing_layers")
    settings = {name: getattr(config, name) for name in (*names, "prompt_tokens", "tokens_layer", "max_length")}
    settings["fusion"] = "hs"  # asks for no view but those of every pass; what is kept beside is asked for apart
    # raw logits serve every scoring; pooled routing was scored before it was averaged
    settings["scoring"] = "logits" if config.routing_pooling == "last_token" else config.scoring
    lenient = {"truncate": "warn", "on_empty": "encode"}
    return {**settings, **({name: getattr(config, name) for name in lenient} if strict else lenient)}


def _keys(texts: Sequence[str], config: EmbedderConfig) -> list[bytes]:
    """Return a digest of each rendered prompt: recipes that differ in cleaning share what cleaning leaves alike.

    Where template and text are apart, the seams are in it: two templates may write one string around different texts.
    """
    prompts: Iterable[str]
    if config.prompt_tokens == "apart":
        parts = TemplateParts(config.prompt, cleaning=config.cleaning)
        own = parts.texts(clean(text, config.cleaning) for text in texts)
        prompts = (json.dumps([parts.before, text, parts.after]) for text in own)
    else:
        prompts = (render(config.prompt, text, cleaning=config.cleaning) for text in texts)
    return [
        hashlib.blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest() for prompt in prompts
    ]


def _load(path: Path) -> Shard:
    try:
        shard: Shard = load_file(path)
        named = ("keys", "hidden_states", "routing", *(name for name in ("projections", "tokens") if name in shard))
        if len({len(shard[name]) for name in named}) != 1:
            raise ValueError("its arrays differ in length")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"The cache file {str(path)!r} is damaged ({type(error).__name__}: {error}). "
            "Delete it: it will be computed again."
        ) from error
    return shard
