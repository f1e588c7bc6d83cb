"""`moee similarity --explain`, each in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moee import MoEE
from tests.cli.conftest import Run

FAKE = ("-m", "fake", "--calibration", "none")
WEIGHTS = "hs=1,rw=0.2,lexical=0.5"
PAIR = ("a cat [bold]", "rates rose")


def test_explain_gives_the_parts_of_the_library(moee: Run) -> None:
    expected = MoEE.from_pretrained("fake", calibration="none").explain(*PAIR)
    document = json.loads(moee("similarity", *PAIR, *FAKE, "--explain", "--json").stdout)
    assert document == json.loads(json.dumps(expected.to_dict()))
    matrix = json.loads(moee("similarity", *PAIR, *FAKE, "--json").stdout)["similarity"]
    assert document["similarity"] == pytest.approx(matrix[0][1], abs=1e-6)


def test_weights_are_those_of_the_library(moee: Run) -> None:
    pair = ("baking bread in old ovens", "she bakes fresh breads")
    expected = MoEE.from_pretrained("fake", calibration="none").explain(
        *pair, weights={"hs": 1, "rw": 0.2, "lexical": 0.5}
    )
    found = json.loads(moee("similarity", *pair, *FAKE, "--weights", WEIGHTS, "--explain", "--json").stdout)
    assert found == json.loads(json.dumps(expected.to_dict()))
    matrix = json.loads(moee("similarity", *pair, *FAKE, "--weights", WEIGHTS, "--json").stdout)
    assert matrix["similarity"][0][1] == pytest.approx(expected.similarity, abs=1e-6)
    for view, cosine in expected.cosines.items():
        assert matrix["cosines"][view][1][0] == pytest.approx(cosine, abs=1e-6)


def test_explain_prints_views_and_shared_words(moee: Run) -> None:
    pair = ("baking bread in old ovens", "she bakes fresh breads")
    printed = moee("similarity", *pair, *FAKE, "--weights", WEIGHTS, "--explain", "--top", "1").stdout
    expected = MoEE.from_pretrained("fake", calibration="none").explain(
        *pair, weights={"hs": 1, "rw": 0.2, "lexical": 0.5}
    )
    views, words = (block.splitlines() for block in printed.split("\n\n")[:2])
    assert [line.split()[-3:] for line in views[1:-1]] == [
        [f"{weight:.3f}", f"{expected.cosines[view]:.3f}", f"{expected.view_parts[view]:.4f}"]
        for view, weight in expected.weights.items()
    ]
    assert views[-1].split() == ["similarity", f"{expected.similarity:.4f}"]
    assert words[2].split() == ["baking", "/", "bakes", f"{expected.words[0].part:.5f}"]
    assert "(1 further words)" in words[3]
    shown = sum(float(line.split()[-1]) for line in words[2:])
    assert shown == pytest.approx(expected.view_parts["lexical"], abs=2e-5)
    nothing = moee("similarity", "one", "two", *FAKE, "--weights", WEIGHTS, "--explain").stdout
    assert "(no word in common)" in nothing


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--weights", "hs=1,lexica=1"), "Unknown view 'lexica'. Choose from: hs, lexical, rw, tokens. Did you mean"),
        (("--weights", "hs"), "The weights are 'hs'; each view must be named once with a number"),
        (("--weights", "hs=0"), "must count more than 0"),
        (("--weights", "hs=nan"), "The weight of the view 'hs' is nan"),
        (("--weights", "hs=1", "--alpha", "1"), "alpha and weights are both given"),
        (("--weights", "hs=1", "--fusion", "sum"), "fusion='sum' takes no weights"),
    ],
)
@pytest.mark.parametrize("called", [("similarity", "a", "b"), ("embed", "-")])
def test_weights_that_cannot_count_are_refused(
    moee: Run, called: tuple[str, ...], options: tuple[str, ...], message: str
) -> None:
    done = moee(*called, *FAKE, *options, stdin="a\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_explain_prints_views_layers_and_experts(moee: Run) -> None:
    expected = MoEE.from_pretrained("fake", calibration="none").explain(*PAIR, fusion="sum")
    printed = moee("similarity", *PAIR, *FAKE, "--fusion", "sum", "--explain", "--top", "3").stdout
    blocks = [block.splitlines() for block in printed.split("\n\n")]
    views, layers, pair, first, second = blocks
    assert views[1].split()[-2:] == [f"{expected.hidden_cosine:.3f}", f"{expected.hidden:.4f}"]
    assert views[2].split()[-2:] == [f"{expected.routing_cosine:.3f}", f"{expected.routing:.4f}"]
    assert views[3].split() == ["similarity", f"{expected.similarity:.4f}"]
    assert [line.split() for line in layers[2:]] == [
        [str(layer), f"{part:.5f}"] for layer, part in zip(expected.layer_ids, expected.layer_parts, strict=True)
    ]
    top = expected.top_experts(3)
    assert [line.split()[:3] for line in pair[2:]] == [[str(e.layer), str(e.expert), f"{e.part:.5f}"] for e in top]
    for block, side in ((first, expected.top_experts_of("a", 3)), (second, expected.top_experts_of("b", 3))):
        assert [line.split() for line in block[2:]] == [
            [str(each.layer), str(each.expert), f"{each.weight:.5f}", "-"] for each in side
        ]


def test_as_query_gives_each_text_its_own_prompt(moee: Run, tmp_path: Path) -> None:
    prompts = {"query_prompt": "Query: {text}", "document_prompt": "Text: {text}"}
    model = MoEE.from_pretrained("fake", calibration="none", **prompts)
    model.save(tmp_path / "asked")
    found = json.loads(moee("similarity", *PAIR, "-m", tmp_path / "asked", "--explain", "--as-query", "--json").stdout)
    assert found == json.loads(json.dumps(model.explain(*PAIR, as_query=True).to_dict()))
    product = float(model.encode_query(PAIR[0]) @ model.encode_document(PAIR[1]))
    assert found["similarity"] == pytest.approx(product, abs=1e-6)
    assert found["similarity"] != pytest.approx(model.explain(*PAIR).similarity, abs=1e-3)


def test_without_routing_there_is_only_the_table_of_views(moee: Run) -> None:
    lines = moee("similarity", *PAIR, *FAKE, "--explain", "--fusion", "hs").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["view", "hidden", "similarity"]


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plot_draws_the_heat_map(moee: Run, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"parts.{suffix}"
    done = moee("similarity", *PAIR, *FAKE, "--explain", "--plot", path, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["texts"] == list(PAIR)
    assert f"Heat map: {path}" in done.stderr
    assert path.read_bytes()[:4] in (b"\x89PNG", b"<?xm")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "b", "c", "--explain"), "3 texts were given; --explain takes exactly two."),
        (("a", "--explain"), "Only 1 text was given"),
        (("a", "b", "--plot", "x.png"), "--plot x.png draws an explanation. Give --explain too."),
        (("a", "b", "--as-query"), "--as-query says how two texts are explained. Give --explain too."),
        (("a", "b", "--explain", "--plot", "x.pdf"), "its name must end in .png or .svg"),
        (("a", "b", "--explain", "--top", "0"), "--top is 0; it must be 1 or larger."),
        (("a", "b", "--explain", "--calibration", "batch"), "any two texts come out as opposites"),
    ],
)
def test_explain_refuses_what_it_cannot_do(moee: Run, arguments: tuple[str, ...], message: str) -> None:
    done = moee("similarity", "-m", "fake", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_plot_that_cannot_be_written_is_reported_before_the_model_is_loaded(moee: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = moee("similarity", *PAIR, "-m", "no-such-model", "--explain", "--plot", tmp_path / "file" / "x.png")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Cannot write" in done.stderr
