"""The check of the English in docstrings and messages, on small modules."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_english.py"
OF, THAT = "Of", "That"  # filled in below, so that the check does not find its own examples


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_english", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "source",
    [
        f'"""{OF} the model."""',
        f'"""Say it.\n\nArgs:\n    name: {OF} the model.\n"""',
        f'"""Say it.\n\nArgs:\n    **options: {OF} the backend.\n"""',
        f'"""Say it.\n\nArgs:\n    room: {THAT} there is.\n"""',
        f'LIMIT = 3\n"""{OF} texts in a file."""',
        f'"""One is kept. {OF} the others, none is."""',
        f'"""One is kept.\n{OF} the others, none is."""',
        f'raise ValueError(f"{{name!r}} is long. {OF} it, a part is kept.")',
        f"x = 1  # {OF} the model",
        f'option(help="{OF} the seed.")',
    ],
)
def test_a_fragment_is_found_with_its_line(check: ModuleType, source: str) -> None:
    found = check.fragments(f"import os\n{source}\n")
    assert [words.split()[0] for _, words in found] in ([OF], [THAT])
    assert f"import os\n{source}".splitlines()[found[0][0] - 1].count(f"{found[0][1]}") == 1


@pytest.mark.parametrize(
    "source",
    [
        '"""Name of the model."""',
        '"""Say it.\n\nArgs:\n    dtype: That of the source.\n    seed: Seed of the draws; of several, the first.\n"""',
        f'"""The best one\n{OF} several kinds."""',
        'raise ValueError(f"{name!r} of {kind!r} is long.")',
    ],
)
def test_whole_phrases_pass(check: ModuleType, source: str) -> None:
    assert check.fragments(source) == []


def test_a_folder_with_fragments_fails_and_names_file_and_line(
    check: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "good.py").write_text('"""Name of the model."""\n')
    assert check.main(tmp_path) == 0
    (tmp_path / "src" / "bad.py").write_text(f'X = 1\n"""{OF} the model."""\n')
    assert check.main(tmp_path) == 1
    assert capsys.readouterr().err.startswith(f"src/bad.py:2: {OF} the model.")
