"""A model of the hub to a folder: what names the weights first, then the weights that it names and nothing else.

Repositories hold more than a model: the same weights in the author's layout (`original/`, `consolidated*`), states of
a training (`checkpoint-*/`), exports for other programs. For some well-known models that is half of the bytes.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path

from moee.backends.checkpoint import headers

_SMALL = ("*.json", "tokenizer*", "*.model", "*.tiktoken", "*.txt", "*.jinja")
_IN_FOLDERS = "*/*"
_NOT_OURS = (_IN_FOLDERS, "consolidated*", "training_args.bin", "optimizer*", "scheduler*")


def download(hub_id: str, *, revision: str | None, local_files_only: bool, allow_pickle: bool) -> Path:
    """Fetch what loading a model needs; what is cached is not fetched again.

    Args:
        hub_id: Owner and name.
        revision: Branch, tag or commit.
        local_files_only: Use what is cached.
        allow_pickle: Fetch pickles where there are no safetensors.

    Returns:
        The folder in the hub's cache.

    Raises:
        OSError, ValueError: As the hub's library raises them; its errors derive from these.
        CheckpointError: If it is an adapter, or its index cannot be used.
    """
    from huggingface_hub import snapshot_download

    def fetch(*patterns: str, ignored: tuple[str, ...] = (_IN_FOLDERS,)) -> Path:
        return Path(
            snapshot_download(
                hub_id,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=list(ignored),
                local_files_only=local_files_only,
            )
        )

    folder = fetch(*_SMALL)
    headers.refuse_adapter(folder)
    if index := headers.index_file(folder):
        # a name may lead into a folder; it is meant, for the index has it
        return fetch(*map(glob.escape, headers.indexed_names(index)), ignored=())
    for patterns in _without_index(allow_pickle):
        fetch(*patterns, ignored=_NOT_OURS)
        if any(path for pattern in patterns for path in folder.glob(pattern)):
            break
    return folder


def _without_index(allow_pickle: bool) -> Iterator[tuple[str, ...]]:
    """Yield what may be the weights, the likeliest first; `headers.weight_files` has the same order."""
    yield (headers.WHOLE,)
    yield (f"*{headers.SAFETENSORS}",)
    if allow_pickle:
        yield headers.PICKLES
