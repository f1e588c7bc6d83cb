"""What holds for every test: no hub, and a cache that is not the user's."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import new_database, running_postgres
from tests.weights import lend_weights

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # huggingface_hub reads it once, when it is imported

_NUMBERS = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of this run, unless MOEE_CACHE says otherwise (so that runs can share a built demo).

    New and empty but for the weights of the demo, if the user has them.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not os.environ.get("MOEE_CACHE"):
            cache = tmp_path_factory.mktemp("moee-cache")
            lend_weights(cache)
            patch.setenv("MOEE_CACHE", str(cache))
        yield Path(os.environ["MOEE_CACHE"])


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of evaluation sets. Only tests marked `data` may ask for it."""
    named = os.environ.get("MOEE_DATA")
    assert named, "set MOEE_DATA to the folder of evaluation sets, or run `make test-data`"
    assert Path(named).is_dir(), f"MOEE_DATA is {named!r}: no such folder"
    return Path(named)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The url of a PostgreSQL server with pgvector, which the first test that asks for it starts."""
    with running_postgres() as url:
        yield url


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """The url of an empty PostgreSQL database of this test's own."""
    with new_database(postgres, f"test_{next(_NUMBERS)}") as url:
        yield url
