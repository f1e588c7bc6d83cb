"""Run the demo and put the beginning and the end of what it prints into README.md. Run by `make readme`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"<!-- demo -->\n.*?<!-- /demo -->", re.DOTALL)


def excerpt(printed: str) -> str:
    """Return the first query's neighbours and the closing lines."""
    queries, _, closing = printed.strip().rpartition("\n\n")
    return f"{queries.split(chr(10) + chr(10))[0]}\n...\n{closing}"


def main() -> int:
    """Rewrite the block; return the exit code."""
    done = subprocess.run([sys.executable, "-m", "moee", "demo"], stdout=subprocess.PIPE, text=True, check=True)
    block = f"<!-- demo -->\n```text\n{excerpt(done.stdout)}\n```\n<!-- /demo -->"
    README.write_text(BLOCK.sub(lambda _: block, README.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
