"""The command line run inside the test's own process: the same `main`, without the seconds that Python takes to start.

What a process gets from its parent is given and taken back here: arguments, environment, the three streams, filters of
warnings, the log. Where Python itself reads its environment, or a signal or a limit of the system is what the test is
about, a real process is needed: `Shell` starts one then.
"""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

from moee.cli import app

READ_AT_START = ("PYTHON", "LC_", "LANG", "OMP_", "MKL_", "MALLOC_", "LD_", "HF_")
"""Beginnings of the names of variables that are read once, when Python starts or a library is imported."""


def run_inside(arguments: Sequence[str], stdin: bytes, environment: Mapping[str, str]) -> tuple[int, bytes, bytes]:
    """Run `moee ARGUMENTS...` here and return its exit code, standard output and standard error."""
    output, errors = io.BytesIO(), io.BytesIO()
    streams = {
        "stdin": io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"),
        "stdout": io.TextIOWrapper(output, encoding="utf-8"),
        "stderr": io.TextIOWrapper(errors, encoding="utf-8", errors="backslashreplace", write_through=True),
    }
    with pytest.MonkeyPatch.context() as patch, _messages_of_a_new_process():
        for name, stream in streams.items():
            patch.setattr(sys, name, stream)
        patch.setattr(sys, "argv", ["moee", *arguments])
        patch.setattr(app, "_is_debugging", bool(environment.get("MOEE_DEBUG")))
        with _environment(environment), pytest.raises(SystemExit) as stop:
            app.main()
        for name in ("stdout", "stderr"):
            streams[name].flush()
    code = stop.value.code
    assert isinstance(code, int), f"the command line ended with {code!r}, which is no exit code"
    return code, output.getvalue(), errors.getvalue()


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _messages_of_a_new_process() -> Iterator[None]:
    """Give warnings Python's own filters and the package's log no handler, and put both back afterwards."""
    logger = logging.getLogger("moee")
    before = (logger.handlers, logger.propagate, logger.level)
    with warnings.catch_warnings():  # puts `warnings.showwarning` back too
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        try:
            yield
        finally:
            logger.handlers, logger.propagate = before[:2]
            logger.setLevel(before[2])


class Shell:
    """Runs commands: inside this process, or in one of their own where `in_process` is False or Python must start."""

    def __init__(self, command: list[str], environment: dict[str, str], *, in_process: bool) -> None:
        self._command = command
        self._environment = environment
        self._in_process = in_process

    def __call__(self, *arguments: object, stdin: str | bytes = "", **changes: str) -> subprocess.CompletedProcess[str]:
        given = [str(argument) for argument in arguments]
        data = stdin.encode() if isinstance(stdin, str) else stdin
        environment = {**self._environment, **changes}
        if self._in_process and not any(name.startswith(READ_AT_START) for name in changes):
            code, output, errors = run_inside(given, data, environment)
        else:
            done = subprocess.run(
                [*self._command, *given], input=data, capture_output=True, env=environment, check=False
            )
            code, output, errors = done.returncode, done.stdout, done.stderr
        return subprocess.CompletedProcess(given, code, output.decode("utf-8"), errors.decode("utf-8", "replace"))
