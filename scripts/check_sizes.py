"""Fail if a Python module is longer than the limit. Run by `make lint`."""

from __future__ import annotations

import sys
from pathlib import Path

MAX_LINES = 500
FOLDERS = ("src", "tests", "scripts", "benchmarks")


def too_long(root: Path) -> list[tuple[Path, int]]:
    """Return every module under the checked folders of `root` that has more than `MAX_LINES` lines, with its length."""
    found = []
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > MAX_LINES:
                found.append((path.relative_to(root), lines))
    return found


def main() -> int:
    """Print the offenders and return the exit code."""
    offenders = too_long(Path(__file__).resolve().parent.parent)
    for path, lines in offenders:
        print(f"{path}: {lines} lines, the limit is {MAX_LINES}. Split it by what its parts are for.", file=sys.stderr)
    return 1 if offenders else 0


if __name__ == "__main__":
    raise SystemExit(main())
