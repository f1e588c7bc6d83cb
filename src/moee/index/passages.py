"""Long texts in an index: a record for each passage, which names its document.

The id of a passage is that of its document with a number behind, `papers-7#0`, `papers-7#1`; its fields say the same,
and where in the document's text it stands. So the passages of a document are found in every store without a search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from moee.embedder import MoEE
from moee.errors import InputError
from moee.index.manifest import DOCUMENT, PASSAGE_FIELDS, Manifest
from moee.index.records_from_file import Corpus
from moee.method.chunks import Chunk
from moee.stores.base import Store
from moee.stores.store import Hit, Record

_AT_ONCE = 64
"""Passages of a document that a store is asked about at once."""


def in_passages(corpus: Corpus, documents: MoEE, chunk: int) -> Corpus:
    """Return the passages of a corpus as a corpus of their own.

    Args:
        corpus: Long texts and short ones.
        documents: The embedder with the prompt of documents, which counts tokens.
        chunk: The most tokens of a passage, as `MoEE.encode` takes it.

    Raises:
        InputError: If a field has the name of one that passages have; as `MoEE.split`.
    """
    taken = sorted(set(corpus.fields) & set(PASSAGE_FIELDS))
    if taken:
        raise InputError(
            f"The field {taken[0]!r} is one that every passage gets ({', '.join(PASSAGE_FIELDS)}). Give the column "
            "another name, or build without --chunk."
        )
    split = documents.split([record.text for record in corpus.records], chunk)
    parts = [
        (place, passage)
        for record, place, chunks in zip(corpus.records, corpus.places, split, strict=True)
        for passage in _passages(record, chunks)
    ]
    return replace(
        corpus,
        records=[passage for _, passage in parts],
        places=[place for place, _ in parts],
        fields={**corpus.fields, **PASSAGE_FIELDS},
        documents=corpus,
    )


def first_passages(corpus: Corpus, documents: MoEE, chunk: int) -> Corpus:
    """Return a corpus with the first passage of every text: what is fitted before texts are pooled is fitted on these.

    Args:
        corpus: As `in_passages`.
        documents: As `in_passages`.
        chunk: As `in_passages`.

    Raises:
        InputError: As `MoEE.split`.
    """
    split = documents.split([record.text for record in corpus.records], chunk)
    first = [replace(record, text=chunks[0].text) for record, chunks in zip(corpus.records, split, strict=True)]
    return replace(corpus, records=first)


def _passages(record: Record, chunks: Sequence[Chunk]) -> list[Record]:
    return [
        Record(
            _id(record.id, number),
            chunk.text,
            {**record.fields, DOCUMENT: record.id, "chunk": number, "start": chunk.start, "end": chunk.end},
        )
        for number, chunk in enumerate(chunks)
    ]


def _id(document: str, number: int) -> str:
    return f"{document}#{number}"


def passages_of(store: Store, document: str, *, start: int = 0) -> list[str]:
    """Return the ids of a document's passages that are stored, from the number `start` on."""
    found: list[str] = []
    while True:
        asked = [_id(document, number) for number in range(start, start + _AT_ONCE)]
        stored = store.texts_of(asked)
        found += [name for name in asked if name in stored]
        # an addition that was stopped may have left a gap, but none as wide
        if not stored:
            return found
        start += _AT_ONCE


def left_over(store: Store, corpus: Corpus) -> list[str]:
    """Return the ids of stored passages that documents of a corpus had before, when they were longer."""
    numbers: dict[str, int] = {}
    for record in corpus.records:
        document = str(record.fields[DOCUMENT])
        numbers[document] = numbers.get(document, 0) + 1
    return [name for document, number in numbers.items() for name in passages_of(store, document, start=number)]


def delete_documents(store: Store, documents: Sequence[str]) -> tuple[int, list[str]]:
    """Delete all passages of some documents, in one transaction.

    Returns:
        How many passages there were, and the documents that have none.
    """
    found = {document: passages_of(store, document) for document in dict.fromkeys(documents)}
    deleted = store.delete([name for names in found.values() for name in names])
    return deleted, [document for document, names in found.items() if not names]


def check_passages(manifest: Manifest) -> None:
    """Refuse to ask for the best of each document where there are no passages.

    Raises:
        InputError: If the index holds whole texts.
    """
    if not manifest.holds_passages:
        raise InputError(
            "The index holds whole texts, each a document of its own. Leave per_document (--per-document) out, or "
            "build an index of passages with --chunk 256."
        )


def best_of_documents(find: Callable[[int], list[Hit]], k: int) -> list[Hit]:
    """Return the best passage of each of the `k` best documents.

    Args:
        find: Returns as many hits as asked for, best first; fewer only if there are no more.
        k: How many documents.
    """
    limit = k
    while True:
        hits = find(limit)
        best = _first_of_each(hits)
        if len(best) >= k or len(hits) < limit:
            return best[:k]
        limit *= 4


def _first_of_each(hits: Iterable[Hit]) -> list[Hit]:
    best: dict[object, Hit] = {}
    for hit in hits:
        best.setdefault(hit.record.fields[DOCUMENT], hit)
    return list(best.values())
