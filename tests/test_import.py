from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "pyarrow", "sklearn", "sentence_transformers")


@pytest.mark.parametrize(
    "statement",
    [
        "import moee",
        "import moee.cli",
        "import sys; sys.argv = ['moee', '--version']; from moee.cli import main; main()",
        "import sys; sys.argv = ['moee', 'embed', '--help']; from moee.cli import main; main()",
        "import sys; sys.argv = ['moee', 'models', '--json']; from moee.cli import main; main()",
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(statement: str) -> None:
    program = (
        "import sys\n"
        f"try:\n    exec({statement!r})\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"print('LOADED', sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_importing_changes_nothing_outside_the_package() -> None:
    program = (
        "import logging, os, warnings\nimport numpy\n"  # numpy sets filters for its own messages
        "before = dict(os.environ), list(warnings.filters), logging.root.handlers[:], logging.root.level\n"
        "import moee\n"
        "moee.MoEE\n"
        "assert before == (dict(os.environ), list(warnings.filters), logging.root.handlers[:], logging.root.level)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_public_names_exist_and_are_at_most_ten() -> None:
    import moee

    assert sorted(moee.__all__) == list(moee.__all__)
    assert len([name for name in moee.__all__ if not name.startswith("_")]) <= 10
    for name in moee.__all__:
        assert getattr(moee, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        moee.Nonsense  # noqa: B018
