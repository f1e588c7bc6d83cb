"""The performance page: what the result files hold, and nothing else."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rivals import RIVALS
from rivals.scaling import QUANTITIES

from moee.bench.run import Options, run
from tests.bench.conftest import TinySetup

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        yield importlib.import_module("performance_page")
    sys.modules.pop("performance_page")


@pytest.fixture(scope="module")
def measured() -> str:
    setup = TinySetup(model="olmoe", layers=1, dtype="float32", device="cpu", threads=1)
    peers = ("moee", "transformers", "sentence-transformers-dense")
    options = Options(entries=peers, texts=3, repeats=1, processes="shared")
    return json.dumps(run(setup, options, RIVALS))


@pytest.fixture
def speed(measured: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(measured)
    return found


def law(speed: dict[str, Any]) -> dict[str, Any]:
    """A document whose numbers are made up, in the form that `run_scaling` writes."""
    points = [
        {"x": x, "tokens": 10 * x, "seconds": [0.1 * x, 0.3 * x], "median": 0.2 * x, "spread": 1.0} for x in (1, 2, 5)
    ]
    line = {"slope": 0.2, "intercept": 0.0123, "r2": 0.98765, "least_over_most": 0.2}
    laws = {
        name: {"title": each.title, "axis": each.axis, "says": each.says, "model": "demo", "layers": None}
        | {"dtype": "float32", "points": points, "line": line}
        for name, each in QUANTITIES.items()
    }
    return {"kind": "law", "written": speed["written"], "machine": speed["machine"], "rounds": 2, "laws": laws}


def render(script: ModuleType, files: dict[str, Any], figures: Path) -> str:
    """Return all generated parts as one text."""
    return "\n".join(line for lines in script.blocks(files, figures).values() for line in lines)


def test_every_number_is_that_of_the_file(speed: dict[str, Any], script: ModuleType, tmp_path: Path) -> None:
    ours, peer = speed["contestants"]
    ours |= {"texts_per_second": 123.4, "tokens_per_second": 5678.0, "peak_bytes": 3 << 30}
    ours["percent_of_peak"]["median"], ours["percent_of_peak_useful"]["median"] = 81.2, 104.9
    ours["seconds"]["spread"] = peer["seconds"]["spread"] = 0.04
    ours["binds"] = "memory"
    peer["texts_per_second"] = 61.7
    page = render(script, {"olmoe-short": speed}, tmp_path)
    assert "| moee | HS + RW | 123.4 | 5678 | 4 | 81 | 105 | memory | 3.00 |" in page
    assert "OLMoE-1B-7B-0924, 2 of 16 layers" in page
    assert "choose almost uniformly" in page
    assert "- sentence-transformers-dense did not run: only the demo was carved" in page
    quoted = script.measures({"olmoe-short": speed})
    assert quoted["times"]("olmoe-short", "moee", "transformers") == {"speed": pytest.approx(2.0)}
    assert quoted["entry"]("olmoe-short", "moee") == {"peak": 81.2, "spread": pytest.approx(4.0)}
    assert quoted["model"]("olmoe-short") == {"layers": 2, "published": 16}
    assert quoted["value"]("olmoe-short", "workload/texts") == {"value": 3}


def test_laws_have_their_lines_and_points(speed: dict[str, Any], script: ModuleType, tmp_path: Path) -> None:
    page = render(script, {"law": law(speed)}, tmp_path)
    assert page.count("12 ms + 200 ms x ") == 3
    assert page.count("| 0.9877 | 5.00 |") == 3
    assert page.count("| 5 | 50 | 1.00 | 100 |") == 3
    assert "![" not in page
    (tmp_path / "law.png").touch()
    assert render(script, {"law": law(speed)}, tmp_path).count("](figures/law.png)") == 1


def test_a_sweep_is_shown_beside_the_model_in_memory(speed: dict[str, Any], script: ModuleType, tmp_path: Path) -> None:
    result = {"texts": 66, "tokens": 1509, "seconds": 3.0, "tokens_per_second": 503.0, "peak_bytes": 1 << 30}
    document = {
        "options": {"layers": 16, "memory": "4GiB"},
        "machine": speed["machine"],
        "starts_uncached": True,
        "results": {"sweep": result | {"disk_bytes": 13 << 30}, "accelerate": result | {"disk_bytes": None}},
        "left_out": {"memory": "it does not fit"},
        "ratios": {"accelerate": 21.5},
        "largest_difference": 1.5e-06,
    }
    (tmp_path / "sweep.json").write_text(json.dumps(document), encoding="utf-8")
    page = render(script, script.load(tmp_path), tmp_path)
    assert "(layers 16, memory 4GiB), each entry with nothing of the files in the system's cache." in page
    assert "| sweep | 66 | 1509 | 503.0 | 3 | 1.00 | 13.00 |" in page
    assert "| accelerate | 66 | 1509 | 503.0 | 3 | 1.00 | unknown |" in page
    assert "- memory was left out: it does not fit." in page
    assert "- `sweep.json` is not there" not in page


def test_what_was_not_measured_is_named(speed: dict[str, Any], script: ModuleType, tmp_path: Path) -> None:
    page = render(script, {"olmoe-short": speed}, tmp_path)
    assert "- `law.json` is not there" in page
    assert "- `olmoe-short.json` is not there" not in page
    assert "No accelerator" in page
    assert "All layers of OLMoE-1B-7B-0924" in page
    speed["machine"]["accelerator"] = "An accelerator"
    speed["model"]["layers"] = 16
    page = render(script, {"olmoe-short": speed}, tmp_path)
    assert "No accelerator" not in page
    assert "All layers of Qwen1.5-MoE-A2.7B, DeepSeekMoE-16B" in page


def test_rows_of_a_table_have_as_many_cells(speed: dict[str, Any], script: ModuleType, tmp_path: Path) -> None:
    page = render(script, {"olmoe-short": speed, "law": law(speed)}, tmp_path)
    blocks = re.findall(r"(?:^\|.*\|\n?)+", page, re.MULTILINE)
    assert len(blocks) == 6
    for block in blocks:
        assert len({line.count("|") for line in block.strip().splitlines()}) == 1


def test_files_come_in_the_order_of_the_page(speed: dict[str, Any], script: ModuleType, tmp_path: Path) -> None:
    for name in ("law", "another", "olmoe-single", "demo-short"):
        document = law(speed) if name == "law" else speed
        (tmp_path / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    assert list(script.load(tmp_path)) == ["demo-short", "olmoe-single", "law", "another"]
    (tmp_path / "odd.json").write_text('{"kind": "odd"}', encoding="utf-8")
    with pytest.raises(SystemExit, match=r"odd\.json is of kind 'odd'"):
        script.load(tmp_path)


def test_the_committed_page_is_what_the_committed_files_give(script: ModuleType) -> None:
    assert script.main(["--check"]) == 0
