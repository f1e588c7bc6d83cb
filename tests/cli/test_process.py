"""What every command owes the shell: streams, exit codes, signals, pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.cli.conftest import Run

COMMANDS = ("demo", "embed", "similarity", "inspect", "models", "calibrate", "carve", "doctor")


def test_version_goes_to_standard_output(moee: Run) -> None:
    done = moee("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"moee {version('moee')}\n", "")


def test_help_lists_every_command_and_each_teaches_with_an_example(moee: Run) -> None:
    overview = moee("--help")
    assert overview.returncode == 0
    for name in COMMANDS:
        assert f"  {name} " in overview.stdout
        shown = moee(name, "--help")
        assert shown.returncode == 0
        assert "Example" in shown.stdout
        assert f"  moee {name}" in shown.stdout
        assert "--json" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["embed"], "Missing argument"),
        (["embed", "-", "--fusoin", "hs"], "No such option: --fusoin"),
        (["embed", "-", "--max-length", "many"], "Invalid value for '--max-length': Input should be a valid integer"),
        (["demo", "--top", "0"], "Invalid value for '--top': Input should be greater than or equal to 1"),
    ],
)
def test_wrong_use_exits_with_2_and_prints_no_data(moee: Run, arguments: list[str], message: str) -> None:
    done = moee(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_an_error_is_one_line_without_a_traceback(moee: Run) -> None:
    done = moee("embed", "-", "-m", "fake", "--fusion", "cancat", stdin="a\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("Error: Unknown fusion 'cancat'. Choose from: concat, hs, rw, sum. Did you mean 'concat'?\n")


def test_debug_adds_the_traceback(moee: Run) -> None:
    by_option = moee("--debug", "embed", "-", "-m", "fake", "--fusion", "cancat", stdin="a\n")
    by_environment = moee("embed", "-", "-m", "fake", "--fusion", "cancat", stdin="a\n", MOEE_DEBUG="1")
    for done in (by_option, by_environment):
        assert done.returncode == 2
        assert "Traceback (most recent call last)" in done.stderr
        assert done.stderr.endswith("Did you mean 'concat'?\n")


def test_data_and_notes_go_to_different_streams(moee: Run) -> None:
    done = moee("embed", "-", "-m", "fake", "--calibration", "none", stdin="one\ntwo\n")
    assert done.returncode == 0
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["one", "two"]
    assert "2 texts, 32 dimensions" in done.stderr


def test_quiet_leaves_warnings_only(moee: Run) -> None:
    texts = "one\n" + "many words " * 3000 + "\n"
    done = moee("-q", "embed", "-", "-m", "fake", "--calibration", "none", stdin=texts)
    assert done.returncode == 0
    assert done.stderr.startswith("Warning: 1 of 2 texts")
    assert done.stderr.count("\n") == 1


def test_data_is_utf8_whatever_the_locale(moee: Run) -> None:
    done = moee(
        "embed", "-", "-m", "fake", "--calibration", "none", stdin="zwölf €\n", LC_ALL="C", PYTHONIOENCODING="latin-1"
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["text"] == "zwölf €"


def test_a_reader_that_leaves_early_is_no_error(
    environment: dict[str, str], command: list[str], tmp_path: Path
) -> None:
    """As `moee embed ... | head -1` does."""
    source = tmp_path / "a.txt"
    source.write_text("".join(f"text {number}\n" for number in range(3000)))
    arguments = [*command, "embed", str(source), "-m", "fake", "--calibration", "none"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["index"] == 0
    process.stdout.close()
    messages = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=60) in (1, 141)
    assert "Traceback" not in messages
    assert "Error" not in messages
    assert "Exception ignored" not in messages


@pytest.mark.parametrize("arguments", [["models", "--json"], ["embed", "-", "-m", "fake", "--calibration", "none"]])
def test_a_full_standard_output_is_an_error(
    environment: dict[str, str], command: list[str], arguments: list[str]
) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*command, *arguments], input=b"a\n", stdout=full, stderr=subprocess.PIPE, env=environment, check=False
        )
    assert done.returncode == 1
    assert b"Error: No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


def test_ctrl_c_exits_with_130_and_leaves_no_file(
    environment: dict[str, str], command: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "out.npy"
    arguments = [*command, "embed", "-", "-m", "fake", "--calibration", "none", "-o", str(output)]
    with subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        preexec_fn=_hear_interrupts,  # noqa: PLW1509 - one thread runs the test, and nothing else sets a handler
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            process.stdin.write(b"waiting for more\n")
            process.stdin.flush()
            deadline = time.monotonic() + 30
            # the command waits for the end of its input once its own interpreter runs
            while time.monotonic() < deadline and not _is_sleeping_in_read(process.pid):
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 130
            messages = process.stderr.read().decode()
        finally:
            process.kill()
    assert "Traceback" not in messages
    assert list(tmp_path.iterdir()) == []


def _hear_interrupts() -> None:
    """Undo what a shell does to its background jobs: they are started with interrupts ignored, and hand that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _is_sleeping_in_read(pid: int) -> bool:
    """Whether a process waits in `read(0, ...)`: system call 0 on x86-64, 63 on arm64."""
    call = Path(f"/proc/{pid}/syscall").read_text().split()
    numbers = {"x86_64": "0", "aarch64": "63"}
    return call[0] == numbers.get(os.uname().machine) and call[1] == "0x0"
