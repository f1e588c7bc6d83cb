"""The heat map: what is drawn where, at every size, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from moee import MoEE
from moee.errors import InputError, OutputError
from moee.plots.figure_file import drawable
from moee.plots.heatmap import HeatMap, draw_heatmap, write_heatmap

PNG = b"\x89PNG\r\n\x1a\n"


def heatmap(*widths: int, scale: float = 1.0, texts: tuple[str, str] = ("one", "two")) -> HeatMap:
    rng = np.random.default_rng(0)
    parts = [scale * rng.standard_normal(width) for width in widths]
    return HeatMap(texts, "similarity 0.5", range(3, 3 + len(widths)), parts, [(3, widths[0] - 1), (3, 0)])


def drawn(which: HeatMap) -> tuple[np.ma.MaskedArray, tuple[float, float], str]:
    """Return the cells, the ends of the scale and the scale's label, as matplotlib has them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    draw_heatmap(figure, which)
    image = figure.axes[0].images[0]
    array = image.get_array()
    assert array is not None
    return array, image.get_clim(), figure.axes[2].get_xlabel()


@pytest.mark.parametrize("widths", [(8, 8), (4, 8, 2, 8), (1,), (256,) * 60, (2, 512)])
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_every_shape_of_model_is_drawn(widths: tuple[int, ...], suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"parts{suffix}"
    write_heatmap(heatmap(*widths), path)
    content = path.read_bytes()
    assert content.startswith(PNG) if suffix == ".png" else b"</svg>" in content[-20:]
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_cells_are_the_parts_and_the_scale_is_centred_on_zero() -> None:
    which = heatmap(4, 8, 2)
    cells, (low, high), _ = drawn(which)
    assert cells.shape == (3, 8)
    assert low == -high
    for row, part in zip(cells, which.parts, strict=True):
        np.testing.assert_array_equal(row[: len(part)], part)
        assert np.ma.getmaskarray(row)[len(part) :].all()


def test_small_parts_are_written_in_a_unit_that_the_label_names() -> None:
    which = heatmap(4, 4, scale=1e-5)
    cells, _, label = drawn(which)
    power = re.search(r"× 10⁻([⁴-⁶])", label)
    assert power is not None
    factor = {"⁴": 1e4, "⁵": 1e5, "⁶": 1e6}[power[1]]
    np.testing.assert_allclose(cells[0], which.parts[0] * factor)


def test_one_expert_far_beyond_all_others_does_not_set_the_scale() -> None:
    which = heatmap(64, 64, 64, 64)
    which.parts[0][5] = 1000.0
    _, (_, high), _ = drawn(which)
    assert high < 10


def test_the_picture_names_the_texts_the_sums_and_the_axes(tmp_path: Path) -> None:
    path = tmp_path / "parts.svg"
    model = MoEE.from_pretrained("fake", calibration="none", fusion="sum", alpha=1)
    found = model.explain("a price of $5 or $6 for\na <b>cat</b> " + "and so on " * 40, "rates rose")
    found.heatmap(path)
    content = path.read_text(encoding="utf-8")
    for said in (
        "A: a price of $5 or $6 for a &lt;b&gt;cat&lt;/b&gt; and so on",
        "…",
        "B: rates rose",
        ">layer<",
        ">expert<",
    ):
        assert said in content
    assert f"similarity {found.similarity:.3f}" in content
    assert "(alpha 1)" in content


def test_the_same_numbers_give_the_same_svg(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        write_heatmap(heatmap(4, 8), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_what_no_font_can_draw_is_a_box_and_is_named(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """A private-use character: no font has it. Warnings are errors here, so matplotlib did not meet it."""
    write_heatmap(heatmap(4, texts=("a \U0010fffd b", "two")), tmp_path / "parts.png")
    assert "No installed font draws \U0010fffd" in caplog.text
    assert drawable("a\tb  c\n\U0010fffd", 20) == "a b c □"
    assert drawable("abcdef", 4) == "abc…"


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in .png or .svg"):
        write_heatmap(heatmap(4), tmp_path / "parts.pdf")
    with pytest.raises(OutputError, match="Cannot write"):
        write_heatmap(heatmap(4), tmp_path / "missing" / "parts.png")
    model = MoEE.from_pretrained("fake", calibration="none")
    with pytest.raises(InputError, match="no expert has a part in this similarity"):
        model.explain("a", "b", fusion="hs").heatmap(tmp_path / "parts.png")
    assert list(tmp_path.iterdir()) == []
