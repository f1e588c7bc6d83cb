"""`moee index` and `moee search` on the fake backend: files in, an index, hits; and everything that can be wrong."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from moee.data import calibration_texts
from moee.method.config import EmbedderConfig
from tests.cli.conftest import Run

FAKE = ("-m", "fake")
BUILD = (*FAKE, "--weights", "hs=1,rw=0.25", "--calibrate", "corpus")
TEXTS = calibration_texts()[:300]


def write_rows(path: Path, texts: list[str], start: int = 0) -> Path:
    rows = [
        {"id": f"t{row}", "text": text, "year": 2000 + row % 20, "lang": "en" if row % 3 else "de"}
        for row, text in enumerate(texts, start=start)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def built(moee: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index that no test changes."""
    folder = tmp_path_factory.mktemp("built")
    source = write_rows(folder / "texts.jsonl", TEXTS)
    done = moee("index", "build", source, "--out", folder / "index", "--fields", "year,lang", *BUILD)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{folder / 'index'}\n"
    assert "300 texts embedded in " in done.stderr
    assert "texts/s); the index holds 300." in done.stderr
    return folder / "index"


def test_search_prints_a_table_of_cut_texts_with_their_fields(moee: Run, built: Path) -> None:
    done = moee("search", built, TEXTS[17], "-k", "3")
    assert (done.returncode, done.stderr) == (0, "")
    head, first, *rest = done.stdout.splitlines()
    assert head.split() == ["score", "hs", "rw", "id", "year", "lang", "text"]
    assert first.split()[:6] == ["1.000", "1.000", "1.000", "t17", "2017", "en"]
    assert len(rest) == 2
    assert all(len(line) <= 110 for line in done.stdout.splitlines())


def test_search_as_json_has_both_cosines_and_whole_texts(moee: Run, built: Path) -> None:
    done = moee("search", built, "a question", "-k", "4", "--alpha", "0.5", "--json")
    document = json.loads(done.stdout)
    asked = {name: document[name] for name in ("query", "fusion", "alpha", "k", "filter", "num_texts")}
    assert asked == {
        "query": "a question", "fusion": "sum", "alpha": 0.5, "k": 4, "filter": None, "num_texts": 300
    }  # fmt: skip
    assert len(document["results"]) == 4
    for hit in document["results"]:
        assert hit["score"] == pytest.approx((hit["hidden"] + 0.5 * hit["routing"]) / 1.5)
        assert hit["text"] == TEXTS[int(hit["id"][1:])]


def test_search_by_weights(moee: Run, built: Path) -> None:
    document = json.loads(moee("search", built, "a question", "-k", "4", "--weights", "rw=1,hs=3", "--json").stdout)
    assert (document["weights"], document["fusion"]) == ({"hs": 3.0, "rw": 1.0}, "weighted")
    for hit in document["results"]:
        assert hit["score"] == pytest.approx((3 * hit["cosines"]["hs"] + hit["cosines"]["rw"]) / 4)
    unasked = json.loads(moee("search", built, "a question", "--json").stdout)
    assert unasked["weights"] == {"hs": 1.0, "rw": 0.25}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--weights", "hs=1,words=1"), "Unknown view 'words'"),
        (("--weights", "hs=1,lexical=1"), "weights name lexical, and there are the views hs, rw here"),
        (("--weights", "hs=0"), "must count more than 0"),
        (("--weights", "hs=1", "--alpha", "0.5"), "Leave alpha out"),
        (("--weights", "hs:1"), "each view must be named once with a number"),
    ],
)
def test_weights_that_mean_nothing_are_refused(
    moee: Run, built: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = moee("search", built, "a question", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_search_by_one_view_and_with_a_filter(moee: Run, built: Path) -> None:
    options = ["--fusion", "rw", "--filter", 'year >= 2010 and lang == "de"', "--alpha", "auto", "--json"]
    results = json.loads(moee("search", built, "a question", "-k", "50", *options).stdout)["results"]
    assert len(results) == 50
    assert all(hit["fields"]["year"] >= 2010 and hit["fields"]["lang"] == "de" for hit in results)
    assert all(hit["score"] == pytest.approx(hit["routing"]) for hit in results)
    nothing = moee("search", built, "a question", "--filter", "year > 3000")
    assert (nothing.returncode, "No text passes the filter." in nothing.stderr) == (0, True)


def test_words_are_searched_where_they_are_kept(moee: Run, built: Path, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "texts.jsonl", TEXTS[:60])
    done = moee("index", "build", source, "--out", tmp_path / "words", "--hybrid", *FAKE)
    assert done.returncode == 0, done.stderr
    assert "kept for full-text search" in moee("index", "info", tmp_path / "words").stdout
    word = max(TEXTS[17].rstrip(".").split(), key=len)
    head, first, *_ = moee("search", tmp_path / "words", word, "--weights", "lexical=1").stdout.splitlines()
    assert head.split() == ["score", "hs", "rw", "tokens", "lexical", "id", "text"]
    assert word.lower() in first.lower()
    dense = json.loads(moee("search", tmp_path / "words", word, "--no-hybrid", "--json").stdout)
    assert dense["weights"]["lexical"] == 0
    assert "lexical" not in dense["results"][0]["cosines"]
    refused = moee("search", built, word, "--hybrid")
    assert (refused.returncode, "keeps no words" in refused.stderr) == (2, True)
    unknown = moee("search", built, word, "--weights", "lexcal=1")
    assert (unknown.returncode, "'lexical'" in unknown.stderr) == (2, True)


def test_info_describes_the_index(moee: Run, built: Path) -> None:
    facts = json.loads(moee("index", "info", built, "--json").stdout)
    assert (facts["num_texts"], facts["is_complete"], facts["model"]["name"]) == (300, True, "fake")
    assert facts["fields"] == {"year": "integer", "lang": "string"}
    method = EmbedderConfig().calibration
    assert facts["calibration"] == {"method": method, "whose": "corpus", "num_texts": 300}
    assert facts["weights"] == {"hs": 1.0, "rw": 0.25}
    assert facts["vectors"] == {"dims": {"hs": 16, "rw": 8}, "reduction": None, "stored_as": "float32"}
    assert facts["store"]["kind"] == "flat"
    assert facts["bytes"] == sum(path.stat().st_size for path in built.rglob("*") if path.is_file())
    shown = moee("index", "info", built)
    assert shown.returncode == 0
    for expected in (
        "300",
        "'prompteol'",
        f"{method}, corpus, 300 texts",
        "hs=1, rw=0.25",
        "year (integer), lang (string)",
        "flat",
    ):
        assert expected in shown.stdout


def test_add_and_delete_change_what_is_found(moee: Run, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "texts.jsonl", TEXTS[:30])
    index = tmp_path / "index"
    assert moee("index", "build", source, "--out", index, "--fields", "year,lang", *FAKE).returncode == 0
    more = write_rows(tmp_path / "more.jsonl", TEXTS[28:40], start=28)
    done = moee("index", "add", index, more, "--json")
    assert done.returncode == 0, done.stderr
    added = json.loads(done.stdout)
    assert [added[name] for name in ("num_texts", "num_embedded", "num_kept", "num_updated")] == [40, 10, 2, 0]
    assert json.loads(moee("search", index, TEXTS[35], "-k", "1", "--json").stdout)["results"][0]["id"] == "t35"
    deleted = moee("index", "delete", index, "t35", "t36", "nobody", "t35")
    assert (deleted.returncode, deleted.stdout) == (0, "2\n")
    assert "2 deleted, 38 left; not in the index: nobody" in deleted.stderr
    assert json.loads(moee("search", index, TEXTS[35], "-k", "1", "--json").stdout)["results"][0]["id"] != "t35"


def test_the_same_command_again_keeps_what_is_there(moee: Run, built: Path) -> None:
    source = built.parent / "texts.jsonl"
    again = moee("index", "build", source, "--out", built, "--fields", "year,lang", *BUILD, "--json")
    done = json.loads(again.stdout)
    assert (done["num_embedded"], done["num_kept"], done["num_texts"]) == (0, 300, 300)
    assert "300 were there" in again.stderr


def test_lines_from_standard_input_are_known_by_their_digests(moee: Run, tmp_path: Path) -> None:
    lines = "".join(f"{text}\n" for text in [*TEXTS[:20], TEXTS[0]])
    index = tmp_path / "index"
    assert moee("index", "build", "-", "--out", index, *FAKE, stdin=lines).returncode == 0
    results = json.loads(moee("search", index, TEXTS[0], "-k", "2", "--json").stdout)["results"]
    assert results[1]["id"] == f"{results[0]['id']}-2"


def test_a_report_is_printed_as_a_table_and_as_json(moee: Run, built: Path, tmp_path: Path) -> None:
    options = ["--dims", "16", "--quantize", "int8", "--report", *BUILD]
    done = moee("index", "build", built.parent / "texts.jsonl", "--out", tmp_path / "a", *options)
    assert done.returncode == 0, done.stderr
    title, head, exact, *rows = done.stdout.splitlines()
    assert title.startswith("Losses on 10 queries among 65 texts, none of which was fitted on (hs 1.00, rw 0.25):")
    assert head.split() == [
        "stored",
        "as",
        "dims",
        "of",
        "hs",
        "of",
        "rw",
        "bytes",
        "a",
        "text",
        "recall@10",
        "Spearman",
    ]
    assert exact.split() == ["float32", "24", "16", "8", "96", "1.000", "1.0000"]
    assert [row.split()[:2] for row in rows if row.endswith("this index")] == [["int8", "16"]]
    document = json.loads(
        moee("index", "build", built.parent / "texts.jsonl", "--out", tmp_path / "b", *options, "--json").stdout
    )
    assert len(document["report"]["losses"]) == len(rows) + 1
    kept = json.loads(moee("index", "info", tmp_path / "b", "--json").stdout)
    assert kept["report"] == document["report"]
    assert kept["vectors"]["stored_as"] == "int8"


@pytest.mark.parametrize(
    ("name", "content", "options", "code", "message"),
    [
        ("a.csv", "body\nx\n", [], 2, "has no column 'text'. Columns there: 'body'. Name one with --text-column."),
        ("a.csv", "text\nx\n", ["--fields", "year"], 2, "has no column 'year'. Columns there: 'text'."),
        ("a.csv", "text\nx\n", ["--id-column", "key"], 2, "Columns there: 'text'. Name one with --id-column"),
        ("a.csv", "id,text\n1,x\n2,y\n1,z\n", [], 2, "The id '1' on line 4 of"),
        ("a.jsonl", '{"text": "x"}\n{"text": 5}\n', [], 2, "'text' on line 2 of"),
        ("a.jsonl", '{"text": "x", "f": 1}\n{"text": "y", "f": "z"}\n', ["--fields", "f"], 2, "of type integer on"),
        ("a.txt", "", [], 2, "holds no texts"),
        ("a.txt", "x\n\ny\n", [], 2, "The value of 'text' on line 2 of"),
        ("a.docx", "x", [], 2, "Readable are .txt, .jsonl, .csv, .tsv, .parquet"),
        ("a.txt", "x\ny\n", ["--fields", "a,,b"], 2, "--fields is 'a,,b'; it must be names of columns with commas"),
        ("a.txt", "x\ny\n", ["--store", "faiss"], 2, "Unknown store 'faiss'. Choose flat, lancedb"),
        ("a.txt", "x\ny\n", ["--store", "lancedb", "--quantize", "int8"], 2, "'lancedb' keeps float32 vectors alone"),
        ("a.txt", "x\ny\n", ["--approximate"], 2, "The store 'flat' searches exactly alone"),
        ("a.txt", "x\ny\n", ["--calibrate", "mine"], 2, "Choose from: builtin, corpus, none."),
        ("a.txt", "x\ny\n", ["--quantize", "int4"], 2, "Unknown quantisation 'int4'"),
        ("a.txt", "x\ny\n", ["--dims", "1"], 2, "dims is 1; it must be 2 or larger"),
        ("a.txt", "x\ny\n", ["--calibrate", "none", "--dims", "32"], 2, "32 dimensions were asked for; allowed"),
        ("a.txt", "x\ny\n", ["--calibrate", "none", "--report"], 2, "Losses would be measured on 1 held-out"),
        ("a.txt", "x\ny\n", ["-m", "fak"], 2, "Unknown model 'fak'"),
        ("a.txt", "x\ny\n", ["--prompt", "promteol"], 2, "Did you mean 'prompteol'"),
    ],
)  # fmt: skip
def test_unusable_values_are_refused_with_what_is_allowed(
    moee: Run, tmp_path: Path, name: str, content: str, options: list[str], code: int, message: str
) -> None:
    (tmp_path / name).write_text(content)
    done = moee("index", "build", tmp_path / name, "--out", tmp_path / "index", *FAKE, *options)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--filter", "yer > 2000"], "Did you mean 'year'"),
        (["--filter", "year = 2000"], "Use == to compare"),
        (["--filter", "year > 'x'"], "The filter compares the field 'year' with 'x'; it must be a whole number"),
        (["--fusion", "concat"], "fusion='concat' cannot be searched: an index keeps each view at unit length"),
        (["--fusion", "summ"], "Did you mean 'sum'"),
        (["--alpha", "much"], "--alpha is 'much'; it must be slope, scale or a number"),
        (["--alpha", "-1"], "alpha is -1.0"),
        (["-k", "0"], "k is 0; it must be 1 or larger."),
    ],
)
def test_unusable_questions_are_refused(moee: Run, built: Path, options: list[str], message: str) -> None:
    done = moee("search", built, "a question", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_another_model_or_prompt_is_refused_with_both(moee: Run, built: Path) -> None:
    golden = Path(__file__).parents[1] / "golden" / "olmoe-tiny"
    done = moee("search", built, "a question", "-m", golden, "--dtype", "float32")
    assert (done.returncode, done.stdout) == (2, "")
    assert "built with the model 'fake' (weights fake-1), and cannot be used with" in done.stderr
    assert "olmoe-tiny" in done.stderr
    other = ["--fields", "year,lang", "--prompt", "ke", *FAKE]
    done = moee("index", "build", built.parent / "texts.jsonl", "--out", built, *other)
    assert (done.returncode, done.stdout) == (2, "")
    assert "was begun in another way: prompt was 'prompteol' and is 'ke' now" in done.stderr


@pytest.mark.parametrize("asked", [["search", "{}", "x"], ["index", "info", "{}"], ["index", "delete", "{}", "x"]])
def test_folders_that_are_no_index_are_named(moee: Run, tmp_path: Path, asked: list[str]) -> None:
    arguments = [part.format(tmp_path) for part in asked]
    done = moee(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "holds no index" in done.stderr
    (tmp_path / "index.json").write_text('{"kind": "moee-index", "format_version": 99}')
    done = moee(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "has format version 99; this program reads versions 1 to 2. Update moee" in done.stderr


def test_a_folder_with_other_files_is_left_alone(moee: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    done = moee("index", "build", "-", "--out", tmp_path, *FAKE, stdin="x\ny\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not empty and holds no index" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_changed_file_is_noticed_and_explained(moee: Run, built: Path, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "texts.jsonl", TEXTS[:20])
    build = ("index", "build", source, "--out", tmp_path / "index", "--fields", "year", *FAKE)
    assert moee(*build).returncode == 0
    write_rows(source, TEXTS[:21])
    done = moee(*build)
    assert done.returncode == 2
    assert "changed since the index" in done.stderr
    assert "20 records then" in done.stderr
    assert "21 now" in done.stderr
    assert f"`moee index add {tmp_path / 'index'} {source}`" in done.stderr
    assert json.loads(moee("index", "add", tmp_path / "index", source, "--json").stdout)["num_embedded"] == 1
    assert json.loads(moee(*build, "--json").stdout)["num_texts"] == 21


def limited(size: int) -> None:
    """A limit on the size of files stands for the full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def test_a_disk_that_fills_up_leaves_an_index_that_the_same_command_completes(
    environment: dict[str, str], command: list[str], moee: Run, tmp_path: Path
) -> None:
    source = write_rows(tmp_path / "texts.jsonl", TEXTS[:20])
    index = tmp_path / "index"
    assert moee("index", "build", source, "--out", index, *FAKE).returncode == 0
    more = write_rows(tmp_path / "more.jsonl", [f"{text} again" for text in TEXTS])
    done = subprocess.run(
        [*command, "index", "add", str(index), str(more)],
        capture_output=True,
        preexec_fn=lambda: limited(30_000),
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"Error: Cannot write " in done.stderr
    facts = json.loads(moee("index", "info", index, "--json").stdout)
    assert (facts["num_texts"], facts["is_complete"]) == (20, False)
    searched = moee("search", index, "a question", "-k", "1")
    assert searched.returncode == 0
    assert "The index is unfinished: 20 texts so far, and not all 300 of" in searched.stderr
    assert moee("index", "add", index, more).returncode == 0
    facts = json.loads(moee("index", "info", index, "--json").stdout)
    assert (facts["num_texts"], facts["is_complete"]) == (300, True)


def test_a_build_on_a_full_disk_leaves_no_half_index(
    environment: dict[str, str], command: list[str], tmp_path: Path
) -> None:
    source = write_rows(tmp_path / "texts.jsonl", TEXTS)
    done = subprocess.run(
        [*command, "index", "build", str(source), "--out", str(tmp_path / "index"), *FAKE],
        capture_output=True,
        preexec_fn=lambda: limited(2_000),
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"Error: Cannot write " in done.stderr
    assert not (tmp_path / "index").exists()
    assert not list(tmp_path.rglob("*.tmp"))
