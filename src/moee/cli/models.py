"""`moee models`: which architectures are supported, read from the rows that serve them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from moee.cli import options
from moee.cli.console import note, print_json, print_records

if TYPE_CHECKING:
    from moee.architectures.spec import Architecture


def models(
    only: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only architectures whose model_type holds this.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List the supported architectures.

    By the model_type of their config.json.

    \b
    Examples:
      moee models
      moee models qwen
      moee models --json
    """
    from moee.architectures import all_architectures

    entries = [entry for row in all_architectures() for entry in _entries(row)]
    entries = sorted(entries, key=lambda entry: str(entry["model_type"]))
    if only is not None:
        entries = [entry for entry in entries if only.lower() in entry["model_type"]]
    if as_json:
        print_json(entries)
        return
    shown = [{**entry, "notes": entry["reason"] or entry["notes"]} for entry in entries]
    names = {"model_type": "model_type", "status": "status", "router": "router", "scoring": "scoring_func"}
    print_records(shown, {**names, "notes": "notes"}, as_json=False)
    supported = sum(entry["status"] == "supported" for entry in entries)
    note(f"{supported} of {len(entries)} supported. Other decoders are tried by looking for their routers.")


def _entries(row: Architecture) -> list[dict[str, Any]]:
    """One entry for each model_type of a row; multimodal wrappers name the text model that serves them."""
    shared = {
        "status": "unsupported" if row.unsupported else "supported",
        "router": row.router,
        "router_class": row.router_class,
        "scoring_func": row.scoring_func,
        "reason": row.unsupported,
        "notes": row.notes,
        "gguf": row.gguf,
        "source": row.source,
    }
    plain = [{"model_type": name, "wraps": None, **shared} for name in row.model_types]
    wrapped = [{"model_type": name, "wraps": row.model_types[0], **shared} for name in row.wrappers]
    return plain + wrapped
