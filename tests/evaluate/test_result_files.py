"""Reports: JSON, CSV and Markdown of one real run with every kind of row in it."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moee import EmbedderConfig, MoEE
from moee.backends.fake import FakeBackend
from moee.errors import OutputError
from moee.evaluate import result_files
from moee.evaluate.runner import Evaluation, Result, evaluate, expand_settings
from moee.evaluate.study import Study
from moee.evaluate.tasks import TaskScore, select_tasks, task_row
from moee.evaluate.vectors import Setting
from tests.evaluate.conftest import write_set
from tests.evaluate.tasks.miniatures import write_miniature

PIPED = 'A | B\n"{text}" is'
"""A prompt of a user's own that would break a table and a line."""
DONE = ("STS12", "WordSimilarity", "TwentyNewsgroupsClustering", "SciFact")
Run = tuple[Study, Evaluation]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Four tasks that work, one that fails, one without data; controls, an own prompt and the paper's recipe."""
    folder = tmp_path_factory.mktemp("report")
    data = folder / "data"
    for name in ("STS12", "TwentyNewsgroupsClustering", "SciFact"):
        write_miniature(data, name)
    words = [{"sentence1": f"l{n}", "sentence2": f"r{n}", "score": n % 5, "set": "ab"[n % 2]} for n in range(12)]
    write_set(data, "WordSimilarity", "STS", {"test": words})
    equal = [{"sentence1": f"a {n}", "sentence2": f"b {n}", "score": 3} for n in range(5)]
    write_set(data, "STS13", "STS", {"test": equal})
    study = Study(MoEE(FakeBackend(), EmbedderConfig()), data, cache=folder / "cache", corpus_limit=55)
    settings = expand_settings(recipes=["default", "paper"], calibration_texts=["corpus"], fusions=["hs", "sum"])
    settings += expand_settings(calibration_texts=["none"], fusions=["hs", "sum"], prompts=[PIPED])
    return study, evaluate(study, select_tasks([*DONE, "STS13", "BIOSSES"]), settings, controls=True)


@pytest.fixture(scope="module")
def document(run: Run) -> dict[str, Any]:
    return result_files.document(*run, seconds=1.26)


def cells_of(line: str) -> list[str]:
    """The cells of a line of a Markdown table; a bar with a backslash before it is text."""
    assert line.startswith("| ")
    assert line.endswith(" |")
    return re.split(r"(?<!\\)\|", line)[1:-1]


def tables_of(text: str) -> list[list[str]]:
    """The tables of a page, as their lines."""
    blocks = re.split(r"\n\s*\n", text)
    return [block.splitlines() for block in blocks if block.startswith("|")]


# --- JSON ----------------------------------------------------------------------------------------------------------


def test_json_holds_every_result_and_no_nan(run: Run, document: dict[str, Any]) -> None:
    def refuse(name: str) -> None:
        pytest.fail(f"{name} is no JSON")

    text = json.dumps(document)
    assert json.loads(text, parse_constant=refuse) == document
    results = run[1].results
    assert len(document["results"]) == len(results)
    for row, result in zip(document["results"], results, strict=True):
        assert (row["task"], row["setting"], row["role"]) == (result.task.name, result.label, result.role)
        assert row["score"] == 100 * result.score.main
        assert row["metrics"][row["metric"]] == pytest.approx(row["score"], abs=1e-9)
        assert row["num_items"] == len(result.score.items)


def test_json_says_what_the_numbers_were_made_with(run: Run, document: dict[str, Any]) -> None:
    assert document["model"] == {"name": "fake", "fingerprint": "fake-1", "model_type": "fake", "dtype": "float32"}
    assert document["options"] == {"max_length": 128, "limit": None, "corpus_limit": 55, "split": "test", "seed": 42}
    assert {"python", "moee", "numpy", "scipy"} <= set(document["versions"])
    assert document["seconds"] == 1.3
    assert [each["name"] for each in document["tasks"]] == list(DONE)
    by_name = {each["name"]: each for each in document["tasks"]}
    assert by_name["SciFact"]["documents"] == 55
    assert by_name["STS12"]["data"] == run[0].digest("STS12")
    assert by_name["STS12"]["texts"] == len(run[0].task("STS12").texts)
    assert "not in the means" in by_name["WordSimilarity"]["note"]


def test_json_names_the_settings_of_every_row(document: dict[str, Any]) -> None:
    rows = {row["setting"]: row for row in document["results"]}
    assert rows["tf-idf"]["recipe"] is None
    assert rows["paper sum alpha=1"]["calibration_texts"] == "batch"
    assert rows["paper sum alpha=1"]["alpha"] == 1.0
    fused = rows["default sum alpha=0.2 corpus"]
    assert (fused["fusion"], fused["calibration_texts"], fused["routing"]) == ("sum", "corpus", "router")
    assert 0 < fused["alpha"] < 10
    own = [row for row in document["results"] if row["prompt"] == PIPED]
    assert len(own) == 2 * len(DONE)


def test_json_holds_what_was_not_run_and_the_verdicts(run: Run, document: dict[str, Any]) -> None:
    by_name = {each["task"]: each for each in document["not_run"]}
    assert set(by_name) == {"STS13", "BIOSSES"}
    assert "is NaN" in by_name["STS13"]["reason"]
    assert by_name["BIOSSES"]["in_paper"]
    assert [each["scope"] for each in document["verdicts"]] == ["all tasks", "STS", "Clustering", "Retrieval"]
    for each, verdict in zip(document["verdicts"], run[1].verdicts, strict=True):
        assert each["sentence"] == verdict.verdict.sentence
        assert each["with_minus_without"]["difference"] == verdict.verdict.over_hs.difference


def test_gains_stand_with_their_rows_in_points(run: Run, document: dict[str, Any]) -> None:
    gains = {(row["task"], row["setting"]): row["gain_over_hs"] for row in document["results"] if "gain_over_hs" in row}
    assert set(gains) == set(run[1].gains)
    scores = {(row["task"], row["setting"]): row["score"] for row in document["results"]}
    difference, low, high = gains["STS12", "default sum alpha=0.2 corpus"]
    wanted = scores["STS12", "default sum alpha=0.2 corpus"] - scores["STS12", "default hs corpus"]
    assert difference == pytest.approx(wanted, abs=1e-9)
    assert low <= difference <= high


def test_a_further_metric_that_is_not_defined_is_null(run: Run) -> None:
    metrics = {"cosine_spearman": 0.5, "other": float("nan")}
    score = TaskScore("cosine_spearman", 0.5, metrics, np.full(3, 0.5))
    evaluation = Evaluation([Result(task_row("STS12"), "default hs none", Setting(fusion="hs"), None, score)])
    (row,) = result_files.document(run[0], evaluation, seconds=0.0)["results"]
    assert row["metrics"] == {"cosine_spearman": 50.0, "other": None}
    json.dumps(row, allow_nan=False)


# --- means ---------------------------------------------------------------------------------------------------------


def test_means_are_over_types_and_without_tasks_outside_the_means(run: Run, document: dict[str, Any]) -> None:
    scores = {(row["task"], row["setting"]): row["score"] for row in document["results"]}
    for row in document["summary"]:
        of_type = [scores[name, row["setting"]] for name in ("STS12", "TwentyNewsgroupsClustering", "SciFact")]
        assert [row["STS"], row["Clustering"], row["Retrieval"]] == pytest.approx(of_type)
        assert row["mean of types"] == pytest.approx(sum(of_type) / 3)
    assert [row["setting"] for row in document["summary"]] == list(run[1].by_label(roles=result_files.SHOWN_ROLES))


def test_a_run_of_tasks_outside_the_means_has_a_report_without_means(run: Run) -> None:
    study = run[0]
    settings = expand_settings(calibration_texts=["corpus"], fusions=["hs", "sum"])
    evaluation = evaluate(study, select_tasks(["WordSimilarity"]), settings, controls=True)
    found = result_files.document(study, evaluation, seconds=0.0)
    assert found["summary"] == []
    assert {row["task"] for row in found["results"]} == {"WordSimilarity"}
    text = result_files.markdown(study, evaluation, seconds=0.0)
    assert "| WordSimilarity | cosine_spearman |" in text
    assert result_files.controls_table(evaluation)[1] == []


# --- CSV -----------------------------------------------------------------------------------------------------------


def test_csv_has_a_line_for_each_result_with_the_same_numbers(document: dict[str, Any], run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(result_files.csv_text(run[1]))))
    assert len(rows) == len(document["results"])
    for row, wanted in zip(rows, document["results"], strict=True):
        assert None not in row  # no line has more cells than the head
        assert (row["task"], row["setting"], row["prompt"]) == (
            wanted["task"],
            wanted["setting"],
            wanted["prompt"] or "",
        )
        assert float(row["score"]) == wanted["score"]
        for name, value in wanted["metrics"].items():
            assert float(row[name]) == value
        gain = wanted.get("gain_over_hs")
        assert [row["gain_over_hs"], row["gain_low"], row["gain_high"]] == (
            ["", "", ""] if gain is None else [repr(value) for value in gain]
        )


# --- Markdown ------------------------------------------------------------------------------------------------------


def test_every_table_of_the_page_has_rows_of_equal_length(run: Run) -> None:
    tables = tables_of(result_files.markdown(*run, seconds=3.0))
    assert len(tables) == 7  # types, tasks, clustering, gains, minus the floor, controls, verdicts
    for lines in tables:
        head, rule, *rows = [cells_of(line) for line in lines]
        assert rows
        assert {len(row) for row in (rule, *rows)} == {len(head)}
        assert all(re.fullmatch(r" -{3}:? ", cell) for cell in rule)


def test_the_page_holds_the_numbers_of_the_document(run: Run, document: dict[str, Any]) -> None:
    text = result_files.markdown(*run, seconds=3.0)
    by_task = next(lines for lines in tables_of(text) if lines[0].startswith("| task | metric |"))
    head = [cell.strip() for cell in cells_of(by_task[0])]
    rows = {cells_of(line)[0].strip(): [cell.strip() for cell in cells_of(line)] for line in by_task[2:]}
    assert list(rows) == list(DONE)
    shown = [row for row in document["results"] if row["role"] in result_files.SHOWN_ROLES]
    for row in shown:
        column = head.index(row["setting"].replace("|", "\\|"))
        assert rows[row["task"]][column] == f"{row['score']:.1f}"
    assert rows["WordSimilarity"][head.index("tf-idf")] == ""
    for each in run[1].verdicts:
        assert each.verdict.sentence in text
    assert "- BIOSSES: no folder" in text
    assert "- STS13: The score of STS13 is NaN" in text
    assert "retrieval corpora hold 55 documents at most" in text
    assert "nan" not in text.lower().replace("is nan", "")


def test_the_oracle_is_among_the_controls_only(run: Run) -> None:
    tables = tables_of(result_files.markdown(*run, seconds=3.0))
    with_oracle = [lines[0] for lines in tables if any("ORACLE" in line for line in lines)]
    assert with_oracle == ["| setting | role | mean of types | what it is |"]


def test_bars_and_line_ends_in_cells_do_not_break_a_table() -> None:
    lines = result_files.markdown_table(["a|b", ">c"], [["one\ntwo", "3"], ["x | y", "4"]])
    assert lines == ["| a\\|b | c |", "| --- | ---: |", "| one two | 3 |", "| x \\| y | 4 |"]


# --- files ---------------------------------------------------------------------------------------------------------


def test_three_files_are_written_and_replaced(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    for seconds in (1.0, 2.0):
        paths = result_files.write(*run, folder, seconds=seconds)
        assert sorted(path.name for path in folder.iterdir()) == ["results.csv", "results.json", "results.md"]
        assert sorted(paths) == sorted(folder.iterdir())
        found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        assert found["seconds"] == seconds
    assert found["results"] == result_files.document(*run, seconds=2.0)["results"]
    assert (folder / "results.csv").read_text(encoding="utf-8").replace("\r\n", "\n") == result_files.csv_text(
        run[1]
    ).replace("\r\n", "\n")


def test_a_folder_that_cannot_be_made_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"Cannot make the folder .*file/out.*Choose another"):
        result_files.write(*run, tmp_path / "file" / "out", seconds=1.0)
