"""Pages that a person writes about result files: tables filled from the files, and every quoted number checked.

Between `<!-- generated: NAME -->` and `<!-- end -->` stands what a script makes of the files. Everything else is
written by hand, and each number in it must be accounted for, in reading order, by a comment below its paragraph or
item:

    - Calibration gives `hs` +8.38 points on average; it is higher on 16 of 16 tasks. Intervals hold 95 %.
      <!-- checked
      compare(demo | default builtin hs | default none hs): mean, higher, tasks
      stated: 95
      -->

A line names a measure of the page with its arguments, and the fields that are quoted; the number on the page must be
the measured one, rounded to the decimals that it shows. `stated` lists numbers that are no results. Numbers in code, in
links and in names such as `STS12` are not quoted.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moee.files.atomic import atomic_file

Blocks = Mapping[str, Sequence[str]]
"""Lines of each generated part, by name."""
Measures = Mapping[str, Callable[..., Mapping[str, float]]]
"""What can be quoted: a function by name, of strings, that returns numbers by name."""

_GENERATED = re.compile(r"<!-- generated: ([\w.-]+) -->\n.*?<!-- end -->", re.DOTALL)
_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_CHECKED = re.compile(r"\s*<!-- checked\n(.*?)-->", re.DOTALL)
_NO_PROSE = re.compile(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?!\w)")
_CLAIM = re.compile(r"(\w+)\((.*)\): (.*)")


@dataclass(slots=True)
class Paragraph:
    """A paragraph or an item of a list: its text, and the lines of the comment that accounts for its numbers."""

    text: str
    claims: list[str] = field(default_factory=list)


def fill(page: str, blocks: Blocks) -> str:
    """Return a page with its generated parts made again.

    Raises:
        SystemExit: If the page names a part that is not made, or lacks one.
    """
    named = _GENERATED.findall(page)
    if sorted(named) != sorted(blocks):
        raise SystemExit(f"The page has the generated parts {sorted(named)}; the files give {sorted(blocks)}.")

    def made(match: re.Match[str]) -> str:
        lines = "\n".join(blocks[match[1]]).strip("\n")
        return f"<!-- generated: {match[1]} -->\n\n{lines}\n\n<!-- end -->"

    return _GENERATED.sub(made, page)


def paragraphs(page: str) -> Iterator[Paragraph]:
    """Yield what is written by hand, without generated parts and blocks of code."""
    prose = _FENCE.sub("", _GENERATED.sub("", page))
    for part in re.split(r"\n\s*\n|\n(?=[-#] )", prose):
        claims = [line.strip() for found in _CHECKED.findall(part) for line in found.splitlines() if line.strip()]
        yield Paragraph(_NO_PROSE.sub(" ", _CHECKED.sub("", part)), claims)


def faults(page: str, measures: Measures) -> list[str]:
    """Return one line for each number on a page that the files do not give, or that nothing accounts for."""
    found = []
    for each in paragraphs(page):
        quoted = _NUMBER.findall(each.text)
        start = " ".join(each.text.split())[:60]
        try:
            wanted = [value for line in each.claims for value in _values(line, measures)]
        except (KeyError, ValueError, TypeError) as error:
            found.append(f"{start!r}: the comment cannot be read: {type(error).__name__}: {error}")
            continue
        if len(quoted) != len(wanted):
            found.append(f"{start!r} quotes {len(quoted)} numbers, {quoted}; its comment accounts for {len(wanted)}.")
            continue
        for text, value in zip(quoted, wanted, strict=True):
            shown = text if isinstance(value, str) else _as_shown(value, text)
            if (text if isinstance(value, str) else _plain(text)) != (value if isinstance(value, str) else shown):
                found.append(f"{start!r} quotes {text}; it is {value if isinstance(value, str) else shown}.")
    return found


def _values(line: str, measures: Measures) -> list[float | str]:
    """Return what one line of a comment accounts for: numbers, or the very words of what is stated."""
    if line.startswith("stated: "):
        return list(line.removeprefix("stated: ").split())
    match = _CLAIM.fullmatch(line)
    if match is None:
        raise ValueError(f"{line!r} is not of the form `measure(arguments): fields`")
    name, arguments, fields = match.groups()
    measured = measures[name](*(each.strip() for each in arguments.split("|") if each.strip()))
    return [float(measured[each.strip()]) for each in fields.split(",")]


def _as_shown(value: float, text: str) -> str:
    return _plain(f"{value:.{len(text.partition('.')[2])}f}")


def _plain(text: str) -> str:
    """Return a number without a plus, commas, and the sign of a zero."""
    plain = text.removeprefix("+").replace(",", "")
    return plain.removeprefix("-") if not plain.strip("-0.") else plain


def write_or_check(
    make: Callable[[Path, Path], tuple[Blocks, Measures]],
    arguments: Sequence[str] | None,
    *,
    folder: Path,
    page: Path,
    target: str,
    description: str | None,
) -> int:
    """Be the command line of a page.

    Args:
        make: Takes the folder of result files and the page's path, returns the generated parts and the measures.
        arguments: Words of the command line; None is the process's own.
        folder: Folder of the result files, unless `--folder` names another.
        page: Path of the page, unless `--page` names another.
        target: Target of the Makefile, for the message.
        description: For `--help`.

    Returns:
        The exit code: 1 if a generated part is out of date, or a number in the text is not that of the files.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if page and files differ")
    parser.add_argument("--folder", type=Path, default=folder, help="folder of the result files")
    parser.add_argument("--page", type=Path, default=page, help="the page; figures are in figures/ beside it")
    options = parser.parse_args(arguments)
    blocks, measures = make(options.folder, options.page)
    found = options.page.read_text(encoding="utf-8")
    wanted = fill(found, blocks)
    name = options.page.name
    if not options.check:
        with atomic_file(options.page) as temporary:
            temporary.write_text(wanted, encoding="utf-8")
    elif found != wanted:
        lines = difflib.unified_diff(found.splitlines(), wanted.splitlines(), name, "the files", lineterm="")
        print("\n".join(lines), file=sys.stderr)
        print(f"{name} is out of date. Run: make {target}", file=sys.stderr)
        return 1
    wrong = faults(wanted, measures)
    for line in wrong:
        print(f"{name}: {line}", file=sys.stderr)
    if wrong:
        print(f"{name}: correct the text; scripts/written_pages.py says how", file=sys.stderr)
    return 1 if wrong else 0
