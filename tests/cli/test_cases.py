"""Files of texts that were once misread, from the command line: right, or refused in words of the shell."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Run
from tests.files.test_cases import CASES, READ, REFUSED

FAKE = ("-m", "fake", "--calibration", "none")
PYTHON_WORDS = ("Traceback", "on_empty=", "on_bad_row=", "RecursionError", "ValueError", "KeyError")


@pytest.mark.parametrize(("name", "message"), REFUSED)
def test_embed_refuses_with_file_and_line(moee: Run, tmp_path: Path, name: str, message: str) -> None:
    output = tmp_path / "out.npy"
    done = moee("embed", CASES / name, "-o", output, *FAKE)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(f"Error: .*{message}", done.stderr)
    assert not any(word in done.stderr for word in PYTHON_WORDS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "texts"), READ)
def test_embed_reads_other_habits(moee: Run, name: str, texts: list[str]) -> None:
    done = moee("embed", CASES / name, *FAKE)
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == texts


@pytest.mark.parametrize(("name", "message"), [*REFUSED, ("dup_id.csv", "has 2 columns called 'id'")])
def test_index_build_refuses_with_file_and_line(moee: Run, tmp_path: Path, name: str, message: str) -> None:
    done = moee("index", "build", CASES / name, "--out", tmp_path / "index", "-m", "fake")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(f"Error: .*{message}", done.stderr)
    assert not any(word in done.stderr for word in PYTHON_WORDS)
    assert not list(tmp_path.iterdir())


def test_an_empty_line_is_named_as_the_shell_knows_it(moee: Run, tmp_path: Path) -> None:
    source = tmp_path / "notes.txt"
    source.write_text("a\n\nb\n")
    for command in (("embed",), ("index", "build", "--out", tmp_path / "index")):
        done = moee(*command, source, "-m", "fake")
        assert done.returncode == 2
        assert "on line 2 of" in done.stderr
        assert "--on-empty encode embeds the bare prompt in its place. --on-bad-row skip leaves such" in done.stderr
        assert not any(word in done.stderr for word in PYTHON_WORDS)
    done = moee("calibrate", "fake", "--texts", source, "--out", tmp_path / "own")
    assert "on line 2 of" in done.stderr
    assert "--on-empty" not in done.stderr


def test_the_delimiter_and_the_encoding_are_options(moee: Run, tmp_path: Path) -> None:
    source = tmp_path / "notes.csv"
    source.write_bytes("id;text\n1;größer\n".encode("cp1252"))
    done = moee("embed", source, "--delimiter", ";", "--encoding", "cp1252", *FAKE)
    assert json.loads(done.stdout)["text"] == "größer"
    assert "--delimiter is ';;'" in moee("embed", source, "--delimiter", ";;", *FAKE).stderr
    assert "--encoding is 'utf-9'" in moee("embed", source, "--encoding", "utf-9", *FAKE).stderr


def test_bad_rows_are_left_out_and_listed_beside_the_output(moee: Run, tmp_path: Path) -> None:
    source = tmp_path / "in" / "rows.jsonl"
    source.parent.mkdir()
    source.write_text('{"text": "one"}\n{"text": 5}\n{"text": " "}\n{broken\n{"text": "two"}\n')
    output, rejects = tmp_path / "out.npy", tmp_path / "rows.jsonl.rejects.jsonl"
    done = moee("embed", source, "-o", output, "--on-bad-row", "skip", "--json", *FAKE)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["num_texts"], told["num_skipped"], told["rejects"]) == (2, 3, str(rejects))
    assert f"Rows of {source} that were left out: 3; they are listed in {rejects}." in done.stderr
    assert len(np.load(output)) == 2
    records = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [(record["file"], record["line"]) for record in records] == [(str(source), line) for line in (2, 3, 4)]
    assert [path.name for path in source.parent.iterdir()] == ["rows.jsonl"]

    source.write_text('{"text": "one"}\n')
    again = json.loads(moee("embed", source, "-o", output, "--on-bad-row", "skip", "--json", *FAKE).stdout)
    assert (again["num_skipped"], again["rejects"], rejects.exists()) == (0, None, False)
    kept = moee("embed", source, "-o", output, "--on-bad-row", "keep", *FAKE)
    assert "Unknown value of --on-bad-row 'keep'" in kept.stderr


def test_an_index_remembers_that_bad_rows_were_left_out(moee: Run, tmp_path: Path) -> None:
    source, index = tmp_path / "rows.csv", tmp_path / "index"
    source.write_text("id,text,n\n1,one,1\n,nameless,2\n1,again,3\n4,,4\n5,five\n6,six,6\n")
    build = ("index", "build", source, "--out", index, "--fields", "n", "-m", "fake", "--calibrate", "builtin")
    skip = ("--on-bad-row", "skip")
    assert "Line 6 of" in moee(*build).stderr
    done = moee(*build, *skip, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["num_texts"], told["num_skipped"]) == (2, 4)
    lines = [json.loads(line)["line"] for line in Path(told["rejects"]).read_text().splitlines()]
    assert lines == [3, 4, 5, 6]

    again = json.loads(moee(*build, *skip, "--json").stdout)
    assert (again["num_embedded"], again["num_kept"]) == (0, 2)
    assert "2 rows, text 'text', ids column 'id', 4 left out" in moee("index", "info", index).stdout

    source.write_text("id,text,n\n1,one,1\n6,six,6\n")
    other = moee(*build)
    assert other.returncode == 2
    assert "on_bad_row was 'skip' and is 'error' now" in other.stderr

    more = tmp_path / "more.csv"
    more.write_text("id,text,n\n7,seven,7\n8,eight,many\n")
    assert "'n' on line 3 of" in moee("index", "add", index, more).stderr
    added = json.loads(moee("index", "add", index, more, *skip, "--json").stdout)
    assert (added["num_texts"], added["num_skipped"]) == (3, 1)


def test_equal_lines_calibrate_nothing(moee: Run, tmp_path: Path) -> None:
    done = moee("calibrate", "fake", "--texts", CASES / "same300.txt", "--out", tmp_path / "own")
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs at least 2 different texts, and all 300 are 'The same line.'" in done.stderr
    assert not (tmp_path / "own").exists()
    build = ("index", "build", CASES / "same300.txt", "--out", tmp_path / "index", "-m", "fake")
    done = moee(*build, "--calibrate", "corpus")
    assert (done.returncode, done.stdout) == (2, "")
    assert "at least 2 different texts" in done.stderr
    assert not (tmp_path / "index").exists()


def test_few_lines_calibrate_with_a_warning_and_count_once(moee: Run, tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("one\ntwo\none\n\n")
    options = ("--texts", tmp_path / "few.txt", "--out", tmp_path / "own", "--on-bad-row", "skip", "--json")
    done = moee("calibrate", "fake", *options)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["num_texts"], told["num_skipped"]) == (2, 1)
    assert "Only 2 different texts to calibrate on: statistics of fewer than 100 are rough" in done.stderr


def test_scored_pairs_are_refused_or_left_out_by_their_line(moee: Run, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("text_a,text_b,score\none,two,1\none,three,high\ntwo,three,0\ntwo,four,3\n")
    tune = ("tune", "-m", "fake", "--pairs", pairs, "--statistics", "own")
    done = moee(*tune)
    assert done.returncode == 2
    assert f"The score on line 3 of {pairs} is 'high'; it must be a finite number" in done.stderr
    done = moee(*tune, "--on-bad-row", "skip", "--out", tmp_path / "tuned")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "pairs.csv.rejects.jsonl").read_text())["line"] == 3
