"""An index of passages: long texts whole, and hits that name their documents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from moee import MoEE
from moee.data import calibration_texts
from moee.errors import InputError
from moee.index.build import add_texts, build_index
from moee.index.fit import BuildOptions
from moee.index.folder import open_index
from moee.index.manifest import PASSAGE_FIELDS, read_manifest
from moee.index.passages import delete_documents, passages_of
from moee.index.records_from_file import Corpus
from moee.index.searcher import Searcher
from moee.stores.registry import StoreSpec
from moee.stores.store import Record
from tests.index.conftest import WriteCorpus

SENTENCES = calibration_texts()[:60]
CHUNKED = BuildOptions(chunk=48)


@pytest.fixture
def corpus(write_corpus: WriteCorpus) -> Corpus:
    """Three long documents and a short one."""
    read = write_corpus(4)
    texts = ["\n\n".join(SENTENCES[20 * number :][:20]) for number in range(3)]
    return with_texts(read, {"t0": texts[0], "t1": texts[1], "t2": texts[2], "t3": SENTENCES[0]})


def with_texts(corpus: Corpus, texts: dict[str, str]) -> Corpus:
    return replace(corpus, records=[replace(each, text=texts.get(each.id, each.text)) for each in corpus.records])


def stored(folder: Path) -> dict[str, Record]:
    with open_index(folder) as index:
        return {record.id: record for batch in index.store.scan() for record in batch.records}


@pytest.fixture(params=["flat", "lancedb"])
def folder(request: pytest.FixtureRequest, fake: MoEE, corpus: Corpus, tmp_path: Path) -> Path:
    built = build_index(tmp_path / "index", corpus, fake, replace(CHUNKED, store=StoreSpec(request.param)))
    assert built.num_embedded == built.num_records > 20
    return tmp_path / "index"


def test_passages_name_their_document_and_give_its_text_back(folder: Path, corpus: Corpus, fake: MoEE) -> None:
    found = stored(folder)
    for document in corpus.records:
        passages = [record for record in found.values() if record.fields["document"] == document.id]
        passages.sort(key=lambda record: int(record.fields["chunk"] or 0))
        assert [record.id for record in passages] == [f"{document.id}#{number}" for number in range(len(passages))]
        spans = [slice(record.fields["start"], record.fields["end"]) for record in passages]
        assert "".join(document.text[span] for span in spans) == document.text
        for record, span in zip(passages, spans, strict=True):
            assert record.text == document.text[span].strip()
            assert {name: record.fields[name] for name in document.fields} == document.fields
    assert len(fake.with_settings(truncate="error", max_length=48).encode([each.text for each in found.values()])) > 20
    assert read_manifest(folder).chunk == 48
    assert read_manifest(folder).sources[0].rows == 4


def test_search_finds_the_passage_or_the_best_of_each_document(folder: Path, fake: MoEE) -> None:
    asked = stored(folder)["t1#3"].text
    with Searcher.open(folder, model=fake) as searcher:
        hits = searcher.search(asked, len(searcher))
        best = searcher.search(asked, 3, per_document=True)
    assert (hits[0].record.id, hits[0].record.fields["document"]) == ("t1#3", "t1")
    documents = list(dict.fromkeys(hit.record.fields["document"] for hit in hits))
    assert [hit.record.fields["document"] for hit in best] == documents[:3]
    assert [hit.record.id for hit in best] == [
        next(hit.record.id for hit in hits if hit.record.fields["document"] == document) for document in documents[:3]
    ]


def test_an_addition_replaces_documents_and_embeds_only_passages_that_changed(
    folder: Path, corpus: Corpus, fake: MoEE
) -> None:
    before = stored(folder)
    shorter = corpus.records[0].text[: int(before["t0#3"].fields["end"] or 0)]
    changed = with_texts(corpus, {"t0": shorter, "t2": corpus.records[2].text + "\n\nA last word is added."})
    with Searcher.open(folder, model=fake) as searcher:
        added = add_texts(searcher, changed)
        again = add_texts(searcher, changed)
    after = stored(folder)
    new = [name for name, record in after.items() if name not in before or before[name].text != record.text]
    assert 0 < added.num_embedded == len(new) < 12
    assert (
        "".join(
            shorter[after[f"t0#{n}"].fields["start"] : after[f"t0#{n}"].fields["end"]]
            for n in range(20)
            if f"t0#{n}" in after
        )
        == shorter
    )
    assert sum(record.fields["document"] == "t0" for record in after.values()) <= 5
    assert {name for name in after if name.startswith("t1#")} == {name for name in before if name.startswith("t1#")}
    assert (again.num_embedded, again.num_updated, again.num_records) == (0, 0, len(after))


def test_documents_are_deleted_with_all_their_passages(folder: Path) -> None:
    before = stored(folder)
    with open_index(folder) as index:
        deleted, unknown = delete_documents(index.store, ["t1", "t9", "t1"])
    after = stored(folder)
    assert unknown == ["t9"]
    assert deleted == len(before) - len(after) > 5
    assert not any(record.fields["document"] == "t1" for record in after.values())


def test_a_build_goes_on_with_the_same_chunk_and_no_other(fake: MoEE, corpus: Corpus, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    first = build_index(folder, corpus, fake, CHUNKED)
    again = build_index(folder, corpus, fake, CHUNKED)
    assert (again.num_embedded, again.num_kept) == (0, first.num_records)
    for options, now in ((BuildOptions(chunk=64), "64"), (BuildOptions(), "None")):
        with pytest.raises(InputError, match=f"chunk was 48 and is {now} now"):
            build_index(folder, corpus, fake, options)


def test_many_passages_of_a_document_are_all_found(fake: MoEE, corpus: Corpus, tmp_path: Path) -> None:
    long = with_texts(corpus, {"t0": " ".join(f"Sentence {number} of many words." for number in range(900))})
    build_index(tmp_path / "index", long, fake, BuildOptions(chunk=32))
    with open_index(tmp_path / "index") as index:
        names = passages_of(index.store, "t0")
        assert len(names) > 128
        assert names == [f"t0#{number}" for number in range(len(names))]


def test_what_cannot_be_asked_is_said(fake: MoEE, corpus: Corpus, tmp_path: Path) -> None:
    clash = replace(corpus, fields={**corpus.fields, "start": "integer"})
    with pytest.raises(InputError, match=f"'start' is one that every passage gets .{', '.join(PASSAGE_FIELDS)}."):
        build_index(tmp_path / "index", clash, fake, CHUNKED)
    with pytest.raises(InputError, match="chunk is 5 tokens, and the prompt takes"):
        build_index(tmp_path / "index", corpus, fake, BuildOptions(chunk=5))
    assert not (tmp_path / "index").exists()
    build_index(tmp_path / "index", corpus, fake)
    with (
        Searcher.open(tmp_path / "index", model=fake) as searcher,
        pytest.raises(InputError, match=r"holds whole texts.*--chunk 256"),
    ):
        searcher.search("a", per_document=True)


@pytest.mark.parametrize("kind", ["flat", "lancedb"])
def test_pooled_texts_have_one_record_with_the_vector_of_encode(
    fake: MoEE, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("moee.index.writer.POOLED_ROWS", 3)
    options = BuildOptions(store=StoreSpec(kind), chunk=48, chunks="pool")
    built = build_index(tmp_path / "index", corpus, fake, options)
    assert (built.num_embedded, built.num_records) == (4, 4)
    texts = [record.text for record in corpus.records]
    with Searcher.open(tmp_path / "index", model=fake) as searcher:
        hits = {hit.record.id: hit for hit in searcher.search("a question", 4)}
        assert [hits[record.id].record.text for record in corpus.records] == texts
        vectors = searcher.embedder.encode_document(texts, chunk=48)
        expected = fake.similarity(searcher.embedder.encode_query("a question"), vectors)[0]
        assert [hits[record.id].score for record in corpus.records] == pytest.approx(list(expected), abs=1e-5)
        longer = with_texts(corpus, {"t3": texts[3] + " " + texts[2]})
        added = add_texts(searcher, longer)
        assert (added.num_embedded, added.num_records) == (1, 4)
        (found,) = searcher.search("a question", 1, where="number == 3")
        expected = fake.similarity(
            searcher.embedder.encode_query("a question"),
            searcher.embedder.encode_document(longer.records[3].text, chunk=48),
        )
        assert found.score == pytest.approx(float(expected[0, 0]), abs=1e-5)
    assert build_index(tmp_path / "other", corpus, fake, options).num_embedded == 4
    assert build_index(tmp_path / "other", corpus, fake, options).num_embedded == 0
    with pytest.raises(InputError, match="chunks was 'pool' and is 'keep' now"):
        build_index(tmp_path / "other", corpus, fake, replace(options, chunks="keep"))


def test_pooling_needs_passages(fake: MoEE) -> None:
    with pytest.raises(InputError, match=r"there are none\. Give chunk=256 \(--chunk 256\)"):
        BuildOptions(chunks="pool")
    with pytest.raises(InputError, match=r"Unknown value of chunks 'mean'\. Choose from: keep, pool"):
        BuildOptions(chunk=48, chunks="mean")
