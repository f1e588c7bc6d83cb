"""What lands on disk, and that the same numbers give the same files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from moee.errors import InputError
from moee.evaluate.reproduce.exhibit import Exhibit, Picture, Table
from moee.evaluate.reproduce.pictures import Bars, draw_bars
from moee.evaluate.reproduce.writer import prepare_folder, write_exhibit

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def exhibit() -> Exhibit:
    def draw(figure: Figure) -> None:
        draw_bars(figure, ["a", "b"], [Bars("HS, ours", [1.0, None], "HS")], "points", floor=[0.5, 0.7])

    rows = (("a|b", 1.23456, 3, None), ("c", 2.0, 4, "x"))
    table = Table("main", "A title", ("name", "value", "count", "rest"), rows)
    more = Table("more", "Another", ("only",), ((1.0,),), decimals=1)
    return Exhibit("table0", "Nothing", (table, more), ("A note.",), (Picture("bars", "Bars", (5, 3), draw),), {"k": 1})


def test_files_are_named_after_the_target_and_the_further_tables(tmp_path: Path) -> None:
    written = write_exhibit(exhibit(), tmp_path, run={"model": "m"})
    names = {"table0.csv", "table0.more.csv", "table0.png", "table0.svg", "table0.md", "table0.json"}
    assert {path.name for path in written} == names == {path.name for path in tmp_path.iterdir()}


def test_json_and_csv_keep_the_full_number(tmp_path: Path) -> None:
    write_exhibit(exhibit(), tmp_path, run={"model": "m"})
    document = json.loads((tmp_path / "table0.json").read_text(encoding="utf-8"))
    assert document["tables"][0]["rows"][0] == {"name": "a|b", "value": 1.23456, "count": 3, "rest": None}
    assert (document["run"], document["settings"], document["notes"]) == ({"model": "m"}, {"k": 1}, ["A note."])
    assert "items" not in document
    with (tmp_path / "table0.csv").open(encoding="utf-8", newline="") as stream:
        assert next(iter(csv.DictReader(stream))) == {"name": "a|b", "value": "1.23456", "count": "3", "rest": ""}


def test_markdown_rounds_and_escapes(tmp_path: Path) -> None:
    write_exhibit(exhibit(), tmp_path, run={"model": "m"})
    text = (tmp_path / "table0.md").read_text(encoding="utf-8")
    assert "| a\\|b | 1.23 | 3 | – |" in text
    assert "![Bars](table0.png)" in text
    assert "- A note." in text


def test_the_same_numbers_give_the_same_picture(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_exhibit(exhibit(), tmp_path / name, run={})
        files.append([(tmp_path / name / f"table0.{kind}").read_bytes() for kind in ("png", "svg")])
    assert files[0] == files[1]


def test_a_row_must_fit_its_columns() -> None:
    with pytest.raises(AssertionError):
        Table("t", "t", ("one", "two"), ((1.0,),))


def test_the_folder_is_made_and_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "new" / "deep")
    assert (tmp_path / "new" / "deep").is_dir()
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="which is a file"):
        prepare_folder(tmp_path / "file")
