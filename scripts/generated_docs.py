"""Write the pages that the code already knows: commands and architectures. With --check, fail if one is out of date."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

from typer.main import get_group
from typer.testing import CliRunner

from moee.architectures import Architecture, all_architectures
from moee.cli.app import app

DOCS = Path(__file__).resolve().parent.parent / "docs"
WIDTH = "100"

COMMANDS = """# Commands

Written by `make docs` from the commands' own help; `make lint` fails when the two differ.

- Data goes to standard output; progress, notes, warnings and errors go to standard error.
- `--json` prints one JSON document. Without it, tables are drawn on a terminal and plain aligned text in a pipe.
- Exit codes: 0 done, 1 the work failed, 2 wrong use (a bad option, text, file or name), 130 interrupted,
  141 the reader of the pipe left.
- An error is one line on standard error; `moee --debug ...` or `MOEE_DEBUG=1` adds the traceback.
- `MOEE_CACHE` moves the cache of built models and fitted statistics; `moee doctor` shows it.
"""

ARCHITECTURES = """# Architectures

Written by `make docs` from the rows in `src/moee/architectures/`; `moee models` prints the same.
For every supported row the tests build a small random model and check what is captured against what the model computed.
Other decoders are tried by looking for their routers. To add a row: [add-an-architecture.md](add-an-architecture.md).

Under "runs", packed means that texts lie side by side without padding, and that the model can be read from disk a layer
at a time; the others mix tokens by more than plain attention and run one text a row.

{supported} `model_type`s have a row that the tests run, and {wrappers} wrappers around them load through it.
"""


def command_paths(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words that call a command and each shown one below it, `()` for the root."""
    yield path
    for name, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from command_paths(below, (*path, name))


def commands_page() -> str:
    """Return docs/cli.md."""
    runner = CliRunner()
    parts = [COMMANDS]
    for arguments in command_paths(get_group(app)):
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


def architectures_page() -> str:
    """Return docs/architectures.md."""
    rows = all_architectures()
    usable = [row for row in rows if not row.unsupported]
    parts = [
        ARCHITECTURES.format(
            supported=sum(len(row.model_types) for row in usable), wrappers=sum(len(row.wrappers) for row in usable)
        ),
        "## Supported\n",
        "| `model_type` | router, under a decoder layer | scoring | runs | wrappers | notes |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_supported(row) for row in usable),
        "\n## Not supported\n",
        "| `model_type` | why |\n| --- | --- |",
        *(f"| {_names(row.model_types)} | {_cell(row.unsupported)} |" for row in rows if row.unsupported),
    ]
    return "\n".join(parts) + "\n"


def _supported(row: Architecture) -> str:
    router = f"`{row.router}` ({row.router_class})"
    runs = "packed" if row.packs else "padded"
    cells = (_names(row.model_types), router, row.scoring_func, runs, _names(row.wrappers), _cell(row.notes))
    return f"| {' | '.join(cells)} |"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


PAGES = {"cli.md": commands_page, "architectures.md": architectures_page}


def main() -> int:
    """Write or check the pages; return the exit code."""
    stale = 0
    for name, render in PAGES.items():
        path, wanted = DOCS / name, render()
        found = path.read_text(encoding="utf-8") if path.is_file() else ""
        if "--check" not in sys.argv[1:]:
            path.write_text(wanted, encoding="utf-8")
        elif found != wanted:
            stale = 1
            lines = difflib.unified_diff(
                found.splitlines(), wanted.splitlines(), f"docs/{name}", "the code", lineterm=""
            )
            print("\n".join(lines), file=sys.stderr)
            print(f"docs/{name} is out of date. Run: make docs", file=sys.stderr)
    return stale


if __name__ == "__main__":
    raise SystemExit(main())
