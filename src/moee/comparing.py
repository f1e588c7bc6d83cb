"""What an embedder does with its vectors alone: queries and documents, cosines, an order of documents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from moee.errors import InputError
from moee.method import similarity as _similarity
from moee.method.config import EmbedderConfig
from moee.method.texts import check_texts
from moee.types import Array

if TYPE_CHECKING:
    import numpy.typing as npt


class Comparing(ABC):
    """The part of `MoEE` that is built on `encode` alone."""

    @property
    @abstractmethod
    def config(self) -> EmbedderConfig:
        """Every choice between a text and its vector."""

    @abstractmethod
    def encode(self, *args: Any, **options: Any) -> Array:
        """Turn texts into vectors."""

    def encode_query(self, queries: Iterable[str] | str, **options: Any) -> Array:
        """Encode queries: `encode` with the configured `query_prompt`, if there is one.

        Args:
            queries: Strings, or a single one.
            **options: Further arguments of `encode`.
        """
        return self.encode(queries, **{"prompt": self.config.query_prompt, **options})

    def encode_document(self, documents: Iterable[str] | str, **options: Any) -> Array:
        """Encode documents: `encode` with the configured `document_prompt`, if there is one.

        Args:
            documents: Strings, or a single one.
            **options: Further arguments of `encode`.
        """
        return self.encode(documents, **{"prompt": self.config.document_prompt, **options})

    def similarity(self, a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
        """Return the cosine of every row of `a` with every row of `b`, `(n, m)`. See `moee.method.similarity`."""
        return _similarity.similarity(a, b)

    def similarity_pairwise(self, a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
        """Return the cosine of each row of `a` with the same row of `b`, `(n,)`. See `moee.method.similarity`."""
        return _similarity.similarity_pairwise(a, b)

    def rank(
        self,
        query: str,
        documents: Iterable[str],
        top_k: int | None = None,
        *,
        return_documents: bool = False,
        chunk: int | None = None,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Order documents by how alike they are to a query, as the cross-encoders of sentence-transformers do.

        Args:
            query: Embedded as `encode_query` does.
            documents: Embedded as `encode_document` does.
            top_k: How many to return; None for all.
            return_documents: Also return the documents themselves.
            chunk: See `encode`; for documents alone.
            **options: Further arguments of `encode`, such as `fusion`; for query and documents.

        Returns:
            `{"corpus_id": place in documents, "score": cosine}`, with `"text"` if it was asked for; best first, equal
            scores in the order of the documents.

        Raises:
            InputError: If `top_k` is not 1 or larger; as `encode`.
            TextTypeError, TruncationError, NonFiniteActivationsError: As `encode`.
        """
        if top_k is not None and top_k < 1:
            raise InputError(f"top_k is {top_k}; it must be 1 or larger, or None for all documents.")
        texts = check_texts(documents, on_empty=self.config.on_empty)
        asked, found = self.encode_query([query], **options), self.encode_document(texts, chunk=chunk, **options)
        return [
            {"corpus_id": place, "score": score, **({"text": texts[place]} if return_documents else {})}
            for place, score in _similarity.rank(asked, found)[:top_k]
        ]
