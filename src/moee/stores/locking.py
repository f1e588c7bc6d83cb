"""One writer of a folder at a time, whatever process it is in."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from moee.errors import StoreError


class WriterLock:
    """A lock that ends with its process, however that ends.

    It is an exclusive transaction on an empty database: the one lock in the standard library that is the same on every
    system, and that the system lets go of after a kill.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None

    def acquire(self) -> None:
        """Take the lock, unless it is held here already.

        Raises:
            StoreError: If another holds it, or the folder cannot be written.
        """
        if self._database is not None:
            return
        try:
            database = sqlite3.connect(self._path, timeout=0.0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise StoreError(f"Cannot write the index in {str(self._path.parent)!r}: {error}.") from error
        try:
            database.execute("PRAGMA journal_mode = OFF")  # nothing is ever written
            database.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            database.close()
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise StoreError(f"Cannot write the index in {str(self._path.parent)!r}: {error}.") from error
            raise StoreError(
                f"Another writer has the index in {str(self._path.parent)!r} open. One may write at a time, any number "
                "may search. Wait until it is done, or stop it; what it has written in whole is kept."
            ) from error
        self._database = database

    def release(self) -> None:
        """Let others write."""
        if self._database is not None:
            self._database.close()
            self._database = None
