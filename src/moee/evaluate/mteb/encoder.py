"""Our vectors as an encoder of mteb, and the description of model and settings that mteb keeps beside its results."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from moee.errors import InputError, MissingExtraError
from moee.evaluate.tasks import Embed, TaskData
from moee.evaluate.tasks.cosine import cosine_matrix, paired_cosines
from moee.evaluate.vectors import Setting
from moee.types import Array, ModelInfo

if TYPE_CHECKING:
    import torch
    from mteb.models.model_meta import ModelMeta

    from moee.embedder import MoEE

Encode = Callable[[Sequence[str]], Array]
"""A function from the texts of one encode call to vectors, `(num_texts, dim)` float32."""


def require_mteb() -> None:
    """Check that mteb is installed.

    Raises:
        MissingExtraError: If not; gives the install line.
    """
    try:
        import mteb  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "mteb":
            raise
        raise MissingExtraError("mteb", "running tasks in mteb", "evaluate") from error


class MtebEncoder:
    """Any function from texts to vectors, as mteb's `EncoderProtocol`.

    mteb's own batches are put together again: one encode call of mteb is one call of the function. Similarities are the
    cosines of `scoring.cosine`, so that ties fall as in the local runner.

    Args:
        encode: Texts to vectors.
        meta: Describes model and settings to mteb; see `describe_model`.
        encode_query: Encodes queries of retrieval and reranking; None is `encode`.
        encode_document: Encodes their documents; None is `encode`.
    """

    def __init__(
        self,
        encode: Encode,
        meta: ModelMeta,
        *,
        encode_query: Encode | None = None,
        encode_document: Encode | None = None,
    ) -> None:
        self._encoders = {"query": encode_query or encode, "document": encode_document or encode, None: encode}
        self.mteb_model_meta = meta

    def encode(self, inputs: Any, *, prompt_type: Any = None, **context: Any) -> Array:
        """Encode one call of mteb.

        Args:
            inputs: mteb's data loader: batches with the texts under `"text"`.
            prompt_type: mteb's `PromptType`, or None.
            **context: Task, split and options, which change nothing here.

        Returns:
            `(num_texts, dim)` float32.
        """
        texts = [text for batch in inputs for text in batch["text"]]
        return np.asarray(self._encoders[prompt_type and prompt_type.value](texts), dtype=np.float32)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Return the cosine of every row with every row, an `(n, m)` float32 tensor. Takes arrays or tensors."""
        import torch

        return torch.from_numpy(cosine_matrix(_matrix(embeddings1), _matrix(embeddings2)))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Return the cosine of each row with the same row, an `(n,)` float32 tensor. Takes arrays or tensors."""
        import torch

        return torch.from_numpy(paired_cosines(_matrix(embeddings1), _matrix(embeddings2)))


def _matrix(rows: Any) -> Array:
    return np.atleast_2d(np.asarray(rows, dtype=np.float32))


def encoder_from_embed(data: TaskData, embed: Embed, meta: ModelMeta) -> MtebEncoder:
    """Return an encoder that looks the texts of one task up: kept vectors, such as those of a `Study`, in mteb.

    Args:
        data: The task whose texts mteb will send.
        embed: The encode call of that task.
        meta: See `describe_model`.
    """
    places = {text: place for place, text in enumerate(data.texts)}

    def encode(texts: Sequence[str]) -> Array:
        unknown = [text for text in texts if text not in places]
        if unknown:
            raise InputError(
                f"mteb asks for {len(unknown)} of {len(texts)} texts that {data.name} does not hold, the first of "
                f"{len(unknown[0])} characters. Build the mteb task from the same folder with the same limits."
            )
        return embed(np.asarray([places[text] for text in texts], dtype=np.int64))

    return MtebEncoder(encode, meta)


def encoder_from_embedder(embedder: MoEE, *, show_progress: bool = False) -> MtebEncoder:
    """Return an encoder that runs a model as it is configured: any task, of the hub too.

    Args:
        embedder: The model; its configuration goes into mteb's record of the run.
        show_progress: Bars on stderr.
    """
    config = embedder.config
    experiment = {
        "recipe": config.recipe,
        "fusion": config.fusion,
        "alpha": config.alpha,
        "prompt": config.prompt,
        "query_prompt": config.query_prompt,
        "document_prompt": config.document_prompt,
        "calibration": config.calibration,
        "calibration_texts": embedder.calibration.texts if embedder.calibration else None,
        "scoring": config.scoring,
        "max_length": config.max_length,
    }
    meta = describe_model(embedder.info, experiment)
    return MtebEncoder(
        lambda texts: embedder.encode(texts, show_progress_bar=show_progress),
        meta,
        encode_query=lambda texts: embedder.encode_query(texts, show_progress_bar=show_progress),
        encode_document=lambda texts: embedder.encode_document(texts, show_progress_bar=show_progress),
    )


def load_encoder(
    model_name: str, revision: str | None = None, *, device: str | None = None, **options: Any
) -> MtebEncoder:
    """Load a model for mteb by name: the `loader` of a `ModelMeta`.

    Args:
        model_name: Name or folder that `MoEE.from_pretrained` takes; `moee/demo` is the embedded model.
        revision: Revision of a hub id.
        device: A torch device.
        **options: Passed to `MoEE.from_pretrained`.
    """
    from moee.embedder import MoEE

    name = model_name.removeprefix("moee/")
    return encoder_from_embedder(MoEE.from_pretrained(name, revision=revision, device=device, **options))


def setting_experiment(setting: Setting, *, max_length: int | None = None) -> dict[str, object]:
    """Return what tells a setting's results from those of other settings, for `describe_model`."""
    return {
        "recipe": setting.recipe,
        "fusion": setting.fusion,
        "weights": None if setting.weights is None else setting.vector,
        "alpha": setting.alpha,
        "prompt": setting.prompt,
        "calibration": setting.calibration,
        "calibration_texts": setting.statistics,
        "scoring": setting.scoring,
        "routing": setting.routing,
        "max_length": max_length,
    }


def describe_model(
    info: ModelInfo, experiment: Mapping[str, object], *, revision: str | None = None, n_parameters: int | None = None
) -> ModelMeta:
    """Describe a model and its settings to mteb.

    Args:
        info: The model.
        experiment: Settings that change vectors: recipe, fusion, alpha, prompt, calibration and so on. mteb keeps the
            results of different ones apart; None values are left out.
        revision: Revision of the weights; None is the fingerprint.
        n_parameters: Number of the model's parameters, if known.

    Returns:
        Metadata with cosine as the similarity. What is not known is None: mteb shows it so.

    Raises:
        MissingExtraError: If mteb is not installed.
    """
    require_mteb()
    from mteb.models.model_meta import ModelMeta

    name = info.name if re.fullmatch(r"[\w.-]+/[\w.-]+", info.name) else f"moee/{Path(info.name).name}"
    return ModelMeta(
        loader=cast("Callable[..., Any]", load_encoder),
        name=name,
        revision=revision or re.sub(r"[^\w.-]", "_", info.fingerprint),
        release_date=None,
        languages=None,
        n_parameters=n_parameters,
        memory_usage_mb=None,
        max_tokens=info.max_tokens,
        embed_dim=None,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch", "Transformers"],
        similarity_fn_name=cast("Any", "cosine"),
        use_instructions=False,
        training_datasets=None,
        reference="https://arxiv.org/abs/2410.10814",
        experiment_kwargs={key: value for key, value in experiment.items() if value is not None},
    )
