"""Fail if a docstring, help text, message or comment begins a sentence with "Of", or an entry with a bare clause.

Such a fragment leaves out what it is about. An entry of `Args`, `Attributes`, `Returns` or `Raises` is read after its
name and colon. Run by `make lint`.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("src", "scripts", "benchmarks", "tests")

FRAGMENT = re.compile(
    r"(?:\A\s*|[.!?:][\"'`)]*\s+)(?=Of\s)"
    r"|(?:\A\s*|^\s+[*`\w][\w*`, ]*: +)(?=That (?!of\b|is\b|was\b)|(?:For|In|By|With|From|On) which )",
    re.MULTILINE,
)


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the words of each string of a module, `{}` for what an f-string fills in, and each comment."""
    parts: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts.update(id(part) for part in node.values)
            words = (str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield node.lineno, "".join(words)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")


def fragments(source: str) -> list[tuple[int, str]]:
    """Return the line and the first words of every fragment in a module."""
    return sorted(
        (line + text[: found.end()].count("\n"), text[found.end() :].split("\n")[0][:60])
        for line, text in texts(source)
        for found in FRAGMENT.finditer(text)
    )


def main(root: Path = ROOT) -> int:
    """Print the fragments of the checked folders under `root` and return the exit code."""
    count = 0
    for path in sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py")):
        for line, words in fragments(path.read_text(encoding="utf-8")):
            print(f"{path.relative_to(root)}:{line}: {words}", file=sys.stderr)
            count += 1
    if count:
        print(f"{count} fragments. Write whole phrases, such as 'Name of the model.'", file=sys.stderr)
    return 1 if count else 0


if __name__ == "__main__":
    raise SystemExit(main())
