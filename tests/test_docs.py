"""The documentation says what is so: its Python runs, its links lead somewhere, its commands and options exist."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest
from typer.main import get_group

from moee.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return [code for found, code in BLOCK.findall(page.read_text(encoding="utf-8")) if found == language]


def command_of(words: list[str]) -> tuple[str, list[str]]:
    """The leading words that name a command, groups included, and the others; no name if there is no such command."""
    command: object = get_group(app)
    for place, word in enumerate(words):
        below = getattr(command, "commands", {})
        if not below:
            return " ".join(words[:place]), words[place:]
        if word not in below:
            return "", words
        command = below[word]
    return " ".join(words), []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_and_their_options_exist(page: Path) -> None:
    """In shell blocks and in generated help alike."""
    reference = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for code in blocks(page, "sh"):
        for line in code.splitlines():
            for call in re.findall(r"(?:^|[|;] ?)(?:\.venv/bin/)?moee ([a-z][^|>#]*)", line):
                name, arguments = command_of(call.split())
                assert name, line
                section = reference.split(f"## `moee {name}`")[1].split("## `")[0]
                for option in (each for each in arguments if re.fullmatch(r"--?[a-z][a-z-]*", each)):
                    assert re.search(rf"{re.escape(option)}[ ,]", section), f"{line}: moee {name} has no {option}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for code in blocks(page, "sh"):
        for line in code.splitlines():
            if line.startswith("make "):
                named = line.split("#")[0].split()[1:]
                assert set(named) <= targets, line


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=page_id)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page, one after the other, in one namespace. Blocks marked `py` need more than the demo."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for code in blocks(page, "python"):
        exec(compile(code, str(page), "exec"), namespace)


MODULES_WITH_EXAMPLES = sorted(
    str(path.relative_to(ROOT / "src").with_suffix("")).replace("/", ".")
    for path in (ROOT / "src" / "moee").rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES_WITH_EXAMPLES)
def test_examples_in_docstrings_run(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0
    assert results.failed == 0


def test_there_are_examples() -> None:
    assert "moee.embedder" in MODULES_WITH_EXAMPLES


def test_the_readme_shows_the_demo_python_and_the_shell_first() -> None:
    """A newcomer sees all three, and what the demo printed, without scrolling far."""
    head = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:40])
    assert [language for language, _ in BLOCK.findall(head)] == ["sh", "text", "python", "sh"]
    shown = next(code for language, code in BLOCK.findall(head) if language == "text")
    assert "Nearest to: " in shown
    assert "Neighbours of the query's own topic: hs " in shown


def test_the_readme_names_both_commands_first_and_the_gate_calls_them() -> None:
    head = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:40])
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert re.search(rf"^make {target}\b", head, re.MULTILINE)
        assert re.search(rf"^step {target}$", gate, re.MULTILINE)


def test_the_map_of_the_code_names_what_is_there() -> None:
    """Names in a row of the first table may be relative to the row's own folder."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line for line in page.split("## Map of the code")[1].split("\n## ")[0].splitlines() if line.startswith("|")]
    assert len(rows) > 20
    package = ROOT / "src" / "moee"
    for row in rows:
        names = [name for name in re.findall(r"`([\w./]+)`", row) if "NAME" not in name and re.search(r"/|\.py$", name)]
        for name in names:
            places = (package / name, package / names[0] / name, ROOT / name)
            assert any(place.exists() for place in places), f"{name} in: {row}"


def test_every_folder_of_the_package_is_on_the_map() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Map of the code")[1].split("\n## ")[0]
    folders = [path.parent.name for path in (ROOT / "src" / "moee").glob("*/__init__.py")]
    assert [name for name in folders if f"`{name}/" not in page] == []
