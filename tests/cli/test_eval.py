"""`moee eval`, in a process of its own."""

from __future__ import annotations

import csv
import json
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from moee.evaluate.tasks import TASKS
from tests.cli.conftest import Run
from tests.evaluate.conftest import write_set
from tests.evaluate.tasks.miniatures import write_miniature

FAKE = ("-m", "fake", "--calibration-texts", "none")
NO_DATA = {"MOEE_DATA": ""}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sets that work and one, STS13, whose scores are all equal."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("STS12", "WikiQA", "SciFact"):
        write_miniature(folder, name)
    rows = [{"sentence1": f"a {n}", "sentence2": f"b {n}", "score": 3} for n in range(5)]
    write_set(folder, "STS13", "STS", {"test": rows})
    return folder


# --- what there is -------------------------------------------------------------------------------------------------


def test_the_list_names_every_task_and_which_have_data(moee: Run, data: Path) -> None:
    rows = json.loads(moee("eval", "--list", "--data", data, "--json").stdout)
    assert [row["task"] for row in rows] == [task.name for task in TASKS]
    assert {row["task"] for row in rows if row["has_data"]} == {"STS12", "STS13", "WikiQA", "SciFact"}
    lines = moee("eval", "--list", "--data", data).stdout.splitlines()
    assert lines[0].split()[:2] == ["task", "type"]
    assert len(lines) == 1 + len(TASKS)


def test_the_list_needs_no_data(moee: Run) -> None:
    done = moee("eval", "--list", "--json", **NO_DATA)
    assert done.returncode == 0, done.stderr
    assert not any(row["has_data"] for row in json.loads(done.stdout))


def test_the_help_shows_examples_whose_options_exist(moee: Run) -> None:
    shown = moee("eval", "--help").stdout
    examples = [line for line in shown.splitlines() if line.startswith("    moee eval ")]
    assert len(examples) >= 3
    options = set(re.findall(r"--[a-z][a-z-]+", shown))
    assert {option for line in examples for option in re.findall(r"--[a-z][a-z-]+", line)} <= options
    assert {"--tasks", "--controls", "--mteb", "--cache", "--limit", "--corpus-limit", "--split", "--json"} <= options


# --- a run ---------------------------------------------------------------------------------------------------------


def test_scores_are_printed_and_written(moee: Run, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("eval", "--data", data, "--tasks", "STS12,WikiQA,BIOSSES", *FAKE, "--cache", tmp_path / "cache")
    done = moee(*arguments, "--fusion", "hs,sum", "--alpha", "0.5,2", "--out", out)
    assert done.returncode == 0, done.stderr
    document = json.loads((out / "results.json").read_text(encoding="utf-8"))
    labels = ["tf-idf", "default hs none", "default sum alpha=0.5 none", "default sum alpha=2 none"]
    assert [(row["task"], row["setting"]) for row in document["results"]] == [
        (task, label) for task in ("STS12", "WikiQA") for label in labels
    ]
    for task in ("STS12", "WikiQA"):
        line = next(line for line in done.stdout.splitlines() if line.startswith(f"{task} "))
        shown = [f"{row['score']:.1f}" for row in document["results"] if row["task"] == task]
        assert line.split()[2:] == shown
    assert "not run: BIOSSES: no folder 'BIOSSES' in the data" in done.stdout
    assert "2 of 3 tasks have data; 3 settings: default hs none," in done.stderr
    with (out / "results.csv").open(newline="", encoding="utf-8") as stream:
        assert [float(row["score"]) for row in csv.DictReader(stream)] == [row["score"] for row in document["results"]]
    assert "## By task" in (out / "results.md").read_text(encoding="utf-8")
    # again, with everything on disk: the same numbers, one JSON document, and the same folder
    again = moee(*arguments, "--fusion", "hs,sum", "--alpha", "0.5,2", "--out", out, "--json")
    assert json.loads(again.stdout)["results"] == document["results"]
    assert "Embedding" not in again.stderr


def test_data_may_come_from_the_environment(moee: Run, data: Path, tmp_path: Path) -> None:
    done = moee("-q", "eval", "-t", "WikiQA", *FAKE, "--cache", tmp_path, "--json", MOEE_DATA=str(data))
    assert (done.returncode, done.stderr) == (0, "")
    assert {row["task"] for row in json.loads(done.stdout)["results"]} == {"WikiQA"}


def test_controls_end_in_a_verdict(moee: Run, data: Path, tmp_path: Path) -> None:
    arguments = ("-m", "fake", "--calibration-texts", "corpus", "--fusion", "hs,sum", "--cache", tmp_path)
    done = moee("eval", "--data", data, "-t", "WikiQA", *arguments, "--controls")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^all tasks, sum, corpus: RW adds .* random projections .*\.$", done.stdout, re.MULTILINE)
    assert re.search(r"^default sum alpha=0\.2 corpus ORACLE +oracle", done.stdout, re.MULTILINE)


def test_a_task_that_fails_is_listed_and_the_rest_is_kept(moee: Run, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = moee("eval", "--data", data, "-t", "STS,WikiQA", *FAKE, "--cache", tmp_path / "cache", "--out", out)
    assert done.returncode == 1
    assert "Failed: STS13: The score of STS13 is NaN: all 5 scores are equal" in done.stderr
    assert "Traceback" not in done.stderr
    document = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert {row["task"] for row in document["results"]} == {"STS12", "WikiQA"}
    assert "STS13" in {row["task"] for row in document["not_run"]}


# --- wrong use -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-t", "STS-12"), r"Error: Unknown task 'STS-12'.*Did you mean .*'STS12'"),
        (("-t", ""), r"names nothing"),
        (("--fusion", "hs,som"), r"Unknown fusion 'som'.*Did you mean .*'sum'"),
        (("--prompt", "prompteoll"), r"Unknown prompt 'prompteoll'.*Did you mean 'prompteol'"),
        (("--alpha", "much"), r"--alpha is 'much'; it must be slope, scale or a number"),
        (("--alpha", "0.5"), r"--alpha weighs the routing weights in --fusion sum, which is not among the fusions"),
        (("--fusion", "sum", "--alpha", "-1"), r"alpha is -1\.0; it must be a number from 0 to"),
        (("--weights", "hs=1,word=2"), r"Unknown view 'word'"),
        (("--weights", "hs"), r"The weights are 'hs'; each view must be named once with a number"),
        (("--baseline", "bm52"), r"Unknown baseline 'bm52'.*Did you mean 'bm25'"),
        (("--limit", "0"), r"--limit is 0; it must be 1 or larger"),
        (("--max-length", "-5"), r"--max-length is -5; it must be 0 \(no limit\) or larger"),
        (("--mteb", "--controls"), r"--controls, --out and --split have no meaning with it"),
    ],
)
def test_what_cannot_be_used_is_refused_before_a_model_is_loaded(
    moee: Run, data: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = moee("eval", "--data", data, *arguments, "-m", "no-such-model")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(message, done.stderr), done.stderr


def test_without_data_the_message_says_how_to_name_it(moee: Run, tmp_path: Path) -> None:
    done = moee("eval", *FAKE, **NO_DATA)
    assert done.returncode == 2
    assert "No evaluation sets: give --data FOLDER or set MOEE_DATA" in done.stderr
    for folder, message in ((tmp_path, "holds no evaluation set"), (tmp_path / "absent", "is not a folder")):
        done = moee("eval", "--data", folder, "-m", "no-such-model")
        assert done.returncode == 2
        assert message in done.stderr


def test_a_wrong_file_is_named_with_its_line(moee: Run, tmp_path: Path) -> None:
    folder = write_miniature(tmp_path / "data", "STS12")
    (folder / "test.jsonl.gz").unlink()
    (folder / "test.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "score": 1}\n{"sentence1": "a"\n')
    done = moee("eval", "--data", tmp_path / "data", "-t", "STS12", *FAKE, "--cache", tmp_path / "cache")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(r"Error: .*test\.jsonl, line 2 is not valid JSON", done.stderr)
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_holds_something_else_is_spared(moee: Run, data: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    done = moee("eval", "--data", data, "-t", "STS12", *FAKE, "--out", tmp_path)
    assert done.returncode == 1
    assert "holds other files" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


# --- runs that are stopped -----------------------------------------------------------------------------------------

LINES = 600


@pytest.fixture(scope="module")
def long_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs that take the fake model a second or two, in more than six files of the cache."""
    folder = tmp_path_factory.mktemp("long")
    rng = random.Random(5)
    rows = [
        {
            "sentence1": " ".join(f"word{rng.randrange(3000)}" for _ in range(25)),
            "sentence2": " ".join(f"word{rng.randrange(3000)}" for _ in range(25)),
            "score": rng.randrange(6),
        }
        for _ in range(LINES)
    ]
    write_set(folder, "STS12", "STS", {"test": rows})
    return folder


def long_run(data: Path, folder: Path) -> tuple[str, ...]:
    names = ("--cache", str(folder / "cache"), "--out", str(folder / "out"))
    return ("eval", "--data", str(data), "-t", "STS12", *FAKE, "--fusion", "sum", *names)


def shards(folder: Path) -> dict[str, int]:
    """The finished files of a cache and when each was written, in nanoseconds."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("cache/views/*/*.safetensors")}


def prompts_of(folder: Path) -> list[bytes]:
    """The keys of all finished prompts of a cache, sorted; a prompt that was run twice is there twice."""
    files = [load_file(path) for path in folder.glob("cache/views/*/*.safetensors")]
    return sorted(key.tobytes() for file in files for key in file["keys"])


def scores(folder: Path) -> list[Any]:
    return [row["score"] for row in json.loads((folder / "out" / "results.json").read_text())["results"]]


@pytest.fixture(scope="module")
def undisturbed(moee: Run, long_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = moee(*long_run(long_data, folder))
    assert done.returncode == 0, done.stderr
    return folder


def _hear_interrupts() -> None:
    """Undo what a shell does to its background jobs: they are started with interrupts ignored, and hand that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


GATED = """
import sys
from moee.backends.fake import FakeBackend
from moee.cli import main
forward = FakeBackend.forward
def gated(self, sequences, plan):
    sys.stdout.write(".")
    sys.stdout.flush()
    assert sys.stdin.read(1)
    return forward(self, sequences, plan)
FakeBackend.forward = gated
main()
"""
"""The command over a fake model that says when it begins a batch, and then waits to be let."""


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_run_that_is_stopped_at_any_moment_goes_on_from_there(
    moee: Run,
    environment: dict[str, str],
    long_data: Path,
    undisturbed: Path,
    tmp_path: Path,
    how: signal.Signals,
) -> None:
    total = len(shards(undisturbed))
    assert total >= 6
    files, pause = random.randint(1, total // 2), random.random() / 20
    arguments = [sys.executable, "-c", GATED, *long_run(long_data, tmp_path)]
    with subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        preexec_fn=_hear_interrupts,  # noqa: PLW1509 - one thread runs the test, and nothing else sets a handler
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            while process.stdout.read(1) and len(shards(tmp_path)) < files:
                process.stdin.write(b".")
                process.stdin.flush()
            process.stdin.write(b".")  # it stops somewhere in this batch, or when it waits for the next to be let
            process.stdin.flush()
            time.sleep(pause)
            process.send_signal(how)
            messages = process.stderr.read().decode()
            code = process.wait(timeout=60)
        finally:
            process.kill()
    kept = shards(tmp_path)
    assert code == (130 if how == signal.SIGINT else -signal.SIGKILL), (files, pause, messages)
    assert "Traceback" not in messages
    assert files <= len(kept) < total, (files, pause)
    assert not (tmp_path / "out").exists()

    done = moee(*long_run(long_data, tmp_path))
    assert done.returncode == 0, done.stderr
    after = shards(tmp_path)
    assert {name: after[name] for name in kept} == kept  # none was written again
    # an interrupt also keeps what a file has so far, so there may be one file more; no prompt is run twice
    assert total <= len(after) <= total + 1
    assert prompts_of(tmp_path) == prompts_of(undisturbed)
    assert scores(tmp_path) == pytest.approx(scores(undisturbed), abs=1e-6)


def _files_of_at_most(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.slow
def test_a_full_disk_is_one_warning_and_finished_files_stay(
    moee: Run, command: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    """Longest texts come first, so the first files of the cache have few rows and fit, and a later one does not."""
    # sixty words, of so many letters that each such text fills a file
    texts = [*(" ".join([letter * 700] * 60) for letter in "xy"), *(f"text {n}" for n in range(300))]
    rows = [{"sentence1": text, "sentence2": f"z{text}", "score": n % 5} for n, text in enumerate(texts)]
    write_set(tmp_path / "data", "STS12", "STS", {"test": rows})
    arguments = [*long_run(tmp_path / "data", tmp_path), "--batch-tokens", "20"]
    done = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
        text=True,
        preexec_fn=_files_of_at_most(20_000),
    )
    assert done.returncode == 0, done.stderr
    assert (
        len(re.findall(r"^Warning: The cache '.*' cannot be written \(File too large\)", done.stderr, re.MULTILINE))
        == 1
    )
    assert "Traceback" not in done.stderr
    kept = shards(tmp_path)
    assert len(kept) >= 2
    assert not list(tmp_path.rglob("*.tmp"))
    again = moee(*arguments)
    assert again.returncode == 0, again.stderr
    assert {name: shards(tmp_path)[name] for name in kept} == kept


# --- through mteb --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_mteb_gives_the_scores_of_the_local_runner(moee: Run, data: Path, tmp_path: Path) -> None:
    arguments = ("eval", "--data", data, "-t", "STS12,SciFact", *FAKE, "--fusion", "hs,sum", "--json")
    changes = {"HF_DATASETS_CACHE": str(tmp_path / "datasets")}
    local = moee(*arguments, "--cache", tmp_path, **changes)
    through = moee(*arguments, "--cache", tmp_path, "--mteb", **changes)
    assert through.returncode == 0, through.stderr
    wanted = {
        (row["task"], row["setting"]): row["score"]
        for row in json.loads(local.stdout)["results"]
        if row["role"] == "result"
    }
    found = {(row["task"], row["setting"]): row["score"] for row in json.loads(through.stdout)["results"]}
    assert set(found) == set(wanted)
    for key, score in wanted.items():
        assert found[key] / 100 == pytest.approx(score / 100, abs=1e-5), key
    assert all(row["local"] for row in json.loads(through.stdout)["results"])


@pytest.mark.slow
def test_a_task_of_the_hub_without_the_hub_is_one_message(moee: Run, tmp_path: Path) -> None:
    for name in ("BIOSSES", "STS17"):
        done = moee("eval", "--mteb", "-t", name, *FAKE, "--cache", tmp_path, HF_HOME=str(tmp_path), **NO_DATA)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.search(rf"Error: The data of {name} .*cannot be had", done.stderr), done.stderr
        assert "Traceback" not in done.stderr
    unknown = moee("eval", "--mteb", "-t", "STS12345", *FAKE, "--cache", tmp_path, **NO_DATA)
    assert unknown.returncode == 2
    assert "Error: mteb has no task 'STS12345'" in unknown.stderr


@pytest.mark.slow
def test_hub_tasks_refuse_statistics_of_their_own(moee: Run, tmp_path: Path) -> None:
    done = moee(
        "eval", "--mteb", "-t", "STS17", "-m", "fake", "--calibration-texts", "corpus", "--cache", tmp_path, **NO_DATA
    )
    assert done.returncode == 2
    assert "calibration texts 'corpus' need a task's texts beforehand" in done.stderr
