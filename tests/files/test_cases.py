"""Files that were once misread: each is read right, or refused with the file, the line and what to do."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from moee.errors import InputError, MoEEError, TextTypeError
from moee.files.lines import LONGEST_LINE
from moee.files.read import read_rows, read_texts
from moee.files.rows import Columns, Reading, rejects_file

CASES = Path(__file__).parent / "cases"

REFUSED = [
    ("long_row.csv", r"Line 2 of .*long_row.csv has 4 cells, and the header has 2"),
    ("short_row.csv", r"Line 2 of .*short_row.csv has 2 cells, and the header has 3"),
    ("dup_header.csv", r"dup_header.csv has 2 columns called 'text', and it cannot be told which is meant"),
    ("dupcol.parquet", r"dupcol.parquet has 2 columns called 'text'"),
    ("quote_start.csv", r"Line 2 of .*quote_start.csv is not CSV: text follows the quote that ends a cell"),
    ("bigdigits.jsonl", r"Line 1 of .*bigdigits.jsonl is JSON that cannot be used: the number 1+\.\.\. has 5,000 char"),
    ("deep.jsonl", r"Line 1 of .*deep.jsonl is JSON that cannot be used: it nests more than 100 lists"),
    (
        "gz_named_csv.csv",
        r"gz_named_csv.csv' begins with the bytes 1f 8b, which are those of a gzip file. Add .gz to its",
    ),
    ("semicolon.csv", r"has no column 'text'. .*The header looks separated by ';': try --delimiter ';'"),
    ("nan.jsonl", r"The value of 'text' on line 1 of .*nan.jsonl is no string but a number \(nan\)"),
    ("num_text.jsonl", r"The value of 'text' on line 1 of .*num_text.jsonl is no string but a number \(5\)"),
]
READ = [
    ("cr_only.csv", ["hello", "world"]),
    ("cr_only.txt", ["hello", "world"]),
    ("blank_lines.csv", ["a", "b"]),
]


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


@pytest.mark.parametrize(("name", "message"), REFUSED)
def test_a_file_that_cannot_be_used_is_refused_with_the_place(name: str, message: str) -> None:
    with pytest.raises(MoEEError, match=message):
        read_texts(str(CASES / name))


@pytest.mark.parametrize(("name", "texts"), READ)
def test_a_file_of_another_habit_is_read_right(name: str, texts: list[str]) -> None:
    assert read_texts(str(CASES / name)) == texts


def test_two_columns_of_ids_are_refused_where_ids_are_read() -> None:
    source = str(CASES / "dup_id.csv")
    assert read_texts(source) == ["a", "b"]
    with pytest.raises(InputError, match=r"dup_id.csv has 2 columns called 'id'.*--id-column"):
        read_rows(source, Columns(id="id"))


def test_the_delimiter_is_an_option(tmp_path: Path) -> None:
    assert read_texts(str(CASES / "semicolon.csv"), reading=Reading(delimiter=";")) == ["hello"]
    assert read_texts(write(tmp_path / "a.csv", "id\ttext\n1\ta,b\n"), reading=Reading(delimiter="tab")) == ["a,b"]
    assert read_texts(write(tmp_path / "a.tsv", "id\ttext\n1\ta,b\n")) == ["a,b"]


@pytest.mark.parametrize(
    ("header", "shown"), [("id\ttext", "tab"), ('"id"|"text"', r"'\|'"), ("id; text", "';'"), ('"id";"text"', "';'")]
)
def test_the_delimiter_that_is_likely_meant_is_named(tmp_path: Path, header: str, shown: str) -> None:
    with pytest.raises(InputError, match=f"try --delimiter {shown}"):
        read_texts(write(tmp_path / "a.csv", f"{header}\n1,2\n"))


@pytest.mark.parametrize("delimiter", ["", ";;", '"', "\n"])
def test_a_delimiter_is_one_character(delimiter: str) -> None:
    with pytest.raises(InputError, match="must be one character"):
        Reading(delimiter=delimiter)


def test_options_that_a_format_has_no_use_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--delimiter is for .csv and .tsv files"):
        read_texts(write(tmp_path / "a.txt", "a\n"), reading=Reading(delimiter=";"))
    with pytest.raises(InputError, match="--encoding is for files of text"):
        read_texts(str(CASES / "dupcol.parquet"), reading=Reading(encoding="utf-16"))
    with pytest.raises(InputError, match="--encoding is 'base64', which is no encoding of text"):
        read_texts(str(tmp_path / "a.txt"), reading=Reading(encoding="base64"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_wide_encodings_are_named_by_their_first_bytes_and_read_on_demand(
    tmp_path: Path, name: str, encoding: str
) -> None:
    contents = {"a.txt": "one\ntwö\n", "a.csv": "text\none\ntwö\n", "a.jsonl": '"one"\n"twö"\n'}
    source = write(tmp_path / name, contents[name].encode(encoding))
    with pytest.raises(InputError, match=rf"--encoding {encoding}"):
        read_texts(source)
    assert read_texts(source, reading=Reading(encoding=encoding)) == ["one", "twö"]


def test_other_encodings_are_read_on_demand(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", "text\ncafé\n".encode("cp1252"))
    with pytest.raises(
        InputError, match=r"Line 2 of .* is not UTF-8: byte 0xe9 at position 3. Name the file's encoding"
    ):
        read_texts(source)
    assert read_texts(source, reading=Reading(encoding="cp1252")) == ["café"]
    with pytest.raises(InputError, match="cannot be read as utf-16 near line 1"):
        read_texts(write(tmp_path / "b.txt", b"abc"), reading=Reading(encoding="utf-16"))


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.csv", content)
    return stream.getvalue()


@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.jsonl", "a.tsv", "a.parquet", "a.txt.gz"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (zipped(b"text\na\n"), "a zip archive"),
        (lzma.compress(b"text\na\n"), "an xz file"),
        (b"\x28\xb5\x2f\xfd\x04\x58", "a zstd file"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
    ],
)
def test_what_is_no_text_is_told_by_its_first_bytes(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    with pytest.raises(InputError, match=f"{name}' begins with the bytes .* which are those of {what}"):
        read_texts(write(tmp_path / name, content))


def test_gzip_and_parquet_are_told_from_text_and_text_from_them(tmp_path: Path) -> None:
    packed = gzip.compress(b"one\n")
    with pytest.raises(InputError, match="those of a gzip file"):
        read_texts(write(tmp_path / "twice.txt.gz", gzip.compress(packed)))
    with pytest.raises(InputError, match="those of a gzip file"):
        read_texts("-", stdin=io.BytesIO(packed))
    parquet.write_table(pa.table({"text": ["one"]}), tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"those of a Parquet file. Let its name end in .parquet"):
        read_texts(str(tmp_path / "a.csv"))


def test_a_csv_file_that_is_properly_compressed_is_read(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv.gz", (CASES / "gz_named_csv.csv").read_bytes())
    assert read_texts(source)


def test_all_line_ends_end_lines_even_mixed(tmp_path: Path) -> None:
    assert read_texts(write(tmp_path / "a.txt", "one\r\ntwo\rthree\nfour")) == ["one", "two", "three", "four"]
    assert read_texts(write(tmp_path / "a.csv", 'text\r\none\r"two\r\nlines"\n')) == ["one", "two\r\nlines"]


def test_a_zero_byte_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Line 2 of .* holds a zero byte at position 1"):
        read_texts(write(tmp_path / "a.txt", b"one\nt\0wo\n" + b"long enough to look like text " * 9))


def test_a_line_longer_than_any_text_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "a.txt.gz", gzip.compress(b"one\n" + b"x" * (LONGEST_LINE + 1)))
    with pytest.raises(InputError, match=r"Line 2 of .* is longer than 67,108,864 characters"):
        read_texts(source)


def test_lines_are_counted_where_rows_begin(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", 'id,text\n1,"two\nlines"\n\n2,"three\n\nlines",x\n3,fine\n')
    with pytest.raises(InputError, match=r"Line 5 of .* has 3 cells, and the header has 2"):
        read_texts(source)
    broken = write(tmp_path / "b.csv", 'id,text\n1,"two\nlines"\n2,"it "is"\n')
    with pytest.raises(InputError, match=r"Line 4 of .* is not CSV: text follows"):
        read_texts(broken)


def test_a_quote_that_is_never_closed_is_no_single_row(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", 'id,text\n1,fine\n2,"open\n3,lost\n')
    for reading in (Reading(), Reading(on_bad_row="skip")):
        with pytest.raises(InputError, match=r"Line 3 of .* begins a row whose last quote is never closed: .* line 4"):
            read_texts(source, reading=reading)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a", "text": "b"}', "the key 'text' comes twice in one object"),
        ('{"text": "a", "x": {"k": 1, "k": 2}}', "the key 'k' comes twice"),
        ('{"text": "a", "x": 1' + "0" * 1500 + ".5}", "has 1,503 characters, over 1,000"),
        ('{"text": "a"', "is not valid JSON: Expecting"),
        ("{'text': 'a'}", "is not valid JSON: Expecting property name"),
        ('{"text": Infinity}', r"is no string but a number \(inf\)"),
        ('{"text": ["a"]}', r"is no string but a list \(\['a'\]\)"),
        ('{"text": {"a": 1}}', "is no string but an object"),
        ('{"text": true}', "is no string but a boolean"),
        ("null", r"is no string but null \(None\)"),
    ],
)
def test_json_that_cannot_be_used_is_refused_with_the_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(MoEEError, match=rf"(?i)line 2 of .*{message}"):
        read_texts(write(tmp_path / "a.jsonl", f'"fine"\n{line}\n'))


def test_brackets_inside_of_strings_nest_nothing(tmp_path: Path) -> None:
    text = '[{"' * 500
    assert read_texts(write(tmp_path / "a.jsonl", json.dumps({"text": text, "nan": float("nan")}))) == [text]


def test_wrong_types_in_parquet_are_refused_for_the_column_or_the_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"text": pa.array(["a", "b"]).dictionary_encode(), "lists": [["a"], ["b"]], "raw": [b"a", b"b"]})
    parquet.write_table(table, path)
    assert read_texts(str(path)) == ["a", "b"]
    for name, kind in (("lists", "list"), ("raw", "binary")):
        with pytest.raises(
            TextTypeError, match=f"The column '{name}' of .* holds {kind}.*Columns of text there: 'text'"
        ):
            read_texts(str(path), column=name)
    broken = pa.array([b"fine", b"bro\xffken"]).view(pa.binary()).view(pa.string())
    parquet.write_table(pa.table({"text": broken}), path)
    with pytest.raises(TextTypeError, match=r"in row 2 of .* is no string but of type bytes"):
        read_texts(str(path))


SKIPPED = [
    ("long_row.csv", ["b"], [2]),
    ("short_row.csv", ["world"], [2]),
    ("blank_lines.csv", ["a", "b"], []),
]


@pytest.mark.parametrize(("name", "texts", "lines"), SKIPPED)
def test_bad_rows_are_left_out_on_demand(name: str, texts: list[str], lines: list[int]) -> None:
    reading = Reading(on_bad_row="skip")
    assert read_texts(str(CASES / name), reading=reading) == texts
    assert [bad.place.line for bad in reading.rejects] == lines


def test_every_kind_of_bad_row_is_left_out_with_its_line_and_reason(tmp_path: Path) -> None:
    rows = ['"one"', "{broken", '{"text": 5}', '{"body": "x"}', '{"text": "\\ud800"}', "\0", '{"text": "two"}']
    source = write(tmp_path / "a.jsonl", ("\n".join(rows) + "\n").encode() + b'"\xff"\n')
    reading = Reading(on_bad_row="skip")
    assert read_texts(source, reading=reading) == ["one", "two"]
    reading.write_rejects(tmp_path / "r.jsonl")
    written = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [(record["file"], record["line"]) for record in written] == [(source, line) for line in (2, 3, 4, 5, 6, 8)]
    reasons = ["is not valid JSON", "a number", "no column 'text'", "surrogate", "zero byte", "is not UTF-8"]
    assert all(reason in record["reason"] for reason, record in zip(reasons, written, strict=True))
    Reading(on_bad_row="skip").write_rejects(tmp_path / "r.jsonl")
    assert not (tmp_path / "r.jsonl").exists()


def test_rows_of_a_table_are_left_out_one_by_one(tmp_path: Path) -> None:
    content = b'id,text\n1,"it "is"\n2,bro\xffken\n3,fine\n4,a,b\n5,"two\nlines"\n'
    reading = Reading(on_bad_row="skip")
    assert read_texts(write(tmp_path / "a.csv", content), reading=reading) == ["fine", "two\nlines"]
    assert [bad.place.line for bad in reading.rejects] == [2, 3, 5]


def test_a_file_without_a_good_row_is_refused_with_the_first_reason() -> None:
    with pytest.raises(InputError, match=r"No row can be used; 1 were left out. The first: .* on line 1 of .*num_text"):
        read_texts(str(CASES / "num_text.jsonl"), reading=Reading(on_bad_row="skip"))


def test_rejects_lie_beside_the_output() -> None:
    assert rejects_file("data/a.csv", Path("out/v.npy")) == Path("out/a.csv.rejects.jsonl")
    assert rejects_file("-", None) == Path("stdin.rejects.jsonl")


def test_an_unknown_way_with_bad_rows_is_refused() -> None:
    with pytest.raises(InputError, match=r"Unknown value of --on-bad-row 'ignore'. Choose from: error, skip"):
        Reading(on_bad_row="ignore")  # type: ignore[arg-type]
