"""Rows whose routers changed between releases of transformers."""

from __future__ import annotations

import pytest

from moee.architectures import all_architectures, architecture_for
from moee.backends.forward.routers import as_released

CHANGED = [row.model_types[0] for row in all_architectures() if row.before]


def test_some_routers_have_changed() -> None:
    assert {"granitemoe", "jamba", "aria_text"} <= set(CHANGED)


@pytest.mark.parametrize("model_type", CHANGED)
def test_an_older_release_is_read_as_it_was(model_type: str) -> None:
    row = architecture_for(model_type)
    assert row.before is not None
    old = as_released(row, "5.20.2")
    assert (old.router_class, old.output) == row.before[1:]
    assert (old.router_class, old.output) != (row.router_class, row.output)
    for release in ("5.21", "5.21.0", "5.23.0"):
        assert as_released(row, release) is row


def test_a_row_without_a_past_is_the_same_in_every_release() -> None:
    row = architecture_for("mixtral")
    assert as_released(row, "5.19.0") is row
