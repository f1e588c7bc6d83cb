"""Write a page of the documentation from result files, or check that it is what they say."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from moee.files.atomic import atomic_file


def write_or_check(
    make: Callable[[Path, Path], str],
    arguments: Sequence[str] | None,
    *,
    folder: Path,
    page: Path,
    target: str,
    description: str | None,
) -> int:
    """Be the command line of a page.

    Args:
        make: Takes the folder of result files and the page's path, returns the page.
        arguments: Words of the command line; None is the process's own.
        folder: Folder of the result files, unless `--folder` names another.
        page: Its path, unless `--page` names another.
        target: Target of the Makefile, for the message.
        description: For `--help`.

    Returns:
        The exit code: 1 if the page is out of date.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page is out of date")
    parser.add_argument("--folder", type=Path, default=folder, help="of the result files")
    parser.add_argument("--page", type=Path, default=page, help="the page; figures are in figures/ beside it")
    options = parser.parse_args(arguments)
    wanted = make(options.folder, options.page)
    if not options.check:
        with atomic_file(options.page) as temporary:
            temporary.write_text(wanted, encoding="utf-8")
        return 0
    found = options.page.read_text(encoding="utf-8") if options.page.is_file() else ""
    if found == wanted:
        return 0
    lines = difflib.unified_diff(found.splitlines(), wanted.splitlines(), options.page.name, "the files", lineterm="")
    print("\n".join(lines), file=sys.stderr)
    print(f"{options.page.name} is out of date. Run: make {target}", file=sys.stderr)
    return 1
