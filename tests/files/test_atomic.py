from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from moee.errors import OutputError, StoreError
from moee.files.atomic import atomic_file, atomic_folder, cache_dir


def fail_after(_written: object) -> None:
    """Raise once something has been written."""
    raise RuntimeError("halfway")


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    with atomic_file(target) as temporary:
        temporary.write_text("all of it", encoding="utf-8")
        assert not target.exists()
    assert target.read_text(encoding="utf-8") == "all of it"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError, match="halfway"), atomic_file(target) as temporary:
        fail_after(temporary.write_text("new", encoding="utf-8"))
    assert target.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_missing_folder_is_said_before_any_work(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"Cannot write .*missing.*No such file or directory"),
        atomic_file(tmp_path / "missing" / "out.txt"),
    ):
        pytest.fail("the body must not run")


def test_no_space_while_writing_becomes_an_output_error(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"No space left on device.*Nothing was left half-written"),
        atomic_file(tmp_path / "out.txt"),
    ):
        raise OSError(28, os.strerror(28))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for content in ("one", "two"):
        with atomic_folder(target) as temporary:
            (temporary / content).write_text(content, encoding="utf-8")
    assert [path.name for path in target.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "kept").touch()
    with pytest.raises(RuntimeError, match="halfway"), atomic_folder(target) as temporary:
        fail_after((temporary / "new").touch())
    assert [path.name for path in target.iterdir()] == ["kept"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
def test_errors_of_our_own_keep_their_words(
    tmp_path: Path, write: Callable[[Path], AbstractContextManager[Path]]
) -> None:
    """Some of them are system errors too, and are not about the file that is written."""
    with pytest.raises(StoreError, match=r"^the database is away$"), write(tmp_path / "out"):
        raise StoreError("the database is away")
    assert not list(tmp_path.iterdir())


def test_the_cache_follows_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOEE_CACHE", str(tmp_path / "here"))
    assert cache_dir() == tmp_path / "here"
    monkeypatch.delenv("MOEE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "moee"
