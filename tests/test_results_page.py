"""The tables of the results page, and what it can quote. The files come from real runs on made-up sets."""

from __future__ import annotations

import copy
import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from moee import MoEE
from moee.evaluate import result_files
from moee.evaluate.runner import evaluate, expand_settings
from moee.evaluate.study import Study
from moee.evaluate.tasks import task_row
from moee.evaluate.vectors import CalibrationTexts

ROOT = Path(__file__).resolve().parents[1]
Files = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """The scripts, which import each other from their own folder."""
    names = ("written_pages", "results_scores", "results_page")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        yield {name: importlib.import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name)


@pytest.fixture(scope="module")
def render(modules: dict[str, ModuleType]) -> Callable[[Files], str]:
    """Return the tables of both evaluations as one text."""
    script = modules["results_page"]

    def made(files: Files) -> str:
        full, sample = (modules["results_scores"].Scores(files[name]) for name in ("demo", "demo-paper"))
        evaluations = {"demo.json": full, "demo-paper.json": sample}
        parts = (script._runs(evaluations), script._whole(full), script._beside(sample), script._not_run(evaluations))
        return "\n".join(line for lines in parts for line in lines)

    return made


@pytest.fixture(scope="module")
def quote(modules: dict[str, ModuleType]) -> Callable[..., dict[str, float]]:
    """Return what a line of a comment of the page gives."""

    def measured(files: Files, name: str, *arguments: str) -> dict[str, float]:
        found: dict[str, float] = modules["results_page"].measures(files)[name](*arguments)
        return found

    return measured


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of pairs, one of lists and one to cluster; words are drawn."""
    folder, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(3)
    words = ("river", "bridge", "oven", "flour", "signal", "ticket", "hedge", "spade", "sail", "anchor")

    def text() -> str:
        return f"{' '.join(rng.choice(words, 4))} {rng.integers(50)}"

    def write(name: str, task_type: str, **files: list[dict[str, Any]]) -> None:
        (folder / name).mkdir()
        (folder / name / "dataset.json").write_text(json.dumps({"task_type": task_type}), encoding="utf-8")
        for file, rows in files.items():
            (folder / name / f"{file}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

    for name in ("STS12", "STS13"):
        write(name, "STS", test=[{"sentence1": text(), "sentence2": text(), "score": n % 5} for n in range(20)])
    lists = [{"query": text(), "positive": [text()], "negative": [text(), text()]} for _ in range(8)]
    write("WikiQA", "Reranking", test=lists)
    labelled = [{"text": text(), "label": n % 3} for n in range(24)]
    groups = [{"rows": list(range(12))}, {"rows": list(range(12, 24))}]
    write("TwentyNewsgroupsClustering", "Clustering", data=labelled, sets=groups)
    return folder


def measured(sets: Path, cache: Path, *, limit: int | None, controls: bool, recipes: list[str]) -> dict[str, Any]:
    """Return the JSON of an evaluation, as it is read back from a file."""
    model = MoEE.from_pretrained("fake", calibration="none")
    study = Study(model, sets, cache=cache, limit=limit)
    names = ["STS12", "STS13", "BIOSSES", "TwentyNewsgroupsClustering", "WikiQA"]
    texts: list[CalibrationTexts] = ["none", "corpus"] if controls else ["corpus"]
    settings = expand_settings(recipes=recipes, fusions=["hs", "rw", "concat", "sum"], calibration_texts=texts)
    evaluation = evaluate(study, [task_row(name) for name in names], settings, controls=controls)
    assert not any(each.failed for each in evaluation.skipped)
    found = result_files.document(study, evaluation, seconds=1.0)
    read: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))
    return read


@pytest.fixture(scope="module")
def both(sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Files:
    cache = tmp_path_factory.mktemp("kept")
    return {
        "demo": measured(sets, cache, limit=None, controls=True, recipes=["default"]),
        "demo-paper": measured(sets, cache, limit=10, controls=False, recipes=["paper", "default"]),
    }


@pytest.fixture
def files(both: Files) -> Files:
    return copy.deepcopy(both)


def rows_of(document: dict[str, Any], setting: str) -> list[dict[str, Any]]:
    found = [row for row in document["results"] if row["setting"] == setting]
    assert found
    return found


def set_scores(document: dict[str, Any], setting: str, **scores: float) -> None:
    for row in rows_of(document, setting):
        row["score"] = scores[row["task"]]


def tables(page: str) -> list[list[list[str]]]:
    """Return the cells of every table of a Markdown page."""
    blocks = re.findall(r"(?:^\|.*\|\n?)+", page, re.MULTILINE)
    return [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block.strip().splitlines()] for block in blocks]


HS = {"STS12": 40.0, "STS13": 50.0, "TwentyNewsgroupsClustering": 30.0, "WikiQA": 60.0}


def test_every_score_of_the_files_is_on_the_page(files: Files, render: Callable[[Files], str]) -> None:
    """Each task's line holds its floor and its four fusions, under each choice of statistics."""
    page = render(files)
    for name, recipe, statistics in (
        ("demo", "default", "none"),
        ("demo", "default", "corpus"),
        ("demo-paper", "paper", "batch"),
    ):
        results = [row for row in files[name]["results"] if row["role"] in ("result", "floor")]
        for task in ("STS12", "STS13", "TwentyNewsgroupsClustering", "WikiQA"):
            of_task = [row for row in results if row["task"] == task]
            wanted = [row for row in of_task if row["role"] == "floor"]
            wanted += [row for row in of_task if (row["recipe"], row["calibration_texts"]) == (recipe, statistics)]
            assert len(wanted) == 5
            cells = " | ".join(f"{row['score']:.1f}" for row in wanted)
            alpha = f"{wanted[-1]['alpha']:.3f}"
            assert f"| {task} | {wanted[0]['metric']} | {cells} | {alpha} |" in page


def test_means_of_types_are_those_of_the_report(files: Files, render: Callable[[Files], str]) -> None:
    page = render(files)
    for each in files["demo"]["summary"]:
        numbers = [each[kind] for kind in ("STS", "Clustering", "Reranking", "mean of types")]
        assert " | ".join(f"{number:.1f}" for number in numbers) in page, each["setting"]


def test_every_row_of_a_table_has_as_many_cells(files: Files, render: Callable[[Files], str]) -> None:
    found = tables(render(files))
    assert len(found) >= 10
    for table in found:
        assert len({len(row) for row in table}) == 1, table[0]


def test_verdicts_and_intervals_are_taken_over(files: Files, render: Callable[[Files], str]) -> None:
    page = render(files)
    assert len(files["demo"]["verdicts"]) == 4  # all tasks and three types
    for each in files["demo"]["verdicts"]:  # there are no controls without statistics
        low, high = (100 * each["with_minus_without"][name] for name in ("low", "high"))
        row = next(line for line in page.splitlines() if line.startswith(f"| corpus | {each['scope']} |"))
        assert f"[{low:+.2f}, {high:+.2f}]" in row
    row = rows_of(files["demo"], "default sum alpha=0.2 corpus")[0]
    gain, low, high = row["gain_over_hs"]
    assert f"{gain:+.2f} [{low:+.2f}, {high:+.2f}]" in page


def test_comparisons_follow_the_numbers(files: Files, quote: Callable[..., dict[str, float]]) -> None:
    """One task up by 2, one down by 1, one the same up to rounding, one down by 3: the mean is -0.5."""
    summed = {"STS12": 42.0, "STS13": 49.0, "TwentyNewsgroupsClustering": 30.005, "WikiQA": 57.0}
    set_scores(files["demo"], "default hs corpus", **HS)
    set_scores(files["demo"], "default sum alpha=0.2 corpus", **summed)
    found = quote(files, "compare", "demo", "default corpus sum", "default corpus hs")
    assert (found["higher"], found["lower"], found["level"], found["tasks"]) == (1, 2, 1, 4)
    assert found["mean"] == pytest.approx(-0.49875)
    assert found["largest"] == pytest.approx(3)
    with pytest.raises(ValueError, match="share no task"):
        quote(files, "compare", "demo", "default builtin sum", "default corpus hs")


def test_verdicts_and_intervals_can_be_quoted(files: Files, quote: Callable[..., dict[str, float]]) -> None:
    verdict = next(each for each in files["demo"]["verdicts"] if each["scope"] == "all tasks")
    verdict["with_minus_without"] = {"difference": 0.02, "low": -0.01, "high": 0.03, "resamples": 1000}
    found = quote(files, "verdict", "demo", "corpus", "all tasks", "hs")
    assert found == {"difference": pytest.approx(2), "low": pytest.approx(-1), "high": pytest.approx(3)}
    gains = ([1.0, 0.5, 1.5], [-1.0, -2.0, -0.5], [0.0, -1.0, 1.0], [0.0, 0.0, 0.0])
    for row, gain in zip(rows_of(files["demo"], "default sum alpha=0.2 corpus"), gains, strict=True):
        row["gain_over_hs"] = gain
    assert quote(files, "intervals", "demo", "default corpus sum") == {"above": 1, "below": 1, "tasks": 4}


def test_alphas_and_missing_tasks_can_be_quoted(files: Files, quote: Callable[..., dict[str, float]]) -> None:
    for row, alpha in zip(rows_of(files["demo"], "default sum alpha=0.2 corpus"), (0.0, 0.1, 0.2, 0.9), strict=True):
        row["alpha"] = alpha
    found = quote(files, "alpha", "demo", "default corpus sum")
    assert found == {"least": 0.0, "median": pytest.approx(0.15), "most": 0.9, "zero": 1}
    assert quote(files, "missing") == {"paper": 19, "missing": 16}


def test_means_over_other_tasks_are_left_out(files: Files, modules: dict[str, ModuleType]) -> None:
    """A setting that lacks a task has no mean of that type, and no mean of types."""
    document = files["demo"]
    lost = next(row for row in document["results"] if (row["task"], row["setting"]) == ("STS13", "default rw corpus"))
    document["results"].remove(lost)
    scores = modules["results_scores"].Scores(document)
    key = modules["results_scores"].Key("default", "corpus", "rw")
    assert set(scores.type_means(key)) == {"Clustering", "Reranking"}
    assert scores.mean_of_types(key) is None
    full = modules["results_scores"].Key("default", "corpus", "hs")
    assert scores.mean_of_types(full) == pytest.approx(
        next(each["mean of types"] for each in document["summary"] if each["setting"] == "default hs corpus"), abs=1e-9
    )


def test_two_results_of_one_kind_are_refused(files: Files, render: Callable[[Files], str]) -> None:
    """A file of several prompts or alphas would show one of them, by chance."""
    document = files["demo"]
    document["results"].append(copy.deepcopy(rows_of(document, "default hs corpus")[0]))
    with pytest.raises(ValueError, match="two results"):
        render(files)


def test_what_was_not_run_is_listed_with_its_reason(files: Files, render: Callable[[Files], str]) -> None:
    page = render(files)
    assert "| BIOSSES | `demo.json` | no folder 'BIOSSES' in the data |" in page
    assert "| SciFact | `demo-paper.json` | not asked for |" in page


def test_samples_are_called_samples(files: Files, render: Callable[[Files], str]) -> None:
    page = render(files)
    assert "### By task type\n" in page
    assert "### By task type, both recipes, samples\n" in page
    for document in files.values():
        document["options"].update(limit=None)
    assert "samples" not in render(files)


def test_files_that_are_missing_or_of_two_models_are_refused(
    files: Files, modules: dict[str, ModuleType], tmp_path: Path
) -> None:
    load = modules["results_page"].load
    with pytest.raises(SystemExit, match=r"lacks demo\.json"):
        load(tmp_path)
    for name in modules["results_page"].FILES:
        document = files.get(name, {"run": {"model": "fake", "weights": "0" * 16}})
        (tmp_path / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(SystemExit, match="several models"):
        load(tmp_path)


@pytest.fixture
def check(modules: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Change the committed page, and return what the check says of it; empty if it is content."""

    def said(before: str = "", after: str = "") -> str:
        text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
        assert before in text
        (tmp_path / "results.md").write_text(text.replace(before, after, 1), encoding="utf-8")
        code = modules["results_page"].main(["--check", "--page", str(tmp_path / "results.md")])
        printed = capsys.readouterr().err
        assert (code == 0) == (not printed)
        return printed

    return said


def test_every_quoted_number_of_the_committed_page_is_that_of_the_files(check: Callable[..., str]) -> None:
    assert check() == ""


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("`hs` +8.38", "`hs` +8.39", "quotes +8.39; it is 8.38."),
        ("`hs` +8.38", "`hs` -8.38", "quotes -8.38; it is 8.38."),
        ("higher on 14 of 16", "higher on 14 of 17", "quotes 17; it is 16."),
        ("TF-IDF knows words", "TF-IDF has 3 words", "quotes 2 numbers"),
        ("stated: 135", "stated: 136", "quotes 135; it is 136."),
        ("missing(): paper, missing", "absent(): paper, missing", "the comment cannot be read: KeyError"),
        ("| STS12 | cosine_spearman | 56.7 |", "| STS12 | cosine_spearman | 56.8 |", "Run: make results"),
    ],
)
def test_a_page_that_says_something_else_fails(check: Callable[..., str], before: str, after: str, said: str) -> None:
    assert said in check(before, after)


def test_a_generated_part_that_is_not_there_is_named(check: Callable[..., str]) -> None:
    with pytest.raises(SystemExit, match="The page has the generated parts"):
        check("<!-- generated: table5 -->", "<!-- table5 -->")


def test_numbers_in_names_and_code_are_not_quoted(modules: dict[str, ModuleType]) -> None:
    page = "STS12, `top_k=8` and [this](v2.md) say nothing, -0.00 and 1,024 do.\n<!-- checked\nvalues(): a, b\n-->\n"
    measures = {"values": lambda: {"a": 0.001, "b": 1024.2}}
    assert modules["written_pages"].faults(page, measures) == []
