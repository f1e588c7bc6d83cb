"""A file as numbered lines of text: opened, told apart from what is no text by its first bytes, and decoded.

Lines end with LF, CR LF or CR, as they do for Python's `open`; other separators of Unicode are part of a text.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from moee.errors import InputError

STDIN = "-"
LONGEST_LINE = 1 << 26
"""Characters of a line or a cell: more than any model reads, and few enough to be held in memory."""

_HEAD_BYTES = 4096
_GZIP = b"\x1f\x8b"
# First bytes of what is often taken for text, and what to do. Each holds a byte that a text cannot begin with, or is
# too long to be one by chance.
_MARKS: tuple[tuple[bytes, str, str], ...] = (
    (_GZIP, "a gzip file", "Add .gz to its name, or decompress it first: gunzip."),
    (b"PK\x03\x04", "a zip archive (spreadsheets and documents are such too)", "Unpack it, or save it as .csv."),
    (b"\x28\xb5\x2f\xfd", "a zstd file", "Decompress it first: unzstd."),
    (b"\xfd7zXZ\x00", "an xz file", "Decompress it first: unxz."),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it first."),
    (b"\x04\x22\x4d\x18", "an lz4 file", "Decompress it first: unlz4."),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet or document (OLE)", "Save it as .csv."),
    (b"PAR1\x15", "a Parquet file", "Let its name end in .parquet."),
    (b"ARROW1\x00", "an Arrow file", "Save it as .parquet."),
    (b"SQLite format 3\x00", "a SQLite database", "Export the table as .csv."),
    (b"\x93NUMPY", "a file of NumPy", "Save the texts as .txt or .jsonl."),
    (b"%PDF-1.", "a PDF document", "Extract its text first: pdftotext."),
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer, not the file itself", "Fetch it: git lfs pull."),
)
_BZIP2 = re.compile(rb"BZh[1-9]1AY&SY")
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UNDECODED = re.compile("[\udc80-\udcff]")  # how the error handler `surrogateescape` marks bytes


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text.

    Attributes:
        number: Counted from 1.
        text: Text of the line, with its line end.
        fault: Why it is no text; None if it is.
    """

    number: int
    text: str
    fault: str | None


@contextmanager
def open_lines(source: str, *, encoding: str | None = None, stdin: BinaryIO | None = None) -> Iterator[Iterator[Line]]:
    """Open a file of text, and yield its lines.

    Args:
        source: A path, decompressed if its name ends in `.gz`; or `-`.
        encoding: Name of a codec; None is UTF-8 with or without a byte order mark.
        stdin: Where `-` reads from; the process's standard input if None.

    Raises:
        InputError: If the file cannot be read, its first bytes are those of another format or encoding, a line is
            longer than `LONGEST_LINE`, or the encoding is unknown.
    """
    codec = _codec(encoding)
    label = label_of(source)
    with readable(source):
        if source == STDIN:
            given = sys.stdin.buffer if stdin is None else stdin
            stream = _buffered(io.BytesIO(given.read()))  # whole: it must not matter in which pieces the bytes arrive
        else:
            stream = _opened(Path(source))
        with stream:
            check_first_bytes(stream.peek(_HEAD_BYTES)[:_HEAD_BYTES], label, codec)
            text = io.TextIOWrapper(stream, encoding=codec, errors="surrogateescape", newline="")
            yield _lines(text, label, encoding or "UTF-8")


def label_of(source: str) -> str:
    """Return what messages call a source."""
    return "standard input" if source == STDIN else source


def _opened(path: Path) -> io.BufferedReader:
    stream = path.open("rb")
    if not path.name.lower().endswith(".gz"):
        return stream
    with stream:
        head = stream.peek(_HEAD_BYTES)[:_HEAD_BYTES]
        if not head.startswith(_GZIP):
            check_first_bytes(head, str(path), "utf-8-sig")
    return _buffered(gzip.open(path, "rb"))


def _buffered(stream: io.BytesIO | gzip.GzipFile) -> io.BufferedReader:
    return io.BufferedReader(cast("io.RawIOBase", stream), _HEAD_BYTES * 16)


@contextmanager
def readable(source: str) -> Iterator[None]:
    """Turn what the system says about an unreadable file into an `InputError` that names it."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"No such file: {source!r}. Give the path of a file of texts, or - to read them.") from error
    except IsADirectoryError as error:
        raise InputError(f"{source!r} is a folder. Give one file of texts.") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{source!r} is not a whole gzip file: {error}. Compress it again or drop .gz.") from error
    except OSError as error:
        raise InputError(f"Cannot read {source!r}: {error.strerror or error}.") from error


def _codec(encoding: str | None) -> str:
    """Return the name of a codec of text; UTF-8 may begin with a byte order mark."""
    try:
        "".encode(encoding or "utf-8")
        name = codecs.lookup(encoding or "utf-8").name
    except (LookupError, ValueError) as error:
        raise InputError(
            f"--encoding is {encoding!r}, which is no encoding of text. Examples: utf-8, utf-16, cp1252, latin-1, "
            "shift_jis, gb18030."
        ) from error
    return "utf-8-sig" if name == "utf-8" else name


def check_first_bytes(head: bytes, label: str, codec: str) -> None:
    """Refuse what is no text, or text of another encoding, by its first bytes.

    Raises:
        InputError: With the bytes, what they show, and what to do.
    """
    for mark, what, advice in _MARKS:
        if head.startswith(mark):
            raise _not_text(label, mark, what, advice)
    if _BZIP2.match(head):
        raise _not_text(label, head[:4], "a bzip2 file", "Decompress it first: bunzip2.")
    if codec.startswith(("utf-16", "utf-32")):
        return
    for mark, encoding in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            what = f"the byte order mark of {encoding.upper()}"
            raise _not_text(label, mark, what, _read_as(encoding))
    if guessed := _wide_encoding(head):
        raise InputError(f"{label!r} has zeros where {guessed.upper()} has them, and is not UTF-8. {_read_as(guessed)}")


def _not_text(label: str, mark: bytes, what: str, advice: str) -> InputError:
    return InputError(f"{label!r} begins with the bytes {mark[:6].hex(' ')}, which are those of {what}. {advice}")


def _read_as(encoding: str) -> str:
    return f"Read it with --encoding {encoding}, or convert it: iconv -f {encoding.upper()} -t UTF-8."


def _wide_encoding(head: bytes) -> str | None:
    """Return the encoding whose zeros a text without a byte order mark has: every second byte, or three of four."""
    zeros = [head[place::4].count(0) / max(1, len(head[place::4])) for place in range(4)]
    shape = "".join("0" if share > 0.4 else "x" for share in zeros)
    return {"x0x0": "utf-16-le", "0x0x": "utf-16-be", "x000": "utf-32-le", "000x": "utf-32-be"}.get(shape)


def _lines(stream: TextIO, label: str, encoding: str) -> Iterator[Line]:
    number = 0
    while True:
        number += 1
        try:
            text = stream.readline(LONGEST_LINE)
        except UnicodeError as error:
            raise InputError(
                f"{label!r} cannot be read as {encoding} near line {number}: {error}. "
                "Name its encoding with --encoding."
            ) from error
        if not text:
            return
        if len(text) == LONGEST_LINE and not text.endswith("\n"):
            raise InputError(
                f"Line {number} of {label} is longer than {LONGEST_LINE:,} characters, which no model reads. "
                "Check that this is a file of texts, one a line or row."
            )
        yield Line(number, text, _line_fault(text, encoding))


def _line_fault(text: str, encoding: str) -> str | None:
    if not text.isascii() and (found := _UNDECODED.search(text)):
        byte = ord(found[0]) - 0xDC00
        return (
            f"is not {encoding}: byte {byte:#04x} at position {found.start()}. "
            "Name the file's encoding, for example --encoding cp1252"
        )
    if "\0" in text:
        return (
            f"holds a zero byte at position {text.index(chr(0))}, which no text has: the file is damaged or of another "
            "encoding"
        )
    return None
