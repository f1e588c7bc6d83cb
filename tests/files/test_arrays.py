"""Arrays and facts in one file: what comes back, and what is refused with the name of the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from moee.errors import CalibrationError, CheckpointError
from moee.files.arrays import read_arrays, write_arrays

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def read(path: Path, **options: Any) -> dict[str, Any]:
    settings = {"arrays": ["rows"], "facts": ["word"], "version": 1, "error": CheckpointError, "advice": "Do it again."}
    return read_arrays(path, "thing", **{**settings, **options})


def test_arrays_and_facts_come_back_and_older_files_get_what_they_lack(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a", "thing", {"rows": ROWS.T}, {"word": "x", "more": 1}, version=1)
    found = read(tmp_path / "a", optional={"later": 7, "more": 0})
    np.testing.assert_array_equal(found.pop("rows"), ROWS.T)
    assert found == {"word": "x", "later": 7, "more": 1}


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"format_version": 1}, r"KeyError: 'word'"),
        ({"word": "x"}, r"KeyError: 'format_version'"),
        ([1], "TypeError"),
        ({"format_version": 2, "word": "x"}, r"has thing format 2; this program reads formats up to 1.*Do it again"),
    ],
)
def test_descriptions_that_cannot_be_used_are_refused(tmp_path: Path, about: Any, message: str) -> None:
    save_file({"rows": ROWS}, tmp_path / "a", metadata={"moee_thing": json.dumps(about)})
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path / "a")


def test_a_description_nested_without_end_and_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    save_file({"rows": ROWS}, tmp_path / "a", metadata={"moee_thing": "[" * 100_000})
    with pytest.raises(CalibrationError, match="not a readable thing file"):
        read(tmp_path / "a", error=CalibrationError)
    save_file({"rows": ROWS}, tmp_path / "b")
    with pytest.raises(CheckpointError, match=r"'moee_thing'.*Do it again"):
        read(tmp_path / "b")
    with pytest.raises(CheckpointError, match="not a readable thing file"):
        read(tmp_path / "missing")
