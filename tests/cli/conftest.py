from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.cli.in_process import Shell

if TYPE_CHECKING:
    import subprocess

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
    """Run `moee ARGUMENTS...` as a shell would, inside this process where that makes no difference."""
    return Shell(command, environment, in_process=True)


@pytest.fixture(scope="session")
def moee_process(environment: dict[str, str], command: list[str]) -> Run:
    """Run `moee ARGUMENTS...` in a process of its own."""
    return Shell(command, environment, in_process=False)
