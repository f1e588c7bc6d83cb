"""Every target, on made-up sets with the fake backend: what it holds, what it leaves out, what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moee import MoEE
from moee.errors import InputError, MissingExtraError, UnknownNameError
from moee.evaluate.reproduce import targets
from moee.evaluate.reproduce.exhibit import Exhibit, Options
from moee.evaluate.reproduce.paper_scores import METHOD_NAMES, paper_score
from moee.evaluate.reproduce.run import NoDataError, Run, original_setting, right_setting
from moee.evaluate.reproduce.score_tables import ARTEFACT, FLOOR, ORIGINAL, RIGHT
from moee.evaluate.reproduce.targets import TARGETS, check_packages, select_targets
from moee.evaluate.reproduce.writer import write_exhibit
from moee.evaluate.study import Study

MakeRun = Callable[..., Run]


def rows_of(exhibit: Exhibit, **wanted: str) -> list[dict[str, Any]]:
    records = exhibit.tables[0].records()
    return [row for row in records if all(row[name] == value for name, value in wanted.items())]


def test_all_is_every_target_in_the_papers_order() -> None:
    assert [target.name for target in select_targets(["all"])] == list(TARGETS)
    assert [target.name for target in select_targets(["figure1", "table3", "table3"])] == ["table3", "figure1"]


def test_unknown_target_is_refused_with_close_matches() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'table8'"):
        select_targets(["tabel8"])


def test_packages_for_pictures_are_missed_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "find_spec", lambda name: None if name == "wordcloud" else object())
    check_packages(select_targets(["figure4", "table8"]))
    with pytest.raises(MissingExtraError, match="wordcloud"):
        check_packages(select_targets(["figure3"]))


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_is_made_and_written(name: str, run: Run, tmp_path: Path) -> None:
    exhibit = TARGETS[name].make(run)
    written = write_exhibit(exhibit, tmp_path, run={"model": "fake"})
    assert exhibit.name == name
    assert exhibit.notes
    assert all(table.rows for table in exhibit.tables)
    assert {f"{name}.{kind}" for kind in ("json", "csv", "md")} <= {path.name for path in written}
    assert bool(exhibit.pictures) == name.startswith("figure")
    for picture in (path for path in written if path.suffix in (".png", ".svg")):
        assert picture.stat().st_size > 5_000


def test_a_score_table_shows_both_ways_the_paper_and_the_floor(run: Run) -> None:
    exhibit = TARGETS["table8"].make(run)
    for method, name in METHOD_NAMES.items():
        original, right = (
            rows_of(exhibit, prompt="prompteol", method=name, computed=way)[0] for way in (ORIGINAL, RIGHT)
        )
        assert original["STS12"] == 100 * run.study.score("STS12", original_setting(method, "prompteol")).main
        assert right["STS12"] == 100 * run.study.score("STS12", right_setting(method, "prompteol")).main
        published = rows_of(exhibit, prompt="prompteol", method=name, computed="paper, OLMoE-1B-7B")[0]
        assert published["STS12"] == paper_score("STS12", "OLMoE-1B-7B", "prompteol", method)
        mean = (published["STS12"] + published["STS13"]) / 2
        assert published["Mean of the paper's tasks that were run"] == pytest.approx(mean)
    assert rows_of(exhibit, computed=FLOOR)[0]["STS12"] > 20  # texts of one topic share words
    assert any("STS14" in note and "no data" in note for note in exhibit.notes)


def test_without_prompt_the_original_quotes_the_text_and_we_do_not(run: Run) -> None:
    assert original_setting("hs", "none").prompt == "quoted"
    assert right_setting("hs", "none").prompt == "none"
    exhibit = TARGETS["table8"].make(run)
    quoted = rows_of(exhibit, prompt="none", method="HS", computed=ORIGINAL)[0]["STS12"]
    assert quoted == 100 * run.study.score("STS12", original_setting("hs", "none")).main


@pytest.mark.parametrize(
    ("name", "task"), [("table9", "EmotionClassification"), ("table11", "TwentyNewsgroupsClustering")]
)
def test_sums_of_labels_are_named_artefacts(name: str, task: str, run: Run) -> None:
    exhibit = TARGETS[name].make(run)
    row = rows_of(exhibit, prompt="prompteol", method="MoEE (sum)", computed=ARTEFACT)[0]
    one_vector = run.study.score(task, original_setting("sum", "prompteol")).main
    assert row[task] != pytest.approx(100 * one_vector, abs=1e-6)
    assert any("artefact" in note for note in exhibit.notes)
    assert not rows_of(exhibit, prompt="prompteol", method="MoEE (sum)", computed=ORIGINAL)


def test_stand_ins_are_marked_and_in_no_mean_beside_the_papers(run: Run) -> None:
    table12 = TARGETS["table12"].make(run)
    row = rows_of(table12, method="HS", computed=RIGHT, prompt="prompteol")[0]
    assert row["WikiQA (not in the paper)"] is not None
    assert row["Mean of the paper's tasks that were run"] is None
    table3 = TARGETS["table3"].make(run)
    row = rows_of(table3, method="HS", computed=RIGHT, prompt="prompteol")[0]
    assert row["Reranking"] is None
    assert row["Reranking, sets not in the paper"] is not None
    types = ("Classification", "Clustering", "PairClassification", "STS", "Summarization")
    assert row["Average"] == pytest.approx(np.mean([row[each] for each in types]))


def test_the_papers_means_are_given_over_the_same_tasks_too(run: Run) -> None:
    table4 = TARGETS["table4"].make(run)
    row = rows_of(table4, method="HS", computed="paper, OLMoE-1B-7B, same tasks")[0]
    assert row["STS"] == pytest.approx((65.51 + 81.86) / 2)
    assert rows_of(table4, method="SimCSE-BERT-sup")[0]["STS"] == 79.97


def test_items_are_kept_on_request_only(make_run: MakeRun, run: Run) -> None:
    assert not TARGETS["table8"].make(run).items
    kept = TARGETS["table8"].make(make_run(keep_items=True, prompts=("prompteol",), tasks=("STS13",))).items
    score = run.study.score("STS13", right_setting("sum", "prompteol"))
    stored = kept["STS13"][right_setting("sum", "prompteol").label()]
    assert stored["items"] == score.items.tolist()
    assert stored["main"] == score.main


def test_tasks_can_be_chosen(make_run: MakeRun) -> None:
    exhibit = TARGETS["table8"].make(make_run(tasks=("STS13",), prompts=("prompteol",)))
    row = rows_of(exhibit, method="HS", computed=RIGHT)[0]
    assert row["STS13"] is not None
    assert "STS12" not in row


def test_tasks_must_exist_and_have_data(make_run: MakeRun) -> None:
    with pytest.raises(UnknownNameError, match="STS12"):
        make_run(tasks=("STS112",))
    with pytest.raises(InputError, match="STS14"):
        make_run(tasks=("STS14",))


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_without_data_says_what_it_needs(name: str, embedder: MoEE, sets: Path, tmp_path: Path) -> None:
    (tmp_path / "Lee50").mkdir()
    (tmp_path / "Lee50" / "dataset.json").write_text('{"task_type": "DocumentSimilarity"}', encoding="utf-8")
    run = Run(Study(embedder, tmp_path, cache=tmp_path / "cache"), Options())
    with pytest.raises(NoDataError, match=rf"^{name} needs"):
        TARGETS[name].make(run)


def test_limits_are_used_and_stated(make_run: MakeRun) -> None:
    exhibit = TARGETS["figure4"].make(make_run(limit=20))
    assert exhibit.settings["pairs"] == 20
    assert "20 pairs" in exhibit.notes[0]


def test_the_ablation_agrees_with_table8_where_they_overlap(make_run: MakeRun) -> None:
    """Table 5's last-token rows are table 8's as the original code: two ways to the same numbers."""
    run = make_run(limit=60)
    records = {
        row["variant"]: row for row in TARGETS["table5"].make(run).tables[0].records() if row["computed"] == "this run"
    }
    for variant, fusion in (("hs last token, last layer", "hs"), ("rw last token", "rw"), ("moee best", "sum")):
        expected = 100 * run.original("STS12", fusion, "prompteol").main
        assert records[variant]["STS12"] == pytest.approx(expected, abs=0.05), variant


def test_the_heat_map_holds_nine_prompts_of_both_views(run: Run) -> None:
    means, matrix = TARGETS["figure4"].make(run).tables
    values = np.array([row[1:] for row in matrix.rows], dtype=np.float64)
    assert values.shape == (18, 18)
    np.testing.assert_allclose(values, values.T)
    np.testing.assert_array_equal(np.diag(values), 1.0)
    off = ~np.eye(9, dtype=bool)
    assert means.records()[0]["here"] == pytest.approx(values[:9, :9][off].mean())
    assert means.records()[0]["paper"] == 0.52


def test_figure5_scores_every_prompt(run: Run) -> None:
    spread, every = TARGETS["figure5"].make(run).tables
    of_hidden = [row["HS"] for row in every.records() if row["task"] == "STS12"]
    assert len(of_hidden) == 9
    first = spread.records()[0]
    assert (first["task"], first["method"]) == ("STS12", "HS")
    assert first["mean"] == pytest.approx(np.mean(of_hidden))
    assert first["standard deviation"] == pytest.approx(np.std(of_hidden, ddof=1))


def test_shares_of_figure2_add_up(run: Run) -> None:
    for row in TARGETS["figure2"].make(run).tables[0].records():
        shares = [row[name] for name in ("both right", "HS right, RW wrong", "RW right, HS wrong", "both wrong")]
        assert sum(shares) == pytest.approx(100)


def test_cases_are_pairs_of_the_set_that_one_view_gets_right(run: Run) -> None:
    texts = set(run.study.task("STS12").texts) | set(run.study.task("STS13").texts)
    records = TARGETS["cases"].make(run).tables[0].records()
    for row in records:
        right, wrong = ("HS", "RW") if row["right"] == "HS" else ("RW", "HS")
        assert row[f"{right} off by"] <= 0.1 < row[f"{wrong} off by"]
        assert {row["text 1"], row["text 2"]} <= texts


def test_table1_shows_what_chance_and_k_means_itself_give(run: Run) -> None:
    records = TARGETS["table1"].make(run).tables[0].records()
    of = {row["clusterings"]: row for row in records if row["computed"] == ORIGINAL}
    assert abs(of["HS and RW shuffled"]["AMI"]) < 0.3
    assert of["HS and HS, another seed"]["AMI"] > of["HS and RW shuffled"]["AMI"]
    assert records[-1]["AMI"] == 0.29
