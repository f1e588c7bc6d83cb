"""Sentences about result files, derived from their numbers. For results_page.py.

No number and no conclusion is written by hand: a sentence is chosen by what was measured, and left out if it was not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import fmean, median
from typing import Any

from results_scores import FLOOR, Comparison, Key, Scores

from moee.evaluate.bootstrap import Interval
from moee.evaluate.controls import NEGLIGIBLE, points

Files = Mapping[str, dict[str, Any]]
"""Result files by name; `Any`: JSON."""

_SAME = 0.5
"""Points by which a sum with a copy of HS may differ from HS: rounding can move a text to another cluster."""


_FINE = "Worthless RW gains nothing, as it must be."
_NOT_FINE = "Worthless RW must gain nothing: a difference of this size is luck at best, and no gain below it counts."


def sentences(full: Scores | None, sample: Scores | None, files: Files) -> list[str]:
    """Return what the files say, as items of a Markdown list.

    Args:
        full: Content of `demo.json`, if it is there.
        sample: Content of `demo-paper.json`, if it is there.
        files: All files, for those of `moee reproduce`.
    """
    lines: list[str] = []
    if full is not None:
        for about in (_calibration, _fusion, _random, _oracle, _defects, _floor, _alphas, _clusters):
            lines += about(full)
    if sample is not None:
        lines += _recipes(sample)
    for name, of_target in _OF_TARGETS.items():
        if name in files:
            lines += of_target(files[name])
    return [f"- {line}" for line in lines]


def against(found: Comparison, *, higher: str = "higher", lower: str = "lower") -> str:
    """Return a comparison in words: counts and the mean over tasks."""
    equal = len(found) - found.higher - found.lower
    level = f", level on {equal}" if equal else ""
    return (
        f"{higher} on {found.higher} of {_count(len(found), 'task')}, {lower} on {found.lower}{level}; "
        f"{found.mean:+.2f} points on average"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _key(statistics: str, vector: str) -> Key:
    return Key("default", statistics, vector)


def _calibration(scores: Scores) -> list[str]:
    lines = []
    for statistics, texts in (("builtin", "general sentences"), ("corpus", "the task's own texts")):
        parts = [
            f"`{vector}` {found.mean:+.2f} (higher on {found.higher} of {len(found)})"
            for vector in ("hs", "rw", "sum")
            if (found := scores.compare(_key(statistics, vector), _key("none", vector))) is not None
        ]
        if parts:
            lines.append(
                f"**Calibration** with statistics of {texts} (`{statistics}`) against none, points on average over "
                f"tasks: {', '.join(parts)}."
            )
    return lines


def _fusion(scores: Scores) -> list[str]:
    lines = []
    for statistics in scores.statistics("default"):
        found = scores.compare(_key(statistics, "sum"), _key(statistics, "hs"))
        if found is None:
            continue
        gains = [
            row["gain_over_hs"]
            for name, row in scores.rows(_key(statistics, "sum")).items()
            if name in found.differences and "gain_over_hs" in row
        ]
        least = 100 * NEGLIGIBLE
        above, below = sum(low > least for _, low, _ in gains), sum(high < -least for _, _, high in gains)
        line = f"**`sum` against `hs`**, statistics `{statistics}`: {against(found, higher='above', lower='below')}."
        line += f" The interval lies above zero on {above} of {_count(len(gains), 'task')} and below zero on {below}."
        if (verdict := scores.verdict(statistics)) is not None:
            line += f" Over all tasks: {_conclusion(verdict['sum_minus_hs'], 'RW adds', 'RW takes away')}."
        lines.append(line)
    return lines


def _conclusion(record: Mapping[str, Any], better: str, worse: str) -> str:
    """Return an interval and what it shows, by the rule of the verdicts."""
    interval = Interval(**record)
    reading = "no difference that this sample can show"
    if interval.low > NEGLIGIBLE:
        reading = better
    elif interval.high < -NEGLIGIBLE:
        reading = worse
    return f"{points(interval)}, {reading}"


def _random(scores: Scores) -> list[str]:
    lines = []
    for statistics in scores.statistics("default"):
        alone = scores.compare(_key(statistics, "rw"), _key(statistics, "random"))
        if alone is None:
            continue
        line = (
            f"**RW alone against random projections alone**, statistics `{statistics}`: {against(alone)}: "
            f"{_reading(alone)}."
        )
        verdict = scores.verdict(statistics)
        if verdict is not None and verdict["sum_minus_random_sum"] is not None:
            words = ("the routing is better", "the random projections are better")
            line += (
                f" `sum` minus the sum with random projections: {_conclusion(verdict['sum_minus_random_sum'], *words)}."
            )
        lines.append(line)
    return lines


def _reading(alone: Comparison) -> str:
    """Say what RW alone is worth; a claim needs the mean and two tasks of three on its side."""
    if alone.mean > 0 and alone.higher >= 2 * len(alone) / 3:
        return "the routers' choices keep more than a random view of the same width and the same inputs"
    if alone.mean < 0 and alone.lower >= 2 * len(alone) / 3:
        return "a random view of the same width and the same inputs keeps more than the routers' choices"
    return "nothing shows that the routers' choices matter beyond their width and their inputs"


def _oracle(scores: Scores) -> list[str]:
    parts = []
    for statistics in scores.statistics("default"):
        best = _key(statistics, "oracle")
        if (found := scores.compare(best, _key(statistics, "hs"))) is not None:
            zero = sum(scores.rows(best)[name]["alpha"] == 0 for name in found.differences)
            parts.append(f"{found.mean:+.2f} with `{statistics}` (alpha 0, which is `hs`, on {zero} of {len(found)})")
    if not parts:
        return []
    return [
        "**The best alpha that the labels could choose**, an upper bound and no result: `sum` minus `hs` on average "
        f"over tasks {', '.join(parts)}."
    ]


def _defects(scores: Scores) -> list[str]:
    parts, is_fine = [], True
    for statistics in scores.statistics("default"):
        shuffled = scores.compare(_key(statistics, "sum-shuffled"), _key(statistics, "hs"))
        copied = scores.compare(_key(statistics, "sum-hidden"), _key(statistics, "hs"))
        if shuffled is not None and copied is not None:
            is_fine &= shuffled.mean <= 0 and copied.largest <= _SAME
            parts.append(f"{shuffled.mean:+.2f} and at most {copied.largest:.2f} with `{statistics}`")
    if not parts:
        return []
    return [
        "**Planted defects**, `sum` minus `hs`: on average over tasks with another text's RW, and on any task with a "
        f"copy of HS in place of RW, {', '.join(parts)}. {_FINE if is_fine else _NOT_FINE}"
    ]


def _floor(scores: Scores) -> list[str]:
    parts = [
        f"`{vector}` with `{statistics}` {against(found, higher='above', lower='below')}"
        for vector in ("hs", "sum")
        for statistics in scores.statistics("default")
        if (found := scores.compare(_key(statistics, vector), FLOOR)) is not None
    ]
    return [f"**Against TF-IDF**: {'. '.join(parts)}."] if parts else []


def _alphas(scores: Scores) -> list[str]:
    parts = []
    for statistics in scores.statistics("default"):
        alphas = [row["alpha"] for row in scores.rows(_key(statistics, "sum")).values()]
        if statistics != "none" and alphas:  # without statistics alpha is 1
            low, middle, high = (f"{each:.3f}" for each in (min(alphas), median(alphas), max(alphas)))
            parts.append(f"{low} with `{statistics}`" if low == high else f"{low} to {high} with `{statistics}`")
            parts[-1] += "" if low == high else f" (median {middle})"
    return [f"**Alpha in closed form**, over tasks: {', '.join(parts)}."] if parts else []


def _clusters(scores: Scores) -> list[str]:
    lines = []
    for task in scores.tasks:
        rows = {
            f"`{vector}` with `{statistics}`": row
            for statistics in scores.statistics("default")
            for vector in ("hs", "rw", "sum")
            if task.task_type == "Clustering" and (row := scores.rows(_key(statistics, vector)).get(task.name))
        }
        if rows:
            best = {name: max(rows, key=lambda each: rows[each]["metrics"][name]) for name in ("v_measure", "ami")}
            surplus = max(row["metrics"]["v_measure"] - row["metrics"]["ami"] for row in rows.values())
            same = "also by AMI" if best["v_measure"] == best["ami"] else f"by AMI it is {best['ami']}"
            lines.append(
                f"**Clustering** of {task.name}: V-measure stands up to {surplus:.1f} points above AMI, which is "
                f"corrected for chance. The best of `hs`, `rw` and `sum` by V-measure is {best['v_measure']}; {same}."
            )
    return lines


def _recipes(sample: Scores) -> list[str]:
    lines = []
    batch = sample.compare(Key("paper", "batch", "sum"), Key("paper", "batch", "hs"))
    fair = sample.compare(_key("corpus", "sum"), _key("corpus", "hs"))
    if batch is not None:
        line = (
            f"**`sum` against `hs` in the `paper` recipe**{sample.samples}: "
            f"{against(batch, higher='above', lower='below')}. That recipe standardises the sum and leaves `hs` as it "
            "is, so this holds what standardising gives."
        )
        if fair is not None:
            line += f" With the same statistics for both (`default`, `corpus`): {fair.mean:+.2f}."
        lines.append(line)
    parts = [
        f"`{vector}` {against(found)}"
        for vector in ("hs", "rw", "concat", "sum")
        if (found := sample.compare(_key("corpus", vector), Key("paper", "batch", vector))) is not None
    ]
    if parts:
        lines.append(
            f"**The `default` recipe with `corpus` against the `paper` recipe**{sample.samples}: {'. '.join(parts)}."
        )
    return lines


def _records(document: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = document["tables"][0]["rows"]
    return rows


def _table1(document: dict[str, Any]) -> list[str]:
    lines = []
    rows = _records(document)
    for task, computed in dict.fromkeys((row["task"], row["computed"]) for row in rows if row["task"] != "paper"):
        ami = {row["clusterings"]: row["AMI"] for row in rows if (row["task"], row["computed"]) == (task, computed)}
        again = " and ".join(f"{ami[f'{view} and {view}, another seed']:.2f} ({view})" for view in ("HS", "RW"))
        lines.append(
            f"**Clusters of HS and of RW** ({task}, {computed}): AMI {ami['HS and RW']:.2f}; the same view clustered "
            f"again {again}; chance {ami['HS and RW shuffled']:.2f}."
        )
    return lines


def _table5(document: dict[str, Any]) -> list[str]:
    mean = document["tables"][0]["columns"][-1]
    ours = {row["variant"]: row[mean] for row in _records(document) if row["computed"] == "this run"}
    if not ours:
        return []
    best = max(ours, key=lambda variant: ours[variant])
    return [
        f"**Tokens and layers** (table 5, samples): the best of {len(ours)} variants is `{best}` with {ours[best]:.1f} "
        f"points; `hs last token, last layer` has {ours['hs last token, last layer']:.1f}, `rw last token` "
        f"{ours['rw last token']:.1f}."
    ]


def _figure4(document: dict[str, Any]) -> list[str]:
    here = {row["similarities of"]: row["here"] for row in _records(document)}
    paper = {row["similarities of"]: row["paper"] for row in _records(document)}
    hs, rw = here["HS with HS"], here["RW with RW"]
    which = "RW agrees more than HS" if rw > hs else "RW agrees no more than HS"
    return [
        f"**Agreement between prompts** (figure 4, samples): Spearman {hs:.2f} for HS and {rw:.2f} for RW, in the "
        f"paper {paper['HS with HS']:.2f} and {paper['RW with RW']:.2f}. Here {which}."
    ]


def _figure5(document: dict[str, Any]) -> list[str]:
    by_method: dict[str, dict[str, dict[str, Any]]] = {}
    for row in _records(document):
        by_method.setdefault(row["method"], {})[row["task"]] = row
    spread = {method: fmean(row["standard deviation"] for row in tasks.values()) for method, tasks in by_method.items()}
    listed = ", ".join(f"{method} {value:.1f}" for method, value in spread.items())
    summed, hs = by_method["MoEE (sum)"], by_method["HS"]
    better = sum(summed[task]["mean"] > hs[task]["mean"] for task in hs)
    return [
        f"**Spread over nine prompts** (figure 5, samples): standard deviation in points, mean of "
        f"{_count(len(hs), 'task')}: {listed}. The mean of MoEE (sum) is above that of HS on {better} of {len(hs)}."
    ]


_OF_TARGETS: Mapping[str, Callable[[dict[str, Any]], list[str]]] = {
    "table1": _table1,
    "table5": _table5,
    "figure4": _figure4,
    "figure5": _figure5,
}
