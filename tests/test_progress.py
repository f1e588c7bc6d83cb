from __future__ import annotations

import pytest

from moee.progress import progress_bar


@pytest.mark.parametrize("unit", ["", "texts"])
def test_a_bar_shows_the_rate_if_it_knows_of_what(capsys: pytest.CaptureFixture[str], unit: str) -> None:
    with progress_bar("Embedding", 6, unit=unit) as advance:
        advance(2)
        advance(4)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "6/6" in captured.err
    assert ("texts/s" in captured.err) is bool(unit)


def test_a_bar_that_is_not_wanted_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("Embedding", 6, enabled=False, unit="texts") as advance:
        advance(6)
    assert capsys.readouterr() == ("", "")
