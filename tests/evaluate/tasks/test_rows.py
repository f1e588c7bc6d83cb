"""The rows of the table of tasks, and how a user's words choose among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moee.errors import UnknownNameError
from moee.evaluate import tasks
from moee.evaluate.tasks import TASK_DATA, TASK_TYPES, TASKS, select_tasks, task_row

PAPER_COUNTS = {"STS": 8, "Classification": 3, "PairClassification": 2, "Clustering": 2, "Reranking": 3}
"""Tasks of arXiv 2410.10814, tables 8 to 12; summarization has one."""


def test_names_are_unique_and_types_are_known() -> None:
    names = [row.name for row in TASKS]
    assert len(set(names)) == len(names)
    assert {row.task_type for row in TASKS} == set(TASK_TYPES)
    assert not set(names) & {*TASK_TYPES, "all", "paper"}  # a name never means two things


def test_rows_are_grouped_by_type_in_the_order_of_the_tables() -> None:
    assert [row.task_type for row in TASKS] == sorted((row.task_type for row in TASKS), key=TASK_TYPES.index)


def test_the_papers_tasks_are_all_there() -> None:
    rows = select_tasks(["paper"])
    for kind, count in {**PAPER_COUNTS, "Summarization": 1}.items():
        assert sum(row.task_type == kind for row in rows) == count
    assert len(rows) == 19
    assert all(row.mteb for row in rows)


def test_rows_that_mteb_lacks_and_rows_outside_the_means_say_why_or_are_known() -> None:
    assert {row.name for row in TASKS if row.mteb is None} == {
        "WordSimilarity",
        "QuoraDuplicateRR",
        "WikiQA",
        "Cranfield",
        "Lee50",
    }
    assert all(row.note for row in TASKS if not row.in_means)


def test_a_row_is_found_by_its_name() -> None:
    assert task_row("SciFact").task_type == "Retrieval"
    assert (task_row("AmazonCounterfactual-en").subset, task_row("STS12").subset) == ("en", "default")


@pytest.mark.parametrize(
    ("name", "close"), [("STS-12", "STS12"), ("scifact", "SciFact"), ("Banking77", "Banking77Classification")]
)
def test_an_unknown_name_is_answered_with_close_ones(name: str, close: str) -> None:
    for ask in (task_row, lambda name: select_tasks([name])):
        with pytest.raises(UnknownNameError, match=rf"Unknown task '{name}'.*Did you mean .*'{close}'"):
            ask(name)


def test_a_misspelt_type_is_answered_too() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean .*'Reranking'"):
        select_tasks(["STS12", "Rerank"])


def test_names_types_and_groups_may_be_mixed_and_the_order_is_the_tables() -> None:
    chosen = [row.name for row in select_tasks(["SciFact", "Reranking", "STS12", "SciFact"])]
    reranking = [row.name for row in TASKS if row.task_type == "Reranking"]
    assert chosen == ["STS12", *reranking, "SciFact"]
    assert select_tasks(["all"]) == list(TASKS)
    assert select_tasks(["all", "paper", "Lee50"]) == list(TASKS)
    assert select_tasks([]) == []


@pytest.mark.data
def test_every_evaluation_set_has_a_row_of_its_type(data_folder: Path) -> None:
    found = {
        path.parent.name: json.loads(path.read_text(encoding="utf-8")).get("task_type")
        for path in data_folder.glob("*/dataset.json")
    }
    sets = {name: kind for name, kind in found.items() if kind in TASK_TYPES}
    assert len(sets) >= 16
    assert {name: task_row(name).task_type for name in sets} == sets


@pytest.mark.slow
def test_mteb_has_every_row_that_names_it_with_the_same_type() -> None:
    import mteb

    for row in TASKS:
        if row.mteb is None:
            continue
        metadata = mteb.get_task(row.mteb).metadata
        assert metadata.type == row.task_type, row.name
        assert row.subset in ("default", *metadata.hf_subsets), row.name


def test_a_type_is_named_in_its_own_file_alone() -> None:
    """A new type is one file and one name in the package's `__init__`; tables and studies name theirs."""
    package = Path(tasks.__file__).parent
    names = [f'"{kind}"' for kind in TASK_TYPES] + [each.__name__ for each in TASK_DATA.values()]
    others = [path for path in package.parents[1].rglob("*.py") if package not in path.parents]
    assert len(others) > 100
    found = {path.name for path in others for name in names if name in path.read_text(encoding="utf-8")}
    allowed = {path.name for room in ("reproduce", "studies") for path in (package.parent / room).glob("*.py")}
    assert found - {"runner.py"} <= allowed  # the runner names retrieval alone, whose floor is BM25
