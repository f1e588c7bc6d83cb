from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from moee import MoEE
from moee.errors import InputError, StoreError
from moee.index.manifest import Manifest, Source, read_manifest, write_manifest
from moee.stores.registry import StoreSpec
from moee.stores.store import Layout

FIRST = Source("/a.jsonl", "ab" * 32, 3, "text", None)
MANIFEST = Manifest(
    store=StoreSpec("flat"),
    layout=Layout({"hs": 16, "rw": 8}, {"year": "integer"}),
    model="fake",
    fingerprint="fake-1",
    dtype="float32",
    precision="exact",
    calibrate="corpus",
    alpha=0.25,
    dims=24,
    reduction="pca",
    quantize="int8",
    sources=(FIRST,),
)


def test_it_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    assert read_manifest(tmp_path) == MANIFEST


def test_a_password_is_not_written(tmp_path: Path) -> None:
    spec = StoreSpec.parse("postgresql://me:secret@localhost/notes", "notes.index")
    write_manifest(tmp_path, replace(MANIFEST, store=spec))
    assert "secret" not in (tmp_path / "index.json").read_text()
    assert read_manifest(tmp_path).store == spec


def test_sources_are_added_and_replaced_by_path() -> None:
    second = Source("/b.jsonl", "cd" * 32, 5, "text", None)
    both = MANIFEST.with_source(second)
    assert both.sources == (FIRST, second)
    assert both.unfinished == [FIRST, second]
    done = both.with_source(replace(FIRST, is_complete=True))
    assert [source.path for source in done.sources] == ["/a.jsonl", "/b.jsonl"]
    assert done.unfinished == [second]


def test_a_model_of_other_weights_is_refused_with_both() -> None:
    model = MoEE.from_pretrained("fake")
    MANIFEST.check_model(model.info)
    with pytest.raises(
        InputError, match=r"built with the model 'old' \(weights 123\), .* with 'fake' \(weights fake-1"
    ):
        replace(MANIFEST, model="old", fingerprint="123").check_model(model.info)


def test_folders_without_an_index_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no index .*moee index build FILE --out"):
        read_manifest(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        read_manifest(tmp_path / "nothing")


def test_newer_versions_are_refused_with_the_way_out(tmp_path: Path) -> None:
    values = {**MANIFEST.to_dict(), "format_version": 3, "new": 1}
    (tmp_path / "index.json").write_text(json.dumps(values))
    with pytest.raises(
        InputError,
        match=r"version 3; this program reads versions 1 to 2. Update moee, or build it again: moee index build /",
    ):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"kind": "moee-index"}', '{"kind": "moee-index", "format_version": 1}']
)
def test_damaged_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(StoreError, match=r"index.json' is damaged"):
        read_manifest(tmp_path)


def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"kind": "website"}')
    with pytest.raises(InputError, match="describes 'website', not an index of moee"):
        read_manifest(tmp_path)
