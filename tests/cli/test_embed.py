"""`moee embed` on the fake backend: files in, files out, and everything that can be wrong with either."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from moee import MoEE
from tests.cli.conftest import Run

TEXTS = ["a cat sat down", "rates rose again", "a cat sat down"]
FAKE = ("-m", "fake", "--calibration", "none")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "texts.csv"
    path.write_text("id,body\n" + "".join(f"{number},{text}\n" for number, text in enumerate(TEXTS)))
    return path


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    return MoEE.from_pretrained("fake", calibration="none").encode(TEXTS)


def test_standard_input_to_standard_output(moee: Run, expected: np.ndarray) -> None:
    done = moee("embed", "-", *FAKE, stdin="".join(f"{text}\n" for text in TEXTS))
    assert done.returncode == 0
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(record["index"], record["text"]) for record in records] == list(enumerate(TEXTS))
    assert np.array_equal(np.float32([record["embedding"] for record in records]), expected)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".jsonl", ".parquet"])
def test_every_output_format_holds_what_the_library_returns(
    moee: Run, source: Path, expected: np.ndarray, suffix: str
) -> None:
    output = source.with_name(f"out{suffix}")
    done = moee("embed", source, "--text-column", "body", "-o", output, *FAKE)
    assert (done.returncode, done.stdout) == (0, "")
    said = rf"3 texts, {expected.shape[1]} dimensions \(.+\), \d+\.\d s -> {re.escape(str(output))}\n"
    assert re.search(said, done.stderr)
    assert np.array_equal(_vectors(output), expected)


def _vectors(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".npz":
        return np.load(path)["embeddings"]
    rows = (
        parquet.read_table(path).to_pylist()
        if path.suffix == ".parquet"
        else [json.loads(line) for line in path.read_text().splitlines()]
    )
    return np.float32([row["embedding"] for row in rows])


def test_views_are_those_of_the_library(moee: Run, source: Path) -> None:
    output = source.with_name("out.npz")
    assert moee("embed", source, "--text-column", "body", "--views", "-o", output, *FAKE).returncode == 0
    views = MoEE.from_pretrained("fake", calibration="none").encode_views(TEXTS)
    with np.load(output) as arrays:
        assert np.array_equal(arrays["hidden_states"], views.hidden_states)
        assert np.array_equal(arrays["routing_weights"], views.routing_weights)
        assert tuple(arrays["layer_ids"]) == views.layer_ids
        assert tuple(arrays["num_experts"]) == views.num_experts


def test_options_reach_the_embedder(moee: Run) -> None:
    options = ["--fusion", "sum", "--alpha", "0.25", "--prompt", "Query: {text} =", "--scoring", "logits", "--json"]
    done = moee("embed", "-", *FAKE, *options, stdin="a\n")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    settings = {"fusion": "sum", "alpha": 0.25, "prompt": "Query: {text} =", "scoring": "logits"}
    assert settings.items() <= document["config"].items()
    model = MoEE.from_pretrained("fake", calibration="none", **settings)
    assert np.array_equal(np.float32([document["records"][0]["embedding"]]), model.encode(["a"]))


def test_json_with_an_output_file_describes_it(moee: Run, source: Path) -> None:
    output = source.with_name("out.npy")
    done = moee("embed", source, "--text-column", "body", "-o", output, "--json", "--fusion", "sum", *FAKE)
    summary = json.loads(done.stdout)
    assert (summary["output"], summary["num_texts"], summary["dim"], summary["model"]) == (str(output), 3, 24, "fake")
    assert (sum(summary["dims"].values()), list(summary["dims"])) == (24, ["hs", "rw"])


def test_weights_choose_the_views(moee: Run) -> None:
    done = moee("embed", "-", *FAKE, "--weights", "hs=1,lexical=0.5", "--json", stdin="a word\n")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    model = MoEE.from_pretrained("fake", calibration="none", weights={"hs": 1, "lexical": 0.5})
    assert document["dims"] == dict(model.dims)
    assert np.array_equal(np.float32([document["records"][0]["embedding"]]), model.encode(["a word"]))
    assert f"hs {model.dims['hs']}, lexical {model.dims['lexical']}" in done.stderr


def test_long_texts_are_cut_with_a_warning_or_refused(moee: Run) -> None:
    stdin = "short\n" + "word " * 300_000 + "\n"
    warned = moee("embed", "-", *FAKE, "--max-length", "50", stdin=stdin)
    assert warned.returncode == 0
    assert "Warning: 1 of 2 texts" in warned.stderr
    assert "cut to 50 tokens" in warned.stderr
    refused = moee("embed", "-", *FAKE, "--max-length", "50", "--truncate", "error", stdin=stdin)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("Error: Text 1 ")
    silent = moee("embed", "-", *FAKE, "--max-length", "50", "--truncate", "end", stdin=stdin)
    assert silent.returncode == 0
    assert "Warning" not in silent.stderr


def test_empty_texts_are_encoded_on_demand(moee: Run) -> None:
    done = moee("embed", "-", *FAKE, "--on-empty", "encode", stdin="a\n\nb\n")
    assert done.returncode == 0
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["a", "", "b"]


@pytest.mark.parametrize(
    ("stdin", "options", "code", "message"),
    [
        ("", [], 2, "Standard input holds no texts."),
        (
            "a\n\nb\n",
            [],
            2,
            "'text' on line 2 of standard input is empty. Drop the row. --on-empty encode",
        ),
        ("a\n \t\n", [], 2, "on line 2 of standard input is only whitespace"),
        (b"a\nb\xff\n", [], 2, "Line 2 of standard input is not UTF-8: byte 0xff at position 1."),
        (
            "a\n",
            ["--fusion", "summ"],
            2,
            "Unknown fusion 'summ'. Choose from: concat, hs, rw, sum, weighted. Did you mean 'sum'?",
        ),
        ("a\n", ["--prompt", "promteol"], 2, "Did you mean 'prompteol'"),
        ("a\n", ["--prompt", "{text} {text}"], 2, "{text}"),
        (
            "a\n",
            ["--recipe", "papr"],
            2,
            "'papr'. Choose from: 0.1, default, paper. Did you mean 'paper'?",
        ),
        ("a\n", ["--calibration", "zcore"], 2, "Did you mean 'zscore'?"),
        ("a\n", ["--scoring", "sofmax"], 2, "Did you mean 'softmax'?"),
        ("a\n", ["--truncate", "maybe"], 2, "Unknown truncate 'maybe'. Choose from: end, error, warn."),
        ("a\n", ["--alpha", "much"], 2, "--alpha is 'much'; it must be slope, scale or a number"),
        ("a\n", ["--alpha", "-1"], 2, "alpha"),
        ("a\n", ["--alpha", "nan"], 2, "alpha is nan"),
        ("a\n", ["--max-length", "0"], 2, "max_length is 0; it must be a whole number, 1 or larger."),
        ("a\n", ["--max-length", "2"], 1, "over the limit of 2"),
        ("a\n", ["--batch-tokens", "-5"], 2, "batch_tokens is -5; it must be 1 or larger"),
        ("a\n", ["-m", "dem"], 2, "Unknown model 'dem'. Choose from: demo, fake. Did you mean 'demo'?"),
        ("a\n", ["-m", "owner/nothing-here"], 1, "'owner/nothing-here' is not a folder here"),
    ],
)
def test_unusable_values_are_refused_with_what_is_allowed(
    moee: Run, stdin: str | bytes, options: list[str], code: int, message: str
) -> None:
    done = moee("embed", "-", *FAKE, *options, stdin=stdin)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "code", "message"),
    [
        (
            "a.csv",
            "id,body\n1,x\n",
            2,
            "has no column 'text'. Columns there: 'id', 'body'. Name one with --text-column.",
        ),
        ("a.jsonl", '{"text": "x"}\n{"text": 5}\n', 2, "'text' on line 2 of"),
        ("a.jsonl", '{"text": "x"}\n{"text"\n', 2, "Line 2 of"),
        ("a.txt", "", 2, "holds no texts"),
        ("a.docx", "x", 2, "Readable are .txt, .jsonl, .csv, .tsv, .parquet"),
    ],
)
def test_unusable_files_are_refused_with_the_place(
    moee: Run, tmp_path: Path, name: str, content: str, code: int, message: str
) -> None:
    (tmp_path / name).write_text(content)
    done = moee("embed", tmp_path / name, *FAKE)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr


@pytest.mark.parametrize(
    ("output", "code", "message"),
    [
        ("out.txt", 2, "must be one of .npy, .npz, .jsonl, .parquet"),
        ("missing/out.npy", 1, "there is no folder"),
        ("/proc/out.npy", 1, "Cannot write '/proc/out.npy'"),
    ],
)
def test_unusable_outputs_are_refused_before_the_input_is_read(
    moee: Run, tmp_path: Path, output: str, code: int, message: str
) -> None:
    """The input does not exist either, and is not what the message is about."""
    done = moee("embed", "no-such-file.txt", "-o", tmp_path / output, *FAKE)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr


def test_a_disk_that_fills_up_leaves_the_older_file(
    environment: dict[str, str], command: list[str], tmp_path: Path
) -> None:
    """A limit on the size of files stands for the full disk."""
    output = tmp_path / "out.jsonl"
    output.write_text("older")
    texts = "".join(f"text {number}\n" for number in range(200)).encode()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = subprocess.run(
        [*command, "embed", "-", *FAKE, "-o", str(output)],
        input=texts,
        capture_output=True,
        preexec_fn=limit,
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert done.returncode == 1
    assert b"Error: Cannot write " in done.stderr
    assert b"Nothing was left half-written" in done.stderr
    assert output.read_text() == "older"
    # what was finished may stay beside it, for the next run
    assert {path.name for path in tmp_path.iterdir()} <= {"out.jsonl", "out.jsonl.parts"}
    assert not list(tmp_path.rglob("*.tmp"))
