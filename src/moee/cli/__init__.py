"""The command line: one thin file for each command, and nothing that another program would want to import.

Data goes to standard output; progress, notes, warnings and errors go to standard error.
Exit codes are in `moee.errors`.
Torch is loaded when a command needs it, never before.
"""

from __future__ import annotations

from moee.cli.app import main

__all__ = ["main"]
