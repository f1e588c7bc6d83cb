"""The tree of commands, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from importlib.metadata import version
from pkgutil import resolve_name
from typing import Annotated, Any

import typer

from moee.cli.console import complain, route_messages
from moee.errors import MoEEError

COMMANDS = {
    "demo": "demo:demo",
    "embed": "embed:embed",
    "similarity": "similarity:similarity",
    "inspect": "inspect:inspect",
    "models": "models:models",
    "calibrate": "calibrate:calibrate",
    "carve": "carve:carve",
    "reproduce": "reproduce:reproduce",
    "study": "study:app",
    "bench": "bench:bench",
    "doctor": "doctor:doctor",
    "search": "search:search",
    "serve": "serve:serve",
    "map": "map:map_",
    "eval": "evaluate:evaluate",
    "tune": "tune:tune",
    "index": "index:app",
}
"""Every command with its module and function: a new one is its file, and its row here."""
FORMER = {"tune-alpha": "tune:tune_alpha"}
"""Commands that are gone: whatever stands behind their names, they say what to use instead."""
INTERRUPTED = 130
"""128 + SIGINT: what a shell reports for a program stopped by Ctrl-C."""
PIPE_CLOSED = 141
"""128 + SIGPIPE: what a shell reports for a program whose reader went away, as `head` does."""

app = typer.Typer(
    name="moee",
    help="Text embeddings from any Mixture-of-Experts LLM, without training. Start with: moee demo",
    rich_markup_mode=None,  # plain help: the same on a terminal, in a pipe and in the docs
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
_is_debugging = bool(os.environ.get("MOEE_DEBUG"))


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"moee {version('moee')}\n")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks. MOEE_DEBUG=1 does the same.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes on standard error; warnings stay.")] = False,
) -> None:
    global _is_debugging  # noqa: PLW0603 - read by `main` after typer has returned or raised
    _is_debugging = _is_debugging or debug
    route_messages(quiet=quiet)


for _name, _where in COMMANDS.items():
    _command = resolve_name(f"moee.cli.{_where}")
    if isinstance(_command, typer.Typer):
        app.add_typer(_command, name=_name)
    else:
        app.command(_name)(_command)


for _name, _where in FORMER.items():
    _any: dict[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    app.command(_name, hidden=True, context_settings=_any)(resolve_name(f"moee.cli.{_where}"))


def main() -> None:
    """Run the command line of this process and exit with its code."""
    if not sys.stdout.isatty() and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")  # data is UTF-8, whatever the locale of a pipe
    code = _run()
    try:
        sys.stdout.flush()
    except OSError as error:
        code = _closed(error) if code == 0 else code
        # what is left in the buffer has nowhere to go; Python must not try again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _run() -> int:
    """Run a command and return its exit code; no exception leaves."""
    try:
        app(prog_name="moee")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        complain("Interrupted.")
        return INTERRUPTED
    except OSError as error:
        return _failed(str(error), error.exit_code) if isinstance(error, MoEEError) else _closed(error)
    except Exception as error:
        return _failed(_message(error), error.exit_code if isinstance(error, MoEEError) else 1)
    return 0


def _message(error: Exception) -> str:
    if isinstance(error, MoEEError):
        return str(error)
    if isinstance(error, MemoryError):
        return "Out of memory. Use a smaller --batch-tokens, or a --memory limit."
    return f"{type(error).__name__}: {error}. This was not foreseen: `moee --debug ...` shows where it happened."


def _failed(message: str, code: int) -> int:
    if _is_debugging:
        traceback.print_exc()
    complain(f"Error: {message}")
    return code


def _closed(error: OSError) -> int:
    """Return the code for a standard output that cannot be written: silently if the reader went away."""
    if isinstance(error, BrokenPipeError):
        return PIPE_CLOSED
    return _failed(f"{error.strerror or error}{f': {error.filename!r}' if error.filename else ''}.", 1)
