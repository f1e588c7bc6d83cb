"""Evaluation sets in the layout that mteb reads: JSON lines, and a README whose YAML head names them.

Reference: mteb 2.26, `abstasks/retrieval_dataset_loaders.py` and the dataset columns of its task classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from moee.evaluate.tasks.task import Tables, TaskData
from moee.files.atomic import atomic_folder


def write_task(
    data: TaskData, workdir: Path, columns: Mapping[str, str], *, config: str = "default"
) -> tuple[Path, str]:
    """Write a task for mteb to a folder named after task and content; one that is there already is left alone.

    Args:
        data: The task.
        workdir: Parent of the folder; created if missing.
        columns: What mteb's task class calls its columns, by the name of the class attribute.
        config: Name of the configuration, mteb's subset.

    Returns:
        The folder, and a digest of the rows.

    Raises:
        InputError: If mteb has no layout for the task.
        OutputError: If the folder cannot be written.
    """
    tables = data.mteb_tables(columns, config)
    files = {
        f"{name}/{split}.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        for name, splits in tables.items()
        for split, rows in splits.items()
    }
    files["README.md"] = _readme(tables)
    digest = hashlib.sha256("\0".join(f"{name}\0{text}" for name, text in sorted(files.items())).encode()).hexdigest()
    folder = workdir / f"{data.name}-{digest[:16]}"
    if not folder.is_dir():
        with atomic_folder(folder) as temporary:
            for name, text in files.items():
                (temporary / name).parent.mkdir(exist_ok=True)
                (temporary / name).write_text(text, encoding="utf-8")
    return folder, f"local-{digest[:16]}"


def _readme(tables: Tables) -> str:
    lines = ["---", "configs:"]
    for name, splits in tables.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split in splits:
            lines += [f"  - split: {split}", f"    path: {name}/{split}.jsonl"]
    return "\n".join([*lines, "---", ""])
