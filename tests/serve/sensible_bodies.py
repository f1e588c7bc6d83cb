"""A hook for Schemathesis: values that exist in place of valid ones that do not.

Which models, prompts, fields and tokens there are, no schema says. With them, every request that fits the schema must
be answered, and not just be refused politely.
"""

from __future__ import annotations

from typing import Any

import schemathesis

KNOWN = {"model": "tiny", "prompt_name": "prompteol", "filter": "number >= 3"}
"""What the server of the test has."""
DIMENSIONS = 12


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    case.body = sensible(case.body)
    if "model" in (case.path_parameters or {}):
        case.path_parameters["model"] = KNOWN["model"]


def sensible(body: Any) -> Any:
    if not isinstance(body, dict):
        return body
    changed = {name: KNOWN[name] if name in KNOWN and isinstance(value, str) else value for name, value in body.items()}
    if isinstance(changed.get("parameters"), dict):
        changed["parameters"] = sensible(changed["parameters"])
    if isinstance(changed.get("weights"), dict):
        changed.update({name: None for name in ("fusion", "alpha") if name in changed})  # weights stand for both
    dimensions = body.get("dimensions")
    if type(dimensions) in (int, float) and dimensions > 0 and dimensions == int(dimensions):
        changed["dimensions"] = DIMENSIONS
        # some of the views, and concat, have other lengths
        changed.update({name: None for name in ("fusion", "alpha", "weights") if name in changed})
    if changed.get("hybrid") is True:
        changed["hybrid"] = None  # the index of the test keeps no words
    if isinstance(changed.get("weights"), dict):
        changed["weights"] = {**changed["weights"], "hs": 1}  # words alone refuse a text that has none
    if body.get("per_document") is True:
        changed["per_document"] = False  # the index of the test holds whole texts
    for name in ("input", "inputs"):
        if isinstance(body.get(name), list):
            changed[name] = [_token(each) for each in body[name]]
    return changed


def _token(value: Any) -> Any:
    """Return an id that stands for something visible in place of any valid one."""
    if isinstance(value, list):
        return [_token(each) for each in value]
    return 300 + value % 100 if type(value) in (int, float) and value >= 0 and value == int(value) else value
