"""The other commands, each in a process of its own."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from moee import MoEE
from moee.architectures import all_architectures
from moee.cli.doctor import TESTED
from moee.data import demo_queries, demo_sentences
from tests.cli.conftest import Run

ROOT = Path(__file__).resolve().parents[2]
FAKE = ("-m", "fake", "--calibration", "none")


# --- models --------------------------------------------------------------------------------------------------------


def test_models_lists_every_row(moee: Run) -> None:
    entries = json.loads(moee("models", "--json").stdout)
    names = [entry["model_type"] for entry in entries]
    assert names == sorted(names)
    assert Counter(names) == Counter(name for row in all_architectures() for name in (*row.model_types, *row.wrappers))
    unsupported = {name for row in all_architectures() if row.unsupported for name in row.model_types}
    assert {entry["model_type"] for entry in entries if entry["status"] == "unsupported"} == unsupported
    assert all(entry["reason"] for entry in entries if entry["status"] == "unsupported")


def test_models_as_text_has_one_line_a_model(moee: Run) -> None:
    shown = moee("models", "qwen")
    lines = shown.stdout.splitlines()
    assert lines[0].split()[:2] == ["model_type", "status"]
    assert all("qwen" in line.split()[0] for line in lines[1:])
    assert "qwen2_moe" in [line.split()[0] for line in lines]
    assert shown.stderr.startswith(f"{len(lines) - 1} of {len(lines) - 1} supported.")


# --- similarity ----------------------------------------------------------------------------------------------------


def test_similarity_prints_the_matrix_of_the_library(moee: Run) -> None:
    texts = ["a cat", "a kitten [bold]", "rates rose"]
    model = MoEE.from_pretrained("fake", calibration="none")
    expected = model.similarity(model.encode(texts), model.encode(texts))
    document = json.loads(moee("similarity", *texts, *FAKE, "--json").stdout)
    assert document["texts"] == texts
    assert np.abs(np.asarray(document["similarity"]) - expected).max() < 1e-6
    lines = moee("similarity", *texts, *FAKE).stdout.splitlines()
    assert lines[0].split() == ["1", "2", "3", "text"]
    assert lines[2].split() == ["2", *(f"{value:.3f}" for value in expected[1]), "a", "kitten", "[bold]"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["alone"], "Only 1 text was given; similarity needs two or more."),
        (["a", ""], "Text 1 is empty."),
        (["a", "b\udcff"], "text 2 of the command line holds half of a surrogate pair at character 1"),
    ],
)
def test_similarity_refuses_texts_it_cannot_compare(moee: Run, texts: list[str], message: str) -> None:
    done = moee("similarity", *texts, *FAKE)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


# --- calibrate -----------------------------------------------------------------------------------------------------


def test_a_calibrated_embedder_is_saved_and_used(moee: Run, tmp_path: Path) -> None:
    texts = [f"text number {number} about {'cats' if number % 2 else 'rates'}" for number in range(40)]
    (tmp_path / "corpus.txt").write_text("\n".join(texts) + "\n")
    folder = tmp_path / "embedder"
    done = moee("calibrate", "fake", "--texts", tmp_path / "corpus.txt", "--out", folder, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"output": str(folder), "model": "fake", "num_texts": 40}
    assert sorted(path.name for path in folder.iterdir()) == ["calibration.safetensors", "config.json"]

    output = tmp_path / "out.npy"
    assert moee("embed", tmp_path / "corpus.txt", "-m", folder, "-o", output).returncode == 0
    model = MoEE.from_pretrained("fake")
    model.calibrate(texts)
    # not bit by bit: arrays that were read lie in memory in another order than fitted ones, and so do their sums
    assert np.abs(np.load(output) - model.encode(texts)).max() < 1e-6
    # saving again replaces it
    again = moee("calibrate", "fake", "--texts", tmp_path / "corpus.txt", "--out", folder)
    assert (again.returncode, again.stdout) == (0, f"{folder}\n")


@pytest.mark.parametrize("arguments", [("calibrate", "fake"), ("carve", "dense")])
def test_folders_that_hold_something_else_are_spared(moee: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    done = moee(*arguments, "--out", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "holds other files" in done.stderr
    taken = moee(*arguments, "--out", tmp_path / "thesis.txt")
    assert taken.returncode == 1
    assert "there is a file of that name" in taken.stderr
    nowhere = moee(*arguments, "--out", "/proc/out")
    assert nowhere.returncode == 1
    assert "Cannot write '/proc/out'" in nowhere.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_one_text_is_too_few_to_calibrate(moee: Run, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("alone\n")
    done = moee("calibrate", "fake", "--texts", tmp_path / "corpus.txt", "--out", tmp_path / "out")
    assert done.returncode in (1, 2)
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert not (tmp_path / "out").exists()


# --- carve ---------------------------------------------------------------------------------------------------------


def test_carve_refuses_sizes_before_it_reads_anything(moee: Run, tmp_path: Path) -> None:
    done = moee("carve", "no-such-model", "--experts", "4", "--top-k", "5", "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert "top_k is 5; it must lie between 1 and num_experts (4)." in done.stderr


# --- doctor --------------------------------------------------------------------------------------------------------


def test_doctor_finds_this_installation_in_order(moee: Run, tmp_path: Path) -> None:
    (tmp_path / "calibration").mkdir()
    (tmp_path / "calibration" / "a.safetensors").write_bytes(b"x" * 2048)
    done = moee("doctor", "--json", MOEE_CACHE=str(tmp_path))
    findings = json.loads(done.stdout)
    assert done.returncode == 0, [entry for entry in findings if entry["level"] == "broken"]
    found = {entry["subject"]: entry for entry in findings}
    for name in ("torch", "transformers", "tokenizers", "safetensors", "numpy", "typer", "rich"):
        assert re.match(r"\d+\.\d+", found[name]["value"])
    assert found["cache/calibration"]["value"] == "2.0 KiB"
    assert " cores" in found["threads"]["value"]
    assert found["cpu bfloat16"]["level"] in ("ok", "note")


def test_doctor_fails_if_the_cache_cannot_be_written(moee: Run, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = moee("doctor", "--json", MOEE_CACHE=str(blocked))
    assert done.returncode == 1
    broken = [entry for entry in json.loads(done.stdout) if entry["level"] == "broken"]
    assert [entry["subject"] for entry in broken] == ["cache"]
    assert broken[0]["advice"] == "set MOEE_CACHE to a folder of yours"


def test_doctor_fails_on_a_version_outside_the_package_s_own_bounds(moee: Run, tmp_path: Path) -> None:
    """Metadata found first on the path stands for an installed old release."""
    folder = tmp_path / "transformers-5.18.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 5.18.0\n")
    done = moee("doctor", PYTHONPATH=f"{tmp_path}:{ROOT / 'src'}")
    assert done.returncode == 1
    line = next(line for line in done.stdout.splitlines() if line.startswith("broken"))
    assert line.split()[:3] == ["broken", "transformers", "5.18.0"]
    assert "moee needs transformers<6,>=5.19" in line


def test_doctor_warns_above_the_tested_versions(moee: Run, tmp_path: Path) -> None:
    folder = tmp_path / "torch-99.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 99.0\n")
    done = moee("doctor", "--json", PYTHONPATH=f"{tmp_path}:{ROOT / 'src'}")
    assert done.returncode == 0
    found = {entry["subject"]: entry for entry in json.loads(done.stdout)}
    assert found["torch"]["level"] == "warning"
    assert found["torch"]["advice"].startswith(f"tested up to {TESTED['torch']}")


def test_the_tested_versions_are_those_of_the_constraints() -> None:
    pinned = dict(re.findall(r"^([\w-]+)==(\d+\.\d+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert {name: pinned[name] for name in TESTED} == TESTED


# --- demo ----------------------------------------------------------------------------------------------------------


def test_demo_shows_every_view_side_by_side(moee: Run) -> None:
    """On the fake backend: the layout, not the meaning."""
    done = moee("demo", "-m", "fake", "--query", "Is it going to rain?", "--top", "2")
    assert done.returncode == 0, done.stderr
    assert "Nearest to: Is it going to rain?" in done.stdout
    assert "HS (hidden state)" in done.stdout
    assert "RW (routing weights)" in done.stdout
    assert "all views (default)" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110
    assert "What to try next" in done.stderr


def test_the_command_fetches_for_its_own_model_alone(moee: Run) -> None:
    done = moee("demo", "--fetch", "-m", "fake")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--fetch downloads the weights of the model 'demo', not of 'fake'" in done.stderr


def test_demo_as_json_agrees_with_the_library(moee: Run) -> None:
    done = moee("demo", "-m", "fake", "--json")
    report = json.loads(done.stdout)
    assert report["num_sentences"] == len(demo_sentences()) >= 60
    assert [entry["query"] for entry in report["queries"]] == [query.text for query in demo_queries()]
    model = MoEE.from_pretrained("fake")
    texts = [sentence.text for sentence in demo_sentences()]
    for fusion in ("hs", "rw", "weighted"):
        scores = model.similarity(
            model.encode([query.text for query in demo_queries()], fusion=fusion), model.encode(texts, fusion=fusion)
        )
        for entry, row in zip(report["queries"], scores, strict=True):
            shown = [neighbour["similarity"] for neighbour in entry["neighbours"][fusion]]
            assert np.abs(np.asarray(shown) - np.sort(row)[::-1][:3]).max() < 1e-3
            assert entry["neighbours"][fusion][0]["text"] == texts[int(row.argmax())]
