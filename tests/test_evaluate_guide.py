"""The shell blocks of the guide to evaluation run as they stand, one after the other, in one folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "guides" / "evaluate.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_commands_of_the_guide_run(tmp_path: Path) -> None:
    """With the fake model in place of the default one: what is tested is the page, not the demo."""
    script = re.sub(r"^(moee (?:eval|tune|reproduce))", r"\1 --model fake", "\n".join(BLOCKS), flags=re.MULTILINE)
    assert script.count("--model fake") >= 8
    programs = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "MOEE_CACHE": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "scores" / "results.json").is_file()
    assert "random projections" in (tmp_path / "checked" / "results.md").read_text(encoding="utf-8")
    assert (tmp_path / "again" / "table8.json").is_file()
