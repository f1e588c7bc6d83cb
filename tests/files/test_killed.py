"""Folders replaced by writers that are killed at every step: old or new, whole, and in the end nothing else."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moee import MoEE
from moee.files.atomic import atomic_folder, recover_folder
from tests.carve.conftest import llama  # noqa: F401 - a fixture
from tests.files import kill_steps

ROOT = Path(__file__).resolve().parents[2]
WAYS = pytest.mark.parametrize("way", [(), ("two-renames",)], ids=["exchange", "two renames"])


def digest(folder: Path) -> str:
    """Return a digest of names and contents; a report's times are left out."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.name not in ("carve_report.json", "README.md"):
            found.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return found.hexdigest()


def kills(watched: Path, *words: str) -> Iterator[int]:
    """Yield the number of each step before which the work has just been killed; at the end it was done whole."""
    command = [sys.executable, "-m", "tests.files.kill_steps", str(watched), *words]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        for line in program.stdout:
            yield int(line)
            program.stdin.write("\n")
            program.stdin.flush()
    assert program.returncode == 0


def watch_replacement(folder: Path, make: Callable[[str], None], *words: str) -> set[str]:
    """Replace `folder` with a kill at every step, and return which of "old" and "new" there was after kills."""
    make("new")
    new = digest(folder)
    make("old")
    old = digest(folder)
    assert old != new
    kept = shutil.copytree(folder, folder.parents[1] / "kept")
    seen = set()
    for step in kills(folder.parent, *words):
        recover_folder(folder)
        state = {old: "old", new: "new"}.get(digest(folder))
        assert state is not None, f"killed before step {step}, it is neither the old folder nor the new one"
        seen.add(state)
        left = [path.name for path in folder.parent.iterdir() if path != folder]
        assert len(left) <= 1, f"before step {step}: {left}: what earlier kills left is still there"
        if state == "new":
            with atomic_folder(folder) as temporary:
                shutil.copytree(kept, temporary, dirs_exist_ok=True)
            assert list(folder.parent.iterdir()) == [folder], "the next call left something"
    assert digest(folder) == new
    assert list(folder.parent.iterdir()) == [folder]
    return seen


@WAYS
def test_saving_over_an_embedder(tmp_path: Path, way: tuple[str, ...]) -> None:
    folder = tmp_path / "out" / "embedder"
    alphas = {"old": "0.25", "new": "0.75"}

    def make(which: str) -> None:
        kill_steps.save(str(folder), alphas[which])

    assert watch_replacement(folder, make, *way, "save", str(folder), alphas["new"]) == {"old", "new"}
    assert MoEE.from_pretrained(folder).config.alpha == 0.75


def test_calibrating_over_an_embedder(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "embedder"
    for which, number in {"old": 20, "new": 30}.items():
        (tmp_path / f"{which}.txt").write_text("".join(f"text {place} of {number}\n" for place in range(number)))
    arguments = {
        which: ("calibrate", "fake", "--texts", str(tmp_path / f"{which}.txt"), "--out", str(folder))
        for which in ("old", "new")
    }
    folder.parent.mkdir()

    def make(which: str) -> None:
        embedder = MoEE.from_pretrained("fake")
        embedder.calibrate((tmp_path / f"{which}.txt").read_text().splitlines())
        embedder.save(folder)

    assert watch_replacement(folder, make, "moee", *arguments["new"]) == {"old", "new"}


@pytest.mark.slow
def test_carving_over_a_checkpoint(tmp_path: Path, llama: Path) -> None:  # noqa: F811
    folder = tmp_path / "out" / "carved"
    seeds = {"old": "1", "new": "2"}

    def make(which: str) -> None:
        kill_steps.carve(str(llama), str(folder), seeds[which])

    assert watch_replacement(folder, make, "carve", str(llama), str(folder), seeds["new"]) == {"old", "new"}
