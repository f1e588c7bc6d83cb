"""The pictures of the docs, taken from the real page with the embedded default model."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.screenshots import NAMES, make_index, take
from tests.browser.server import Server

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.slow

FIGURES = Path(__file__).parents[2] / "docs" / "figures"
MOST_BYTES = 300_000
FEW = 200  # general sentences beside those of the demo: enough for a map, and soon embedded


def size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG file."""
    with path.open("rb") as file:
        head = file.read(24)
    assert head.startswith(b"\x89PNG"), path
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def test_pictures_are_taken_from_the_page_with_the_demo(
    browser: Chrome, tmp_path: Path, environment: dict[str, str]
) -> None:
    index = make_index(tmp_path, environment, num_general=FEW)
    server = Server("--index", index, environment=environment, log=tmp_path / "log").start()
    try:
        taken = take(browser, server.url, tmp_path / "figures")
    finally:
        server.stop()
    for path in taken:
        assert path.stat().st_size > 20_000, f"{path.name} shows next to nothing"
        assert size(path) == size(FIGURES / path.name), "the docs show pictures of another size: take them again"


@pytest.mark.parametrize("name", NAMES)
def test_the_docs_have_them_and_they_are_small(name: str) -> None:
    path = FIGURES / f"explorer-{name}.png"
    assert path.stat().st_size < MOST_BYTES
    guide = (FIGURES.parent / "guides" / "explorer.md").read_text(encoding="utf-8")
    assert f"../figures/{path.name}" in guide
