from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of every command under test: a cache of its own, no hub, no debugging."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("MOEE_DEBUG", "PYTHONWARNINGS")}
    return {**inherited, "MOEE_CACHE": str(tmp_path_factory.mktemp("cache")), "HF_HUB_OFFLINE": "1", "COLUMNS": "80"}


@pytest.fixture(scope="session")
def command() -> list[str]:
    """How a process runs the command line of the code under test."""
    return [sys.executable, "-m", "moee"]


@pytest.fixture(scope="session")
def moee(environment: dict[str, str], command: list[str]) -> Run:
    """Run `moee ARGUMENTS...` in a process of its own, as a shell would."""

    def run(*arguments: str | Path, stdin: str | bytes = "", **changes: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*command, *map(str, arguments)],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            env={**environment, **changes},
            check=False,
            timeout=300,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8", "replace")
        )

    return run
