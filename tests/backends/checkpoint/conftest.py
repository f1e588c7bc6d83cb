"""The two ways a folder is opened, for tests of what holds in both."""

from __future__ import annotations

import pytest

from moee.backends import choose


@pytest.fixture(params=["whole", "in layers"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Open folders whole, or layer by layer as if they did not fit into memory: a tiny one always does."""
    if request.param == "in layers":
        monkeypatch.setattr(choose, "weights_fit", lambda *_: False)
    return str(request.param)
