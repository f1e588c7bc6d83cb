"""An index without its model: what a listing, a deletion or a map needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from moee.errors import StoreError
from moee.index.manifest import Manifest, read_manifest
from moee.stores.base import Store
from moee.stores.quantize import load_codec
from moee.stores.reduce import Reducer
from moee.stores.registry import StoreSpec, open_store

EMBEDDER = "embedder"
REDUCER = "reducer.safetensors"
CODEC = "codec.safetensors"
REPORT = "report.json"


@dataclass(slots=True)
class IndexFolder:
    """An open index. To be closed, or used as a context.

    Attributes:
        folder: Folder of the index.
        manifest: What it is.
        store: Records and vectors of the index.
        reducer: How its vectors were shortened; None if they were not.
    """

    folder: Path
    manifest: Manifest
    store: Store
    reducer: Reducer | None

    def close(self) -> None:
        """Release files and connections."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_index(folder: str | Path, *, store: StoreSpec | None = None) -> IndexFolder:
    """Open an index.

    Args:
        folder: Folder that `moee index build` wrote.
        store: The store of the index again, if its url brings the password that the manifest does not keep.

    Raises:
        InputError: If there is no index, or one of a newer version.
        StoreError: If a file is missing or damaged, or a database cannot be reached.
        CheckpointError: If the reducer or the codec is missing or damaged.
    """
    folder = Path(folder).expanduser()
    manifest = read_manifest(folder)
    if store is not None and store != manifest.store:
        raise StoreError(f"The index is kept in {manifest.store}, not in {store}.")
    reducer = Reducer.load(folder / REDUCER) if manifest.dims is not None else None
    codec = load_codec(folder / CODEC) if manifest.quantize is not None else None
    opened = open_store(store or manifest.store, folder, manifest.layout, codec)
    return IndexFolder(folder, manifest, opened, reducer)
