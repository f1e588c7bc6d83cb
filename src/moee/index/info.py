"""What an index is, as JSON: for `moee index info` and for the server."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from moee.files.json import read_json
from moee.index.folder import EMBEDDER, REPORT, IndexFolder
from moee.index.searcher import settle_weights
from moee.method.saved import read_embedder


def describe(index: IndexFolder) -> dict[str, Any]:
    """Return the facts of an index. `Any`: JSON.

    Raises:
        StoreError: If the store cannot be read.
        CheckpointError, CalibrationError: If the saved embedder is damaged.
    """
    manifest = index.manifest
    saved = read_embedder(index.folder / EMBEDDER)
    config, layout = saved.config, manifest.layout
    report = index.folder / REPORT
    return {
        "folder": str(index.folder),
        "num_texts": len(index.store),
        "chunk": manifest.chunk,
        "chunks": None if manifest.chunk is None else manifest.chunks,
        "is_complete": not manifest.unfinished,
        "model": {
            "name": manifest.model,
            "fingerprint": manifest.fingerprint,
            "dtype": manifest.dtype,
            "precision": manifest.precision,
        },
        "prompts": {
            "prompt": config.prompt,
            "query_prompt": config.query_prompt,
            "document_prompt": config.document_prompt,
        },
        "calibration": {
            "method": config.calibration,
            "whose": manifest.calibrate,
            "num_texts": saved.calibrations[0].num_texts if saved.calibrations else 0,
        },
        "fusion": config.fusion,
        "weights": settle_weights(manifest, config),
        "alpha": manifest.alpha,
        "vectors": {
            "dims": dict(layout.dims),
            "reduction": manifest.reduction,
            "stored_as": manifest.quantize or "float32",
        },
        "hybrid": layout.hybrid,
        "store": asdict(manifest.store),
        "fields": dict(layout.fields),
        "bytes": sum(path.stat().st_size for path in index.folder.rglob("*") if path.is_file()),
        "sources": [asdict(source) for source in manifest.sources],
        "report": read_json(report) if report.is_file() else None,
        "moee_version": manifest.moee_version,
    }
