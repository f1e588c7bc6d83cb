"""`moee doctor`: what this installation is made of, and what is wrong with it."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import typer

from moee.cli import options
from moee.cli.console import print_records
from moee.errors import CheckpointError
from moee.files.atomic import cache_dir
from moee.memory import format_size

Level = Literal["ok", "note", "warning", "broken"]

TESTED = {"torch": "2.13", "transformers": "5.23"}
"""Newest release that the tests ran with; a newer one may have renamed what the capture looks for."""

EXTRAS = {
    "gguf": "reading GGUF files",
    "accelerate": "reading GGUF files",
    "pyarrow": "Parquet files",
}
_LOW_DISK_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: `broken` means that something cannot work; only that makes the command fail.
        subject: What was looked at.
        value: What was found.
        advice: What to do, for a warning or worse.
    """

    level: Level
    subject: str
    value: str
    advice: str = ""


def doctor(as_json: options.Json = False) -> None:
    """Check this installation.

    Versions, devices, threads and the cache, and combinations known to be bad.

    Exits with 1 if something is broken, with 0 if there are only warnings.

    \b
    Example:
      moee doctor --json
    """
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _check_python,
        _check_required,
        _check_extras,
        _check_demo,
        _check_torch,
        _check_environment,
        _check_cache,
    )
    findings = [finding for check in checks for finding in check()]
    columns = {"": "level", "subject": "subject", "found": "value", "what to do": "advice"}
    print_records([asdict(finding) for finding in findings], columns, as_json=as_json)
    if any(finding.level == "broken" for finding in findings):
        raise typer.Exit(1)


def _check_python() -> Iterator[Finding]:
    yield Finding("ok", "moee", metadata.version("moee"))
    yield Finding("ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _check_required() -> Iterator[Finding]:
    """Compare every installed dependency with what the package's own metadata asks for."""
    from packaging.requirements import Requirement

    for line in metadata.requires("moee") or ():
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        yield _required(requirement.name, requirement.specifier)


def _required(name: str, specifier: Any) -> Finding:
    """Judge one dependency. `Any`: packaging's SpecifierSet, imported only where this runs."""
    wanted = f"{name}{specifier}"
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding("broken", name, "not installed", f"pip install '{wanted}'")
    if not specifier.contains(found, prereleases=True):
        return Finding("broken", name, found, f"moee needs {wanted}: pip install '{wanted}'")
    try:
        importlib.import_module(name)
    except Exception as error:  # whatever a damaged package raises is the finding
        return Finding(
            "broken", name, f"{found}, cannot be imported: {error}", f"pip install --force-reinstall '{wanted}'"
        )
    return _tested(name, found)


def _tested(name: str, found: str) -> Finding:
    from packaging.version import Version

    tested = TESTED.get(name)
    if tested is not None and Version(found).release[:2] > Version(tested).release[:2]:
        advice = f"tested up to {tested}; if something fails, pip install '{name}=={tested}.*'"
        return Finding("warning", name, found, advice)
    return Finding("ok", name, found)


def _check_extras() -> Iterator[Finding]:
    for name, purpose in EXTRAS.items():
        try:
            yield Finding("ok", name, f"{metadata.version(name)} ({purpose})")
        except metadata.PackageNotFoundError:
            yield Finding("note", name, "not installed", f"for {purpose}: pip install {name}")


def _check_demo() -> Iterator[Finding]:
    from moee.demo.weights import FETCH_LINE, find_gguf

    try:
        yield Finding("ok", "demo weights", str(find_gguf()))
    except CheckpointError:
        yield Finding("note", "demo weights", "not here", f"for the embedded default model: {FETCH_LINE}")


def _check_torch() -> Iterator[Finding]:
    """Report devices, threads and bf16; silent if torch is broken, which `_check_required` has said."""
    try:
        import torch
    except Exception:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    if threads > cores:
        yield Finding("warning", "threads", f"{threads} on {cores} cores", f"set OMP_NUM_THREADS={cores}")
    else:
        yield Finding("ok", "threads", f"{threads} on {cores} cores")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield Finding("ok", f"cuda:{index}", torch.cuda.get_device_name(index))
    elif torch.version.cuda is not None:
        advice = "check the driver, or install the CPU build of torch, which is gigabytes smaller"
        yield Finding("warning", "cuda", f"torch is built for CUDA {torch.version.cuda} but finds no device", advice)
    else:
        yield Finding("ok", "cuda", "none: this torch computes on the CPU")
    if torch.backends.mps.is_available():
        yield Finding("ok", "mps", "available")
    yield _cpu_bf16()
    yield Finding("ok", "experts", "on a CPU by expert, or masked dense where most are active; on a GPU grouped_mm")
    yield _int8()


def _int8() -> Finding:
    from moee.backends.int8 import describe_arithmetic, is_available

    if reason := is_available():
        return Finding("note", "precision int8", f"no: {reason}", "use the default, precision exact")
    return Finding("ok", "precision int8", describe_arithmetic())


def _cpu_bf16() -> Finding:
    import torch

    from moee.backends.devices import has_native_bf16

    if has_native_bf16(torch.device("cpu")):
        return Finding("ok", "cpu bfloat16", "yes")
    return Finding("note", "cpu bfloat16", "no", "the CPU computes in float32; bfloat16 would be slower")


def _check_environment() -> Iterator[Finding]:
    for name in ("MOEE_CACHE", "MOEE_DEBUG", "HF_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "OMP_NUM_THREADS"):
        if name in os.environ:
            yield Finding("ok", name, os.environ[name])
    if sys.flags.optimize:
        yield Finding(
            "warning", "python -O", "asserts are off", "run without -O and PYTHONOPTIMIZE while reporting faults"
        )


def _check_cache() -> Iterator[Finding]:
    folder = cache_dir()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        yield Finding("broken", "cache", f"{folder} cannot be written", "set MOEE_CACHE to a folder of yours")
        return
    free = shutil.disk_usage(existing).free
    level: Level = "warning" if free < _LOW_DISK_BYTES else "ok"
    advice = "make room, or set MOEE_CACHE to a folder on another disk" if level == "warning" else ""
    yield Finding(level, "cache", f"{folder} ({format_size(free)} free)", advice)
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        yield Finding("ok", f"cache/{entry.name}", format_size(_size(entry)))


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(child.stat().st_size for child in path.rglob("*") if child.is_file())
