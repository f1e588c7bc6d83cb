"""The map that the server reads: kept whole, and known to be out of date when it is."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moee.errors import OutputError, StoreError
from moee.index.manifest import Manifest, Source
from moee.index.map_file import CorpusMap, MapOrigin, Topic, state_of
from moee.stores.registry import StoreSpec
from moee.stores.store import Layout

MANIFEST = Manifest(
    store=StoreSpec("flat"),
    layout=Layout({"hs": 4, "rw": 2}, {}),
    model="fake",
    fingerprint="abc",
    dtype="float32",
    precision="exact",
    calibrate="none",
    alpha=0.5,
    dims=None,
    reduction=None,
    quantize=None,
    sources=(Source("a.txt", "00", 3, "text", None, True),),
)
MAP = CorpusMap(
    ids=["a", "b", "c"],
    texts=["one", "zwei\n", "三 🙂"],
    x=np.array([0.1, -2.5, 1e-7], dtype=np.float32),
    y=np.array([1, 2, 3], dtype=np.float32),
    topic=np.array([0, -1, 0]),
    topics=(Topic(0, "one, 三", 0.05, 2.0, 2),),
    origin=MapOrigin(3, state_of(MANIFEST), {"hs": 1.0, "rw": 0.5}, 0),
)


def test_a_map_is_read_as_it_was_saved(tmp_path: Path) -> None:
    MAP.save(tmp_path)
    found = CorpusMap.load(tmp_path)
    assert found is not None
    assert len(found) == 3
    for name in ("ids", "texts", "topics", "origin"):
        assert getattr(found, name) == getattr(MAP, name)
    for name in ("x", "y", "topic"):
        np.testing.assert_array_equal(getattr(found, name), getattr(MAP, name))
        assert getattr(found, name).dtype == getattr(MAP, name).dtype
    assert [path.name for path in tmp_path.iterdir()] == ["map.json"]


def test_the_json_form_is_lists_of_one_length_and_topics() -> None:
    document = json.loads(json.dumps(MAP.to_dict()))
    assert document["topic"] == [0, -1, 0]
    assert document["x"] == [0.1, -2.5, 1e-7]
    assert document["texts"][2] == "三 🙂"
    assert document["topics"] == [{"topic": 0, "label": "one, 三", "x": 0.05, "y": 2.0, "count": 2}]


def test_an_index_without_a_map_has_none(tmp_path: Path) -> None:
    assert CorpusMap.load(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"kind": "moee-map"}',
        b"\xff\xfe",
        json.dumps({"kind": "moee-map", "format_version": 3}).encode(),
        json.dumps({"kind": "other", "format_version": 1}).encode(),
    ],
)
def test_a_damaged_map_is_an_error_that_says_how_to_make_it_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "map.json").write_bytes(content)
    with pytest.raises(
        StoreError, match=r"not a readable map of format versions 1 to 2 .*Make it again with: moee map"
    ):
        CorpusMap.load(tmp_path)


def test_a_map_with_a_point_missing_is_damaged(tmp_path: Path) -> None:
    MAP.save(tmp_path)
    values = json.loads((tmp_path / "map.json").read_text(encoding="utf-8"))
    values["x"].pop()
    (tmp_path / "map.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(StoreError, match="its lists differ in length"):
        CorpusMap.load(tmp_path)


def test_a_map_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Cannot write"):
        MAP.save(tmp_path / "missing")


def test_a_map_knows_when_the_index_changed() -> None:
    assert MAP.staleness(MANIFEST, 3) is None
    assert MAP.staleness(MANIFEST, 4) == "The map was made of 3 texts, and the index holds 4."
    more = replace(MANIFEST, sources=(*MANIFEST.sources, Source("b.txt", "11", 1, "text", None, True)))
    again = replace(MANIFEST, sources=(replace(MANIFEST.sources[0], sha256="22"),))
    other = replace(MANIFEST, fingerprint="def")
    for changed in (more, again, other):
        assert "since the map was made" in (MAP.staleness(changed, 3) or "")


def test_reading_a_map_needs_neither_umap_nor_pyarrow_nor_scikit_learn(tmp_path: Path) -> None:
    MAP.save(tmp_path)
    script = (
        "import sys\nfrom pathlib import Path\nfrom moee.index.map_file import CorpusMap\n"
        f"assert len(CorpusMap.load(Path({str(tmp_path)!r}))) == 3\n"
        "assert not {'umap', 'pyarrow', 'sklearn', 'matplotlib', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
