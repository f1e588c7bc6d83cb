"""The server keeps to its own schema, whatever is sent."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from moee import MoEE
from moee.index.fit import BuildOptions
from moee.index.map_file import CorpusMap, MapOrigin, Topic
from moee.index.searcher import Searcher
from tests.serve.conftest import CHECKPOINT, Running, serving
from tests.serve.sensible_bodies import DIMENSIONS
from tests.serve.test_search import build

ROOT = Path(__file__).parents[2]
KEY = "sk-schema"
HEADERS = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    embedder = MoEE.from_pretrained(CHECKPOINT, dtype="float32", calibration="none")
    folder = build(tmp_path_factory.mktemp("index"), embedder, BuildOptions(dims=DIMENSIONS, calibrate="none"))
    origin = MapOrigin(200, "", {"hs": 1.0, "rw": 0.5}, 0)
    points = np.zeros(1, dtype=np.float32)
    CorpusMap(["t0"], ["a"], points, points, np.array([0]), (Topic(0, "a", 0.0, 0.0, 1),), origin).save(folder)
    with (
        Searcher.open(folder, model=embedder) as searcher,
        serving(searcher.embedder, searcher, api_key=KEY, served_model_name="tiny") as running,
    ):
        yield running


@pytest.mark.slow
def test_schemathesis_finds_nothing(server: Running, tmp_path: Path) -> None:
    """All its checks, over all phases: examples, boundary values, and what it makes up."""
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("schemathesis"), "run", f"{server.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {KEY}"),
            *("--checks", "all", "--max-examples", "200", "--seed", "7", "--request-timeout", "30"),
            *("--suppress-health-check", "all", "--continue-on-failure", "--no-color"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.serve.sensible_bodies", "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=540,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"\d{3,} generated, \d{3,} passed", done.stdout), done.stdout[-2000:]
    assert server.client.get("/health").status_code == 200


def test_the_committed_schema_is_that_of_the_server(server: Running) -> None:
    committed = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    assert server.client.get("/openapi.json", headers=HEADERS).json() == committed


def test_the_check_of_the_committed_schema_passes_and_can_fail(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "openapi.py"
    assert subprocess.run([sys.executable, script, "--check"], check=False, timeout=120).returncode == 0
    copy = tmp_path / "scripts" / "openapi.py"
    copy.parent.mkdir()
    (tmp_path / "docs").mkdir()
    copy.write_text(script.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "docs" / "openapi.json").write_text("{}\n", encoding="utf-8")
    done = subprocess.run([sys.executable, copy, "--check"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "docs/openapi.json is out of date. Run: make docs" in done.stderr


def test_every_route_declares_its_errors_and_its_key(server: Running) -> None:
    paths = server.client.get("/openapi.json", headers=HEADERS).json()["paths"]
    ours = {
        "/v1/embeddings",
        "/v1/models",
        "/embed",
        "/similarity",
        "/v1/rerank",
        "/rerank",
        "/info",
        "/search",
        "/explain",
        "/map",
    }
    assert ours <= set(paths)
    for path, methods in paths.items():
        for described in methods.values():
            assert {"500", "503", "504"} <= set(described["responses"])
            assert ("security" in described) == (path not in ("/health", "/ping", "/metrics"))
