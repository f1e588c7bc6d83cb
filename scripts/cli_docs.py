"""Write docs/cli.md from the help texts of the commands; with --check, fail if it is out of date."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

from typer.testing import CliRunner

from moee.cli.app import app

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
WIDTH = "100"

HEAD = """# Commands

Written by `make docs` from the commands' own help; `make lint` fails when the two differ.

- Data goes to standard output; progress, notes, warnings and errors go to standard error.
- `--json` prints one JSON document. Without it, tables are drawn on a terminal and plain aligned text in a pipe.
- Exit codes: 0 done, 1 the work failed, 2 wrong use (a bad option, text, file or name), 130 interrupted,
  141 the reader of the pipe left.
- An error is one line on standard error; `moee --debug ...` or `MOEE_DEBUG=1` adds the traceback.
- `MOEE_CACHE` moves the cache of built models and fitted statistics; `moee doctor` shows it.
"""


def page() -> str:
    """Return the whole page."""
    runner = CliRunner()
    names = [command.callback.__name__ for command in app.registered_commands if command.callback is not None]
    parts = [HEAD]
    for arguments in ([], *([name] for name in names)):
        result = runner.invoke(
            app,
            [*arguments, "--help"],
            prog_name="moee",
            env={"COLUMNS": WIDTH, "TERMINAL_WIDTH": WIDTH, "NO_COLOR": "1"},
            terminal_width=int(WIDTH),
        )
        if result.exit_code != 0:
            raise SystemExit(f"moee {' '.join(arguments)} --help failed: {result.output}")
        title = " ".join(["moee", *arguments])
        parts.append(f"## `{title}`\n\n```text\n{result.output.rstrip()}\n```\n")
    return "\n".join(parts)


def main() -> int:
    """Write or check the page; return the exit code."""
    wanted = page()
    if "--check" not in sys.argv[1:]:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    found = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    if found == wanted:
        return 0
    difference = difflib.unified_diff(
        found.splitlines(), wanted.splitlines(), "docs/cli.md", "the commands", lineterm=""
    )
    print("\n".join(difference), file=sys.stderr)
    print("docs/cli.md is out of date. Run: make docs", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
