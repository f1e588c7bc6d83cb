"""`moee serve`: embeddings, search and the explorer page over HTTP."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moee.cli import options
from moee.cli.console import complain, note, print_result, shows_progress
from moee.cli.groups import Fusing, Method, Running, grouped
from moee.errors import InputError, MissingExtraError
from moee.serve.settings import Settings, twin

if TYPE_CHECKING:
    from moee.embedder import MoEE
    from moee.index.searcher import Searcher

LOOPBACK = ("127.0.0.1", "::1", "localhost")
DEFAULT_MODEL = "demo"


@grouped
def serve(
    *,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            envvar=twin("model"),
            help='"demo", a model folder, a hub id, or a folder that `moee calibrate --out` wrote. The demo, or the '
            "model of the index, if not given.",
        ),
    ] = None,
    index: Annotated[
        Path | None, typer.Option(envvar=twin("index"), help="A folder that `moee index build` wrote, to be searched.")
    ] = None,
    settings: Settings,
    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="A,B|all",
            envvar=twin("prompts"),
            help="Further prompts that requests may choose by prompt_name. Statistics are fitted at the start.",
        ),
    ] = None,
    cors_allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            envvar=twin("cors_allow_origin"), help="Origin whose pages may call the server; can be repeated; * for all."
        ),
    ] = None,
    fusing: Fusing,
    method: Method,
    max_length: options.MaxLength = None,
    running: Running,
    as_json: options.Json = False,
) -> None:
    """Serve embeddings, search and the explorer page over HTTP.

    Prints where it listens once it is ready. Clients of OpenAI's embeddings work with /v1 behind that address, clients
    of text-embeddings-inference (TEI) with the address itself; a browser shows the explorer there. Options have TEI's
    names, and each of the server's own a twin in the environment: MOEE_ and its name.

    Ctrl-C or SIGTERM stops it: what was accepted is finished, what is new is answered 503.

    Logs go to standard error, one line a request, and hold no text that was sent.

    \b
    Examples:
      moee serve
      moee serve --index papers-index --port 8080
      MOEE_API_KEY=secret moee serve -m allenai/OLMoE-1B-7B-0924 --hostname 0.0.0.0
      curl http://127.0.0.1:3000/embed -H 'content-type: application/json' -d '{"inputs": "a cat sat down"}'
    """
    settings = replace(settings, prompts=_names(prompts), cors_allow_origin=tuple(cors_allow_origin or ()))
    choices = {**fusing, **method, "max_length": max_length}
    _serve(settings, model, index, {**running}, choices, as_json=as_json)


def _serve(
    settings: Settings,
    model: str | None,
    index: Path | None,
    machine: dict[str, Any],
    choices: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    _check_extra()
    _let_threads_sleep()
    from moee.serve.app import create_app
    from moee.serve.logs import configure_logs
    from moee.serve.server import build_server, listen, url_of

    listener = listen(settings)
    url = url_of(listener)
    try:
        embedder, searcher = _open(model, index, machine, choices)
        app = create_app(embedder, settings, searcher)
    except BaseException:
        listener.close()
        raise
    configure_logs(as_json=settings.json_output, quiet=not shows_progress())
    if settings.api_key is None and settings.hostname not in LOOPBACK:
        complain("Warning: no --api-key, so everyone who reaches this machine can use the model and read the index.")

    def ready() -> None:
        served = {"url": url, "model": app.state.service.model_name, "index": None if index is None else str(index)}
        print_result(served, f"Listening on {url}", as_json=as_json)
        sys.stdout.flush()  # whoever started it in a pipe waits for this line
        note(f"{served['model']} for OpenAI's clients at {url}/v1; Ctrl-C stops")

    build_server(app, settings, ready).run(sockets=[listener])
    if searcher is not None:
        searcher.close()
    note("Stopped")


def _check_extra() -> None:
    from importlib.util import find_spec

    for package in ("fastapi", "uvicorn", "prometheus_client"):
        if find_spec(package) is None:
            raise MissingExtraError(package.replace("_", "-"), "the server", "serve")


def _let_threads_sleep() -> None:
    """Have the threads of torch sleep while they wait for each other, unless the environment says otherwise.

    They spin by default, and so take the processor from the thread that answers requests, and from each other where
    there are more threads than processors. Beside another busy process, the demo on two cores is 2 to 10 times faster.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch is loaded


def _names(prompts: str | None) -> tuple[str, ...]:
    from moee.method.prompts import PROMPTS

    if prompts == "all":
        return tuple(PROMPTS)
    return tuple(options.split_names(prompts or ""))


def _open(
    model: str | None, index: Path | None, machine: dict[str, Any], choices: dict[str, Any]
) -> tuple[MoEE, Searcher | None]:
    """Load the model, and open the index if there is one."""
    if index is None:
        return options.open_model(model or DEFAULT_MODEL, **machine, **choices), None
    from moee.index.searcher import Searcher

    if given := [f"--{name.replace('_', '-')}" for name, value in choices.items() if value is not None]:
        raise InputError(
            f"{', '.join(given)} cannot be given with --index: its texts were embedded in one way, which the index "
            "keeps, and queries must be too. Requests can choose fusion and alpha."
        )
    searcher = Searcher.open(index, model=model, **machine)
    return searcher.embedder, searcher
