from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from moee.errors import InputError, TextTypeError
from moee.files.read import has_column, read_rows, read_texts
from moee.files.rows import Columns, Place, Row


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_lines_of_text_keep_order_duplicates_and_blank_lines(tmp_path: Path) -> None:
    source = write(tmp_path / "a.txt", "one\r\n\ntwo \none\n")
    assert read_texts(source) == ["one", "", "two ", "one"]


def test_last_line_needs_no_line_end(tmp_path: Path) -> None:
    assert read_texts(write(tmp_path / "a.txt", "one\ntwo")) == ["one", "two"]


def test_only_line_feeds_end_lines(tmp_path: Path) -> None:
    """Unicode line separators and form feeds are part of a text, though `str.splitlines` would cut there."""
    text = "a\u2028b\x0cc\x85d"
    assert read_texts(write(tmp_path / "a.txt", text + "\n")) == [text]


def test_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    assert read_texts(write(tmp_path / "a.txt", b"\xef\xbb\xbfone\n")) == ["one"]
    assert read_texts(write(tmp_path / "a.csv", b"\xef\xbb\xbftext,n\none,1\n")) == ["one"]


def test_standard_input_is_lines_of_text() -> None:
    assert read_texts("-", stdin=io.BytesIO("héllo\n{}\n".encode())) == ["héllo", "{}"]


def test_jsonl_takes_objects_and_strings(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", '{"id": 1, "text": "one\\ntwo"}\n\n"three"\n')
    assert read_texts(source) == ["one\ntwo", "three"]


def test_csv_fields_may_hold_line_ends_and_quotes(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", 'id,review\n1,"two\nlines"\n2,"a ""quoted"" word"\n3,\n')
    assert read_texts(source, column="review") == ["two\nlines", 'a "quoted" word', ""]


def test_csv_fields_may_be_longer_than_the_csv_module_allows_by_default(tmp_path: Path) -> None:
    long = "word " * 100_000
    assert read_texts(write(tmp_path / "a.csv", f"text\n{long}\n")) == [long]


def test_parquet_column_is_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"id": [1, 2], "body": ["one", "zwei ö"]}), path)
    assert read_texts(str(path), column="body") == ["one", "zwei ö"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt.gz", "one\ntwo\n", ["one", "two"]),
        ("a.jsonl.gz", '{"text": "one"}\n', ["one"]),
        ("A.CSV.GZ", "text\none\n", ["one"]),
    ],
)
def test_compressed_files_are_read(tmp_path: Path, name: str, content: str, expected: list[str]) -> None:
    assert read_texts(write(tmp_path / name, gzip.compress(content.encode()))) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "holds no texts"),
        ("a.jsonl", b"\n\n", "holds no texts"),
        ("a.csv", b"", "holds no texts"),
        ("a.csv", b"text,n\n", "holds no texts"),
        ("a.txt", b"fine\nbro\xffken\n", "Line 2 of .* is not UTF-8: byte 0xff at position 3"),
        ("a.csv", b"text\nfine\nbro\xffken\n", "Line 3 of .* is not UTF-8"),
        ("a.jsonl", b'{"text": "fine"}\n{"text": \n', "Line 2 of .* is not valid JSON"),
        ("a.jsonl", b'{"body": "x", "id": 1}\n', "Line 1 of .* has no column 'text'. Columns there: 'body', 'id'"),
        ("a.csv", b"id,text\n1,x\n2\n", "Line 3 of .* has 1 cell, and the header has 2"),
        ("a.csv", b"id,body\n1,x\n", "has no column 'text'. Columns there: 'id', 'body'"),
        ("a.csv", b'text\n"unfinished\n', "Line 2 of .* begins a row whose last quote is never closed"),
        ("a.parquet", b"PAR1 no", "is not a Parquet file"),
        ("a.txt.gz", b"not gzip at all", "is not a whole gzip file"),
        ("a.txt.gz", gzip.compress(b"one\n" * 100, mtime=0)[:-9], "is not a whole gzip file"),
        ("a.doc", b"x", r"Readable are .txt, .jsonl, .csv, .tsv, .parquet"),
        ("a", b"x", r"Readable are .txt, .jsonl, .csv, .tsv, .parquet"),
        ("a.parquet.gz", b"x", r"Readable are .txt"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "half of a surrogate pair"),
    ],
)
def test_unusable_files_are_refused_with_the_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_texts(write(tmp_path / name, content))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "x"}\n{"text": 5}\n', r"'text' on line 2 of .* is no string but a number \(5\)"),
        ("a.jsonl", '{"text": null}\n', "'text' on line 1 of .* is no string but null"),
        ("a.jsonl", "[1, 2]\n", "on line 1 of .* is no string but a list"),
    ],
)
def test_values_that_are_not_strings_are_refused_with_the_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    with pytest.raises(TextTypeError, match=message):
        read_texts(write(tmp_path / name, content))


def test_parquet_nulls_and_numbers_are_refused_with_the_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["one", None], "n": [1, 2]}), path)
    with pytest.raises(TextTypeError, match=r"in row 2 of .* is no string but null"):
        read_texts(str(path))
    with pytest.raises(
        TextTypeError, match=r"The column 'n' of .* holds int64, not text. Columns of text there: 'text'"
    ):
        read_texts(str(path), column="n")
    with pytest.raises(InputError, match=r"has no column 'body'. Columns there: 'text', 'n'"):
        read_texts(str(path), column="body")


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No such file: .*nothing\.txt"):
        read_texts(str(tmp_path / "nothing.txt"))
    folder = tmp_path / "folder.txt"
    folder.mkdir()
    with pytest.raises(InputError, match=r"folder\.txt' is a folder"):
        read_texts(str(folder))


def test_unreadable_files_are_named_with_the_system_s_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.symlink_to(path)
    with pytest.raises(InputError, match=r"Cannot read .*a\.txt': Too many levels of symbolic links"):
        read_texts(str(path))


def test_one_megabyte_on_one_line_is_one_text(tmp_path: Path) -> None:
    text = "word " * 200_000
    assert read_texts(write(tmp_path / "a.jsonl", json.dumps({"text": text}))) == [text]


ALL = Columns("body", "key", ("year", "tag"))


def test_rows_bring_columns_as_the_format_gives_them(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", "key,year,body,tag,other\n1,2020,one,,x\n")
    lines = write(tmp_path / "a.jsonl", '\n{"key": 1, "year": 2020, "body": "one", "other": [1]}\n')
    parquet.write_table(pa.table({"key": [1], "year": [2020], "body": ["one"], "tag": [None]}), tmp_path / "a.parquet")
    assert read_rows(table, ALL) == [Row(Place(table, 2), {"body": "one", "key": "1", "year": "2020", "tag": ""})]
    assert read_rows(lines, ALL) == [Row(Place(lines, 2), {"body": "one", "key": 1, "year": 2020})]
    values = {"body": "one", "key": 1, "year": 2020, "tag": None}
    assert read_rows(str(tmp_path / "a.parquet"), ALL) == [Row(Place(str(tmp_path / "a.parquet"), 1, "row"), values)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "body,year,tag\none,1,2\n",
            r"no column 'key'. Columns there: 'body', 'year', 'tag'. .*--id-column",
        ),
        ("a.csv", "body,key,tag\none,1,2\n", r"has no column 'year'. Columns there: .*--fields"),
        ("a.jsonl", '{"body": "one", "key": 1}\n{"body": "two"}\n', r"Line 2 of .* has no column 'key'. .*--id-column"),
        ("a.txt", "one\n", r"has no column 'key'. Columns there: 'body'"),
        ("a.jsonl", '"one"\n', r"Line 1 of .* has no column 'key'. Columns there: 'body'"),
    ],
)
def test_missing_columns_are_named_with_their_option(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_rows(write(tmp_path / name, content), ALL)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "id,text\n1,x\n", True),
        ("a.csv", "text\nx\n", False),
        ("a.csv", "", False),
        ("a.jsonl", '\n{"text": "x", "id": 1}\n', True),
        ("a.jsonl", '{"text": "x"}\n{"text": "x", "id": 1}\n', False),
        ("a.jsonl", '"id"\n', False),
        ("a.jsonl", "{broken\n", False),
        ("a.txt", "id\n", False),
        ("a.jsonl.gz", gzip.compress(b'{"id": 1}\n', mtime=0), True),
    ],
)
def test_a_column_is_looked_for_in_the_first_row(
    tmp_path: Path, name: str, content: str | bytes, expected: bool
) -> None:
    assert has_column(write(tmp_path / name, content), "id") is expected


def test_standard_input_has_no_columns() -> None:
    assert not has_column("-", "id")
