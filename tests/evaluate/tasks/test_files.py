"""Folders to typed data: what each file becomes, and what is said of a file that cannot be used."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moee.errors import UnknownNameError
from moee.evaluate.tasks import (
    ClassificationData,
    ClusteringData,
    DataError,
    DocumentSimilarityData,
    PairData,
    RerankingData,
    RetrievalData,
    STSData,
    SummarizationData,
    TaskData,
    check_folder,
    load_task,
    task_row,
)
from tests.evaluate.conftest import write_set
from tests.evaluate.tasks.miniatures import MINIATURES

Files = dict[str, list[dict[str, Any]]]

STS: Files = {
    "test": [
        {"sentence1": "a", "sentence2": "b", "score": 1},
        {"sentence1": "b", "sentence2": "c", "score": 2.5},
        {"sentence1": "a", "sentence2": "a", "score": 5.0},
    ]
}
PAIRS: Files = {
    "test": [{"sentence1": "a", "sentence2": "b", "label": 1}, {"sentence1": "c", "sentence2": "a", "label": 0}]
}
CLASSES: Files = {
    "train": [{"text": "a", "label": 2, "label_text": "two"}, {"text": "b", "label": 0, "label_text": "none"}],
    "test": [{"text": "c", "label": 0}, {"text": "b", "label": 2}],
}
CLUSTERS: Files = {
    "data": [{"text": text, "label": place % 2, "label_text": "eo"[place % 2]} for place, text in enumerate("abcadef")],
    "sets": [{"set": 0, "rows": [0, 1, 2, 3, 4]}, {"set": 1, "rows": [6, 5, 3]}],
}
RANKS: Files = {
    "test": [
        {"query": "q", "positive": ["a"], "negative": ["b", "c"]},
        {"query": "r", "positive": ["c", "q"], "negative": ["a"]},
    ]
}
SEARCH: Files = {
    "queries": [{"_id": "q1", "text": "one"}, {"_id": "q2", "text": "two"}, {"_id": "q3", "text": "three"}],
    "corpus": [{"_id": f"d{n}", "title": "T" if n == 1 else "", "text": f"text {n}"} for n in range(6)],
    "qrels": [
        {"query_id": "q1", "doc_id": "d4", "score": 2},
        {"query_id": "q1", "doc_id": "d1", "score": 0},
        {"query_id": "q2", "doc_id": "d5", "score": 1},
        {"query_id": "q3", "doc_id": "d3", "score": 1},
    ],
}
SUMMARIES: Files = {
    "test": [
        {"text": "", "human_summaries": ["a", "b"], "machine_summaries": ["b", "c", "d"], "relevance": [1, 2.5, 3]},
        {"text": "", "human_summaries": ["e"], "machine_summaries": ["a", "e"], "relevance": [4.0, 5.0]},
    ]
}
DOCUMENTS: Files = {
    "test": [
        {"id": 0, "text": "a", "similarity_to": [1.0, 0.2, 0.3]},
        {"id": 1, "text": "b", "similarity_to": [0.2, 1.0, 0.5]},
        {"id": 2, "text": "c", "similarity_to": [0.3, 0.5, 1.0]},
    ]
}
SETS: dict[str, Files] = {
    "STS12": STS,
    "TwitterSemEval2015": PAIRS,
    "EmotionClassification": CLASSES,
    "TwentyNewsgroupsClustering": CLUSTERS,
    "WikiQA": RANKS,
    "SciFact": SEARCH,
    "SummEval": SUMMARIES,
    "Lee50": DOCUMENTS,
}


def written(data: Path, name: str, files: Files | None = None) -> Path:
    return write_set(data, name, task_row(name).task_type, SETS[name] if files is None else files)


def loaded(data: Path, name: str, files: Files | None = None, **options: Any) -> Any:
    """Write a set and read it; `Any`, so that a test may name the fields of the type that it expects."""
    return load_task(written(data, name, files), name, **options)


def changed(files: Files, stem: str, row: int, **fields: Any) -> Files:
    """Return the files with some fields of a row changed; a field of None goes."""
    rows = [dict(each) for each in files[stem]]
    rows[row] = {key: value for key, value in {**rows[row], **fields}.items() if value is not None}
    return {**files, stem: rows}


# --- values --------------------------------------------------------------------------------------------------------


def test_scored_pairs(tmp_path: Path) -> None:
    data = loaded(tmp_path, "STS12")
    assert isinstance(data, STSData)
    assert (data.name, data.task_type, data.texts) == ("STS12", "STS", ("a", "b", "c"))
    assert data.left.tolist() == [0, 1, 0]
    assert data.right.tolist() == [1, 2, 0]
    assert data.scores.tolist() == [1.0, 2.5, 5.0]
    assert data.groups == ()
    assert (data.left.dtype, data.scores.dtype) == (np.int64, np.float64)


def test_scored_pairs_may_have_groups(tmp_path: Path) -> None:
    rows = [{**row, "set": name} for row, name in zip(STS["test"], ("x", "y", "x"), strict=True)]
    assert loaded(tmp_path, "WordSimilarity", {"test": rows}).groups == ("x", "y", "x")


def test_the_split_names_the_file(tmp_path: Path) -> None:
    folder = written(tmp_path, "STSBenchmark", {**STS, "dev": STS["test"][:2]})
    assert len(load_task(folder, "STSBenchmark", split="dev").scores) == 2  # type: ignore[attr-defined]
    assert len(load_task(folder, "STSBenchmark").scores) == 3  # type: ignore[attr-defined]


def test_labelled_pairs(tmp_path: Path) -> None:
    data = loaded(tmp_path, "TwitterSemEval2015")
    assert isinstance(data, PairData)
    assert data.texts == ("a", "c", "b")
    assert (data.left.tolist(), data.right.tolist(), data.labels.tolist()) == ([0, 1], [2, 0], [1, 0])


def test_classes(tmp_path: Path) -> None:
    data = loaded(tmp_path, "EmotionClassification")
    assert isinstance(data, ClassificationData)
    assert [data.texts[row] for row in data.train] == ["a", "b"]
    assert [data.texts[row] for row in data.test] == ["c", "b"]
    assert len(data.texts) == 3
    assert (data.train_labels.tolist(), data.test_labels.tolist()) == ([2, 0], [0, 2])
    assert data.label_names == ("none", "1", "two")  # a label that no row has is its number


def test_clusters(tmp_path: Path) -> None:
    data = loaded(tmp_path, "TwentyNewsgroupsClustering")
    assert isinstance(data, ClusteringData)
    assert [data.texts[row] for row in data.rows] == list("abcadef")
    assert len(data.texts) == 6
    assert data.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert [rows.tolist() for rows in data.sets] == [[0, 1, 2, 3, 4], [6, 5, 3]]
    assert data.label_names == ("e", "o")


def test_candidates(tmp_path: Path) -> None:
    data = loaded(tmp_path, "WikiQA")
    assert isinstance(data, RerankingData)

    def named(rows: Any) -> list[str]:
        return [data.texts[row] for row in rows]

    assert named(data.queries) == ["q", "r"]
    assert [named(rows) for rows in data.positives] == [["a"], ["c", "q"]]
    assert [named(rows) for rows in data.negatives] == [["b", "c"], ["a"]]
    assert len(data.texts) == 5


def test_searches(tmp_path: Path) -> None:
    data = loaded(tmp_path, "SciFact")
    assert isinstance(data, RetrievalData)
    assert [data.texts[row] for row in data.queries] == ["one", "two", "three"]
    assert [data.texts[row] for row in data.documents] == ["text 0", "T text 1", *(f"text {n}" for n in range(2, 6))]
    assert data.query_ids == ("q1", "q2", "q3")
    assert data.document_ids == tuple(f"d{n}" for n in range(6))
    assert data.relevance == {"q1": {"d4": 2, "d1": 0}, "q2": {"d5": 1}, "q3": {"d3": 1}}


def test_summaries(tmp_path: Path) -> None:
    data = loaded(tmp_path, "SummEval")
    assert isinstance(data, SummarizationData)
    assert [[data.texts[row] for row in rows] for rows in data.human] == [["a", "b"], ["e"]]
    assert [[data.texts[row] for row in rows] for rows in data.machine] == [["b", "c", "d"], ["a", "e"]]
    assert [ratings.tolist() for ratings in data.relevance] == [[1.0, 2.5, 3.0], [4.0, 5.0]]
    assert len(data.texts) == 5


def test_documents(tmp_path: Path) -> None:
    data = loaded(tmp_path, "Lee50")
    assert isinstance(data, DocumentSimilarityData)
    assert [data.texts[row] for row in data.documents] == ["a", "b", "c"]
    assert data.similarity.tolist() == [row["similarity_to"] for row in DOCUMENTS["test"]]


def test_files_without_compression_and_blank_lines_are_read(tmp_path: Path) -> None:
    folder = written(tmp_path, "STS12", {})
    (folder / "test.jsonl").write_text("\n" + "\n\n".join(json.dumps(row) for row in STS["test"]) + "\n\n")
    assert load_task(folder, "STS12").texts == ("a", "b", "c")


@pytest.mark.parametrize("name", MINIATURES)
def test_every_index_points_at_a_text_and_every_text_is_used(miniatures: Path, name: str) -> None:
    data = load_task(miniatures / name, name)
    assert len(set(data.texts)) == len(data.texts)
    assert sorted(used_rows(data)) == list(range(len(data.texts)))


def used_rows(data: TaskData) -> set[int]:
    """Every row of `texts` that a field of a task names."""
    found: list[Any] = []
    for field in ("left", "right", "train", "test", "rows", "queries", "documents"):
        found.append(getattr(data, field, []))
    for field in ("positives", "negatives", "human", "machine"):
        found.extend(getattr(data, field, []))
    return {int(row) for rows in found for row in rows}


# --- folders and files that cannot be used -------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_a_missing_folder_and_a_missing_file_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"{name}: no folder .*{name}"):
        load_task(tmp_path / name, name)
    folder = written(tmp_path, name)
    for stem in SETS[name]:
        path = folder / f"{stem}.jsonl.gz"
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(DataError, match=rf"{name} has no file {stem}\.jsonl\.gz; it holds \[.*dataset\.json"):
            load_task(folder, name)
        path.write_bytes(content)
    load_task(folder, name)


@pytest.mark.parametrize("name", SETS)
def test_an_empty_file_is_named(tmp_path: Path, name: str) -> None:
    for number, stem in enumerate(SETS[name]):
        with pytest.raises(DataError, match=rf"{stem}\.jsonl\.gz holds no rows"):
            loaded(tmp_path / str(number), name, {**SETS[name], stem: []})


def test_a_folder_without_sets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        check_folder(tmp_path / "absent")
    with pytest.raises(DataError, match="holds no evaluation set"):
        check_folder(tmp_path)
    written(tmp_path, "STS12")
    check_folder(tmp_path)


def test_an_unknown_task_is_answered_with_close_names(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown task 'STS-12'.*Did you mean .*'STS12'"):
        load_task(tmp_path, "STS-12")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"task_type": "Clustering"}', "'task_type' is 'Clustering'; the task STS12 is of type 'STS'"),
        (b"{}", "'task_type' is None"),
        (b"{", "is missing or not a JSON object"),
        (b"[]", "is missing or not a JSON object"),
        (b"\xff\xfe", "is missing or not a JSON object"),
        (None, "is missing or not a JSON object"),
    ],
)
def test_a_wrong_description_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    folder = written(tmp_path, "STS12")
    path = folder / "dataset.json"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"dataset\.json.*{message}"):
        load_task(folder, "STS12")


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x55]) + content[middle + 1 :]


def no_archive(content: bytes) -> bytes:
    return b"not gzip"


def no_utf8(content: bytes) -> bytes:
    return gzip.compress(b'{"sentence1": "\xff"}\n')


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, no_archive, no_utf8])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    rows = [{"sentence1": f"l {n * 7919}", "sentence2": f"r {n * 104729}", "score": n} for n in range(300)]
    folder = written(tmp_path, "STS12", {"test": rows})
    path = folder / "test.jsonl.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"test\.jsonl\.gz(, line \d+ is not valid| cannot be read after line \d+)"):
        load_task(folder, "STS12")


def test_every_flipped_bit_of_an_archive_is_noticed_or_harmless(tmp_path: Path) -> None:
    """A damaged archive never ends in another kind of error, wherever the damage lies."""
    folder = written(tmp_path, "STS12")
    path = folder / "test.jsonl.gz"
    good, wanted, noticed = path.read_bytes(), load_task(folder, "STS12"), 0
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :])
        try:
            assert load_task(folder, "STS12").texts == wanted.texts  # the archive's own name and time tell nothing
        except DataError:
            noticed += 1
    assert noticed > len(good) // 2


@pytest.mark.parametrize(
    ("line", "message"),
    [('{"sentence1": "a"', "is not valid JSON: .* at column 18"), ('["a", "b", 3]', "not a JSON object")],
)
def test_a_line_that_is_no_json_object_is_numbered(tmp_path: Path, line: str, message: str) -> None:
    folder = written(tmp_path, "STS12", {})
    rows = [json.dumps(row) for row in STS["test"]]
    (folder / "test.jsonl").write_text("\n".join([rows[0], "", rows[1], line, rows[2]]) + "\n")
    with pytest.raises(DataError, match=rf"test\.jsonl, line 4\W* {message}"):
        load_task(folder, "STS12")


# --- fields that cannot be used ------------------------------------------------------------------------------------

NAN = float("nan")
WRONG_FIELDS: list[tuple[str, Files, str]] = [
    (
        "STS12",
        changed(STS, "test", 1, sentence2=None),
        r"test.*line 2: no field 'sentence2'; there are \['score', 'sen",
    ),
    ("STS12", changed(STS, "test", 1, sentence1=7), r"line 2: field 'sentence1' is 7, of type int; .* of type str"),
    ("STS12", changed(STS, "test", 2, score="5"), r"line 3: field 'score' is '5', of type str; .* int or float"),
    ("STS12", changed(STS, "test", 2, score=True), r"line 3: field 'score' is True, of type bool"),
    ("STS12", changed(STS, "test", 2, score=NAN), r"line 3: field 'score' is nan; it must be finite"),
    ("STS12", changed(STS, "test", 0, score=float("inf")), r"line 1: field 'score' is inf; it must be finite"),
    ("STS12", changed(STS, "test", 0, set="x"), r"line 2: no field 'set'"),
    ("TwitterSemEval2015", changed(PAIRS, "test", 1, label=2), r"test.*field 'label' holds \[2\]; pairs are labelled"),
    ("TwitterSemEval2015", changed(PAIRS, "test", 0, label=1.0), r"line 1: field 'label' is 1.0, of type float"),
    ("EmotionClassification", changed(CLASSES, "train", 1, label=None), r"train.*line 2: no field 'label'"),
    (
        "EmotionClassification",
        changed(CLASSES, "test", 1, text=["a"]),
        r"test.*line 2: field 'text' is .* of type list",
    ),
    ("EmotionClassification", changed(CLASSES, "test", 1, label=-1), r"test.*line 2: field 'label' is -1"),
    ("TwentyNewsgroupsClustering", changed(CLUSTERS, "sets", 1, rows=[0, 7]), r"sets.*line 2: .*lines 0 to 6 of data"),
    ("TwentyNewsgroupsClustering", changed(CLUSTERS, "sets", 1, rows=[-1]), r"sets.*line 2: .*lines 0 to 6 of data"),
    ("TwentyNewsgroupsClustering", changed(CLUSTERS, "sets", 0, rows=[]), r"sets.*line 1: .*lines 0 to 6 of data"),
    ("TwentyNewsgroupsClustering", changed(CLUSTERS, "sets", 0, rows=[0.5]), r"sets.*line 1: field 'rows' holds 0.5"),
    ("WikiQA", changed(RANKS, "test", 1, positive=[]), r"test.*line 2: needs at least one text in 'positive'"),
    ("WikiQA", changed(RANKS, "test", 0, negative="b"), r"test.*line 1: field 'negative' is 'b', of type str"),
    ("WikiQA", changed(RANKS, "test", 0, negative=["b", 3]), r"test.*line 1: field 'negative' holds 3"),
    ("SciFact", changed(SEARCH, "qrels", 2, doc_id="d9"), r"qrels.*line 3: field 'doc_id' is 'd9', which corpus"),
    ("SciFact", changed(SEARCH, "qrels", 2, query_id="q9"), r"qrels.*line 3: field 'query_id' is 'q9', which queries"),
    ("SciFact", changed(SEARCH, "corpus", 3, _id=3), r"corpus.*line 4: field '_id' is 3, of type int"),
    ("SciFact", changed(SEARCH, "qrels", 0, score=NAN), r"qrels.*line 1: field 'score' is nan"),
    ("SummEval", changed(SUMMARIES, "test", 1, relevance=[4.0]), r"line 2: 2 machine_summaries, .* holds 1 values"),
    ("SummEval", changed(SUMMARIES, "test", 1, relevance=[4.0, NAN]), r"line 2: field 'relevance' holds nan"),
    (
        "SummEval",
        changed(SUMMARIES, "test", 1, human_summaries=[None]),
        r"line 2: field 'human_summaries' holds None",
    ),
    (
        "Lee50",
        changed(DOCUMENTS, "test", 1, similarity_to=[1.0]),
        r"line 2: field 'similarity_to' holds 1 values; it must hold 3",
    ),
    (
        "Lee50",
        changed(DOCUMENTS, "test", 1, similarity_to=[0.2, 1.0, NAN]),
        r"line 2: field 'similarity_to' holds nan",
    ),
]


@pytest.mark.parametrize(("name", "files", "message"), WRONG_FIELDS)
def test_file_line_and_field_are_named(tmp_path: Path, name: str, files: Files, message: str) -> None:
    with pytest.raises(DataError, match=message):
        loaded(tmp_path, name, files)


BLANK_FIRST: list[tuple[str, str, Files, str]] = [
    ("SciFact", "qrels", changed(SEARCH, "qrels", 2, doc_id="d9"), r"line 4: field 'doc_id'"),
    ("WikiQA", "test", changed(RANKS, "test", 1, positive=[]), r"line 3: needs at least one"),
    ("TwentyNewsgroupsClustering", "sets", changed(CLUSTERS, "sets", 1, rows=[0, 7]), r"line 3: field 'rows'"),
    ("SummEval", "test", changed(SUMMARIES, "test", 1, relevance=[4.0]), r"line 3: 2 machine_summaries"),
    ("EmotionClassification", "test", changed(CLASSES, "test", 1, label=-1), r"line 3: field 'label' is -1"),
]


@pytest.mark.parametrize(("name", "stem", "files", "message"), BLANK_FIRST)
def test_lines_are_those_of_the_file_and_not_of_the_rows_kept(
    tmp_path: Path, name: str, stem: str, files: Files, message: str
) -> None:
    folder = written(tmp_path, name, files)
    path = folder / f"{stem}.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n" + gzip.decompress(path.read_bytes())))
    with pytest.raises(DataError, match=message):
        load_task(folder, name)


def test_a_limit_does_not_change_the_number_of_a_line(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "positive": ["a"] if n != 8 else [], "negative": ["b"]} for n in range(9)]
    with pytest.raises(DataError, match="line 9: needs at least one"):
        loaded(tmp_path, "WikiQA", {"test": rows}, limit=3)


@pytest.mark.parametrize("name", ["TwentyNewsgroupsClustering", "SciFact"])
def test_a_split_that_a_type_does_not_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"{name} has one split, which is called 'test'; got 'dev'"):
        loaded(tmp_path, name, split="dev")


@pytest.mark.data
@pytest.mark.parametrize(
    "name", ["STS12", "Banking77Classification", "TwentyNewsgroupsClustering", "Cranfield", "Lee50"]
)
def test_real_folders_are_read(data_folder: Path, name: str) -> None:
    described = json.loads((data_folder / name / "dataset.json").read_text(encoding="utf-8"))
    data = load_task(data_folder / name, name)
    assert data.task_type == described["task_type"] == task_row(name).task_type
    assert sorted(used_rows(data)) == list(range(len(data.texts)))
