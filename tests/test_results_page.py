"""The results page: what the result files hold, and nothing else. The files come from real runs on made-up sets."""

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

ROOT = Path(__file__).resolve().parents[1]
Files = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """The scripts, which import each other from their own folder."""
    names = ("written_pages", "results_scores", "results_says", "results_page")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        yield {name: importlib.import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name)


@pytest.fixture(scope="module")
def render(modules: dict[str, ModuleType]) -> Callable[[Files], str]:
    return modules["results_page"].page  # type: ignore[no-any-return]


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
    settings = expand_settings(recipes=recipes, calibration_texts=["none", "corpus"] if controls else ["corpus"])
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
    assert len(found) >= 9
    for table in found:
        assert len({len(row) for row in table}) == 1, table[0]


def test_verdicts_and_intervals_are_taken_over(files: Files, render: Callable[[Files], str]) -> None:
    page = render(files)
    assert len(files["demo"]["verdicts"]) == 4  # all tasks and three types
    assert "Statistics `corpus`:" in page
    assert "Statistics `none`:" not in page  # there are no controls without statistics
    for each in files["demo"]["verdicts"]:
        assert f"- {each['scope']}: {each['sentence']}" in page
    row = rows_of(files["demo"], "default sum alpha=auto corpus")[0]
    gain, low, high = row["gain_over_hs"]
    assert f"{gain:+.2f} [{low:+.2f}, {high:+.2f}]" in page


def test_sentences_follow_the_numbers(files: Files, render: Callable[[Files], str]) -> None:
    """One task up by 2, one down by 1, one the same up to rounding, one down by 3: the mean is -0.5."""
    document = files["demo"]
    summed = {"STS12": 42.0, "STS13": 49.0, "TwentyNewsgroupsClustering": 30.005, "WikiQA": 57.0}
    set_scores(document, "default hs corpus", **HS)
    set_scores(document, "default sum alpha=auto corpus", **summed)
    page = render(files)
    assert (
        "**`sum` against `hs`**, statistics `corpus`: above on 1 of 4 tasks, below on 2, level on 1; -0.50 points"
        in page
    )
    set_scores(document, "default hs none", **{name: score - 5 for name, score in HS.items()})
    assert "`hs` +5.00 (higher on 4 of 4)" in render(files)


@pytest.mark.parametrize(
    ("difference", "conclusion"),
    [
        (+3.0, "the routers' choices keep more than a random view"),
        (-3.0, "a random view of the same width and the same inputs keeps more"),
        (0.0, "nothing shows that the routers' choices matter"),
    ],
)
def test_routing_is_set_beside_random_projections(
    difference: float, conclusion: str, files: Files, render: Callable[[Files], str]
) -> None:
    set_scores(files["demo"], "default rw corpus rw=random-projections", **HS)
    set_scores(files["demo"], "default rw corpus", **{name: score + difference for name, score in HS.items()})
    said = next(line for line in render(files).splitlines() if "projections alone**, statistics `corpus`" in line)
    assert conclusion in said
    assert f"{difference:+.2f} points on average" in said


@pytest.mark.parametrize(("low", "reading"), [(0.01, "RW adds"), (-0.01, "no difference that this sample can show")])
def test_a_gain_needs_its_whole_interval(
    low: float, reading: str, files: Files, render: Callable[[Files], str]
) -> None:
    verdict = next(each for each in files["demo"]["verdicts"] if each["calibration_texts"] == "corpus")
    assert verdict["scope"] == "all tasks"
    verdict["sum_minus_hs"] = {"difference": 0.02, "low": low, "high": 0.03, "resamples": 1000}
    assert f"Over all tasks: +2.00 [{100 * low:+.2f}, +3.00], {reading}." in render(files)


def test_a_planted_defect_that_gains_is_told(files: Files, render: Callable[[Files], str]) -> None:
    for setting in ("default hs corpus", "default sum alpha=auto corpus rw=hidden"):
        set_scores(files["demo"], setting, **HS)
    shuffled = "default sum alpha=auto corpus rw=shuffled"
    set_scores(files["demo"], shuffled, **{name: score - 1 for name, score in HS.items()})
    assert "Worthless RW gains nothing, as it must be." in render(files)
    set_scores(files["demo"], shuffled, **{name: score + 1 for name, score in HS.items()})
    page = render(files)
    assert "Worthless RW must gain nothing" in page
    assert "as it must be" not in page


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
    assert "16 of the 19 tasks of the paper that moee knows were not run." in page
    assert "- BIOSSES: no folder 'BIOSSES' in the data" in page
    assert "- SciFact: not asked for" in page
    files["demo-paper"]["tasks"] = [each for each in files["demo-paper"]["tasks"] if each["name"] != "WikiQA"]
    files["demo-paper"]["results"] = [each for each in files["demo-paper"]["results"] if each["task"] != "WikiQA"]
    files["demo-paper"]["not_run"].append({"task": "WikiQA", "reason": "its score is NaN"})
    assert "- WikiQA, in demo-paper.json: its score is NaN" in render(files)


def test_samples_are_called_samples(files: Files, render: Callable[[Files], str]) -> None:
    page = render(files)
    assert "### By task type\n" in page
    assert "### By task type, both recipes, samples\n" in page
    assert "10 rows of each task, at equal distances" in page
    assert page.count("not with MTEB") == 2
    for document in files.values():
        document["options"].update(limit=None, max_length=None, corpus_limit=None)
    page = render(files)
    assert "samples" not in page
    assert page.count("Comparable with MTEB.") == 2


def test_the_page_warns_of_the_demo_only_if_it_is_about_it(files: Files, render: Callable[[Files], str]) -> None:
    assert "carved into experts" not in render(files)
    for document in files.values():
        document["model"]["name"] = "demo"
    assert "carved into experts" in render(files)


def test_parts_without_a_file_say_so(files: Files, render: Callable[[Files], str]) -> None:
    page = render({"demo-paper": files["demo-paper"]})
    assert "evaluation/demo.json` is not there" in page
    assert "evaluation/table5.json` is not there" in page
    assert "in the `paper` recipe**" in page
    nothing = render({})
    assert "Nothing yet" in nothing
    assert "carved into experts" in nothing
    assert not tables(nothing)


def test_files_of_two_models_are_refused(files: Files, modules: dict[str, ModuleType], tmp_path: Path) -> None:
    files["demo-paper"]["model"]["fingerprint"] = "0" * 16
    for name, document in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(SystemExit, match="several models"):
        modules["results_page"].load(tmp_path)


def test_check_fails_when_page_and_files_differ(
    files: Files, modules: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, document in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    page = tmp_path / "results.md"
    where = ["--folder", str(tmp_path), "--page", str(page)]
    main = modules["results_page"].main
    assert main([*where, "--check"]) == 1
    assert not page.exists()
    assert main(where) == 0
    assert main([*where, "--check"]) == 0
    capsys.readouterr()
    page.write_text(page.read_text(encoding="utf-8").replace("points on average", "points", 1), encoding="utf-8")
    assert main([*where, "--check"]) == 1
    assert "make results" in capsys.readouterr().err


def test_the_committed_page_is_what_the_committed_files_give(modules: dict[str, ModuleType]) -> None:
    assert modules["results_page"].main(["--check"]) == 0


@pytest.mark.slow
def test_tables_of_the_paper_are_shown(
    sets: Path, render: Callable[[Files], str], tmp_path: Path, modules: dict[str, ModuleType]
) -> None:
    """From files of `moee reproduce` itself."""
    from moee.evaluate.reproduce.exhibit import Options
    from moee.evaluate.reproduce.run import Run
    from moee.evaluate.reproduce.targets import TARGETS
    from moee.evaluate.reproduce.writer import document

    study = Study(MoEE.from_pretrained("fake"), sets, cache=tmp_path)
    run = Run(study, Options())
    about = {"model": "fake", "weights": study.embedder.info.fingerprint, "max_length": 128, "limit": 20}
    made = {}
    for name in modules["results_page"].ARTEFACTS:
        made[name] = json.loads(json.dumps(document(TARGETS[name].make(run), about)))
    page = render(made)
    for each in made.values():
        assert f"### {each['title']}\n" in page
    agreement = made["figure4"]["tables"][0]["rows"][0]
    assert f"| HS with HS | {agreement['here']:.2f} | {agreement['paper']:.2f} |" in page
    assert f"Spearman {agreement['here']:.2f} for HS" in page
    variants = [row for row in made["table5"]["tables"][0]["rows"] if row["computed"] == "this run"]
    best = max(variants, key=lambda row: row["Mean of these tasks"])
    assert f"is `{best['variant']}` with {best['Mean of these tasks']:.1f} points" in page
    assert page.count("**Clusters of HS and of RW**") == 2
    assert "**Spread over nine prompts**" in page
    assert len({len(row) for table in tables(page) for row in table[:1]}) > 1
