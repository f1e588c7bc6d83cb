from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from moee import MoEE
from moee.backends.fake import FakeBackend
from moee.errors import InputError, NonFiniteActivationsError, OutputError, UnknownNameError
from moee.index.build import add_texts, build_index, parts_of
from moee.index.fit import SAMPLE_ROWS, BuildOptions
from moee.index.folder import open_index
from moee.index.manifest import read_manifest
from moee.index.records_from_file import Corpus, read_corpus
from moee.index.searcher import Searcher
from moee.method.fusion import join_blocks
from moee.method.moments import spread
from moee.stores.registry import StoreSpec
from moee.types import Activations, CapturePlan
from tests.index.conftest import WEIGHTS, WriteCorpus


def contents(folder: Path) -> dict[str, tuple[str, dict[str, object], bytes]]:
    """Every record of an index by its id, with its vector."""
    with open_index(folder) as index:
        return {
            record.id: (record.text, dict(record.fields), vector.tobytes())
            for batch in index.store.scan()
            for record, vector in zip(batch.records, batch.vectors, strict=True)
        }


def changed(corpus: Corpus, texts: dict[str, str]) -> Corpus:
    """The corpus with other texts under some ids."""
    records = [replace(record, text=texts.get(record.id, record.text)) for record in corpus.records]
    return replace(corpus, records=records)


def test_an_index_holds_every_text_with_its_fields_and_blocks(
    fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path
) -> None:
    corpus = write_corpus()
    built = build_index(tmp_path / "index", corpus, fake)
    assert (built.num_records, built.num_embedded, built.num_kept) == (400, 400, 0)
    found = contents(tmp_path / "index")
    assert {name: (text, fields) for name, (text, fields, _) in found.items()} == {
        record.id: (record.text, dict(record.fields)) for record in corpus.records
    }
    model = MoEE.from_pretrained(tmp_path / "index" / "embedder")
    views = model.encode_views([record.text for record in corpus.records])
    expected = join_blocks(model.space().units(views))
    vectors = np.stack([np.frombuffer(found[record.id][2], np.float32) for record in corpus.records])
    assert np.abs(vectors - expected).max() < 1e-6
    assert not parts_of(tmp_path / "index").exists()


def test_statistics_are_built_in_unless_the_corpus_own_are_asked_for(write_corpus: WriteCorpus, tmp_path: Path) -> None:
    model = MoEE.from_pretrained("fake", fusion="sum", alpha="slope")
    built = build_index(tmp_path / "index", write_corpus(), model)
    assert built.manifest.calibrate == "builtin"
    own = build_index(tmp_path / "own", write_corpus(), model, BuildOptions(calibrate="corpus"))
    assert own.manifest.calibrate == "corpus"
    assert model.calibration is None, "the caller's model keeps its own"
    kept = MoEE.from_pretrained(tmp_path / "own" / "embedder").calibration
    assert kept is not None
    assert (kept.texts, kept.num_texts) == ("corpus", 400)
    assert own.manifest.alpha == kept.alpha(model.config.calibration, "slope")


def test_statistics_that_were_fitted_for_the_embedder_are_kept(write_corpus: WriteCorpus, tmp_path: Path) -> None:
    model = MoEE.from_pretrained("fake")
    model.calibrate([f"text {number}" for number in range(50)])
    built = build_index(tmp_path / "index", write_corpus(), model)
    assert built.manifest.calibrate == "kept"
    assert MoEE.from_pretrained(tmp_path / "index" / "embedder").calibration.num_texts == 50
    anew = build_index(tmp_path / "other", write_corpus(), model, BuildOptions(calibrate="corpus"))
    assert anew.manifest.calibrate == "corpus"
    assert model.calibration.num_texts == 50


@pytest.mark.parametrize(
    ("num_texts", "asked", "whose"),
    [(300, None, "builtin"), (120, "corpus", "corpus"), (300, "builtin", "builtin"), (300, "none", "none")],
)
def test_statistics_can_be_chosen(
    fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path, num_texts: int, asked: str | None, whose: str
) -> None:
    built = build_index(tmp_path / "index", write_corpus(num_texts), fake, BuildOptions(calibrate=asked))
    assert built.manifest.calibrate == whose
    kept = MoEE.from_pretrained(tmp_path / "index" / "embedder")
    if whose == "none":
        assert (kept.config.calibration, kept.calibration) == ("none", None)
    else:
        assert kept.calibration.texts == whose


def test_building_again_does_nothing(fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path) -> None:
    corpus = write_corpus()
    build_index(tmp_path / "index", corpus, fake)
    before = contents(tmp_path / "index")
    again = build_index(tmp_path / "index", corpus, fake)
    assert (again.num_embedded, again.num_kept, again.num_records) == (0, 400, 400)
    assert contents(tmp_path / "index") == before


def test_queries_and_documents_have_prompts_and_statistics_of_their_own(
    write_corpus: WriteCorpus, tmp_path: Path
) -> None:
    model = MoEE.from_pretrained("fake", query_prompt="Question: {text}", document_prompt="Answer: {text}")
    corpus = write_corpus()
    build_index(tmp_path / "index", corpus, model)
    saved = MoEE.from_pretrained(tmp_path / "index" / "embedder")
    texts = [record.text for record in corpus.records]
    documents, query = saved.encode_document(texts, alpha=0.5), saved.encode_query("a cell divides", alpha=0.5)
    with Searcher.open(tmp_path / "index") as searcher:
        hits = searcher.search("a cell divides", k=400, alpha=0.5)
    expected = dict(zip([record.id for record in corpus.records], documents @ query, strict=True))
    assert {hit.record.id for hit in hits} == set(expected)
    assert max(abs(hit.score - expected[hit.record.id]) for hit in hits) < 1e-5


@pytest.mark.parametrize("method", ["pca", "random"])
def test_vectors_are_shortened_for_documents_and_queries_alike(
    fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path, method: str
) -> None:
    corpus = write_corpus()
    built = build_index(tmp_path / "index", corpus, fake, BuildOptions(dims=12, reduction=method))
    layout = built.manifest.layout
    assert layout.dim == 12
    with Searcher.open(tmp_path / "index") as searcher:
        best = searcher.search(corpus.records[7].text, k=1, alpha=1)[0]
    assert best.record.id == "t7"
    assert (best.score, best.hidden, best.routing) == pytest.approx((1, 1, 1), abs=1e-5)


@pytest.mark.parametrize(("name", "error"), [("int8", 0.01), ("binary", 0.02)])
def test_codes_find_a_text_by_itself(
    fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path, name: str, error: float
) -> None:
    corpus = write_corpus()
    build_index(tmp_path / "index", corpus, fake, BuildOptions(quantize=name))
    with Searcher.open(tmp_path / "index") as searcher:
        for row in (0, 99, 398):
            hits = searcher.search(corpus.records[row].text, k=5)
            own = next(hit for hit in hits if hit.record.id == f"t{row}")
            assert own.hidden == pytest.approx(1, abs=error)
            assert own.routing == pytest.approx(1, abs=error)


def test_shortened_vectors_are_turned_before_they_are_rounded_to_bits(
    fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path
) -> None:
    for quantize, is_turned in (("binary", True), ("int8", False), (None, False)):
        build_index(tmp_path / f"{quantize}", write_corpus(), fake, BuildOptions(dims=16, quantize=quantize))
        with open_index(tmp_path / f"{quantize}") as index:
            assert index.reducer.is_turned is is_turned


def test_a_report_is_kept_with_the_index(fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path) -> None:
    options = BuildOptions(dims=16, quantize="int8", report=True)
    built = build_index(tmp_path / "index", write_corpus(), fake, options)
    assert (built.report.num_fitted, built.report.num_queries + built.report.num_documents) == (300, 100)
    chosen = next(loss for loss in built.report.losses if loss.is_chosen)
    assert (sum(chosen.dims.values()), chosen.stored) == (16, "int8")
    assert json.loads((tmp_path / "index" / "report.json").read_text()) == json.loads(json.dumps(asdict(built.report)))
    build_index(tmp_path / "other", write_corpus(), fake, replace(options, report=False))
    with pytest.raises(InputError, match="begun without a report"):
        build_index(tmp_path / "other", write_corpus(), fake, options)


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"prompt": "ke"}, {}, "prompt was 'prompteol' and is 'ke' now"),
        ({"query_prompt": "ke"}, {}, "query_prompt was None and is 'ke' now"),
        ({"calibration": "spectral"}, {}, "calibration was 'zscore' and is 'spectral' now"),
        ({"scoring": "logits"}, {}, "scoring was 'softmax' and is 'logits' now"),
        ({}, {"dims": 8}, "dims was None and is 8 now; reduction was None and is 'pca' now"),
        ({}, {"quantize": "int8"}, "quantize was None and is 'int8' now"),
        ({}, {"calibrate": "corpus"}, "calibrate was 'builtin' and is 'corpus' now"),
        ({}, {"store": StoreSpec("lancedb")}, "store was StoreSpec.*'flat'.* is StoreSpec.*'lancedb'"),
    ],
)
def test_going_on_in_another_way_is_refused_with_both_values(
    fake: MoEE,
    write_corpus: WriteCorpus,
    tmp_path: Path,
    settings: dict[str, str],
    options: dict[str, object],
    message: str,
) -> None:
    corpus = write_corpus()
    build_index(tmp_path / "index", corpus, fake)
    with pytest.raises(InputError, match=rf"was begun in another way: .*{message}"):
        build_index(tmp_path / "index", corpus, fake.with_settings(**settings), BuildOptions(**options))


def test_going_on_with_other_columns_is_refused(fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path) -> None:
    build_index(tmp_path / "index", write_corpus(), fake)
    with pytest.raises(InputError, match=r"fields was \['kind', 'number'\] and is \['kind'\] now"):
        build_index(tmp_path / "index", write_corpus(fields=("kind",)), fake)


def test_another_model_is_refused_with_both(fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path) -> None:
    corpus = write_corpus(60)
    build_index(tmp_path / "index", corpus, fake)
    other = MoEE.from_pretrained(Path(__file__).parents[1] / "golden" / "olmoe-tiny", dtype="float32")
    with pytest.raises(InputError, match=r"built with the model 'fake' .* cannot be used with '.*olmoe-tiny'"):
        build_index(tmp_path / "index", corpus, other)
    with pytest.raises(InputError, match=r"built with the model 'fake' .* cannot be used with '.*olmoe-tiny'"):
        Searcher.open(tmp_path / "index", model=other)


def test_a_changed_or_another_file_is_noticed_and_explained(
    fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path
) -> None:
    corpus = write_corpus()
    build_index(tmp_path / "index", corpus, fake)
    with pytest.raises(InputError, match=r"changed since .* 400 records then .* 400 now .*moee index add"):
        build_index(tmp_path / "index", changed(corpus, {"t5": "something else"}), fake)
    with pytest.raises(InputError, match=r"was begun from '.*texts.jsonl', not from '.*other.jsonl'.*moee index add"):
        build_index(tmp_path / "index", write_corpus(name="other.jsonl"), fake)


def test_folders_that_hold_something_else_are_left_alone(fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not empty and holds no index"):
        build_index(tmp_path / "full", write_corpus(), fake)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="there is a file of that name"):
        build_index(tmp_path / "file", write_corpus(), fake)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"recipe": "paper"}, "calibration='batch'.*cannot be kept in an index"), ({"fusion": "concat"}, "'concat'.*sum")],
)
def test_embedders_whose_vectors_cannot_be_kept_are_refused(
    write_corpus: WriteCorpus, tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    model = MoEE.from_pretrained("fake", **settings)
    with pytest.raises(InputError, match=message):
        build_index(tmp_path / "index", write_corpus(), model)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"calibrate": "mine"}, UnknownNameError, "Unknown calibrate 'mine'"),
        ({"reduction": "svd"}, UnknownNameError, "Unknown reduction 'svd'"),
        ({"quantize": "int4"}, UnknownNameError, "Unknown quantisation 'int4'"),
        ({"dims": 1}, InputError, "dims is 1; it must be 2 or larger"),
        ({"quantize": "int8", "store": StoreSpec("lancedb")}, InputError, "'lancedb' keeps float32 vectors alone"),
    ],
)
def test_unusable_options_are_refused_before_a_model_is_needed(
    values: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        BuildOptions(**values)


@pytest.mark.parametrize(
    ("num_texts", "options", "message"),
    [
        (400, {"dims": 64}, "64 dimensions were asked for; allowed are 2 to 23"),
        (10, {"dims": 20}, r"10 texts give the directions hs 9 \+ rw \d+"),
        (100, {"report": True}, "measured on 25 held-out texts"),
        (1, {"quantize": "int8"}, "at least 2 texts, and got 1"),
    ],
)
def test_corpora_too_small_for_what_is_asked_are_refused(
    fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path, num_texts: int, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_index(tmp_path / "index", write_corpus(num_texts), fake, BuildOptions(**options))
    assert not (tmp_path / "index").exists()


def test_an_addition_embeds_only_what_is_new_or_changed(fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path) -> None:
    build_index(tmp_path / "index", write_corpus(300), fake)
    before = contents(tmp_path / "index")
    larger = changed(write_corpus(320, name="more.jsonl"), {"t3": "a new sentence", "t4": "another"})
    with Searcher.open(tmp_path / "index", model=fake) as searcher:
        added = add_texts(searcher, larger)
        assert (added.num_embedded, added.num_kept, added.num_records) == (22, 298, 320)
        assert searcher.search("a new sentence", k=1)[0].record.id == "t3"
        again = add_texts(searcher, larger)
    assert (again.num_embedded, again.num_kept) == (0, 320)
    after = contents(tmp_path / "index")
    assert {name for name in before if before[name] != after[name]} == {"t3", "t4"}
    manifest = read_manifest(tmp_path / "index")
    assert [(Path(source.path).name, source.is_complete) for source in manifest.sources] == [
        ("texts.jsonl", True), ("more.jsonl", True),
    ]  # fmt: skip


@pytest.mark.parametrize(("quantize", "embedded"), [(None, 0), ("int8", 0), ("binary", 2)])
def test_new_fields_alone_keep_the_vectors(
    fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path, quantize: str | None, embedded: int
) -> None:
    corpus = write_corpus(300)
    build_index(tmp_path / "index", corpus, fake, BuildOptions(quantize=quantize))
    before = contents(tmp_path / "index")
    fields = {"t1": {"number": 1, "kind": "prime"}, "t2": {"number": None, "kind": "even"}}
    records = [replace(record, fields=fields.get(record.id, record.fields)) for record in corpus.records]
    with Searcher.open(tmp_path / "index", model=fake) as searcher:
        added = add_texts(searcher, replace(corpus, records=records))
    assert (added.num_embedded, added.num_updated) == (embedded, 2 - embedded)
    after = contents(tmp_path / "index")
    assert {name: values[1] for name, values in after.items() if values != before[name]} == fields
    assert all(before[name][2] == after[name][2] for name in before)


class OverflowingBackend(FakeBackend):
    """Overflows on texts that hold one word."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self._token = self.tokenize([word])[0][0]

    def forward(self, sequences: Sequence[Sequence[int]], plan: CapturePlan) -> Activations:
        for row, sequence in enumerate(sequences):
            if self._token in sequence:
                raise NonFiniteActivationsError(row=row, what="hidden state")
        return super().forward(sequences, plan)


def test_a_failure_keeps_what_was_finished_and_the_same_call_goes_on(fake: MoEE, tmp_path: Path) -> None:
    """The model overflows on a text that is not in the sample: batches before it stay, and the row is named."""
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"number {row}\n" for row in range(4100)))
    corpus = read_corpus(str(path))
    row = int(np.setdiff1d(np.arange(4100), spread(4100, SAMPLE_ROWS))[-1])
    bad = MoEE(OverflowingBackend(f"{row}"), fake.config, batch_tokens=30)
    with pytest.raises(NonFiniteActivationsError, match=rf"Text {row} \('number {row}'\): the hidden state"):
        build_index(tmp_path / "index", corpus, bad)
    with open_index(tmp_path / "index") as index:
        there = len(index.store)
        assert SAMPLE_ROWS <= there < 4100
        assert index.manifest.unfinished
    built = build_index(tmp_path / "index", corpus, fake)
    assert (built.num_embedded, built.num_records) == (4100 - there, 4100)


def test_empty_texts_are_refused_with_the_line_before_anything_is_written(fake: MoEE, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    with pytest.raises(InputError, match=r"on line 2 of .* is empty"):
        build_index(tmp_path / "index", read_corpus(str(tmp_path / "a.txt")), fake)
    assert not (tmp_path / "index").exists()
    assert not parts_of(tmp_path / "index").exists()


def test_every_view_that_counts_is_stored_and_those_that_do_not_are_left_out(
    of_four_views: MoEE, write_corpus: WriteCorpus, tmp_path: Path
) -> None:
    corpus = write_corpus(60)
    for number, (weights, views) in enumerate(
        [
            (WEIGHTS, ["hs", "rw", "tokens", "lexical"]),
            ({"lexical": 1.0}, ["hs", "rw", "lexical"]),
            ({"hs": 1.0, "tokens": 0.5, "lexical": 0.0}, ["hs", "rw", "tokens"]),
        ]
    ):
        folder = tmp_path / str(number)
        model = of_four_views.with_settings(weights=weights)
        built = build_index(folder, corpus, model)
        assert list(built.manifest.layout.dims) == views
        stored = MoEE.from_pretrained(folder / "embedder")
        expected = join_blocks(stored.space().units(stored.encode_views([record.text for record in corpus.records])))
        found = contents(folder)
        vectors = np.stack([np.frombuffer(found[record.id][2], np.float32) for record in corpus.records])
        np.testing.assert_allclose(vectors, expected, atol=1e-6)


@pytest.mark.parametrize("quantize", [None, "int8", "binary"])
def test_four_views_can_be_shortened_and_rounded(
    of_four_views: MoEE, write_corpus: WriteCorpus, tmp_path: Path, quantize: str | None
) -> None:
    corpus = write_corpus(200)
    options = BuildOptions(dims=40, quantize=quantize, report=True)
    built = build_index(tmp_path / "index", corpus, of_four_views, options)
    assert (list(built.manifest.layout.dims), built.manifest.layout.dim) == (list(WEIGHTS), 40)
    assert built.report is not None
    assert built.report.weights == WEIGHTS
    with Searcher.open(tmp_path / "index", model=of_four_views) as searcher:
        for record in corpus.records[:5]:
            best = searcher.search(record.text, 1)[0]
            assert (best.record.id, list(best.cosines)) == (record.id, list(WEIGHTS))
            assert best.score == pytest.approx(1, abs=0.02)
