from __future__ import annotations

import datetime
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from moee.errors import InputError, TextTypeError, UnknownNameError
from moee.files.rows import Columns
from moee.index.manifest import Manifest, Source
from moee.index.records_from_file import Corpus, read_addition, read_corpus
from moee.stores.registry import StoreSpec
from moee.stores.store import Layout


def write(path: Path, content: str) -> str:
    path.write_text(content, encoding="utf-8")
    return str(path)


def jsonl(path: Path, *rows: object) -> str:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def fields_of(corpus: Corpus, name: str) -> list[object]:
    return [record.fields[name] for record in corpus.records]


def test_texts_without_ids_are_known_by_a_digest_wherever_they_stand(tmp_path: Path) -> None:
    first = read_corpus(write(tmp_path / "a.txt", "one\ntwo\n"))
    second = read_corpus(write(tmp_path / "b.txt", "new\ntwo\none\n"))
    ids = {record.text: record.id for record in second.records}
    assert [record.id for record in first.records] == [ids["one"], ids["two"]]
    assert all(len(record.id) == 16 for record in first.records)


def test_a_repeated_text_gets_a_number_behind_its_digest(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path / "a.txt", "one\ntwo\none\none\n"))
    one = corpus.records[0].id
    assert [record.id for record in corpus.records if record.text == "one"] == [one, f"{one}-2", f"{one}-3"]


def test_a_column_called_id_is_taken_and_others_when_named(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", {"id": 7, "key": "x", "text": "one"}, {"id": "8", "key": "y", "text": "two"})
    assert [record.id for record in read_corpus(source).records] == ["7", "8"]
    assert [record.id for record in read_corpus(source, Columns(id="key")).records] == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "id,text\n4,one\n"), ("a.jsonl", '\n{"id": 4, "text": "one"}\n'), ("a.csv.gz", "id,text\n4,one\n")],
)
def test_ids_are_found_in_every_format(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    corpus = read_corpus(str(path))
    assert (corpus.columns.id, corpus.records[0].id) == ("id", "4")


def test_ids_and_fields_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    day = datetime.date(2024, 5, 17)
    table = {"id": [1, 2], "text": ["one", "two"], "n": [1.5, None], "day": [day, None], "other": [b"x", b"y"]}
    parquet.write_table(pa.table(table), path)
    corpus = read_corpus(str(path), Columns(fields=("n", "day")))
    assert [record.id for record in corpus.records] == ["1", "2"]
    assert dict(corpus.fields) == {"n": "number", "day": "string"}
    assert (fields_of(corpus, "n"), fields_of(corpus, "day")) == ([1.5, None], ["2024-05-17", None])


def test_standard_input_is_lines_of_text() -> None:
    corpus = read_corpus("-", stdin=io.BytesIO(b"one\ntwo\n"))
    assert [record.text for record in corpus.records] == ["one", "two"]
    assert corpus.columns.id is None


@pytest.mark.parametrize(
    ("values", "kind", "typed"),
    [
        (["1", "-20", ""], "integer", [1, -20, None]),
        (["1", "2.5", "1e3"], "number", [1.0, 2.5, 1000.0]),
        (["true", "False", ""], "boolean", [True, False, None]),
        (["1", "x"], "string", ["1", "x"]),
        (["007", "010"], "string", ["007", "010"]),
        (["", ""], "string", [None, None]),
    ],
)
def test_csv_fields_get_the_first_type_that_fits_all(
    tmp_path: Path, values: list[str], kind: str, typed: list[object]
) -> None:
    rows = "".join(f"text {place},{value}\n" for place, value in enumerate(values))
    corpus = read_corpus(write(tmp_path / "a.csv", "text,f\n" + rows), Columns(fields=("f",)))
    assert dict(corpus.fields) == {"f": kind}
    assert fields_of(corpus, "f") == typed
    assert [type(value) for value in fields_of(corpus, "f")] == [type(value) for value in typed]


def test_json_fields_keep_their_types_and_may_be_missing(tmp_path: Path) -> None:
    source = jsonl(
        tmp_path / "a.jsonl",
        {"text": "one", "s": "1", "i": 1, "n": 2, "b": True},
        {"text": "two", "n": 0.5, "i": None},
    )
    corpus = read_corpus(source, Columns(fields=("s", "i", "n", "b")))
    assert dict(corpus.fields) == {"s": "string", "i": "integer", "n": "number", "b": "boolean"}
    assert dict(corpus.records[0].fields) == {"s": "1", "i": 1, "n": 2.0, "b": True}
    assert dict(corpus.records[1].fields) == {"s": None, "i": None, "n": 0.5, "b": None}


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([{"text": "a", "id": 1}, {"text": "b"}], Columns(), r"Line 2 of .* has no column 'id'.*--id-column"),
        ([{"text": "a"}], Columns(id="key"), r"Line 1 of .* has no column 'key'. Columns there: 'text'"),
        ([{"text": "a", "id": None}], Columns(), r"The id 'id' on line 1 of .* is empty"),
        ([{"text": "a", "id": ""}], Columns(), r"The id 'id' on line 1 of .* is empty"),
        ([{"text": "a", "id": 1.5}], Columns(), r"is 1.5, a float. Every id must be a string or a whole number"),
        ([{"text": "a", "id": True}], Columns(), r"is True, a bool"),
        (
            [{"text": "a", "id": 1}, {"text": "b", "id": 2}, {"text": "c", "id": "1"}],
            Columns(),
            r"The id '1' on line 3 of .* is also that on line 1 of .* Every text needs its own",
        ),
        ([{"text": "a", "f": 1}, {"text": "b", "f": "x"}], Columns(fields=("f",)), r"'f' is of type integer on line 1"),
        ([{"text": "a", "f": 1}, {"text": "b", "f": True}], Columns(fields=("f",)), r"of type boolean on line 2"),
        ([{"text": "a", "f": 2**63}], Columns(fields=("f",)), r"9223372036854775808; it must be a whole number"),
        ([{"text": "a", "f": float("nan")}], Columns(fields=("f",)), r"is nan; it must be a finite number"),
        (
            [{"text": "a", "f": "\ud800"}],
            Columns(fields=("f",)),
            r"the field 'f' on line 1 .* half of a surrogate pair",
        ),
    ],
)
def test_unusable_rows_are_refused_with_the_line(
    tmp_path: Path, rows: list[dict[str, object]], columns: Columns, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_corpus(jsonl(tmp_path / "a.jsonl", *rows), columns)


def test_texts_that_are_no_strings_are_refused_with_the_line(tmp_path: Path) -> None:
    with pytest.raises(TextTypeError, match=r"'text' on line 2 of .* is no string but a number"):
        read_corpus(jsonl(tmp_path / "a.jsonl", {"text": "a"}, {"text": 5}))


def test_nested_fields_are_refused_with_the_line(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", {"text": "a", "f": None}, {"text": "a", "f": ["x"]})
    with pytest.raises(TextTypeError, match=r"'f' on line 2 of .* is of type list: \['x'\]. A field holds a string"):
        read_corpus(source, Columns(fields=("f",)))


def test_fields_that_no_row_has_are_refused_with_close_matches(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", {"text": "a", "year": 1, "key": 2})
    with pytest.raises(UnknownNameError, match="Unknown field 'yer'"):
        read_corpus(source, Columns(fields=("yer", "year")))
    with pytest.raises(InputError, match=r"has no column 'yer'. Columns there: 'text', 'year'. .*--fields"):
        read_corpus(write(tmp_path / "a.csv", "text,year\na,1\n"), Columns(fields=("yer",)))
    with pytest.raises(InputError, match=r"has no column 'yer'. Columns there: 'text'"):
        read_corpus(write(tmp_path / "a.txt", "a\n"), Columns(fields=("yer",)))


def test_empty_texts_are_refused_with_the_line_unless_they_are_wanted(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path / "a.txt", "a\n \nb\n"))
    assert corpus.with_texts("encode") is corpus
    with pytest.raises(InputError, match=r"'text' on line 2 of .* is only whitespace \(' '\). Drop the row."):
        corpus.with_texts("error")


def test_the_digest_is_that_of_the_records_not_of_the_bytes(tmp_path: Path) -> None:
    rows = [{"id": 1, "text": "one", "year": 1}, {"id": 2, "text": "two", "year": 2}]
    plain = read_corpus(jsonl(tmp_path / "a.jsonl", *rows), Columns(fields=("year",)))
    table = write(tmp_path / "a.csv", 'id,year,text\n1,1,"one"\n2,2,two\n')
    assert read_corpus(table, Columns(fields=("year",))).digest() == plain.digest()
    changed = read_corpus(jsonl(tmp_path / "b.jsonl", rows[0], {**rows[1], "year": 3}), Columns(fields=("year",)))
    assert changed.digest() != plain.digest()


def manifest(*, id_column: str | None, **types: str) -> Manifest:
    source = Source("x", "0", 1, "body", id_column)
    layout = Layout({"hs": 1, "rw": 1}, types)  # type: ignore[arg-type]
    return Manifest(
        StoreSpec("flat"), layout, "fake", "fake-1", "float32", "exact", "none", 1.0, None, None, None, (source,)
    )


def test_an_addition_takes_columns_and_types_from_the_index(tmp_path: Path) -> None:
    index = manifest(id_column="key", zip="string", n="number")
    source = write(tmp_path / "a.csv", "key,body,zip,n,extra\nk1,one,12345,3,x\n")
    corpus = read_addition(index, source)
    assert corpus.records[0].id == "k1"
    assert dict(corpus.records[0].fields) == {"zip": "12345", "n": 3.0}


def test_an_addition_to_an_index_of_digests_does_not_take_ids(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", "id,body\n1,one\n")
    assert len(read_addition(manifest(id_column=None), source).records[0].id) == 16
    with pytest.raises(InputError, match="digests of its texts, and ids from the column 'id' were asked for"):
        read_addition(manifest(id_column=None), source, id_column="id")


@pytest.mark.parametrize(
    ("value", "message"), [("x", r"'n' on line 2 of .* is 'x'; it must be a whole number"), ("1.5", "is '1.5'")]
)
def test_an_addition_with_a_field_of_another_type_is_refused_with_the_line(
    tmp_path: Path, value: str, message: str
) -> None:
    source = write(tmp_path / "a.csv", f"id,body,n\n1,one,{value}\n")
    with pytest.raises(InputError, match=message):
        read_addition(manifest(id_column="id", n="integer"), source)
