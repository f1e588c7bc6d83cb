"""Settings are checked before anything is loaded."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from typer.main import get_group

from moee.cli.app import app
from moee.errors import InputError
from moee.serve.settings import Settings, flag, twin


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_batch_tokens": 0}, "--max-batch-tokens is 0; it must be 1 or larger"),
        ({"max_concurrent_requests": -1}, "--max-concurrent-requests is -1"),
        ({"payload_limit": 0}, "--payload-limit is 0"),
        ({"max_batch_requests": 0}, "--max-batch-requests is 0"),
        ({"port": 70000}, "--port is 70000; it must lie between 0"),
        ({"request_timeout": 0}, "--request-timeout is 0"),
        ({"request_timeout": float("inf")}, "--request-timeout is inf"),
        ({"request_timeout": float("nan")}, "--request-timeout is nan"),
        ({"api_key": ""}, "The API key is empty"),
        ({"api_key": "a b"}, "holds a blank"),
        ({"api_key": "schlüssel"}, "a character outside ASCII"),
        ({"cors_allow_origin": ("example.org",)}, "an origin has a scheme and a host"),
        ({"cors_allow_origin": ("https://example.org/page",)}, "no path"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Settings(**changes)
    assert message in str(caught.value)


def test_the_key_is_in_no_representation() -> None:
    assert "sk-secret" not in repr(Settings(api_key="sk-secret"))


def test_every_setting_is_an_option_with_a_twin_and_the_default_that_help_shows() -> None:
    options = {name: option for option in get_group(app).commands["serve"].params for name in option.opts}
    for each in fields(Settings):
        option = options[flag(each.name)]
        assert option.envvar == twin(each.name)
        assert option.default in (each.default, None)
