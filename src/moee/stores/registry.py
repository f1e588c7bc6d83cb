"""Which store an index is kept in, and how it is made and opened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from moee.errors import InputError, check_choice
from moee.stores.base import Store
from moee.stores.flat import FlatStore
from moee.stores.lancedb import LanceStore
from moee.stores.pgvector import PgVectorStore
from moee.stores.postgres import Table
from moee.stores.quantize import Codec
from moee.stores.store import Layout

StoreKind = Literal["flat", "lancedb", "pgvector"]
STORES: Mapping[StoreKind, type[Store]] = MappingProxyType(
    {"flat": FlatStore, "lancedb": LanceStore, "pgvector": PgVectorStore}
)
"""Every store: a new one is its class, in a file of its own, and its row here."""


@dataclass(frozen=True)
class StoreSpec:
    """Names a store; all of it can be written down.

    A password in `url` is taken out of it: it is in no field, no representation and no file, and serves this object
    alone.

    Attributes:
        kind: `"flat"`: files, exact search, nothing to install. `"lancedb"`: files, for larger corpora. `"pgvector"`: a
            table in PostgreSQL.
        url: Address of the PostgreSQL database; `"pgvector"` alone has one.
        table: Table in that database.
        approximate: Search by an approximate index (HNSW), and score what it finds exactly. The index of `"lancedb"`
            holds 8 bits a dimension, that of `"pgvector"` half precision above 2,000 dimensions; the vectors themselves
            stay float32. `"flat"` has none.
    """

    kind: StoreKind
    url: str | None = None
    table: str | None = None
    approximate: bool = False

    def __post_init__(self) -> None:
        """Check that the parts fit, and take passwords out of the url."""
        check_choice("store", self.kind, STORES)
        if bool(self.store.url_prefixes) != (self.url is not None) or (self.url is None) != (self.table is None):
            raise InputError(
                f"The store {self.kind!r} was given the url {'(none)' if self.url is None else '(one)'} and the table "
                f"{self.table!r}; 'pgvector' needs both, other stores take neither."
            )
        if self.approximate and not self.store.can_approximate:
            raise InputError(
                f"The store {self.kind!r} searches exactly alone. For an approximate index use lancedb or pgvector."
            )
        secrets: dict[str, str] = {}
        if self.url is not None:
            url, secrets = _split_secrets(self.url)
            object.__setattr__(self, "url", url)
        object.__setattr__(self, "_secrets", secrets)

    @property
    def store(self) -> type[Store]:
        """The class of the store."""
        return STORES[self.kind]

    @property
    def secrets(self) -> Mapping[str, str]:
        """What the url held that must not be written down, by libpq's names: `password`, `sslpassword`."""
        secrets: Mapping[str, str] = self.__dict__["_secrets"]
        return secrets

    @classmethod
    def parse(cls, text: str, name: str, *, approximate: bool = False) -> StoreSpec:
        """Read what a user names a store by.

        Args:
            text: `"flat"`, `"lancedb"`, or the url of a PostgreSQL database: `postgresql://user@host/database`.
            name: Name of the index; a table is called `moee_` and this, in lower case.
            approximate: See the class.

        Raises:
            InputError: If it is neither.
        """
        for kind, store in STORES.items():
            if text == kind and not store.url_prefixes:
                return cls(kind, approximate=approximate)
            if text.startswith(store.url_prefixes):
                slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:50] or "index"
                return cls(kind, text, f"moee_{slug}", approximate)
        shown = re.sub(r"//[^@/]*@", "//...@", text)
        raise InputError(
            f"Unknown store {shown!r}. Choose flat, lancedb, or the url of a PostgreSQL database with pgvector: "
            "postgresql://user@host:5432/database"
        )

    def check_codec(self, name: str | None) -> None:
        """Refuse a codec for a store that keeps float32 vectors alone."""
        if name is not None and not self.store.keeps_codes:
            raise InputError(
                f"The store {self.kind!r} keeps float32 vectors alone, not {name}. "
                "Use the store flat, or shorten the vectors (dims, --dims)."
            )

    def place(self, folder: Path) -> Path | Table:
        """Return where the store of an index in `folder` is: a folder of its name in it, or a table."""
        if self.url is None:
            return folder / self.kind
        assert self.table is not None, "checked with the url"
        return Table(self.url, self.table, self.secrets)


def create_store(spec: StoreSpec, folder: Path, layout: Layout, codec: Codec | None = None) -> Store:
    """Make an empty store; the errors are those of `Store.create`, and an `InputError` if it cannot keep the codec."""
    spec.check_codec(None if codec is None else codec.name)
    return spec.store.create(spec.place(folder), layout, codec, approximate=spec.approximate)


def open_store(spec: StoreSpec, folder: Path, layout: Layout, codec: Codec | None = None) -> Store:
    """Open a store that `create_store` made with the same arguments; the errors are those of `Store`."""
    spec.check_codec(None if codec is None else codec.name)
    return spec.store(spec.place(folder), layout, codec, approximate=spec.approximate)


def _split_secrets(url: str) -> tuple[str, dict[str, str]]:
    """Return the url without passwords, and the passwords."""
    parts = urlsplit(url)
    if not url.startswith(PgVectorStore.url_prefixes) or "@" in parts.path:
        raise InputError(
            "The url of the store cannot be read; it must have the form postgresql://user@host:5432/database, with "
            "reserved characters such as / and @ in a password written as %2F and %40."
        )
    user_info, at, hosts = parts.netloc.rpartition("@")
    user, _, password = user_info.partition(":")
    secrets = {"password": unquote(password)} if password else {}
    options = parse_qsl(parts.query, keep_blank_values=True)
    secrets |= {key: value for key, value in options if key.endswith("password")}
    query = urlencode([(key, value) for key, value in options if not key.endswith("password")], safe="/:")
    return urlunsplit(parts._replace(netloc=f"{user}{at}{hosts}", query=query)), secrets
