"""Figures to files: PNG or SVG by the name's ending, whole or not at all, and the same numbers give the same SVG.

Text comes from users, in any script: it is never read as mathematics, and characters that no font at hand can draw are
replaced by a box instead of a warning for each of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from moee.errors import InputError, MissingExtraError
from moee.files.atomic import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger("moee")

SUFFIXES = (".png", ".svg")
_DPI = 150
_FONTS = (
    "DejaVu Sans",
    "Noto Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Hiragino Sans",
    "PingFang SC",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Arial Unicode MS",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Nirmala UI",
    "Noto Emoji",
    "Segoe UI Emoji",
)
"""Fonts tried for each character in this order, as far as they are installed; the first comes with matplotlib."""
_BOX = "□"


def check_figure(path: Path, *, extra: str = "map") -> None:
    """Find out whether a figure can be written to `path`, before any work is done for it.

    Raises:
        InputError: If its suffix is not one of `SUFFIXES`.
        MissingExtraError: If matplotlib is not installed; names `extra`.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"A picture cannot be written to {str(path)!r}: its name must end in .png or .svg.")
    try:
        import matplotlib  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise MissingExtraError("matplotlib", "pictures", extra) from error


@contextmanager
def figure_file(path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    """Yield an empty figure of a size in inches; write it when the context is left without an error.

    Raises:
        InputError, MissingExtraError: As `check_figure`.
        OutputError: If the file cannot be written.
    """
    check_figure(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    kind = path.suffix.lower().removeprefix(".")
    # the salt and the missing date make the same numbers give the same SVG file
    deterministic = rc_context({"svg.hashsalt": "moee", "svg.fonttype": "none"})
    with deterministic, rc_context({"font.size": 9, "font.family": list(_installed()), "text.parse_math": False}):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=_DPI, metadata={"Date": None} if kind == "svg" else None)


def drawable(text: str, length: int) -> str:
    """Return a text on one line, of at most `length` characters, with a box for what cannot be drawn.

    Args:
        text: Any.
        length: Most characters of the result, 2 or more; a longer text is cut at its end, with an ellipsis.
    """
    line = " ".join(text.split())
    if len(line) > length:
        line = line[: length - 1].rstrip() + "…"
    known = _drawable_characters()
    missing = {letter for letter in line if ord(letter) not in known}
    if missing:
        logger.warning("No installed font draws %s: boxes stand for these characters.", " ".join(sorted(missing)))
    return "".join(_BOX if letter in missing else letter for letter in line)


@cache
def _installed() -> tuple[str, ...]:
    from matplotlib.font_manager import fontManager

    names = {entry.name for entry in fontManager.ttflist}
    return tuple(name for name in _FONTS if name in names)


@cache
def _drawable_characters() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    fonts = (get_font(findfont(FontProperties(family=[name]))) for name in _installed())
    return frozenset(code for font in fonts for code in font.get_charmap())
