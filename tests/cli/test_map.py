"""`moee map`, each in a process of its own. What runs UMAP is slow."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from moee.cli.map import map_
from moee.data import demo_sentences
from moee.index.map_file import CorpusMap
from moee.maps.pipeline import MapOptions
from tests.cli.conftest import Run


@pytest.fixture(scope="module")
def index(moee: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the demo's sentences by the backend without weights."""
    folder = tmp_path_factory.mktemp("map")
    rows = [{"text": each.text, "topic": each.topic} for each in demo_sentences()]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = moee(
        "index", "build", folder / "texts.jsonl", "--out", folder / "texts.index", "-m", "fake",
        "--calibrate", "none", "--fields", "topic", "--weights", "hs=1,rw=0.2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "texts.index"


@pytest.mark.slow
def test_map_writes_a_picture_a_table_and_what_the_server_reads(moee: Run, index: Path) -> None:
    done = moee("map", index, "--topics", "4", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["points"], document["unclustered"], len(document["topics"])) == (72, 0, 4)
    assert (index / "map.png").read_bytes().startswith(b"\x89PNG")
    table = pq.read_table(index / "map.parquet")
    assert table.column_names == [
        "id", "text", "x", "y", "topic", "label", "field_topic", "neighbors", "vector",
    ]  # fmt: skip
    assert set(table["field_topic"].to_pylist()) == {each.topic for each in demo_sentences()}
    found = CorpusMap.load(index)
    assert found is not None
    assert found.ids == table["id"].to_pylist()
    assert [topic.label for topic in found.topics] == [topic["label"] for topic in document["topics"]]
    assert "Placing them (UMAP)." in done.stderr


@pytest.mark.slow
def test_map_prints_topics_and_writes_where_it_is_told(moee: Run, index: Path, tmp_path: Path) -> None:
    places = ("--out", tmp_path / "a.parquet", "--plot", tmp_path / "a.svg")
    done = moee("--quiet", "map", index, *places, "--min-texts", "60")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "a.svg"]
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["topic", "texts", "label"]
    assert sum(int(line.split()[1]) for line in lines[1:]) == 72
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--plot", "map.pdf"), "its name must end in .png or .svg"),
        (("--topics", "3", "--min-texts", "5"), "exclude each other"),
        (("--fusion", "concat"), "fusion='concat' cannot be searched"),
        (("--max-points", "2"), "max_points is 2"),
        (("--alpha", "-1"), "alpha is -1"),
        (("--weights", "tokens=1"), "weights name tokens, and there are the views hs, rw here"),
        (("--weights", "hs"), "each view must be named once with a number"),
    ],
)
def test_map_refuses_what_it_cannot_do(moee: Run, index: Path, arguments: tuple[str, ...], message: str) -> None:
    before = sorted(path.name for path in index.iterdir())
    done = moee("map", index, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert sorted(path.name for path in index.iterdir()) == before


def test_the_options_of_the_command_are_those_of_the_library() -> None:
    given = {name: each.default for name, each in inspect.signature(map_).parameters.items()}
    assert {field.name: field.default for field in fields(MapOptions)}.items() <= given.items()


def test_map_needs_an_index(moee: Run, tmp_path: Path) -> None:
    done = moee("map", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "holds no index" in done.stderr


def test_a_place_that_cannot_be_written_is_reported_before_anything_is_computed(
    moee: Run, index: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    done = moee("map", index, "--out", tmp_path / "file" / "map.parquet")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Cannot write" in done.stderr
    assert "Comparing" not in done.stderr
