"""What every command owes the shell: streams, exit codes, signals, pipes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import typer

from moee.cli import app
from tests.cli.conftest import Run

COMMANDS = ("demo", "embed", "similarity", "inspect", "models", "calibrate", "carve", "doctor")
FAKE = ("-m", "fake", "--calibration", "none")

EACH_COMMAND: list[tuple[tuple[str, ...], int, str]] = [
    (("demo", "-m", "fake", "--query", "rain", "--json"), 0, '"neighbours"'),
    (("embed", "-", *FAKE), 0, '"embedding"'),
    (("similarity", "a", "b", *FAKE), 0, "1.000"),
    (("inspect", "no-such-folder"), 2, "'no-such-folder'"),
    (("models", "olmoe"), 0, "olmoe"),
    (("calibrate", "fake", "--texts", "no-such.txt", "--out", "out"), 2, "no-such.txt"),
    (("carve", "no-such-model", "--top-k", "99", "--out", "out"), 2, "top_k is 99"),
    (("reproduce", "tabel1"), 2, "tabel1"),
    (("bench", "--workload", "shrot"), 2, "shrot"),
    (("doctor", "--json"), 0, '"torch"'),
    (("index", "info", "no-such-index"), 2, "no-such-index"),
    (("search", "no-such-index", "a query"), 2, "no-such-index"),
    (("serve", "-m", "fkae"), 2, "fkae"),
    (("map", "no-such-index"), 2, "no-such-index"),
    (("eval", "--data", "no-such-folder"), 2, "no-such-folder"),
    (("tune", "no-such.txt"), 2, "no-such.txt"),
    (("study", "routing", "--data", "no-such-folder"), 2, "no-such-folder"),
]
"""Arguments of each command, its exit code and something that it says."""


@pytest.mark.parametrize(("arguments", "code", "said"), EACH_COMMAND, ids=[row[0][0] for row in EACH_COMMAND])
def test_each_command_runs_in_a_process_of_its_own(
    moee_process: Run, moee: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """And says what it says inside another process, but for times: so that other tests may run it there."""
    alone = moee_process(*arguments, stdin="one\n", MOEE_CACHE=str(tmp_path / "cache"))
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    inside = moee(*arguments, stdin="one\n", MOEE_CACHE=str(tmp_path / "cache"))
    assert alone.returncode == code, alone.stderr
    assert said in (alone.stdout if code == 0 else alone.stderr)
    assert "Traceback" not in alone.stderr
    assert _without_numbers(inside) == _without_numbers(alone)


def test_each_command_is_in_the_table_above() -> None:
    shown = {name for name, each in typer.main.get_command(app.app).commands.items() if not each.hidden}  # type: ignore[attr-defined]
    assert sorted(row[0][0] for row in EACH_COMMAND) == sorted(shown)


def _without_numbers(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return done.returncode, re.sub(r"[\d.,]+", "#", done.stdout), re.sub(r"[\d.,]+", "#", done.stderr)


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
    assert done.stderr == (
        "Error: Unknown fusion 'cancat'. Choose from: concat, hs, rw, sum, weighted. Did you mean 'concat'?\n"
    )


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
    assert "2 texts, 2088 dimensions" in done.stderr


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
    assert process.wait(timeout=120) in (1, 141)
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
            deadline = time.monotonic() + 120
            # the command waits for the end of its input once its own interpreter runs
            while time.monotonic() < deadline and not _is_sleeping_in_read(process.pid):
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=120) == 130
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
