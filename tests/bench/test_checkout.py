"""What an installed package does without the repository's folder of benchmarks."""

from __future__ import annotations

from pathlib import Path

import pytest

from moee.bench import checkout
from moee.bench.entries import OURS
from moee.bench.run import Options, run
from moee.bench.weights import Setup
from moee.errors import InputError
from tests.bench.conftest import GOLDEN
from tests.cli.conftest import Run, command, environment, moee

__all__ = ["command", "environment", "moee"]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The package as a wheel holds it: no folder of benchmarks beside its source."""
    monkeypatch.setattr(checkout, "FOLDER", tmp_path)


def test_a_checkout_is_found_beside_the_source() -> None:
    rivals = checkout.find_rivals()
    assert rivals is not None
    assert not set(rivals.peers) & set(OURS)
    assert set(rivals.shapes) == {"olmoe", "qwen1.5-moe", "deepseek-moe"}


@pytest.mark.usefixtures("installed")
def test_what_is_missing_is_named() -> None:
    assert checkout.find_rivals() is None
    with pytest.raises(InputError, match=r"--scaling needs the folder benchmarks/rivals.*pip install -e"):
        checkout.require_rivals("--scaling")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--peers", "transformers"), "--peers needs the folder benchmarks/rivals"),
        (("--scaling", "all"), "--scaling needs the folder benchmarks/rivals"),
        (("-m", "olmoe"), "The model 'olmoe' of random weights needs the folder benchmarks/rivals"),
        (("-m", "olmo"), "Did you mean 'olmoe'"),
    ],
)
def test_the_command_refuses_what_only_a_checkout_has(moee: Run, arguments: tuple[str, ...], said: str) -> None:
    done = moee("bench", *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr


def test_ours_alone_is_measured_without_a_checkout() -> None:
    setup = Setup(model=str(GOLDEN), dtype="float32", device="cpu", threads=1)
    document = run(setup, Options(entries=("moee",), texts=3, repeats=1))
    assert [each["name"] for each in document["contestants"]] == ["moee"]
    assert document["processes"] == "shared"
    assert document["agreement"]["reference"] == "moee"
