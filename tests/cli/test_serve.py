"""`moee serve`: what is refused before it listens. What it serves is tested in tests/serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run

FAKE = ("-m", "fake", "--calibration", "none", "-p", "0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "no-such-model"], "no-such-model"),
        (["-m", "fake", "-p", "0", "--calibration", "zscor"], "Unknown calibration"),
        (["-m", "fake", "-p", "0", "--recipe", "paper"], "Use calibration='spectral', 'zscore' or 'none'"),
        ([*FAKE, "--prompts", "ke,kee"], "Unknown prompt 'kee'"),
        ([*FAKE, "--max-batch-tokens", "0"], "--max-batch-tokens is 0; it must be 1 or larger"),
        ([*FAKE, "--fusion", "cat"], "Unknown fusion 'cat'"),
        (["--port", "http"], "Invalid value for '--port'"),
        (["--index", "nowhere", "-p", "0"], "nowhere"),
        (["--index", "nowhere", "-p", "0", "--fusion", "hs", "--alpha", "1"], "--fusion, --alpha cannot be given with"),
    ],
)
def test_wrong_use_exits_with_2_and_one_line(moee: Run, arguments: list[str], message: str) -> None:
    done = moee("serve", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_shows_the_twin_of_every_option_of_the_server(moee: Run) -> None:
    shown = moee("serve", "--help").stdout
    for name in ("API_KEY", "PORT", "MAX_BATCH_TOKENS", "CORS_ALLOW_ORIGIN", "INDEX", "MODEL"):
        assert f"MOEE_{name}" in "".join(shown.split())


def test_a_missing_extra_is_named_with_its_install_line(moee: Run, tmp_path: Path) -> None:
    """A finder that hides uvicorn stands in for an installation without the extra."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'uvicorn' else found(name, *rest)\n"
    )
    done = moee("serve", *FAKE, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == "Error: `uvicorn` is needed for the server. Install it with: pip install 'moee[serve]'\n"
